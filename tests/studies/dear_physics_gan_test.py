"""The study of adversaries where simulation is dear, as a user runs it: resumed, judged, and told in a table."""

import json

import numpy as np
import pytest

from experiments.studies.dear_physics_report import result_rows, verdict
from ganmrf.parallel import bound_to, cores
from tests.commands import UNIFORM, run

pytestmark = pytest.mark.usefixtures("quick_compiler")
SMALL = (UNIFORM, "--pulse_duration_ms=2", "--frames=20", "--random_atoms=96", "--held_out=12", "--biased=3")
SMALL += ("--seconds=0.01", "--variant=regression,paper")


def test_the_study_small(tmp_path):
    folder = f"--workdir={tmp_path}"
    with bound_to(cores()[-1:]):  # one process trains all: a second one would compile the same programs
        done = run("studies.dear_physics_gan", folder, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    path = tmp_path / "dear_physics.json"
    rows = {row["method"]: row for row in json.loads(path.read_text(encoding="utf-8"))}
    solved = "regression, output layer solved for"
    assert [*rows] == ["regression", solved, "paper", "radial basis functions"]
    assert rows[solved]["error"]["mean"] < rows["paper"]["error"]["mean"]
    for row in rows.values():
        assert set(row["bias"]) == {"t1", "t2", "fraction"}
        assert len(row["error"]["seeds"]) == 1
    assert set(rows["paper"]["discriminator"]) >= {"discriminator_loss", "discriminator_accuracy"}
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert report.count("data:image/png;base64") == 1
    first = path.read_text(encoding="utf-8")
    done = run("studies.dear_physics_gan", folder)
    assert done.returncode == 0, done.stderr
    again = json.loads(path.read_text(encoding="utf-8"))
    for row, before in zip(again, json.loads(first), strict=True):
        assert (row["error"], row["steps"]) == (before["error"], before["steps"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--generator=none.npz",), ("none.npz",)),
        (("--b1=1", "--parameters=t1,b1"), ("--parameters", "b1", "one value")),
        (("--parameters=t1,shift",), ("--parameters", "shift")),
        (("--variant=infogan",), ("--variant", "infogan", "hinge")),
    ],
    ids=lambda value: value[-1],
)
def test_bad_flags_are_one_line(tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    done = run("studies.dear_physics_gan", "--workdir=w", *SMALL, *flags)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("error", "word"), [(4e-3, "loses"), (2.1e-3, "earns nothing"), (1e-3, "wins")])
def test_the_verdict_is_by_the_errors(error, word):
    def judged(mean):
        return {"errors": np.full(4, mean), "bias": {"t1": np.array([0.5, np.nan, 2.0, 1.5])}}

    record = {"step": 9, "core_seconds": 3.0, "discriminator_loss": 0.1}
    found = {(name, 0): {"rows": [record], "refit": name != "paper"} for name in ("regression", "gan", "paper")}
    values = {("regression", 0, "trained"): 5e-3, ("regression", 0, "refit"): 2e-3, ("gan", 0, "trained"): 6e-3}
    values |= {("gan", 0, "refit"): error, ("paper", 0, "trained"): 0.5, "anchors": 1e-4}
    rows = result_rows(found, {key: judged(mean) for key, mean in values.items()}, {"anchors": 7.0})
    text = verdict(rows)
    assert word in text
    assert "2.0e-03" in text
    assert [row["steps"] for row in rows] == [9, 9, 9, 9, 9, None]
    assert rows[0]["bias"]["t1"]["median"] == 1.5
    assert rows[0]["bias"]["t1"]["above"] == pytest.approx(2 / 3)
