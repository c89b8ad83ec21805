"""Ablations and sweeps as a user runs them, on small networks."""

import json

import pytest

from ganmrf.parallel import bound_to, cores
from tests.commands import run

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = ("--frames=30", "--grid=coarse", "--width=8", "--depth=1", "--rank=8", "--batch_size=16", "--optimiser=adam")


def test_ablations_are_tabled(tmp_path):
    variants = ("regression", "as it is", "tanh head", "adversary, r1 0")
    flags = (*(f"--variant={name}" for name in variants), "--seeds=0,1", "--steps=4")
    with bound_to(cores()[-1:]):  # one process trains all: a second one would compile the same programs
        done = run("ablate", f"--workdir={tmp_path}", *SMALL, *flags)
    assert done.returncode == 0, done.stderr
    rows = {row["variant"]: row for row in json.loads((tmp_path / "ablation.json").read_text(encoding="utf-8"))}
    # Without other flags the recipe as it is is regression, and is not trained twice.
    assert {*variants, "radial basis functions"} - set(rows) == {"as it is"}
    for row in rows.values():
        for errors in filter(None, (row, row.get("refitted"))):
            assert errors["least_seed"] <= errors["mean"] <= errors["worst_seed"] <= errors["worst_atom"]
    assert rows["regression"]["refitted"]["mean"] < rows["regression"]["mean"]
    assert rows["tanh head"]["refitted"] is None
    judged = {"discriminator_loss", "discriminator_accuracy", "adversarial_share"}
    assert [name for name, row in rows.items() if judged & row.keys()] == ["adversary, r1 0"]
    assert judged <= rows["adversary, r1 0"].keys()


def test_weights_below_0_are_refused(tmp_path):
    done = run("sweep_lambda", f"--workdir={tmp_path / 's'}", *SMALL, "--lambdas=1,-1")
    assert done.returncode == 2
    assert all(part in done.stderr for part in ("--lambdas", "at least 0", "1.0,-1.0"))
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_lambda_without_an_adversary_is_refused(tmp_path):
    done = run("sweep_lambda", f"--workdir={tmp_path / 's'}", *SMALL, "--preset=regression")
    assert done.returncode == 2
    assert all(part in done.stderr for part in ("--adversarial_weight must be above 0", "--preset=regression"))
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
