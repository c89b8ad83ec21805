"""Draws depend on seed and step alone and are truly simulated; sequences for evaluation are never trained on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.studies.sequence_input_data import (
    REFIT,
    T1_LIMITS,
    T2_LIMITS,
    SequenceInputTask,
    named_sequences,
    prepare_task,
    refit,
)
from ganmrf.gan.emission import generator_errors
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.train import fit, init_state
from ganmrf.physics.sequences.fisp import simulate_voxel
from ganmrf.physics.sequences.random import five_lobes

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES, RANK = 40, 20
TASK = SequenceInputTask(n_frames=FRAMES, n_sequences=4)
SMALL = {"width": 16, "depth": 2, "residual": True, "rank": RANK, "optimiser": "adam"}
RECIPE = Recipe(**SMALL, adversarial_weight=0.0, batch_size=32, steps=60)


@pytest.fixture(scope="module")
def data():
    return prepare_task(TASK, RECIPE, n_evaluated=4)


@pytest.fixture(scope="module")
def trained(data):
    draw = functools.partial(TASK.draw, data.scaling)
    return [(jax.tree.map(np.asarray, state), metrics) for state, metrics in _fit(data, init_state(RECIPE, data), draw)]


def _fit(data, state, draw):
    return fit(RECIPE, data, state, chunk=30, draw=draw)


def _times(scaling, condition):
    """T1 and T2 of a condition, (atoms,) each."""
    low, high = (np.log(limits + scaling.offset) for limits in (scaling.low, scaling.high))
    scaled = np.asarray(condition[:, :2], float)
    return (np.exp(low + (scaled + 1) / 2 * (high - low)) - scaling.offset).T


def test_draws_depend_on_the_step_and_the_seed_alone(data):
    first, again, later = (TASK.draw(data.scaling, step) for step in (30, 30, 60))
    other = dataclasses.replace(TASK, seed=1).draw(data.scaling, 30)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    for different in (later, other, TASK.draw(data.scaling, 30, REFIT)):
        assert not np.isin(different.condition[:, -1], first.condition[:, -1]).any()


def test_fingerprints_are_those_of_the_sequences_and_tissues_that_are_named(data):
    examples = data.sets["test"]
    t1, t2 = _times(data.scaling, examples.condition)
    named, simulate_one = jax.jit(functools.partial(five_lobes, n_frames=FRAMES)), jax.jit(simulate_voxel)
    for atom in (0, 63, 64, 200):  # of three sequences
        sequence = named(examples.condition[atom, -8:])
        signal = -np.imag(simulate_one(sequence, t1[atom], t2[atom]))
        # What float32 makes of a logarithm.
        np.testing.assert_allclose(examples.fingerprints[atom], signal / np.linalg.norm(signal), atol=1e-5)
    np.testing.assert_allclose(examples.target, examples.fingerprints @ data.scaling.basis, atol=1e-6)
    drawn = TASK.draw(data.scaling, 0)
    t1, t2 = _times(data.scaling, drawn.condition)
    assert (t2 <= t1 * (1 + 1e-5)).all()
    for times, (low, high) in zip((t1, t2), (T1_LIMITS, T2_LIMITS), strict=True):
        assert (low * (1 - 1e-4) < times).all()
        assert (times < high * (1 + 1e-4)).all()
    assert len(drawn.target) == 4 * 64
    # Log-uniform T1: half of it below the geometric mean, to four standard errors.
    assert abs(np.mean(t1 < np.sqrt(np.prod(T1_LIMITS))) - 0.5) < 0.125


def test_sequences_for_evaluation_are_the_same_for_all_seeds_and_never_trained_on(data):
    other = prepare_task(dataclasses.replace(TASK, seed=1), RECIPE, n_evaluated=4)
    jax.tree.map(np.testing.assert_array_equal, data.sets, other.sets)
    jax.tree.map(np.testing.assert_array_equal, data.scaling, other.scaling)
    peaks = [np.unique(examples.condition[:, -8]) for examples in data.sets.values()]
    peaks += [np.unique(TASK.draw(data.scaling, step).condition[:, -8]) for step in (0, 30)]
    assert [len(each) for each in peaks] == [4, 4, 4, 4]
    assert len(np.unique(np.concatenate(peaks))) == 16


def test_the_schedule_is_an_input_of_its_own(data):
    task = dataclasses.replace(TASK, schedule_input=True)
    told, plain = (each.draw(data.scaling, 0) for each in (task, TASK))
    np.testing.assert_array_equal(told.target, plain.target)
    n_tissue = plain.condition.shape[1] - 8
    np.testing.assert_array_equal(told.condition[:, :n_tissue], plain.condition[:, :n_tissue])
    flip_angles, times = np.split(np.asarray(told.condition[:, n_tissue:]), 2, axis=1)
    one_a_sequence = slice(None, None, len(plain.condition) // TASK.n_sequences)
    sequences = named_sequences(plain.condition[one_a_sequence, -8:], FRAMES)
    for known, values in ((flip_angles, sequences.flip_angle), (times, sequences.repetition_time)):
        known = known[one_a_sequence]
        slope, start = np.polyfit(np.ravel(values), known.ravel(), 1)  # one linear scale for all frames and sequences
        assert slope > 0
        np.testing.assert_allclose(start + slope * np.asarray(values), known, atol=1e-5)


def test_a_resumed_training_ends_as_an_uninterrupted_one(data, trained):
    (halfway, _), (end, metrics) = trained
    state = jax.tree.map(jnp.asarray, halfway)
    [(resumed, again)] = _fit(data, state, functools.partial(TASK.draw, data.scaling))
    jax.tree.map(np.testing.assert_array_equal, resumed, end)
    assert again == metrics


def test_solving_for_the_output_layer_lowers_the_error(data, trained):
    state, _ = trained[-1]
    solved = refit(TASK, RECIPE, state.params, data.scaling, n_parts=4)
    errors = [
        float(generator_errors(RECIPE, params, data.scaling, data.sets["test"]).mean())
        for params in (state.params, solved)
    ]
    assert errors[1] < 0.8 * errors[0]
    for name, layer in solved["params"]["body"].items():
        jax.tree.map(np.testing.assert_array_equal, layer, state.params["params"]["body"][name])
