"""One self-contained HTML file that shows what was done, with which settings, and what came out."""

import base64
import contextlib
import dataclasses
import datetime
import io
import os
import platform
import re
from collections.abc import Mapping, Sequence
from html import escape

import jax
from matplotlib.figure import Figure

from ganmrf.files import replacing

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --paper: #fff; --line: #d9dee3; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #a3adb7; --paper: #14171a; --line: #343a41; --link: #7db7f0; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .5rem 0; }
a { color: var(--link); }
nav { margin: 1.25rem 0; }
nav ol { margin: 0; padding-left: 1.5rem; columns: 20rem; column-gap: 3rem; }
figure { margin: 1.25rem 0; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; padding: .4rem; background: #fff; border-radius: 4px; }
figcaption, caption, footer { color: var(--soft); font-size: .9rem; text-align: left; }
figcaption { margin-top: .4rem; max-width: 46rem; }
caption { padding-bottom: .4rem; }
.scroll { overflow-x: auto; margin: 1.25rem 0; }
table { border-collapse: collapse; font-size: .95rem; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; white-space: normal; }
tbody th { font-weight: normal; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .25rem 1.25rem; margin: 1rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .75rem; }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #444; --line: #bbb; --link: #000; }
  body { padding: 0; font-size: 10pt; } h2, caption { break-after: avoid; } tr { break-inside: avoid; }
  .scroll { overflow: visible; } }
"""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure with its words.

    Attributes:
      figure: the matplotlib figure.
      caption: what to see in it, shown below.
      alt: what it shows, for those who cannot see it; the caption where empty.
    """

    figure: Figure
    caption: str
    alt: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose first column names its rows; all others hold numbers, formatted already.

    Attributes:
      columns: names with units, (columns,).
      rows: cells as text, (rows, columns).
      caption: shown above the table; none where empty.

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


@dataclasses.dataclass(frozen=True)
class Section:
    """One section of a report: its parts are shown in the order of the attributes.

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


def write_report(path, *, title: str, summary: str, sections: Sequence[Section]):
    """Writes a report as one HTML file that needs no other file, no network and no script.

    Args:
      path: the file to write, replaced as a whole.
      title: of the document.
      summary: what came out, in a few sentences; an empty line starts a new paragraph.
      sections: in order; the table of contents lists them.

    Raises:
      ValueError: the file cannot be written.
    """
    contents = "\n".join(f'<li><a href="#s{i}">{escape(s.heading)}</a></li>' for i, s in enumerate(sections, 1))
    body = "\n".join(_section(f"s{i}", section) for i, section in enumerate(sections, 1))
    made = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
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


def machine_facts() -> dict[str, str]:
    """What timings are quoted with: processor, usable cores, memory, Python, JAX and the devices it computes on."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count()
    facts = {"Processor": _processor(), "Cores usable": f"{cores}"}
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not every system tells
        facts["Memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"
    kinds = [device.device_kind for device in jax.devices()]
    facts["Python"] = platform.python_version()
    facts["JAX"] = jax.__version__
    facts["JAX devices"] = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
    return facts


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = re.findall(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
    except OSError:
        names = []
    return names[0].strip() if names else platform.processor() or platform.machine()


def _section(anchor, section):
    parts = [f'<h2 id="{anchor}">{escape(section.heading)}</h2>', _paragraphs(section.text)]
    parts += [_picture(picture) for picture in section.figures]
    parts += [_table(table) for table in section.tables]
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
    alt, caption = escape(picture.alt or picture.caption), escape(picture.caption)
    return (
        f'<figure>\n<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{alt}">\n'
        f"<figcaption>{caption}</figcaption>\n</figure>"
    )


def _table(table):
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for name, *cells in table.rows
    )
    return (
        f'<div class="scroll"><table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
    )
