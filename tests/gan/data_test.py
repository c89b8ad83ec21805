"""The three sets are disjoint, scaled to what the networks expect, and batches depend on their step alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.grids import grid_box, random_tissue, tissue_grid
from ganmrf.gan.data import batch, sequence_input, shares, split_and_scale
from ganmrf.gan.recipes import recipe
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_the_number_of_cores_changes_no_bit():
    tissue = tissue_grid("coarse").ravel()
    fingerprints = np.random.default_rng(0).standard_normal((tissue.size, 100), np.float32)
    noise = Dictionary(tissue, fingerprints, np.ones(tissue.size), mrf_fisp(100), None)
    bases = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            bases.append(split_and_scale(noise, recipe()).scaling.basis)
    np.testing.assert_array_equal(*bases)


def first_rows(dictionary, n):
    tissue = Tissue(dictionary.tissue.t1[:n], dictionary.tissue.t2[:n])
    return dataclasses.replace(
        dictionary, tissue=tissue, fingerprints=dictionary.fingerprints[:n], norms=dictionary.norms[:n]
    )


def test_too_few_atoms_and_compressed_ones(dictionary):
    with pytest.raises(ValueError, match="a dictionary of 2 atoms is too small to split: no atom for the test"):
        split_and_scale(first_rows(dictionary, 2), recipe())
    with pytest.raises(ValueError, match="holds one T1 only"):
        split_and_scale(first_rows(dictionary, 4), recipe(), split=(0.5, 0.25, 0.25))
    with pytest.raises(ValueError, match="this one is compressed"):
        split_and_scale(compress(dictionary, 5)[0], recipe())


@pytest.mark.parametrize("encoding", ["linear", "log", "fourier"])
def test_conditions_run_from_minus_1_to_1(dictionary, encoding):
    split = (0.9, 0.05, 0.05)  # the small sets do not reach as far as the large one
    data = split_and_scale(dictionary, recipe(encoding=encoding, separate_scaling=True), split=split)
    assert list(data.sets) == ["train", "validation", "test"]
    for examples in data.sets.values():  # each by its own range
        tissue = np.asarray(examples.condition)[:, :2]
        np.testing.assert_allclose(tissue.min(axis=0), -1, atol=1e-6)
        np.testing.assert_allclose(tissue.max(axis=0), 1, atol=1e-6)
    shared = split_and_scale(dictionary, recipe(encoding=encoding), split=split)
    assert (shared.sets["train"].condition == data.sets["train"].condition).all()
    assert (shared.sets["test"].condition != data.sets["test"].condition).any()


@pytest.mark.parametrize("encoding", ["linear", "fourier"])
def test_conditions_of_a_unit_range_run_from_0_to_1(dictionary, encoding):
    symmetric, unit = (
        np.asarray(split_and_scale(dictionary, recipe(encoding=encoding, input_range=each)).sets["train"].condition)
        for each in ("symmetric", "unit")
    )
    assert unit.min() >= 0
    np.testing.assert_allclose(unit.max(axis=0)[:2], 1, atol=1e-6)
    np.testing.assert_allclose(2 * unit - 1, symmetric, atol=1e-6)


def test_logarithms_begin_at_half_a_repetition_time(dictionary):
    scaling = split_and_scale(dictionary, recipe(encoding="log"), split=(1, 0, 0)).scaling
    half = np.mean(dictionary.sequence.repetition_time) / 2
    t1 = np.array([0.05, 0.4, 3.0])
    encoded = np.asarray(scaling.condition(jnp.asarray(t1), jnp.asarray([0.01, 0.02, 0.5])))[:, 0]
    expected = np.log((t1 + half) / (0.05 + half)) / np.log((3 + half) / (0.05 + half))
    np.testing.assert_allclose(encoded, 2 * expected - 1, atol=1e-5)


@pytest.mark.parametrize("encoding", ["linear", "log", "fourier"])
def test_every_parameter_in_which_atoms_differ_is_a_condition(encoding):
    """What is logarithmic is so from its own offset, and may begin at 0; all else is linear."""
    ranges = {"fraction": [0, 0.3], "exchange_rate": [0, 50], "t1_b": [0.2, 1], "lineshape": [0, 2e-5]}
    box = grid_box("semisolid", t1=[0.3, 3], t2=[0.02, 0.3], b1=[0.7, 1.3], **ranges)
    tissue = random_tissue(box, 300, np.random.default_rng(0)).ravel()
    fingerprints = np.random.default_rng(1).standard_normal((300, 60)).astype(np.float32)
    dictionary = Dictionary(tissue, fingerprints, np.ones(300), mrf_fisp(60))
    data = split_and_scale(dictionary, recipe(encoding=encoding), split=(1, 0, 0))
    rows, condition = data.rows["train"], np.asarray(data.sets["train"].condition)
    names = "t1", "t2", "fraction", "exchange_rate", "t1_b", "lineshape", "b1"
    assert data.scaling.names == names
    assert condition.shape[1] == (7 if encoding != "fourier" else 7 + 4 * 7**2)
    half = np.mean(dictionary.sequence.repetition_time) / 2
    offsets = {"t1": half, "t2": half, "exchange_rate": 1.0, "t1_b": 6.5e-3, "lineshape": 1e-6}
    for column, name in zip(condition.T, names, strict=False):
        values = np.asarray(getattr(tissue, name), float)[rows]
        if encoding != "linear" and name in offsets:
            values = np.log(values + offsets[name])
        expected = 2 * (values - values.min()) / np.ptp(values) - 1
        np.testing.assert_allclose(column, expected, atol=2e-5)  # float32 logarithms of 1e-5


@pytest.mark.parametrize("head", ["tanh", "svd"])
def test_targets_hold_the_fingerprints(dictionary, head):
    data = split_and_scale(dictionary, recipe(head=head, refit=False, rank=60))
    scaling, train = data.scaling, data.sets["train"]
    if head == "tanh":
        assert float(jnp.abs(train.target).max()) == 1
        decoded = np.asarray(train.target) * scaling.scale
    else:
        np.testing.assert_allclose(
            np.sqrt(np.mean(np.asarray(train.target, float) ** 2, 0)), scaling.output_scale, rtol=1e-5
        )
        decoded = np.asarray(train.target) @ scaling.basis.T
    np.testing.assert_allclose(decoded, dictionary.fingerprints[data.rows["train"]], atol=1e-6)


def test_fingerprints_over_their_own_largest_values(dictionary):
    tanh = recipe(head="tanh", refit=False, fingerprint_scaling="each")
    data = split_and_scale(dictionary, tanh)
    target = np.asarray(data.sets["train"].target)
    np.testing.assert_array_equal(np.abs(target).max(axis=1), 1)
    target = target / np.linalg.norm(target, axis=1, keepdims=True)
    np.testing.assert_allclose(target, dictionary.fingerprints[data.rows["train"]], atol=1e-6)


def test_blocked_sets(dictionary):
    data = split_and_scale(dictionary, recipe(encoding="linear"), split_kind="blocked")
    t1, t2 = (np.asarray(each) for each in (dictionary.tissue.t1, dictionary.tissue.t2))
    train, test = data.rows["train"], data.rows["test"]
    assert (~np.isin(t1[test], t1[train]) | ~np.isin(t2[test], t2[train])).all()


def test_batches_repeat_and_differ_by_step(dictionary):
    train = split_and_scale(dictionary, recipe(noise=3)).sets["train"]
    key = jax.random.key(7)
    one, again, other = (batch(key, jnp.asarray(step), train, 16, 3) for step in (5, 5, 6))
    for a, b, c in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (np.asarray(a) != np.asarray(c)).any()
    condition, target, noise = one
    assert noise.shape == (2, 16, 3)  # each network has its own z
    assert (noise[0] != noise[1]).all()
    found = np.abs(np.asarray(train.target)[None] - np.asarray(target)[:, None]).sum(-1).argmin(1)
    np.testing.assert_array_equal(condition, np.asarray(train.condition)[found])  # pairs stay together


def test_shares_are_uniform_and_of_their_step_alone():
    key = jax.random.key(3)
    drawn = np.stack([shares(key, jnp.asarray(step), 400) for step in (5, 6)])
    np.testing.assert_array_equal(drawn[0], shares(key, jnp.asarray(5), 400))
    assert (drawn[0] != drawn[1]).all()
    np.testing.assert_allclose(np.sort(drawn.ravel()), np.linspace(0, 1, 800), atol=0.06)  # Kolmogorov: 1.6 / sqrt(800)


def test_the_sequence_as_an_input(dictionary):
    values = sequence_input(dictionary.sequence)
    assert values.shape == (120,)
    np.testing.assert_allclose(values[:60] * np.max(dictionary.sequence.flip_angle), dictionary.sequence.flip_angle)
    assert values[60:].max() == 1


@pytest.mark.parametrize(("flip_angles", "expected"), [([0.0, 0.0], [0, 0]), ([0.0, -0.5], [0, -1])])
def test_a_train_of_flip_angles_that_are_all_0_is_an_input_of_zeros(flip_angles, expected):
    sequence = Fisp(jnp.array(flip_angles), jnp.array([0.006, 0.012]), 0.002)
    values = sequence_input(sequence)
    np.testing.assert_array_equal(values, np.float32([*expected, 0.5, 1]))
    assert values.dtype == np.float32
