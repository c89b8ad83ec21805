"""Progress of long work: a bar on a terminal; elsewhere, as in a batch job, a plain line every half a minute."""

import sys

import tqdm

_LINE_S = 30.0  # between two lines of a batch job: a day of work then fits a log that can be read


class Progress(tqdm.tqdm):
    """A `tqdm.tqdm` on stderr that writes whole lines where stderr is no terminal, the first after half a minute.

    Work that ends before the first line is due leaves no line. ``total`` is the number of all units, of which
    ``initial`` were done before. Nothing appears unless it is ``shown``. Lines are ``interval`` s apart.
    """

    def __init__(
        self,
        total: float,
        label: str,
        *,
        unit: str = "it",
        initial: float = 0,
        shown: bool = True,
        interval: float = _LINE_S,
    ):
        self._in_lines, lines = not sys.stderr.isatty(), {}
        if self._in_lines:
            lines = {"mininterval": interval, "delay": interval, "miniters": 1, "ncols": 0}
        super().__init__(
            total=total, desc=label, unit=unit, unit_scale=True, initial=initial, disable=not shown, **lines
        )

    def close(self):
        """Ends the count; a bar stays on a terminal, and nothing is added to lines."""
        if self._in_lines:
            self.delay = float("inf")  # tqdm has nothing to end before its first text is due
        super().close()

    @staticmethod
    def status_printer(file):
        """How tqdm shows its text: over the last one on a terminal, below it in a file."""
        if sys.stderr.isatty():
            return tqdm.tqdm.status_printer(file)

        def write(text):
            if text:
                file.write(f"{text.strip()}\n")
                file.flush()

        return write


def watched(items, label: str, *, shown: bool = True):
    """Yields the items of a list, and counts them."""
    with Progress(len(items), label, shown=shown) as bar:
        for item in items:
            yield item
            bar.update()
