"""Designs for the fraction of a semisolid pool: better, also by saturation pulses, within their limits, and refused."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.design.bounds import precision
from ganmrf.design.limits import violations
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool
from ganmrf.runs.designing import DesignConfig, design_in_folder
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import PowerConfig
from ganmrf.runs.tissues import TissueConfig

pytestmark = pytest.mark.usefixtures("quick_compiler")
POWER = PowerConfig(pulse_duration_ms=2.0, pulse_shape=1.5)


def config(**asked):
    simulation = SimulationConfig(frames=40, pools=TissueConfig(tissue="semisolid"), powers=POWER)
    return DesignConfig(
        simulation, **{"objective": "joint", "starts": 1, "tissues": ("WM:1840/70/0.21/14/340/15.1",)} | asked
    )


def joint(sequence, tissue):
    """Root of the sum of squared relative standard deviations of T1, T2 and the fraction of one tissue."""
    found = precision(sequence, tissue, parameters=("t1", "t2", "fraction"))
    return float(np.sqrt(sum(np.sum(std**2) for std in found.stds.values())))


def test_a_design_lowers_the_joint_bound_within_limits_of_power(tmp_path):
    asked = config(steps=25, saturation_pulses_deg=80.0, rf_power=40.0)  # enough for both kinds of pulses
    found = design_in_folder(tmp_path, asked, progress=False)
    before, after = (joint(each, asked.tissue) for each in (found.start, found.sequence))
    # The search simulates to 1e-3, and the bound of 40 frames is as ill-conditioned as its size.
    assert float(found.best[0]) == pytest.approx(after, rel=0.1)
    assert after < 0.8 * before
    assert not any(violations(found.sequence, found.limits).values())
    assert np.ptp(found.sequence.saturation_angle) > 0.01  # rad: the search has moved them
    assert found.sequence.pulse_duration == pytest.approx(2e-3)


@pytest.mark.parametrize("rf_power", [None, 3.0, 30.0])
def test_limits_hold_for_any_parameters(rf_power):
    asked = config(saturation_pulses_deg=60.0, rf_power=rf_power)
    start = asked.simulation.sequence()
    assert "saturation_angle" not in config().parametrisation(start).free
    sequences, rng = asked.parametrisation(start), np.random.default_rng(0)
    for size in (0.0, 1.0, 30.0):
        params = jax.tree.map(
            lambda leaf, size=size: leaf + size * rng.standard_normal(leaf.shape), sequences.initial()
        )
        found = sequences.to_sequence(params)
        assert not any(violations(found, asked.limits(start)).values())


def test_tissues_are_read_in_the_units_of_flags():
    tissue = config().tissue
    assert isinstance(tissue, SemisolidPool)
    found = [float(getattr(tissue, name)[0]) for name in ("t1", "t2", "fraction", "exchange_rate", "t1_b", "lineshape")]
    np.testing.assert_allclose(found, [1.84, 0.07, 0.21, 14, 0.34, 15.1e-6], rtol=1e-6)
    two = dataclasses.replace(SimulationConfig(), pools=TissueConfig(tissue="exchanging"))
    assert isinstance(DesignConfig(two).tissue, ExchangingPools)
    assert len(DesignConfig(dataclasses.replace(two, pools=TissueConfig(tissue="semisolid"))).named_tissues) == 2


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"tissues": ("WM:1840/70",)}, "tissues must be name:T1/T2/f/k/T1b/G in ms, 1/s, us"),
        ({"tissues": ("WM:1840/70/21/14/340/15.1",)}, "got WM:1840/70/21/14"),
        ({"objective": "separation"}, "objective=separation goes with --tissue=one_pool"),
        ({"objective": "bound", "gain_t1": 0.0, "gain_t2": 0.0, "gain_fraction": 0.0}, "gain_fraction are all 0"),
    ],
)
def test_what_no_design_of_pools_can_ask_for(asked, words):
    with pytest.raises(ValueError, match=words):
        config(**asked)
