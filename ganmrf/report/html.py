"""Reports: one self-contained HTML file with words, figures, tables, all settings and the machine."""

import base64
import collections
import dataclasses
import datetime
import importlib.resources
import io
import pathlib
import platform
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from html import escape

import jax
import psutil
from matplotlib.figure import Figure

from ganmrf.files import replacing
from ganmrf.parallel import cores
from ganmrf.settings import flat, is_read


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure with its words.

    Attributes:
      figure: the matplotlib figure.
      caption: says what there is to see; shown below, and read to those who cannot see the figure.
    """

    figure: Figure
    caption: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose first column names its rows; all other columns hold formatted numbers.

    Attributes:
      columns: names with units, (columns,).
      rows: cells as text, (rows, columns).
      caption: shown above the table; empty for none.

    Raises:
      ValueError: a row whose length is not that of ``columns``.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def __post_init__(self):
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"Table.rows: row {i} has {len(row)} cells, but there are {len(self.columns)} columns")

    def text(self) -> str:
        """The table for a terminal: the caption, then aligned columns, the first one to the left."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        aligned = ["  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]) for cells in lines]
        return "\n".join([self.caption] * bool(self.caption) + aligned)


@dataclasses.dataclass(frozen=True)
class Section:
    """One section of a report; its parts are shown in the order of the attributes.

    Attributes:
      heading: shown in the table of contents too.
      text: a sentence or two; an empty line starts a new paragraph.
      figures: pictures.
      tables: tables.
      facts: names and values, such as settings, timings or `machine_facts`.
    """

    heading: str
    text: str = ""
    figures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


def write_report(
    path,
    *,
    title: str,
    summary: str,
    sections: Sequence[Section],
    settings,
    facts: Mapping[str, str] | None = None,
    unread: Collection[str] = (),
):
    """Writes a report as one HTML file that needs no other file, no network and no script.

    The last section holds all settings and the machine, so that every report can be made again.

    Args:
      path: the file to write, replaced as a whole.
      title: of the document.
      summary: the results in a few sentences; an empty line starts a new paragraph.
      sections: in order; the table of contents lists them.
      settings: flag -> value, a mapping or a dataclass; groups of settings in it, mappings or dataclasses themselves,
        are shown flag by flag; values of None and empty ones are left out, and fields that are no flags of the job or,
        beside the others, change nothing (``goes_with`` and ``instead_of`` of `ganmrf.settings.setting`).
      facts: more about this run, such as its timings, name -> value; shown between settings and machine.
      unread: names of settings that this run has not read, which are left out too.

    Raises:
      ValueError: the file cannot be written.
    """
    run = dict(facts or {}) | {"Peak memory of this run": f"{peak_memory() / 1e9:.2f} GB"}
    sections = [
        *sections,
        Section("Settings and machine", facts=settings_facts(settings, unread) | run | machine_facts()),
    ]
    style = importlib.resources.files("ganmrf.report").joinpath("style.css").read_text(encoding="utf-8")
    contents = "\n".join(f'<li><a href="#s{i}">{escape(s.heading)}</a></li>' for i, s in enumerate(sections, 1))
    body = "\n".join(_section(f"s{i}", section) for i, section in enumerate(sections, 1))
    made = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{_paragraphs(summary)}
</header>
<nav aria-label="Contents"><ol>
{contents}
</ol></nav>
<main>
{body}
</main>
<footer>Made by ganmrf, {made}</footer>
</body>
</html>
"""
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def enumerated(words: Sequence[str]) -> str:
    """Words, one at least, as an enumeration: "T1, T2 and M0"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def settings_facts(settings, unread: Collection[str] = (), values: Mapping | None = None) -> dict[str, str]:
    """Settings as flags and their values, but for those ``unread``, and those that change nothing beside the others.

    ``settings`` are as for `write_report`; ``values`` are of all fields, where these are a group of them.
    """
    found, of_fields = {}, {}
    if dataclasses.is_dataclass(settings):
        of_fields = {field.name: field.metadata for field in dataclasses.fields(settings)}
        given = [field for field in dataclasses.fields(settings) if getattr(settings, field.name) != field.default]
        unread = {*unread, *(other for field in given for other in field.metadata.get("instead_of", ()))}
        values = flat(settings) if values is None else values
    for name, value in (settings if isinstance(settings, Mapping) else vars(settings)).items():
        facts = of_fields.get(name, {})
        if isinstance(value, Mapping) or dataclasses.is_dataclass(value):
            found |= settings_facts(value, {*unread, *facts.get("without", ())}, values)
        elif name not in unread and value not in (None, "", (), []) and is_read(facts.get("goes_with", ()), values):
            found[f"--{name}"] = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return found


def machine_facts() -> dict[str, str]:
    """Facts that timings are quoted with: processor, usable cores, memory, system, Python, JAX and its devices."""
    devices = collections.Counter(device.device_kind for device in jax.devices())
    return {
        "Processor": _processor(),
        "Cores usable": f"{len(cores())}",
        "Memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "System": platform.platform(terse=True),
        "Python": platform.python_version(),
        "JAX": jax.__version__,
        "JAX devices": ", ".join(f"{count} x {kind}" for kind, count in devices.items()),
    }


def _processor():
    """Name of the processor; `platform` knows it on macOS and Windows, on Linux a file holds it."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def peak_memory():
    """The most memory that this process has held, bytes."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # here: Windows has none

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _section(anchor, section):
    parts = [f'<h2 id="{anchor}">{escape(section.heading)}</h2>', _paragraphs(section.text)]
    parts += [*map(_picture, section.figures), *map(_table, section.tables)]
    if section.facts:
        facts = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in section.facts.items())
        parts.append(f"<dl>\n{facts}\n</dl>")
    return "<section>\n" + "\n".join(part for part in parts if part) + "\n</section>"


def _paragraphs(text):
    return "\n".join(f"<p>{escape(part)}</p>" for part in re.split(r"\n\s*\n", text.strip()) if part)


def _picture(picture):
    """The figure at twice its nominal resolution, so that it stays sharp on dense screens and on paper."""
    figure = picture.figure
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=2 * figure.dpi)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
    caption = escape(picture.caption)
    return (
        f'<figure>\n<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{caption}">\n'
        f"<figcaption>{caption}</figcaption>\n</figure>"
    )


def _table(table):
    caption = f"<caption><span>{escape(table.caption)}</span></caption>" if table.caption else ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for name, *cells in table.rows
    )
    return (
        f'<div class="scroll"><table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
    )
