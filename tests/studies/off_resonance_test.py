"""The study of off-resonance: a varying TR is biased by it, a constant one is not, and a B0 map takes it back."""

import jax
import pytest

from experiments.studies.off_resonance import Config, measure

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_constant_times_are_immune_and_b0_maps_correct():
    with jax.enable_x64(True):
        rows = measure(Config(frames=150, off_resonance_hz=(40.0,)))
    errors = {}
    for row in rows:
        errors.setdefault(row["tissue"], []).append(abs(row["t1_error"]) + abs(row["t2_error"]))
    assert len(errors) == 3
    for neglected, constant, known, nearly_known in errors.values():
        assert max(constant, known) < 1e-9 < nearly_known < neglected / 2
        assert neglected > 1e-4
