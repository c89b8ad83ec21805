"""The front door and the flags: jobs are listed, flags come from dataclasses, bad input is one line and exit code 2."""

import dataclasses

import pytest

from experiments import __main__ as front_door
from experiments.flags.command_line import command
from experiments.flags.jobs import job_modules, summary
from ganmrf.settings import check_settings, flat, from_plain, group, setting, to_plain
from tests.commands import run, run_apart


@dataclasses.dataclass(frozen=True)
class Inner:
    """Inner fields."""

    size: int = setting(3, "rows, mm", at_least=2)
    names: tuple[str, ...] = setting(("a",), "what is drawn", choices=("a", "b"))


@dataclasses.dataclass(frozen=True)
class Outer:
    """Outer fields."""

    output: str = setting(meaning="file to write", kept=False)
    kind: str = setting("small", "which preset", choices=("small", "large"))
    times: tuple[float, ...] = setting((1.0, 2.0), "times, s", above=0)
    inner: Inner = group(Inner, presets={"small": Inner(), "large": Inner(size=9)}, by="kind")

    def __post_init__(self):
        check_settings(self)
        check_settings(self.inner)


@pytest.fixture
def called():
    """Configurations and given flags that the command below was called with, and the command."""
    calls = []

    @command(Outer)
    def main(config, given):
        calls.append((config, given))

    return calls, main


def test_flags_are_the_fields_of_a_dataclass(called):
    calls, main = called
    main.run(["--output=x", "--times=4,3,4", "--names=b", "--kind=large"])
    config, given = calls[0]
    assert config == Outer("x", "large", (4.0, 3.0), Inner(9, ("b",)))
    assert given == {"output", "times", "names", "kind"}
    main.run(["--output=x", "--kind=large", "--size=5"])
    assert calls[1][0].inner == Inner(5, ("a",))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), ("--output", "required")),
        (("--output=x", "--size=1"), ("--size", "1", "at least 2")),
        (("--output=x", "--size=many"), ("size", "many")),
        (("--output=x", "--times=1,-2"), ("--times", "-2", "above 0")),
        (("--output=x", "--times=1,two"), ("--times", "two", "numbers")),
        (("--output=x", "--times="), ("--times", "one value")),
        (("--output=x", "--names=c"), ("--names", "c", "a, b")),
        (("--output=x", "--kind=huge"), ("kind", "huge", "small", "large")),
        (("--output=x", "--sise=4"), ("--sise", "--size")),
        (("--output=x", "more"), ("more",)),
    ],
)
def test_bad_input_is_one_line(called, capsys, flags, words):
    calls, main = called
    with pytest.raises(SystemExit) as end:
        main.run(list(flags))
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.count("\n") == 1
    assert all(word in error for word in words)
    assert not calls


def test_help_shows_the_jobs_own_flags_with_defaults(called, capsys):
    _, main = called
    main.run(["--help"])
    text = capsys.readouterr().out
    for words in ("--output=TEXT", "(required)", "rows, mm (default: 3)", "a|b", "times, s (default: 1, 2)"):
        assert words in text
    assert "pdb" not in text


def test_configurations_survive_their_file():
    config = Outer("x", "large", (4.0,), Inner(9, ("b", "a")))
    plain = to_plain(config)
    assert plain == {"kind": "large", "times": [4.0], "inner": {"size": 9, "names": ["b", "a"]}}
    assert from_plain(Outer("x"), plain) == config
    assert set(flat(config)) == {"output", "kind", "times", "size", "names"}


def test_every_job_explains_itself(capsys):
    front_door.main([])
    listed = capsys.readouterr().out
    for job in job_modules():
        assert f"  {job} " in listed
        assert summary(job) in listed
        done = run(job, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "--" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian",), ("trian", "train")),
        (("train", "evaluate"), ("one job", "train", "evaluate")),
        (("export_pulseq", "--lambdas=1"), ("--lambdas", "sweep_lambda", "reproduce")),
        (("export_pulseq", "file.seq"), ("file.seq",)),
    ],
)
def test_the_front_door_refuses_in_one_line(capsys, arguments, words):
    with pytest.raises(SystemExit) as end:
        front_door.main(list(arguments))
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.count("\n") == 1
    assert all(word in error for word in words)


def test_a_module_runs_as_the_front_door_does(tmp_path):
    done = run_apart("export_pulseq", f"--output={tmp_path / 'mrf.txt'}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@dataclasses.dataclass(frozen=True)
class Narrow:
    """Leaves the inner size out, has another meaning for its name, and takes one of the inner names."""

    size: str | None = setting(None, "of the outer class")
    inner: Inner = group(Inner, without=("size",), choices={"names": ("a",)}, meanings={"names": "what is written"})


def test_a_group_may_leave_flags_and_choices_out_and_say_what_others_mean(capsys):
    calls = []

    @command(Narrow)
    def main(config):
        calls.append(config)

    main.run(["--size=wide"])
    assert calls == [Narrow("wide", Inner())]  # a flag of the outer class alone
    main.run(["--help"])
    shown = capsys.readouterr().out
    assert "--names=a," in shown
    assert "what is written" in shown
    assert "what is drawn" not in shown
