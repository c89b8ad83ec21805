"""What a user reads on stderr: one line each, whoever says it."""

import contextlib
import logging
import sys
import warnings

_LONGEST = 400  # characters: five lines of a terminal


def one_line(text) -> str:
    """A text with white space folded; of one that is too long for a line, the middle is left out."""
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


@contextlib.contextmanager
def warnings_in_lines():
    """Inside, every warning and every log record of a library is one line ``warning: ...`` on stderr.

    A warning that is given again, as of a value that is checked at several places, is said once.
    """
    for name in ("absl", "nibabel.global"):  # Orbax logs through absl; both have handlers of their own
        logging.getLogger(name).handlers.clear()
    handler = _Lines(logging.WARNING)
    logging.root.addHandler(handler)
    said = set()

    def say_once(message, *_):
        if (text := str(message)) not in said:
            said.add(text)
            _say(text)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = say_once
            yield
    finally:
        logging.root.removeHandler(handler)


class _Lines(logging.Handler):
    def emit(self, record):
        """As `logging.Handler` has it."""
        _say(record.getMessage())


def _say(message):
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no room, no reader; closed before or since
        sys.stderr.write(f"warning: {one_line(message)}\n")
