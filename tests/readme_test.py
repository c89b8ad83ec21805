"""The READMEs tell the truth: their Python runs and prints what they say, their commands, links and names exist."""

import ast
import functools
import importlib
import io
import itertools
import pathlib
import re
import shlex
import tokenize

import pytest

from experiments.flags.jobs import job_modules

pytestmark = pytest.mark.usefixtures("quick_compiler")

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    *(
        ROOT / name
        for name in (
            "README.md",
            "experiments/README.md",
            "experiments/RESULTS.md",
            "tests/soak/README.md",
            "tests/testdata/README.md",
        )
    ),
    *sorted((ROOT / "ganmrf").rglob("README.md")),
]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())

FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# What may stand before a command on its line, and how the three spellings of a command begin.
COMMAND = re.compile(r"^(?:taskset -c \S+ )?(?:(?:\S*/)?ganmrf(?: |$)|(?:\S*/)?python -m experiments(?:[ .]|$))")


def read(page):
    return page.read_text(encoding="utf-8")


@functools.cache
def prose(page):
    """A page without its fenced blocks."""
    return FENCED.sub("", read(page))


def spans(page):
    """What stands between backticks in the prose of a page; of a former name, only what it became."""
    text, _, former = prose(page).partition("## Former names")
    former = re.sub(r"^\|.*?[^\\]\|", "|", former, flags=re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text + former)


def test_front_page_is_short():
    assert len(read(ROOT / "README.md").splitlines()) <= 150


@each_page
def test_python_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch, capsys):
    """The blocks of a page run in order, in one namespace, in an empty folder and without a display."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    text, names = read(page), {"__name__": "readme"}
    blocks = list(FENCED.finditer(text))
    for block, following in itertools.zip_longest(blocks, blocks[1:]):
        if block[1] != "python":
            continue
        first_line = text[: block.start(2)].count("\n")
        said = None
        if following and following[1] in ("text", "output") and not text[block.end() : following.start()].strip():
            said = following[2]
        printed = run_block(block[2], page, first_line, names, capsys)
        where = f"{page.relative_to(ROOT)}:{first_line + 1}"
        if said is not None:
            assert words("\n".join(printed.values())) == words(said), f"{where}: what the block prints"
            continue
        for line, comment in print_comments(block[2]).items():
            assert words(printed.get(line, "")) == words(comment), f"{where}: what line {line} of the block prints"


def run_block(source, page, first_line, names, capsys):
    """Runs a block as it stands in its page; what each of its statements printed, by their first lines."""
    printed = {}
    for statement in ast.parse(source).body:
        line = statement.lineno
        ast.increment_lineno(statement, first_line)  # errors then point into the page
        exec(compile(ast.Module([statement], []), str(page), "exec"), names)
        if out := capsys.readouterr().out:
            printed[line] = out
    return printed


def print_comments(source):
    """What each statement that prints is said to print, by the statement's first line.

    That is what the comment lines right below the statement say, or else the comment at the end of a print's line.
    """
    comments = {
        token.start[0]: token.string.removeprefix("#")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    said, lines = {}, source.splitlines()
    for statement in ast.parse(source).body:
        if not any(getattr(node, "id", None) == "print" for node in ast.walk(statement)):
            continue
        below = list(itertools.takewhile(lambda line: line.startswith("#"), lines[statement.end_lineno :]))
        if below:
            said[statement.lineno] = " ".join(line.removeprefix("#") for line in below)
        elif isinstance(statement, ast.Expr) and statement.end_lineno in comments:
            said[statement.lineno] = comments[statement.end_lineno]
    return said


def words(text):
    return " ".join(text.split())


def lines_of(text):
    return text.replace("\\\n", " ").splitlines()


def page_lines(page):
    """The lines of a page that may be commands: those of its blocks, and what stands between backticks."""
    blocks = [block for kind, block in FENCED.findall(read(page)) if kind in ("", "bash", "console", "sh")]
    return [*lines_of("".join(blocks)), *spans(page)]


def commands(lines):
    """(job, names of flags) of every command of ganmrf in these lines."""
    for line in lines:
        for part in re.split("&&|;", line):
            if COMMAND.match(part := part.strip().removeprefix("$ ")):
                job, *rest = shlex.split(part[COMMAND.match(part).end() :], comments=True) or ["--help"]
                if not job.isupper():  # JOB stands for any
                    yield job, [word[2:].partition("=")[0] for word in [job, *rest] if word.startswith("--")]


def check_commands(lines, where):
    for job, given in commands(lines):
        known = {"help", "version"}
        if not job.startswith("-"):
            assert job in job_modules(), f"{where}: {job} is no job"
            known |= importlib.import_module(f"experiments.{job}").main.fields().keys()
        for name in given:
            assert {name, name.removeprefix("no")} & known, f"{where}: {job} has no flag --{name}"


@each_page
def test_commands_and_their_flags_exist(page):
    check_commands(page_lines(page), page.relative_to(ROOT))


def test_examples_of_every_job_exist():
    for job in job_modules():
        lines = lines_of(importlib.import_module(f"experiments.{job}").main.help())
        assert any(named == job for named, _ in commands(lines)), f"{job} --help shows no example of it"
        check_commands(lines, f"{job} --help")


def test_every_job_is_explained():
    explained = {job for job, _ in commands(page_lines(ROOT / "experiments/README.md"))}
    assert set(job_modules()) <= explained


@each_page
def test_links_and_images_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.relative_to(ROOT)}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.relative_to(ROOT)}: {target}"


def anchors(page):
    """The names by which a link reaches each heading of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_names_of_the_library_exist(page):
    for span in spans(page):
        if not (match := re.fullmatch(r"((?:ganmrf|experiments)(?:\.[a-z_]\w*)+)(?:\(.*\))?", span)):
            continue
        parts = match[1].split(".")
        found = importlib.import_module(parts[0])
        for depth, name in enumerate(parts[1:], 2):
            if not hasattr(found, name):
                importlib.import_module(".".join(parts[:depth]))
            found = getattr(found, name)
