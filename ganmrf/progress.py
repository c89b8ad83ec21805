"""Progress of long work: a bar on a terminal; elsewhere, as in a batch job, a plain line every half a minute."""

import sys

import tqdm

_LINE_S = 30.0  # between two lines of a batch job: a day of work then fits a log that can be read


class Progress(tqdm.tqdm):
    """A `tqdm.tqdm` on stderr that writes whole lines where stderr is no terminal, the first after half a minute.

    Work that ends before the first line is due leaves no line.
    """

    def __init__(self, total: float, label: str, *, unit: str = "it", initial: float = 0, shown: bool = True):
        """Begins to count.

        Args:
          total: of all units.
          label: what is done.
          unit: what is counted.
          initial: units that were done before.
          shown: whether to show anything.
        """
        lines = (
            {}
            if sys.stderr.isatty()
            else {"mininterval": _LINE_S, "delay": _LINE_S, "miniters": 1, "ncols": 0, "leave": False}
        )
        super().__init__(
            total=total, desc=label, unit=unit, unit_scale=True, initial=initial, disable=not shown, **lines
        )

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
