"""The study of cardiac preparations: hard pulses cost accuracy where B1 is wrong; an adiabatic inversion guards T1."""

import jax
import pytest

from experiments.studies.cardiac_preparations import Config, measure

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_errors_of_hard_and_composite_pulses():
    with jax.enable_x64(True):
        rows = measure(Config(rates=(80,), beats=5, b1=(0.7, 1.0), off_resonance_hz=(0.0,)))
    assert len(rows) == 8
    errors = {(row["preparations"], row["tissue"], row["b1"]): (row["t1_error"], row["t2_error"]) for row in rows}
    for tissue in ("myocardium", "blood"):
        assert max(map(abs, errors["hard", tissue, 1.0])) < 1e-9
        assert min(map(abs, errors["hard", tissue, 0.7])) > 0.2
        assert abs(errors["composite", tissue, 0.7][0]) < 0.2
