"""The bias by errors of fingerprints is the shift that a fit shows, and noise is that of the bounds."""

import dataclasses

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.grids import grid_of, tissue_grid
from ganmrf.dictionary.induced_bias import bias_to_noise
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.dictionary.rows import RowsOnDemand
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.tissue import Tissue

NOISE = 2e-3
SEQUENCE = mrf_fisp(100)


@pytest.fixture(scope="module")
def dictionary():
    return build_dictionary(SEQUENCE, grid_of([0.6, 1.0, 1.6], [0.05, 0.1, 0.2]))


@pytest.fixture(scope="module")
def stds(dictionary):
    """Standard deviations by noise of log T1, log T2 and M0, (3, atoms): central differences in float64, all orders."""
    tissue, step = dictionary.tissue, 1e-4
    moves = np.array([[0, 0], [step, 0], [-step, 0], [0, step], [0, -step]])
    t1, t2 = (
        np.outer(np.exp(move), times.astype(float)).ravel()
        for move, times in zip(moves.T, (tissue.t1, tissue.t2), strict=True)
    )
    with jax.enable_x64(True):
        sequence = jax.tree.map(lambda leaf: np.asarray(leaf, float), SEQUENCE)
        signals = simulate_many(sequence, Tissue(t1, t2), n_states=51).reshape(5, tissue.size, -1)
    rows = [(signals[1] - signals[2]) / (2 * step), (signals[3] - signals[4]) / (2 * step), signals[0]]
    jacobian = np.stack(rows, axis=1)
    return NOISE * np.sqrt(np.linalg.inv(jacobian @ jacobian.mT).diagonal(axis1=1, axis2=2)).T


def bias(simulated, noise=NOISE, **generated):
    """Of the simulated dictionary with other fingerprints or norms."""
    (found,) = bias_to_noise(simulated, [dataclasses.replace(simulated, **generated)], noise)
    return found


def test_fingerprints_of_other_tissues_are_biased_by_the_difference(dictionary, stds):
    tissue, by = dictionary.tissue, 1e-3
    other = build_dictionary(SEQUENCE, Tissue(tissue.t1 * (1 + by), tissue.t2 * (1 - 2 * by)))
    (found,) = bias_to_noise(dictionary, [other], NOISE)
    # Second order: 2e-3 of the shift, for a shift of 2e-3.
    np.testing.assert_allclose(found.t1, by / stds[0], rtol=5e-3)
    np.testing.assert_allclose(found.t2, 2 * by / stds[1], rtol=5e-3)
    assert (found.m0 * stds[2] < 2e-3 * by).all()


def test_errors_of_norms_are_errors_of_m0_alone(dictionary, stds):
    found = bias(dictionary, norms=1.01 * dictionary.norms)
    np.testing.assert_allclose(found.m0, 0.01 / stds[2], rtol=1e-3)  # the accuracy of the derivatives is 1e-4
    assert np.max([found.t1, found.t2]) < 1e-6 * found.m0.min()  # rounding of float32 signals
    assert not any(map(np.any, bias(dictionary).arrays().values()))


@pytest.mark.parametrize("rank", [None, 8])
def test_fits_of_generated_signals_move_by_the_bias(dictionary, rank):
    truth = dictionary if rank is None else compress(dictionary, rank)[0]
    fingerprints = truth.fingerprints + 1e-3 * np.random.default_rng(0).standard_normal(truth.fingerprints.shape)
    found = bias(truth, fingerprints=fingerprints)
    scans = [np.asarray(truth.norms, float)[:, None] * rows for rows in (truth.fingerprints, fingerprints)]
    before, after = (refine(truth, scan.T, match(truth, scan.T), noise=NOISE) for scan in scans)
    for name in ("t1", "t2", "m0"):
        moved = np.abs(getattr(after, name) - getattr(before, name)) / getattr(before, f"{name}_std")
        # Second order, and the step of 1e-5 that a fit does not take any more.
        np.testing.assert_allclose(getattr(found, name), moved, rtol=0.03, atol=5e-3)


@hypothesis.settings(max_examples=5)
@hypothesis.given(st.floats(0.1, 10))
def test_bias_is_proportional_to_error_over_noise(dictionary, factor):
    error = 1e-4 * np.random.default_rng(1).standard_normal(dictionary.fingerprints.shape)
    one, other = (
        bias(dictionary, each * NOISE, fingerprints=dictionary.fingerprints + each * error) for each in (1.0, factor)
    )
    for name, values in one.arrays().items():
        np.testing.assert_allclose(values, getattr(other, name), rtol=1e-9)


def test_atoms_are_apart_from_each_other_in_blocks_that_are_read_alone():
    sequence, n = mrf_fisp(20), 5970
    whole = build_dictionary(sequence, tissue_grid("paper"))
    made = whole.fingerprints + 1e-3 * np.random.default_rng(2).standard_normal(whole.fingerprints.shape)
    longest = []

    def rows_of(rows):
        longest.append(len(rows))
        return made[rows]

    found = bias(whole, fingerprints=RowsOnDemand(rows_of, made.shape, made.dtype))
    assert max(longest) < n / 2
    some = slice(1000, 4000, 500)
    atoms = jax.tree.map(np.asarray, whole.tissue).rows(some)
    part = dataclasses.replace(whole, tissue=atoms, fingerprints=whole.fingerprints[some], norms=whole.norms[some])
    alone = bias(part, fingerprints=made[some])
    # The number of states is chosen for the longest T2 of a range: derivatives differ by 1e-4.
    for name, values in found.arrays().items():
        np.testing.assert_allclose(values[some], getattr(alone, name), rtol=1e-2)


def test_any_parameter_may_be_estimated_and_the_others_are_known(dictionary):
    """B1 that is estimated, too, takes its part of an error, and all bounds are wider."""
    b1 = np.repeat(np.float32([0.9, 1.1]), dictionary.tissue.size)
    t1, t2 = (np.tile(np.asarray(times), 2) for times in (dictionary.tissue.t1, dictionary.tissue.t2))
    truth = build_dictionary(SEQUENCE, Tissue(t1, t2, b1))
    moved = build_dictionary(SEQUENCE, Tissue(t1, t2, b1 * 1.001))
    names = "t1", "t2", "b1"
    (both,) = bias_to_noise(truth, [moved], NOISE, parameters=names)
    (known,) = bias_to_noise(truth, [moved], NOISE)
    (t2_alone,) = bias_to_noise(truth, [moved], NOISE, parameters=("t2",))
    assert (*both.parameters,) == names
    assert (*known.parameters, *t2_alone.parameters) == ("t1", "t2", "t2")
    # What moved is B1 alone: T1 and T2 stay where they are if it is estimated, and take all of the error if not.
    assert np.median(both.t2 / both.b1) < 0.02
    assert np.median(both.t2 / known.t2) < 0.05
    for wrong in ("off_resonance", "fraction"):
        with pytest.raises(ValueError, match=f"the atoms have no {wrong} of their own each"):
            bias_to_noise(truth, [moved], NOISE, parameters=("t1", wrong))


def test_bad_input(dictionary):
    with pytest.raises(ValueError, match=r"generated fingerprints have shape \(9, 99\), but simulated ones \(9, 100\)"):
        bias(dictionary, fingerprints=dictionary.fingerprints[:, 1:])
    with pytest.raises(ValueError, match=r"generated norms have shape \(8,\), but simulated ones \(9,\)"):
        bias(dictionary, norms=dictionary.norms[1:])
    for noise in (0.0, np.inf):
        with pytest.raises(ValueError, match=f"noise must be positive and finite; got {noise:g}"):
            bias(dictionary, noise)
