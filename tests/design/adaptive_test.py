"""What is expected of the continuations of a scan: Bayes and Cramer-Rao, by carried tissues of either kind."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.anchors.table import TableWeights
from ganmrf.design.adaptive import (
    carried_by_differences,
    carried_by_generator,
    expected_variances,
    no_data,
    observed,
    posterior,
)
from ganmrf.physics.continuation import advance, advance_each, stacked, start
from ganmrf.physics.sequences.blocks import Blocks, Inversion, Train
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate, simulate_with_tangents
from ganmrf.physics.tissue import Tissue
from ganmrf.physics.tissue_box import TissueBox
from tests.design.lattices import lattice_generator

pytestmark = pytest.mark.usefixtures("quick_compiler")

ATOMS = Tissue(np.array([0.8, 1.3, 2.5]), np.array([0.08, 0.1, 0.3]))


def piece(flip, inversion_time):
    return Inversion(inversion_time), Train(np.full(10, flip), 0.012, 2e-3)


def seen(carried, pieces, data, n_states=17):
    """State and belief after some pieces with their data, (voxels, frames) each."""
    state, belief = start(carried.tissue, n_states=n_states), no_data(carried, len(data[0]))
    for each, own in zip(pieces, data, strict=True):
        signals, state = advance(state, each)
        belief = observed(belief, carried, signals, own)
    return state, belief


def test_variances_are_cramer_rao_bounds_with_what_was_known_beforehand():
    with jax.enable_x64(True):
        atoms = jax.tree.map(lambda leaf: np.asarray(leaf, float), ATOMS)
        atoms = Tissue(atoms.t1, atoms.t2)
        carried, pieces = carried_by_differences(atoms), [piece(0.3, 0.02), piece(0.8, 0.1)]
        state, belief = seen(carried, pieces[:1], [jnp.zeros((1, 10), complex)])
        continuations = [pieces[1], piece(0.1, 0.5)]
        signals, atom, m0_over_noise = advance_each(state, stacked(continuations)), 1, 50.0
        weights = jnp.zeros(3).at[atom].set(1)
        found = expected_variances(belief, carried, signals, weights, jnp.full(3, m0_over_noise))
        for variances, last in zip(found, continuations, strict=True):
            sequence, tissue = Blocks((*pieces[0], *last)), Tissue(atoms.t1[atom], atoms.t2[atom])
            tangents = simulate_with_tangents(sequence, tissue, n_states=17)
            columns = [tissue.t1 * tangents.d_t1, tissue.t2 * tangents.d_t2, tangents.signal]
            information = m0_over_noise**2 * np.array([[np.dot(a, b) for a in columns] for b in columns])
            information[:2, :2] += np.diag(1 / np.std(np.log([atoms.t1, atoms.t2]), axis=1) ** 2)
            # Differences err by a sixth of the square of their step.
            np.testing.assert_allclose(variances, np.diag(np.linalg.inv(information))[:2], rtol=1e-3)


def test_the_posterior_is_that_of_bayes():
    rng, noise, m0 = np.random.default_rng(0), 0.02, 0.7 * np.exp(0.4j)
    with jax.enable_x64(True):
        atoms = Tissue(np.asarray(ATOMS.t1, float), np.asarray(ATOMS.t2, float))
        pieces = [piece(0.3, 0.02), piece(0.8, 0.1)]
        signals = np.asarray(simulate(Blocks((*pieces[0], *pieces[1])), atoms, n_states=17))
        data = m0 * signals[1] + noise * rng.normal(size=(2, 20, 2)) @ np.array([1, 1j])
        _, belief = seen(carried_by_differences(atoms), pieces, np.split(data, 2, axis=1))
        weights, size = posterior(belief, noise)
        # M0 by a sum over the plane, for each voxel.
        grid = m0 + 0.25 * np.add.outer(np.linspace(-1, 1, 81), 1j * np.linspace(-1, 1, 81)).ravel()
        rest = data[:, None, None] - grid[:, None] * signals[:, None]
        likelihood = np.exp(-(np.abs(rest) ** 2).sum(-1) / (2 * noise**2)).sum(-1)
        expected = (likelihood / likelihood.sum(1, keepdims=True)).mean(0)
        np.testing.assert_allclose(weights, expected, atol=2e-3)
        assert size[1] == pytest.approx(0.7, abs=0.05)


def test_atoms_that_cannot_be_carried():
    with pytest.raises(ValueError, match="Tissue has no fraction"):
        carried_by_differences(ATOMS, ("t1", "fraction"))
    with pytest.raises(ValueError, match="Tissue has no off_resonance"):
        carried_by_differences(ATOMS, ("off_resonance",))


def test_anchors_give_signals_and_derivatives_of_atoms():
    box = TissueBox(("t1", "t2"), [0.6, 0.06], [1.6, 0.13])
    sequence, atoms = mrf_fisp(30), Tissue(np.array([0.832, 1.331]), np.array([0.0792, 0.11]))
    generator = lattice_generator(box, sequence, 6)
    tangents = simulate_with_tangents(sequence, atoms, n_states=17)
    expected = tangents.signal, atoms.t1[:, None] * tangents.d_t1, atoms.t2[:, None] * tangents.d_t2
    tried = carried_by_generator(generator, atoms, float(sequence.echo_time[0])), carried_by_differences(atoms)
    # Anchors are a fifth of the box apart; differences err by rounding over their step.
    for carried, limits in zip(tried, ((1e-3, 3e-2, 3e-2), (1e-5, 1e-3, 1e-3)), strict=True):
        signals, _ = advance(start(carried.tissue, n_states=17), sequence)
        for row, exact, limit in zip(carried.combinations @ signals, expected, limits, strict=True):
            assert np.linalg.norm(row - exact) < limit * np.linalg.norm(exact)


def test_what_a_generator_cannot_carry():
    generator = lattice_generator(TissueBox(("t1", "t2"), [0.6, 0.06], [1.6, 0.13]), mrf_fisp(5), 3)
    with pytest.raises(ValueError, match="outside the trained box"):
        carried_by_generator(generator, ATOMS, 2e-3)
    with pytest.raises(ValueError, match="on resonance"):
        carried_by_generator(generator, Tissue(np.array([1.0]), np.array([0.1]), 1.0, 5.0), 2e-3)
    table = replace(generator, model=TableWeights(ATOMS, np.zeros((3, 1), np.float32), {9: np.zeros((1, 9))}))
    with pytest.raises(ValueError, match="trunk or radial"):
        carried_by_generator(table, ATOMS, 2e-3)
