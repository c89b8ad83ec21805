"""The verdicts of the soak can fail: a command that breaks its promises is bad, and one that keeps them is good."""

import pathlib
import sys
import time

import pytest

from tests.soak.running import import_first, run
from tests.soak.verdicts import contents, fault_of, names, temporary


@pytest.fixture(scope="module", autouse=True)
def _forked():
    import_first([__name__])


def _write(_):
    pathlib.Path("o").mkdir(exist_ok=True)
    pathlib.Path("o/result.json").write_text('{"t1": 1.0, "seconds": 2.0}', encoding="utf-8")


def _write_another(_):
    _write(_)
    pathlib.Path("o/result.json").write_text('{"t1": 1.1, "seconds": 2.0}', encoding="utf-8")


def _refuse(words):
    print(f"error: {words[0]} must be at least 1; got 0", file=sys.stderr)
    sys.exit(2)


def _refuse_in_two_lines(words):
    print("a library has a word to say", file=sys.stderr)
    _refuse(words)


def _leave(words):
    pathlib.Path("o.part").touch()
    _refuse(words)


def _raise(_):
    raise KeyError("frames")


def _die(_):
    sys.exit(1)


GOOD, BAD = (_write, _refuse), (_write_another, _refuse_in_two_lines, _leave, _raise, _die)


@pytest.mark.parametrize("command", GOOD + BAD)
def test_a_verdict_is_bad_where_the_command_is(tmp_path, command):
    whole, folder = tmp_path / "whole", tmp_path / "case"
    (whole / "o").mkdir(parents=True)
    (whole / "o/result.json").write_text('{"t1": 1.0, "seconds": 3.0}', encoding="utf-8")
    folder.mkdir()
    outcome = run(command, ["--frames"], folder)
    left, made = names(folder) if outcome.code else set(), contents(whole / "o")
    assert bool(fault_of(outcome, left=left, result=folder / "o", made=made)) == (command in BAD)


@pytest.mark.parametrize(
    ("command", "flag", "bad"), [(_refuse, "--frames", False), (_refuse, "--rank", True), (_write, "--frames", True)]
)
def test_a_flag_is_refused_by_its_name(tmp_path, command, flag, bad):
    (tmp_path / "case").mkdir()
    outcome = run(command, ["--frames"], tmp_path / "case")
    assert bool(fault_of(outcome, left=set(), result=tmp_path, made=None, naming=flag)) == bad


def _wait(_):
    time.sleep(60)


@pytest.mark.parametrize(
    ("command", "disturbance", "code"),
    [(_write, {"fail_at": 2}, 1), (_write, {"fail_at": 3}, 0), (_wait, {"kill_after": 0}, -9)],
)
def test_a_disturbed_command_ends_as_it_must(tmp_path, command, disturbance, code):
    """The one that writes makes a folder, then a file: two changes."""
    folder = tmp_path / "case"
    folder.mkdir()
    outcome = run(command, [], folder, **disturbance)
    assert outcome.code == code
    assert ("Input/output error" in outcome.stderr) == (code == 1)
    assert bool(fault_of(outcome, left=temporary(folder), result=folder, made=None)) == (code != 0)
