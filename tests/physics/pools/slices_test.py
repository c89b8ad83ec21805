"""Pools in a slice: mobile ones turn as the pulse turns them at each position; a semisolid one feels its power."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.physics.bloch import isochromat_signal, slice_signal
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_positions import n_positions
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, small_tip
from tests.physics.pools.cases import relative, sequences, tissues

pytestmark = pytest.mark.usefixtures("quick_compiler")
PULSE = windowed_sinc(4.0, "hann", n_samples=40)


def case(name, sequence="fisp"):
    """A sequence and four voxels, in double precision; two values of B1, whose rotations the reference computes."""
    rng = np.random.default_rng(2)
    sequence, tissue = sequences(rng)[sequence], tissues(rng)[name].rows(slice(3, 7))
    tissue = dataclasses.replace(tissue, b1=np.array([0.8, 1.1, 0.8, 1.1]))
    return jax.tree.map(lambda leaf: leaf.astype(float), (sequence, tissue))


@pytest.mark.parametrize("sequence", ["fisp", "bssfp"])
@pytest.mark.parametrize("name", ["exchanging, off resonance", "semisolid"])
def test_equal_positions_of_a_full_slice_are_exact(name, sequence):
    turns = 4.3 if sequence == "fisp" else 0.0
    model = FullSlice(PULSE, turns)
    with jax.enable_x64(True):
        sequence, tissue = case(name, sequence)
        expected = 1j * slice_signal(sequence, tissue, PULSE, turns, 2 * n_positions(model, 7, int(turns > 0)))
        found = simulate(sequence, tissue, n_states=7, slice_profile=model)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["exchanging", "semisolid"])
def test_the_accuracy_of_a_full_slice_holds(name):
    """12 frames of 4 turns, over 3 thicknesses, are 144 turns: no echo of another order."""
    with jax.enable_x64(True):
        sequence, tissue = case(name)
    expected = 1j * slice_signal(sequence, tissue, PULSE, 4.0, 1024)
    sequence, tissue = jax.tree.map(lambda leaf: leaf.astype(np.float32), (sequence, tissue))
    found = np.asarray(simulate(sequence, tissue, slice_profile=FullSlice(PULSE, 4.0)))
    assert np.isrealobj(found)
    assert relative(found, expected).max() < 1e-4


@pytest.mark.parametrize("name", ["exchanging, off resonance", "semisolid"])
def test_a_partitioned_slice_has_a_phase_graph_at_each_position(name):
    with jax.enable_x64(True):
        sequence, tissue = case(name)
        expected = 1j * slice_signal(sequence, tissue, PULSE, np.inf, 2 * 8)
        found = simulate(sequence, tissue, slice_profile=PartitionedSlice(PULSE, 8))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["exchanging", "semisolid"])
def test_a_small_tip_slice_scales_the_angle_of_mobile_pools(name):
    """At each node; the pulse is as powerful as anywhere, which its shape says here."""
    with jax.enable_x64(True):
        sequence, tissue = case(name)
        sequence = dataclasses.replace(sequence, saturation_angle=None)
        profile, expected = small_tip(PULSE, 3), 0
        for node, weight in zip(profile.nodes, profile.weights, strict=True):
            changed = {"flip_angle": node * sequence.flip_angle, "pulse_shape": 1.5 / node**2}
            expected += 1j * weight * isochromat_signal(dataclasses.replace(sequence, **changed), tissue)
        found = simulate(sequence, tissue, slice_profile=profile)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
