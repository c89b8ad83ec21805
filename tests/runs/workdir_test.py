"""The folder of a run: one run at a time, always with the settings it was begun with, and a record without gaps."""

import json

import pytest

from ganmrf.runs.workdir import Workdir, read_config, read_records
from ganmrf.settings import configuration, group, setting

pytestmark = pytest.mark.usefixtures("quick_compiler")


@configuration
class Network:
    """A group of settings."""

    width: int = setting(8, "units", at_least=1)
    shares: tuple[float, ...] = setting((0.5, 0.5), "of sets")


@configuration
class Run:
    """Settings of a run."""

    seed: int = setting(0, "of all", at_least=0)
    shown: bool = setting(True, "a report", kept=False)
    network: Network = group(Network)


@configuration
class Other:
    """Settings of another kind of run."""

    size: int = setting(3, "rows")


def test_settings_that_are_not_given_are_those_of_the_folder(tmp_path):
    with Workdir(tmp_path / "run", Run(3, network=Network(16, (0.2, 0.8)))) as workdir:
        assert not workdir.begun
    with Workdir(tmp_path / "run", Run(), frozenset()) as workdir:
        assert workdir.begun
        assert workdir.config == Run(3, network=Network(16, (0.2, 0.8)))
    with Workdir(tmp_path / "run", Run(3, shown=False), frozenset({"seed", "shown"})) as workdir:
        assert workdir.config == Run(3, False, Network(16, (0.2, 0.8)))
    assert read_config(tmp_path / "run", Run()) == Run(3, network=Network(16, (0.2, 0.8)))


def test_a_setting_that_is_newer_than_the_run_has_its_default(tmp_path):
    with Workdir(tmp_path / "run", Run(3, network=Network(16, (0.2, 0.8)))) as workdir:
        workdir.record({"step": 1})
    path = tmp_path / "run" / "config.json"
    stored = json.loads(path.read_text())
    del stored["network"]["width"]
    path.write_text(json.dumps(stored))
    assert read_config(tmp_path / "run", Run(network=Network(4))) == Run(3, network=Network(8, (0.2, 0.8)))
    with pytest.raises(ValueError, match="width=4 conflicts with 8"):
        Workdir(tmp_path / "run", Run(network=Network(4)), frozenset({"width"}))
    del stored["network"]
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="of another kind of run"):
        read_config(tmp_path / "run", Run())


@pytest.mark.parametrize(
    ("config", "given", "conflict"),
    [
        (Run(4), {"seed"}, "seed=4 conflicts with 3"),
        (Run(3, network=Network(32)), {"width"}, "width=32 conflicts with 8"),
        (Run(3, network=Network(8, (1.0,))), None, "shares=1.0 conflicts with 0.5,0.5"),
    ],
)
def test_a_conflict_names_the_setting_and_changes_nothing(tmp_path, config, given, conflict):
    with Workdir(tmp_path, Run(3)) as workdir:
        workdir.record({"step": 1})
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ValueError, match=conflict):
        Workdir(tmp_path, config, given and frozenset(given))
    assert (tmp_path / "config.json").read_bytes() == before
    with Workdir(tmp_path, Run(3)):  # the refusal left no lock behind
        pass


def test_some_settings_may_be_extended(tmp_path):
    with Workdir(tmp_path, Run(3)) as workdir:
        workdir.record({"step": 1})
    with Workdir(tmp_path, Run(3, network=Network(32)), extendable=frozenset({"width"})) as workdir:
        assert workdir.config.network.width == 32
    assert read_config(tmp_path, Run()).network.width == 32


def test_one_run_at_a_time(tmp_path):
    with Workdir(tmp_path, Run()), pytest.raises(ValueError, match=f"{tmp_path} is in use by another run"):
        Workdir(tmp_path, Run())
    with Workdir(tmp_path, Run()):
        pass


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "config.json"),
        ("[]", "damaged"),
        ('{"size": 3}', "another kind"),
        ('{"seed": -1, "network": {"width": 8, "shares": [0.5]}}', "seed must be at least 0.*-1"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(tmp_path, content, words):
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        Workdir(tmp_path, Run(), frozenset())
    with pytest.raises(ValueError, match=words):
        read_config(tmp_path, Run())


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        read_config(tmp_path, Run())


def everything(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def fail(folder, error, *names):
    """A run that makes some folders and files, and ends with an error."""
    with Workdir(folder, Run()) as workdir:
        for name in names:
            path = workdir.path / name
            path.touch() if path.suffix else path.mkdir()
        raise error


@pytest.mark.parametrize("error", [ValueError, MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("place", [".", "new", "new/er/run"])
def test_a_first_run_that_fails_leaves_the_folder_as_it_was(tmp_path, error, place):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "mine.txt").write_text("mine", encoding="utf-8")
    before = everything(tmp_path)
    with pytest.raises(error):
        fail(tmp_path / place, error, "checkpoints", "dictionary.json")
    assert everything(tmp_path) == before


def test_a_failed_run_that_recorded_something_is_kept(tmp_path):
    with pytest.raises(ValueError, match="bad input"):
        fail(tmp_path / "run", ValueError("bad input"), "table", "table/0.npz")
    assert {"config.json", "table/0.npz"} < everything(tmp_path / "run").keys()
    with pytest.raises(ValueError, match="another kind"):
        Workdir(tmp_path / "run", Other())


def test_settings_that_cannot_have_the_folder_leave_it_as_it_was(tmp_path):
    (tmp_path / "config.json").write_text('{"size": 3}', encoding="utf-8")
    with pytest.raises(ValueError, match="another kind"):
        Workdir(tmp_path, Run())
    assert everything(tmp_path).keys() == {"config.json"}


def test_a_run_killed_before_its_first_record_yields_to_other_settings(tmp_path):
    with Workdir(tmp_path, Run(3, network=Network(16))):
        pass
    (tmp_path / "dictionary.json").touch()
    with Workdir(tmp_path, Run(2), frozenset({"seed"})) as workdir:
        assert workdir.config == Run(2, network=Network(16))
        assert not (tmp_path / "dictionary.json").exists()


def test_records_without_their_checkpoint_and_cut_off_lines_are_removed(tmp_path):
    with Workdir(tmp_path, Run()) as workdir:
        for step in (1, 2, 3):
            workdir.record({"step": step, "loss": 1 / step})
        with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write('{"step": 4, "lo')
        assert [row["step"] for row in read_records(tmp_path)] == [1, 2, 3]
        assert [row["step"] for row in workdir.rows(2)] == [1, 2]
        workdir.record({"step": 3, "loss": 0.0})
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [1.0, 0.5, 0.0]
    assert read_records(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    "lines",
    [
        b"5",
        b"[]",
        b"",
        b"\xff\xfe",
        b'{"loss": 1}',
        b'{"step": "1", "loss": 1}',
        b'{"step": null, "loss": 1}',
        b'{"step": 1}',
        b'{"step": 1, "loss": "x"}',
        b'{"step": 1, "loss": null}',
        b'{"step": 2, "loss": 1}\n{"step": 2, "loss": 1}',
        b'{"step": 2, "loss": 1}\n{"step": 1, "loss": 1}',
    ],
)
def test_lines_that_are_no_records_are_named(tmp_path, lines):
    (tmp_path / "metrics.jsonl").write_bytes(lines + b"\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line [12]"):
        read_records(tmp_path, ["loss"])
