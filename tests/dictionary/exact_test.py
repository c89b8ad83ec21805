"""Decisions of a generated dictionary with exact atoms are those of the simulated one, whatever its errors do."""

import dataclasses
import functools

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress, project
from ganmrf.dictionary.exact import ExactAtoms
from ganmrf.dictionary.grids import grid_of, tissue_grid
from ganmrf.dictionary.magnitude import magnitude_dictionary
from ganmrf.dictionary.match import match
from ganmrf.dictionary.match_with_maps import match_with_maps
from ganmrf.dictionary.rows import RowsOnDemand
from ganmrf.physics.sequences.bssfp import ma_bssfp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES, VOXELS = 80, 1100  # so many voxels and atoms that groups of atoms are left out
ERROR = 1e-3
NOISES = 1e-3, 2e-2  # of signals of M0 = 1, in each frame


@functools.cache
def simulated():
    return build_dictionary(mrf_fisp(FRAMES), tissue_grid("paper", b1=np.array([0.9, 1.1])))


@functools.cache
def balanced():
    """Complex fingerprints."""
    grid = grid_of(np.arange(0.4, 2.5, 0.1), np.arange(0.03, 0.2, 0.02), off_resonance=np.arange(-9.0, 10, 3))
    return build_dictionary(ma_bssfp(FRAMES), grid)


def generated(exact, error=ERROR):
    """The dictionary with errors that vary smoothly from atom to atom, as a generator's do, and what they are."""
    n_atoms, columns = exact.fingerprints.shape
    rng = np.random.default_rng(0)
    along = np.sin(np.outer(np.arange(n_atoms), rng.uniform(1e-3, 0.3, 9)) + rng.uniform(0, 6, 9))
    moved = along @ rng.standard_normal((9, columns))
    rows = exact.fingerprints + error * moved / np.linalg.norm(moved, axis=1, keepdims=True)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(exact.fingerprints.dtype)
    return dataclasses.replace(exact, fingerprints=rows, errors=true_errors(rows, exact.fingerprints))


def true_errors(rows, exact):
    wide = np.asarray(exact, np.result_type(exact, float))
    return np.linalg.norm(rows - wide / np.linalg.norm(wide, axis=1, keepdims=True), axis=1)


@functools.cache
def signals(noise, *, is_balanced=False, number=VOXELS):
    rng = np.random.default_rng(1)
    t1, t2 = rng.uniform(0.4, 2.4, number), rng.uniform(0.03, 0.2, number)
    sequence, field = (ma_bssfp(FRAMES), "off_resonance") if is_balanced else (mrf_fisp(FRAMES), "b1")
    other = rng.uniform(-8, 8, number) if is_balanced else rng.uniform(0.9, 1.1, number)
    clean = simulate_many(sequence, Tissue(t1=t1, t2=t2, **{field: other}))
    noisy = clean + noise * rng.standard_normal((number, FRAMES, 2)) @ [1, 1j]
    noisy[5] = 0  # a voxel without signal
    return noisy


def compressed(exact, made, rank):
    """Both in the basis of the simulated one, and the errors there."""
    kept, _ = compress(exact, rank)
    rows, norms, _ = project(made.fingerprints, made.norms, kept.basis)
    found = dataclasses.replace(kept, fingerprints=rows, norms=norms, errors=true_errors(rows, kept.fingerprints))
    return kept, found


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("form", ["full", "compressed", "complex", "complex compressed"])
def test_indices_are_those_of_the_simulated_dictionary(form, noise):
    exact = balanced() if "complex" in form else simulated()
    made, images = generated(exact), signals(noise, is_balanced="complex" in form)
    if "compressed" in form:
        exact, made = compressed(exact, made, 12)
    atoms = ExactAtoms(made)
    expected, found = match(exact, images, axis=-1), match(made, images, axis=-1, exact=atoms)
    np.testing.assert_array_equal(found.index, expected.index)
    assert found.index[5] == -1
    assert 0 < atoms.count < 0.6 * len(made.norms)
    assert (match(made, images, axis=-1).index != expected.index).any()  # so that there was something to do
    scale = {"rtol": 2 * made.errors.max(), "atol": 1e-6}
    np.testing.assert_allclose(found.quality, expected.quality, **scale)
    np.testing.assert_allclose(found.m0, expected.m0, **scale)


def test_the_worst_errors_there_are_mislead_no_decision():
    """The atom that is best is moved as far from the signal as its error allows, and all others towards it."""
    exact, x = simulated(), signals(NOISES[1])[17]
    x /= np.linalg.norm(x)
    best = match(exact, x[None], axis=-1).index[0]
    phases = exact.fingerprints @ x  # of the real atoms' products with the signal
    towards = (phases / np.abs(phases)).conj()[:, None] * x[None]
    towards = towards.real  # what moves a real atom's score most
    across = towards - np.sum(towards * exact.fingerprints, axis=1, keepdims=True) * exact.fingerprints
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    signs = np.where(np.arange(len(across)) == best, -1, 1)[:, None]
    rows = np.cos(ERROR) * exact.fingerprints + signs * np.sin(ERROR) * across
    made = dataclasses.replace(exact, fingerprints=rows, errors=true_errors(rows, exact.fingerprints))
    assert match(made, x[None], axis=-1).index[0] != best
    assert match(made, x[None], axis=-1, exact=ExactAtoms(made)).index[0] == best


def test_few_atoms_are_simulated_where_errors_are_small():
    exact, images = simulated(), signals(NOISES[1], number=60)
    counts = []
    for error in (1e-5, 1e-4, 1e-3, 1e-2):
        atoms = ExactAtoms(made := generated(exact, error), accuracy=1e-5)
        match(made, images, axis=-1, exact=atoms)
        counts.append(atoms.count)
    assert counts[0] < counts[1] < counts[2] < counts[3]
    assert counts[0] < 60  # fewer than there are voxels


@pytest.mark.parametrize("streamed", [False, True])
def test_a_map_of_b1_leaves_decisions_exact(streamed):
    exact, images = simulated(), signals(NOISES[1], number=80)
    made, b1 = generated(exact), np.linspace(0.9, 1.1, 80)
    if streamed:
        parts = {name: getattr(made, name) for name in ("fingerprints", "norms", "errors")}
        on_demand = {name: RowsOnDemand(each.__getitem__, each.shape, each.dtype) for name, each in parts.items()}
        made = dataclasses.replace(made, **on_demand)
    atoms = ExactAtoms(made)
    found = match_with_maps(made, images, b1_map=b1, axis=-1, exact=atoms)
    np.testing.assert_array_equal(found.index, match_with_maps(exact, images, b1_map=b1, axis=-1).index)
    assert 0 < atoms.count < 2000  # of 11940


def test_magnitudes_are_decided_exactly():
    exact, images = simulated(), np.abs(signals(NOISES[1], number=80))
    made = magnitude_dictionary(generated(exact))
    atoms = ExactAtoms(made, magnitude=True)
    found, expected = (
        match(each, images, axis=-1, exact=of) for each, of in ((made, atoms), (magnitude_dictionary(exact), None))
    )
    np.testing.assert_array_equal(found.index, expected.index)
    assert atoms.count > 0


def test_exact_atoms_of_another_dictionary_are_refused():
    made = generated(simulated())
    other = made.rows(np.arange(len(made.norms))[::-1])
    for exact in (ExactAtoms(other), ExactAtoms(made.rows(np.arange(10)))):
        with pytest.raises(ValueError, match="exact is of another dictionary than the one that is matched"):
            match(made, signals(NOISES[0])[:5], axis=-1, exact=exact)


def test_what_cannot_be_decided_exactly_is_refused():
    with pytest.raises(ValueError, match="does not say the errors of its fingerprints"):
        ExactAtoms(simulated())
    with pytest.raises(ValueError, match="accuracy must be positive; got 0"):
        ExactAtoms(generated(simulated()), accuracy=0)
