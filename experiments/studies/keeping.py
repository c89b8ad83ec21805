"""The files of a study: its rows as JSON, and its figure."""

from collections.abc import Callable

from ganmrf.files import replacing, write_json
from ganmrf.settings import to_plain


def keep(config, rows: list[dict], draw: Callable | None = None):
    """Writes rows and settings to ``config.output``, and what ``draw(rows, config)`` gives to ``config.figure``.

    Either is left out where no file is named, the figure also without ``draw``. Files are written whole or not at all.
    """
    if config.output:
        write_json(config.output, {"config": to_plain(config), "rows": rows})
    if draw is not None and config.figure:
        with replacing(config.figure) as picture:
            draw(rows, config).savefig(picture, dpi=120)
