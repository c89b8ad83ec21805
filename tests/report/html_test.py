"""A report is one file that asks for nothing, says every word, and ends with all settings and the machine."""

import base64
import dataclasses
import html.parser
import io
import platform
import re

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ganmrf.report.html import Picture, Section, Table, enumerated, machine_facts, write_report
from ganmrf.settings import configuration, group, setting

VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Tags with their attributes, the text, and whether every tag was closed in order."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def figure():
    made = Figure(figsize=(2, 1), dpi=100)
    made.subplots().plot([0, 1])
    return made


SETTINGS = {"frames": 400, "design": {"t1_ms": (950.0, 1500.0), "schedule": None, "also": ()}, "size": 64}


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "report.html"
    sections = [
        Section("Maps", "First.\n\nSecond.", figures=[Picture(figure(), 'A "map"')]),
        Section("Errors", tables=[Table(("Tissue", "T1 (ms)"), [("White matter", "950"), ("Grey <matter>", "1450")])]),
        Section("Notes & facts", facts={"Said": "<script>alert(1)</script>"}),
    ]
    write_report(path, title="Brain & <phantom>", summary="T1 < T2 is wrong.", sections=sections, settings=SETTINGS)
    return path


def test_every_word_is_there_and_escaped(page):
    source = page.read_text(encoding="utf-8")
    parsed = Page(source)
    assert parsed.open == []
    assert not parsed.all("script")
    for words in ("Brain & <phantom>", "T1 < T2 is wrong.", "Grey <matter>", "1450", "<script>alert(1)</script>"):
        assert words in parsed.words
    assert parsed.words.index("Second.") == parsed.words.index("First.") + 2  # paragraphs of their own
    assert parsed.all("img")[0]["alt"] == 'A "map"'


def test_contents_lead_to_the_sections(page):
    parsed = Page(page.read_text(encoding="utf-8"))
    targets = [heading["id"] for heading in parsed.all("h2")]
    assert [link["href"] for link in parsed.all("a")] == [f"#{target}" for target in targets]
    assert len(set(targets)) == 4  # the last one is that of settings and machine


def test_the_file_asks_for_nothing_outside_itself(page):
    source = page.read_text(encoding="utf-8")
    sources = [attributes.get(name) for _, attributes in Page(source).tags for name in ("src", "href", "srcset")]
    assert all(value.startswith(("data:", "#")) for value in sources if value)
    assert not re.search(r"url\(|@import|https?:", source)


def test_figures_are_embedded_at_twice_their_size(page):
    (image,) = Page(page.read_text(encoding="utf-8")).all("img")
    prefix = "data:image/png;base64,"
    assert image["src"].startswith(prefix)
    picture = Image.open(io.BytesIO(base64.b64decode(image["src"].removeprefix(prefix))))
    assert (int(image["width"]), int(image["height"])) == (200, 100)
    assert picture.size == (400, 200)
    assert len(np.unique(np.asarray(picture.convert("L")))) > 2  # something is drawn on it


def test_a_report_that_fails_leaves_the_old_one(page):
    before = page.read_bytes()
    unwritable = "\ud800"  # a lone surrogate has no UTF-8 form: the write itself fails
    with pytest.raises(UnicodeEncodeError):
        write_report(page, title=unwritable, summary="s", sections=[], settings={})
    assert page.read_bytes() == before
    assert [file.name for file in page.parent.iterdir()] == [page.name]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot write .*nowhere.*r\.html"):
        write_report(tmp_path / "nowhere" / "r.html", title="t", summary="s", sections=[], settings={})


def test_every_report_ends_with_all_its_settings_and_the_machine(page, tmp_path):
    words = Page(page.read_text(encoding="utf-8")).words
    given = {
        "--frames": "400",
        "--t1_ms": "950.0,1500.0",
        "--size": "64",
    }  # groups flag by flag, lists as flags take them
    for name, value in (given | machine_facts()).items():
        assert words[words.index(name) + 1] == value
    assert "--schedule" not in words  # None: it has no value
    assert "--also" not in words
    made = dataclasses.make_dataclass("Config", [("frames", int), ("design", dict)])(400, SETTINGS["design"])
    write_report(tmp_path / "other.html", title="t", summary="s", sections=[], settings=made, facts={"Time": "3 s"})
    others = Page((tmp_path / "other.html").read_text(encoding="utf-8")).words
    assert {"--frames", "--t1_ms", "Time"} <= set(others)


@configuration
class Inner:
    """Of which a job reads one field."""

    frames: int = setting(9, "frames")
    slice_model: str = setting("full", "slice")
    sequence: str = setting("fisp", "kind")


@configuration
class Job:
    """Whose flags leave a field of its group out, and one of which goes with a choice that was not made."""

    inner: Inner = group(Inner, without=("sequence",))
    turns: int = setting(4, "turns", goes_with=("slice_model=partitioned",))
    grid: str = setting("paper", "grid")
    t1_ms: str | None = setting(None, "T1", instead_of=("grid",))


def test_settings_that_are_no_flags_or_that_a_run_has_not_read_are_left_out(tmp_path):
    told = {"title": "t", "summary": "s", "sections": [], "settings": Job(t1_ms="900")}
    for unread, shown in (((), {"--frames", "--slice_model", "--t1_ms"}), (("slice_model",), {"--frames", "--t1_ms"})):
        write_report(tmp_path / "report.html", **told, unread=unread)
        words = Page((tmp_path / "report.html").read_text(encoding="utf-8")).words
        assert {word for word in words if word.startswith("--")} == shown


def test_a_table_is_aligned_text():
    table = Table(("Tissue", "T1 (ms)"), [("White matter", "950"), ("CSF", "12345678")], "Times")
    assert table.text().splitlines() == [
        "Times",
        "Tissue         T1 (ms)",
        "White matter       950",
        "CSF           12345678",
    ]


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"row 1 has 1 cells, but there are 2 columns"):
        Table(("a", "b"), [("1", "2"), ("3",)])


def test_machine_facts_name_what_timings_depend_on():
    facts = machine_facts()
    assert facts["Python"] == platform.python_version()
    assert facts["JAX"] == jax.__version__
    assert facts["JAX devices"].startswith(f"{len(jax.devices())} x {jax.devices()[0].device_kind}")
    assert int(facts["Cores usable"]) >= 1
    assert all(isinstance(value, str) and value for value in facts.values())


def test_words_are_enumerated():
    assert [enumerated(words) for words in (["T1"], ["T1", "T2"], ["T1", "T2", "f"])] == [
        "T1",
        "T1 and T2",
        "T1, T2 and f",
    ]
