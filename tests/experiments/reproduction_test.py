"""The reproduction of the paper and evaluations as a user runs them, on small networks and a small brain."""

import json

import pytest

from ganmrf.parallel import bound_to, cores
from tests.commands import run

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = ("--frames=30", "--grid=coarse", "--width=32", "--depth=2", "--rank=16", "--batch_size=16", "--optimiser=adam")
REFIT = ", output layer solved for"


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "all"
    flags = (*SMALL, "--steps=5", "--lambdas=1,100", "--sweep_steps=5", "--paper_steps=5", "--size=32", "--rounds=1")
    with bound_to(cores()[-1:]):  # one process trains all: a second one would compile the same programs
        done = run("reproduce", f"--workdir={folder}", *flags)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return folder


def test_the_whole_reproduction_small(reproduced):
    results = json.loads((reproduced / "results.json").read_text(encoding="utf-8"))
    assert results["lambda"] == min(results["sweep"], key=lambda row: row["validation_rmse"])["lambda"]
    assert [row["lambda"] for row in results["sweep"]] == [1, 100]
    assert [row["step"] for row in results["records"]][-1] == 5
    names = {f"generator{REFIT}", "generator", "regression only", f"regression only{REFIT}"}
    assert names | {"radial basis functions", "linear interpolation"} == set(results["own"]["errors"])
    assert results["fine"]["extrapolated"] == 3714
    assert results["fine"]["errors"][f"generator{REFIT}"]["mean"] < 0.05
    for name in ("own", "coarse", "fine"):
        maps = results[name]["maps"]
        assert set(maps) == {"snr_20", "snr_1"}
        assert maps["snr_20"][f"generator{REFIT}"]["rrmse_t1"] < 0.3
    assert [cost["atoms"] for cost in results["generation"]] == [297, 106160]
    report = (reproduced / "report.html").read_text(encoding="utf-8")
    assert report.count("data:image/png;base64") == 17
    for figure in ("Fig. 2", "Fig. 4a", "Fig. 4b", "Fig. 5", "Fig. 6", "Fig. 7", "Fig. 8"):
        assert f"the paper&#x27;s {figure})" in report


def test_a_trained_generator_is_evaluated(reproduced, tmp_path):
    flags = (f"--workdir={reproduced / 'generator'}", f"--output={tmp_path}", "--size=32", "--snr=20")
    done = run("evaluate", *flags)
    assert done.returncode == 0, done.stderr
    evaluated = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    results = json.loads((reproduced / "results.json").read_text(encoding="utf-8"))
    assert evaluated["evaluated"] == "59 atoms of the test set"
    for refit in ("", REFIT):  # it trained the same regression again, in a folder of its own
        for name in (f"generator{refit}", f"regression only{refit}"):
            assert evaluated["errors"][name]["mean"] == results["own"]["errors"][name]["mean"]


def test_an_evaluation_beyond_the_trained_range_is_refused(reproduced):
    done = run("evaluate", f"--workdir={reproduced / 'generator_297'}", "--on=fine")
    assert done.returncode == 2
    assert "allow_extrapolation" in done.stderr
    assert done.stderr.count("\n") == 1
