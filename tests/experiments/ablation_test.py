"""Ablations and sweeps as a user runs them, on small networks."""

import json

import pytest

from ganmrf.parallel import bound_to, cores
from tests.commands import run

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = ("--frames=30", "--grid=coarse", "--width=8", "--depth=1", "--rank=8", "--batch_size=16", "--optimiser=adam")
REFIT = ", output layer solved for"


def test_ablations_are_tabled(tmp_path):
    variants = ("no adversary", "tanh head")
    flags = (*(f"--variant={name}" for name in variants), "--seeds=0,1", "--steps=4")
    with bound_to(cores()[-1:]):  # one process trains all: a second one would compile the same programs
        done = run("ablate", f"--workdir={tmp_path}", *SMALL, *flags)
    assert done.returncode == 0, done.stderr
    rows = {row["variant"]: row for row in json.loads((tmp_path / "ablation.json").read_text(encoding="utf-8"))}
    expected = {"no adversary", f"no adversary{REFIT}", "tanh head", "radial basis functions", "linear interpolation"}
    assert set(rows) == expected
    for row in rows.values():
        assert row["mean"] <= row["worst_seed"] <= row["worst_atom"]


def test_weights_below_0_are_refused(tmp_path):
    done = run("sweep_lambda", f"--workdir={tmp_path / 's'}", *SMALL, "--lambdas=1,-1")
    assert done.returncode == 2
    assert all(part in done.stderr for part in ("--lambdas", "at least 0", "1.0,-1.0"))
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
