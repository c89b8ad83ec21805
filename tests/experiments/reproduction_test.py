"""The reproduction of the paper and evaluations as a user runs them, on small networks and a small brain."""

import json

import pytest

from ganmrf.parallel import bound_to, cores
from tests.commands import run

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = ("--frames=30", "--grid=coarse", "--width=32", "--depth=2", "--rank=16", "--batch_size=16", "--optimiser=adam")
TINY = ("--steps=5", "--lambdas=1,100", "--sweep_steps=5", "--paper_steps=5", "--size=32", "--rounds=1", "--anchors=16")
FULL = (*SMALL[1:], *TINY, "--frames=20", "--lambdas=1", "--snr=20")
REFIT = ", output layer solved for"
LABELS = "regression", "regression with an adversary"


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "all"
    with bound_to(cores()[-1:]):  # one process trains all: a second one would compile the same programs
        done = run("reproduce", f"--workdir={folder}", *SMALL, *TINY, "--slice_nodes=2")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return folder


def test_the_whole_reproduction_small(reproduced):
    results = json.loads((reproduced / "results.json").read_text(encoding="utf-8"))
    assert [row["lambda"] for row in results["sweep"]] == [1, 100]
    assert {rows[-1]["step"] for name, rows in results["records"].items() if name.startswith("paper")} == {5}
    networks = {f"{label}{refit}" for label in LABELS for refit in ("", REFIT)}
    better = results["better"]["own"]["errors"]
    assert networks < set(better)
    (anchored,) = (name for name in better if name.endswith(" anchors"))
    assert {"radial basis functions", "splines", "randomised SVD and polynomials"} < set(better)
    assert better[anchored]["mean"] < 0.01
    biases = [errors["bias_over_noise"]["t1"]["mean"] for errors in better.values()]
    assert biases[list(better).index(anchored)] < max(biases)
    assert results["better"]["fine"]["errors"][f"regression{REFIT}"]["mean"] < 0.05
    assert results["paper"]["fine"]["extrapolated"] == 3714
    assert results["paper"]["fine"]["errors"]["paper's network"]["extrapolated"]["worst"] > 0
    maps = {name: set(results["paper"][name]["maps"]) for name in ("own", "coarse", "fine")}
    assert maps == {"own": {"snr_20", "snr_1"}, "coarse": {"snr_20", "snr_1"}, "fine": {"snr_20"}}
    against = results["better"]["own"]["maps"]["snr_20"][f"regression{REFIT}"]["against_truth"]
    truth = results["better"]["own"]["simulated_against_truth"]["snr_20"]
    there = [tissue for tissue, row in truth.items() if row["voxels"]]  # few voxels of a small brain are of one tissue
    for tissue in there:
        assert truth[tissue]["t1_rrmse"] / 3 < against[tissue]["t1_rrmse"] < 3 * truth[tissue]["t1_rrmse"]
    assert there
    assert {name: cost["atoms"] for name, cost in results["generation"].items()} == {"paper": 297, "generator": 297}
    report = (reproduced / "report.html").read_text(encoding="utf-8")
    for figure in ("Fig. 2", "Fig. 4a", "Fig. 4b", "Fig. 5", "Fig. 6", "Fig. 7", "Fig. 8"):
        assert f"the paper&#x27;s {figure})" in report
    adversary = results["records"]["other"][-1]  # and not the paper's network
    assert f"ended at a loss of {adversary['discriminator_loss']:.3f}" in report


def test_a_long_run_of_other_settings_is_refused(reproduced, tmp_path):
    flags = (f"--workdir={tmp_path / 'new'}", f"--long_run={reproduced / 'paper'}", *SMALL, *TINY)
    done = run("reproduce", *flags, "--seed=1")
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("long_run", "seed", str(reproduced / "paper")))
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_paper_network_of_other_open_choices_is_refused_and_all_of_them_are_named(reproduced, tmp_path):
    stored = json.loads((reproduced / "paper" / "config.json").read_text(encoding="utf-8"))
    stored["training"]["recipe"] |= {"noise": 4, "reduction": "sum"}
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    done = run("reproduce", f"--workdir={tmp_path}", *SMALL, *TINY, "--slice_nodes=2")
    assert done.returncode == 2
    assert all(
        word in done.stderr for word in (str(tmp_path / "paper"), "noise = 4, not 1", "reduction = sum, not mean")
    )
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["paper"]


def test_a_trained_generator_is_evaluated(reproduced, tmp_path):
    flags = (f"--workdir={reproduced / 'other'}", f"--output={tmp_path}", "--size=32", "--snr=20", "--regression")
    done = run("evaluate", *flags)
    assert done.returncode == 0, done.stderr
    evaluated = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    results = json.loads((reproduced / "results.json").read_text(encoding="utf-8"))
    assert evaluated["evaluated"] == "59 atoms of the test set"
    for refit in ("", REFIT):
        assert (
            evaluated["errors"][f"generator{refit}"]["mean"]
            == results["better"]["own"]["errors"][f"regression with an adversary{refit}"]["mean"]
        )
        assert f"regression only{refit}" in evaluated["errors"]
    refused = run("evaluate", f"--workdir={reproduced / 'generator'}", f"--output={tmp_path}", "--regression")
    assert refused.returncode == 2
    assert "no discriminator" in refused.stderr


def test_an_evaluation_beyond_the_trained_range_is_refused(reproduced):
    done = run("evaluate", f"--workdir={reproduced / 'generator_297'}", "--on=fine")
    assert done.returncode == 2
    assert "allow_extrapolation" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "full"
    with bound_to(cores()[-1:]):
        done = run("reproduce", f"--workdir={folder}", "--physics=full", *FULL)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return folder


def test_the_full_physics_has_all_generators_in_all_figures_and_says_when_they_pay(full):
    results = json.loads((full / "results.json").read_text(encoding="utf-8"))
    (anchored,) = (name for name in results["better"]["own"]["errors"] if name.endswith(" anchors"))
    for name in ("own", "coarse", "fine"):
        assert {f"regression{REFIT}", anchored} <= set(results["better"][name]["maps"]["snr_20"])
    cases = results["break_even"]
    assert [case["atoms"] for case in cases.values()] == [297, 297, 9 * 297, 106160]
    _, full_slice, with_b1, fine = cases.values()
    best = f"regression{REFIT}"
    assert all({best, "anchors"} <= set(case["generators"]) for case in cases.values())
    assert all("paper's network" in case["generators"] for case in (full_slice, fine))
    for case in cases.values():
        assert case["generators"]["anchors"]["any_sequence"]
        assert case["generators"]["anchors"]["error"] < 0.1
        assert not case["generators"][best]["any_sequence"]
    trained = results["records"]["generator_b1"][-1]["core_seconds"]
    assert with_b1["generators"][best]["making"] > trained  # what it learned from was simulated, too
    report = (full / "report.html").read_text(encoding="utf-8")
    assert all(name[1:] in report for name in cases)  # as the first word of a sentence, too


def test_a_folder_keeps_its_physics(full):
    done = run("reproduce", f"--workdir={full}", "--physics=plain", *FULL)
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("physics=plain", "full", str(full)))
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--slice_model=none",), ("physics", "slice_model", "uniform")),
        (("--slice_nodes=12",), ("physics", "slice_model", "12")),
        (("--b1=0.9",), ("b1", "physics", "0.9")),
    ],
)
def test_full_physics_of_another_slice_is_refused(tmp_path, flags, named):
    done = run("reproduce", f"--workdir={tmp_path / 'new'}", "--physics=full", *SMALL, *flags)
    assert done.returncode == 2
    assert all(word in done.stderr for word in named)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()
