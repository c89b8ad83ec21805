"""The recurrent baseline: causal, taught by true signals, resumed to the same bits, and better the longer it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.evaluation.recurrent import RecurrentConfig, draw, fit, init_state, recurrent_signals
from experiments.evaluation.recurrent_runs import Recurrent
from ganmrf.anchors.families import sample_sequences
from ganmrf.physics.sequences.fisp import Fisp, simulate_voxel
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import unusual_values

pytestmark = pytest.mark.usefixtures("quick_compiler")

CONFIG = RecurrentConfig(
    steps=200, seed=0, frames=12, axes=("t1", "t2", "b1"), low=(0.1, 0.01, 0.7), high=(3, 0.5, 1.3)
)
TISSUE = Tissue([1.0, 0.5, 2.5], [0.1, 0.03, 0.4], [1.0, 0.8, 1.2])


@pytest.fixture(scope="module")
def trained():
    return [(jax.tree.map(np.asarray, state), row) for state, row in fit(CONFIG, init_state(CONFIG), chunk=100)]


@pytest.fixture
def sequence():
    return sample_sequences(jax.random.key(5), 1, CONFIG.frames)[0]


def test_a_frame_changes_no_earlier_signal(trained, sequence):
    state, _ = trained[-1]
    for name, first in (("flip_angle", 7), ("repetition_time", 8)):  # a repetition time is of what follows it
        changed = dataclasses.replace(sequence, **{name: getattr(sequence, name).at[7].multiply(1.5)})
        one, other = (recurrent_signals(CONFIG, state.params, each, TISSUE) for each in (sequence, changed))
        np.testing.assert_array_equal(one[:, :first], other[:, :first])
        assert (np.abs(one - other)[:, first:].max(axis=0) > 0).all()


def test_the_echo_decays_by_t2(trained, sequence):
    state, _ = trained[-1]
    late = dataclasses.replace(sequence, echo_time=sequence.echo_time + 5e-3)
    one, other = (recurrent_signals(CONFIG, state.params, each, TISSUE) for each in (sequence, late))
    np.testing.assert_allclose(other, one * np.exp(-5e-3 / np.asarray(TISSUE.t2))[:, None], rtol=1e-5)


def test_examples_are_signals_of_the_sequences_and_tissues_that_are_named():
    examples = draw(CONFIG, 0)
    pulses, simulate_one = examples.pulses, jax.jit(simulate_voxel)
    for number, atom in ((0, 0), (17, 3), (63, 63)):  # the first is a heart rhythm or not, as drawn
        angle, interval = (leaf[:, number] for leaf in pulses)
        named = Fisp(angle, jnp.append(interval[1:], 20e-3), 0.0, interval[0])
        t1, t2, b1 = (getattr(examples.tissue, name)[number, atom] for name in CONFIG.axes)
        signal = -np.imag(simulate_one(named, t1, t2, b1))
        np.testing.assert_allclose(examples.signals[:, number, atom], signal, atol=1e-4)  # the examples' accuracy
    again, later = draw(CONFIG, 0), draw(CONFIG, 30)
    jax.tree.map(np.testing.assert_array_equal, again, examples)
    assert not (later.tissue.t1 == examples.tissue.t1).any()
    assert (later.pulses.flip_angle != examples.pulses.flip_angle).any()


def test_a_resumed_training_ends_as_an_uninterrupted_one(trained):
    (halfway, _), (end, row) = trained
    [(resumed, again)] = fit(CONFIG, jax.tree.map(jnp.asarray, halfway), chunk=100)
    jax.tree.map(np.testing.assert_array_equal, resumed, end)
    assert again == row


def test_more_steps_lower_the_error_on_what_was_not_seen(trained, sequence):
    errors = [Recurrent(CONFIG, state.params, 0.0).errors([sequence], TISSUE).mean() for state, _ in trained]
    assert errors[1] < 0.8 * errors[0] < 0.8


def test_a_sequence_without_an_inversion_is_one_that_recovered_from_it(trained, sequence):
    state, _ = trained[-1]
    with unusual_values():  # ten times the longest T1, longer than a scanner waits
        plain, recovered = (dataclasses.replace(sequence, inversion_time=time) for time in (None, 25.0))
        one, other = (recurrent_signals(CONFIG, state.params, each, TISSUE) for each in (plain, recovered))
    np.testing.assert_allclose(one, other, atol=0.05)
