"""Families draw sequences of their kind, each another one; echo times are a factor for any kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.anchors.echoes import echo_times, until_echo, without_echo
from ganmrf.anchors.families import FAMILIES, sample_sequences
from ganmrf.physics.sequences.blocks import Blocks, Inversion, T2Preparation, Train
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.kinds import kind_of
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.mark.parametrize("family", FAMILIES)
def test_sequences_are_of_the_kind_and_differ(family):
    one, other = sample_sequences(jax.random.key(0), 2, 100, family)
    [again, _] = sample_sequences(jax.random.key(0), 2, 100, family)
    assert kind_of(one) == family
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert (np.asarray(one.flip_angle) != np.asarray(other.flip_angle)).any()
    assert 90 <= one.n_frames <= 100


def test_cardiac_sequences_invert_and_prepare_t2():
    found = {
        type(each)
        for sequence in sample_sequences(jax.random.key(1), 2, 200, "cardiac")
        for each in sequence.preparations
    }
    assert {Inversion, T2Preparation, type(None)} <= found


def test_balanced_sequences_keep_to_60_degrees():
    for sequence in sample_sequences(jax.random.key(2), 2, 60, "bssfp"):
        flips, times = np.asarray(sequence.flip_angle), np.asarray(sequence.repetition_time)
        assert 0 <= flips.min() < flips.max() <= np.deg2rad(60.001)
        assert 4e-3 < times.min() < times.max() < 17e-3


SEQUENCES = {
    "balanced": Bssfp(np.full(6, 0.6), np.linspace(5e-3, 8e-3, 6), inversion_time=0.02),
    "spoiled": SpoiledGradientEcho(np.full(6, 0.3), 9e-3, 4e-3),
    "not all recorded": Blocks(
        [Train(np.full(6, 0.4), 8e-3, np.linspace(1e-3, 6e-3, 6), recorded=[False] + [True] * 5)]
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_an_echo_time_multiplies_its_frame(name):
    sequence, tissue = (
        SEQUENCES[name],
        Tissue(np.array([0.4, 1.0]), np.array([0.02, 0.1]), 1.0, np.array([-30.0, 50.0])),
    )
    at_once = simulate(without_echo(sequence, tissue), tissue)
    expected = at_once * until_echo(jnp, echo_times(sequence, tissue), tissue)
    np.testing.assert_allclose(simulate(sequence, tissue), expected, atol=3e-6)  # rounding of phases
