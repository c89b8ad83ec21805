"""What every experiment does around its work: flags in, one clear line and exit code 2 for bad input."""

import sys

from absl import app, flags

from ganmrf.parallel import keep_compiled_programs


def run(main):
    """Parses the flags and calls ``main()``; a `ValueError` or `OSError` becomes one line on stderr and exit code 2.

    Compiled programs are kept in the user's cache folder, so that the next run with the same shapes starts at once.
    """

    def guarded(arguments):
        try:
            if len(arguments) > 1:
                raise ValueError(f"unexpected argument {arguments[1]!r}: every input is a --flag=value")
            keep_compiled_programs()
            main()
        except (ValueError, OSError) as error:
            _fail(error)

    app.run(guarded, flags_parser=_parse)


def numbers_in(texts: list[str], flag: str, *, positive: bool = False, repeats: bool = False) -> list[float]:
    """Numbers of 0 or more from a list flag, each once unless ``repeats``; ``positive`` ones, if so.

    Raises:
      ValueError: no number, or another text; it names the flag.
    """
    try:
        numbers = [float(text) for text in texts]
        if not repeats:
            numbers = list(dict.fromkeys(numbers))
        if not numbers or not all(
            (number > 0 if positive else number >= 0) and number < float("inf") for number in numbers
        ):
            raise ValueError
    except ValueError:
        rule = "positive numbers" if positive else "numbers of 0 or more"
        raise ValueError(f"{flag} must be {rule}, separated by commas; got {','.join(texts) or 'none'}") from None
    return numbers


def given_flags() -> frozenset[str]:
    """Names of all flags on the command line."""
    return frozenset(name for name in flags.FLAGS if flags.FLAGS[name].present)


def _parse(arguments):
    try:
        return flags.FLAGS(arguments, known_only=False)
    except flags.Error as error:
        _fail(error)


def _fail(error):
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)
