"""Errors of T1 and T2 in the rows of a study: rows that share facts, and their errors as curves and as ranges."""

from collections.abc import Iterator


def chosen(rows: list[dict], **facts) -> list[dict]:
    """The rows in which each of the ``facts`` holds."""
    return [row for row in rows if all(row[name] == value for name, value in facts.items())]


def errors_of(rows: list[dict]) -> dict[str, list[float]]:
    """T1 and T2, each with the relative errors of all rows in turn, as `errors_figure` draws them."""
    return {name: [row[f"{name.lower()}_error"] for row in rows] for name in ("T1", "T2")}


def range_cells(rows: list[dict], label: str, varied: str, values, **facts) -> Iterator[tuple[str, ...]]:
    """Yields a table's lines of T1 and T2 for the rows with ``facts``: ``label``, name, and a range for each value.

    The ranges are the least and the largest error, %, of the rows whose fact ``varied`` has each of ``values``.
    """
    found = [errors_of(chosen(rows, **facts, **{varied: value})) for value in values]
    for name in ("T1", "T2"):
        yield label, name, *(_range(errors[name]) for errors in found)


def _range(errors):
    low, high = (f"{100 * error:z.1f}" for error in (min(errors), max(errors)))
    return low if low == high else f"{low} to {high}"
