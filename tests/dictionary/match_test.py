"""Matching is a search in float64, whatever the arithmetic that found the shortlist."""

import dataclasses
import functools
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.dictionary.match import match
from ganmrf.dictionary.npz import fields_of
from ganmrf.dictionary.rows import RowsOnDemand
from ganmrf.dictionary.zarr import ChunkedStore, open_dictionary
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.tissue import Tissue

N_FRAMES = 100


@pytest.fixture(scope="module")
def paper():
    return build_dictionary(mrf_fisp(N_FRAMES), tissue_grid("paper"), n_states=40)


def rows_of(dictionary, rows):
    parts = {name: getattr(dictionary, name)[rows] for name in ("fingerprints", "norms")}
    return dataclasses.replace(dictionary, tissue=dictionary.tissue.rows(rows), **parts)


@pytest.fixture(scope="module")
def dictionary(paper):
    """A third of the paper's atoms."""
    return rows_of(paper, slice(None, None, 3))


@functools.cache
def clean_signals():
    """Signals of 2100 tissues that are not on the grid, each of a phase of its own."""
    rng = np.random.default_rng(0)
    t1 = np.exp(rng.uniform(np.log(0.02), np.log(2.9), 2100))
    t2 = np.minimum(t1, np.exp(rng.uniform(np.log(0.005), np.log(0.49), 2100)))
    signals = simulate_many(mrf_fisp(N_FRAMES), Tissue(t1=t1, t2=t2), n_states=40)
    return signals * np.exp(1j * rng.uniform(0, 6, (2100, 1)))


def noisy_signals(n_voxels, noise):
    """Those of the first tissues, with complex noise: (voxels, frames), complex64."""
    signals = clean_signals()[:n_voxels]
    noise = noise * np.random.default_rng(1).standard_normal((*signals.shape, 2)) @ [1, 1j]
    return (signals + noise).astype(np.complex64)


def brute_force(dictionary, signals):
    signals = signals.astype(complex)
    if dictionary.basis is not None:
        signals = signals @ dictionary.basis
    atoms = np.asarray(dictionary.fingerprints, complex)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    return np.abs(signals @ atoms.conj().T).argmax(axis=1)


def turned(dictionary):
    """The same dictionary with complex fingerprints."""
    phase = np.exp(1j * np.linspace(0, 20, dictionary.sequence.n_frames)).astype(np.complex64)
    return dataclasses.replace(dictionary, fingerprints=dictionary.fingerprints * phase)


@pytest.mark.parametrize("noise", [0.0, 1e-3, 3e-2, 1.0])
@pytest.mark.parametrize("form", ["full", "compressed", "complex", "complex compressed"])
def test_indices_are_those_of_a_float64_search(dictionary, form, noise):
    atoms = turned(dictionary) if "complex" in form else dictionary
    atoms = compress(atoms, 15)[0] if "compressed" in form else atoms
    signals = noisy_signals(2100, noise)  # more than are searched at a time
    np.testing.assert_array_equal(match(atoms, signals, axis=-1).index, brute_force(atoms, signals))


@pytest.fixture(scope="module")
def many():
    """70 000 atoms of no physics, of 12 frames: more than are searched at a time."""
    rng = np.random.default_rng(3)
    t1 = rng.uniform(0.5, 3, 70_000)
    rows = rng.standard_normal((t1.size, 12)).astype(np.float32)
    norms = np.linalg.norm(rows, axis=1)
    return Dictionary(Tissue(t1, t1 / 10), rows / norms[:, None], norms, mrf_fisp(12))


def test_blocks_from_disk_give_what_memory_gives(many, tmp_path):
    fields = fields_of(many)
    arrays = [fields.pop(name) for name in ("dictionary", "norms")]
    fields["n_states"] = np.full(70_000, 7)
    ChunkedStore.create(tmp_path / "a.zarr", {}, fields, columns=12, chunk=10_000, dtype=np.float32)
    store = ChunkedStore.open(tmp_path / "a.zarr")
    for chunk in range(store.n_chunks):
        store.write(chunk, [array[store.rows(chunk)] for array in arrays])
    stored = open_dictionary(tmp_path / "a.zarr")
    rng = np.random.default_rng(4)
    signals = many.fingerprints[rng.integers(70_000, size=300)] * (1 + 2j) + 0.1 * rng.standard_normal((300, 12))
    signals[7] = 0
    expected = match(many, signals, axis=-1)
    lengths = []

    def recorded(rows):
        values = stored.fingerprints[rows]
        lengths.append(len(values))
        return values

    fingerprints = RowsOnDemand(recorded, (70_000, 12), np.dtype(np.float32))
    maps = match(dataclasses.replace(stored, fingerprints=fingerprints), signals, axis=-1)
    assert sum(lengths) == 70_000
    assert max(lengths) < 40_000  # it is never in memory whole
    np.testing.assert_array_equal(maps.index, np.where(np.arange(300) == 7, -1, brute_force(many, signals)))
    np.testing.assert_array_equal(maps.index, expected.index)
    np.testing.assert_array_equal(maps.m0, expected.m0)
    np.testing.assert_array_equal(maps.quality, expected.quality)


def test_progress_counts_the_voxels(many, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    match(many, many.fingerprints[:40], axis=-1, progress=True)
    assert "40.0/40.0" in capsys.readouterr().err


def test_atoms_that_are_unlike_all_others_are_found(paper):
    """Few directions hold the other atoms; a search in these directions alone would miss the strange ones."""
    rng = np.random.default_rng(2)
    strange = rng.permutation(5970)[:40]
    fingerprints = paper.fingerprints.copy()
    fingerprints[strange] += 0.3 * rng.standard_normal((40, N_FRAMES)) / np.sqrt(N_FRAMES)
    fingerprints /= np.linalg.norm(fingerprints, axis=1, keepdims=True)
    atoms = dataclasses.replace(paper, fingerprints=fingerprints)
    signals = fingerprints[np.repeat(strange, 20)] + 0.02 * rng.standard_normal((800, N_FRAMES))
    found = match(atoms, signals, axis=-1).index
    np.testing.assert_array_equal(found, brute_force(atoms, signals))
    assert np.isin(found, strange).mean() > 0.5


def test_neighbours_closer_than_float32_are_told_apart():
    # T2 in steps of 0.001 %: neighbouring fingerprints agree to 1e-11 in their inner product.
    tissue = Tissue(t1=np.full(400, 1.0), t2=0.08 * (1 + 1e-5 * np.arange(400)))
    atoms = build_dictionary(mrf_fisp(100), tissue, n_states=51)
    signals = atoms.fingerprints[::7] * (2 + 1j)
    found = match(atoms, signals, axis=-1).index
    np.testing.assert_array_equal(found, brute_force(atoms, signals))
    single = np.abs(signals.astype(np.complex64) @ atoms.fingerprints.T).argmax(axis=1)
    assert (found != single).any()  # float32 alone would not do


def test_on_grid_voxels_are_recovered(dictionary):
    rows = np.random.default_rng(0).permutation(len(dictionary.norms))[:600]
    m0 = np.exp(1j * np.linspace(0, 6, 600)) * np.linspace(0.1, 5, 600)
    images = ((dictionary.norms[:, None] * dictionary.fingerprints)[rows] * m0[:, None]).T.reshape(N_FRAMES, 20, 30)
    maps = match(dictionary, images)
    np.testing.assert_array_equal(maps.index.ravel(), rows)
    np.testing.assert_array_equal(maps.t1.ravel(), np.asarray(dictionary.tissue.t1)[rows])
    np.testing.assert_array_equal(maps.t2.ravel(), np.asarray(dictionary.tissue.t2)[rows])
    np.testing.assert_allclose(maps.m0.ravel(), m0, rtol=1e-6)  # float32 norms
    np.testing.assert_allclose(maps.quality, 1, atol=1e-6)  # rows of unit norm to float32


@hypothesis.given(scale=st.floats(1e-6, 1e6), angle=st.floats(0, 6))
@hypothesis.settings(max_examples=5)
def test_scale_and_phase_go_to_m0_alone(dictionary, scale, angle):
    signals = noisy_signals(20, 0.01)
    factor = scale * np.exp(1j * angle)
    plain, scaled = (match(dictionary, x, axis=-1) for x in (signals.astype(complex), signals * factor))
    np.testing.assert_array_equal(plain.index, scaled.index)
    np.testing.assert_allclose(scaled.m0, factor * plain.m0, rtol=1e-12)
    np.testing.assert_allclose(scaled.quality, plain.quality, rtol=1e-12)


def test_mask_silence_and_real_images(dictionary):
    images = noisy_signals(12, 0.0).real.T.reshape(N_FRAMES, 3, 4).copy()
    images[:, 0, 0] = 0
    mask = np.ones((3, 4), bool)
    mask[2, 1] = False
    maps = match(dictionary, images, mask=mask)
    whole = match(dictionary, images)
    for value in (maps.t1, maps.t2, maps.m0, maps.quality):
        assert value.shape == (3, 4)
        assert value[0, 0] == value[2, 1] == 0
    assert maps.index[0, 0] == maps.index[2, 1] == -1
    inside = mask & (maps.index >= 0)
    assert inside.sum() == 10
    np.testing.assert_array_equal(maps.index[inside], whole.index[inside])


def test_shapes_that_do_not_fit(dictionary):
    with pytest.raises(ValueError, match=r"images have 30 frames along axis 0 \(shape \(30, 4, 4\)\).* has 100"):
        match(dictionary, np.zeros((30, 4, 4)))
    with pytest.raises(ValueError, match="images have 0 frames along axis 9"):
        match(dictionary, np.zeros((N_FRAMES, 4, 4)), axis=9)
    with pytest.raises(ValueError, match="images must be real or complex numbers; got <U1"):
        match(dictionary, np.full((N_FRAMES, 4, 4), "a"))
    with pytest.raises(ValueError, match="images hold NaN or infinite values, in 16 voxels"):
        match(dictionary, np.full((N_FRAMES, 4, 4), np.nan))
    with pytest.raises(ValueError, match=r"mask has shape \(4, 5\), but the images have \(4, 4\)"):
        match(dictionary, np.zeros((N_FRAMES, 4, 4)), mask=np.ones((4, 5), bool))


def test_coefficients_match_as_the_series_that_they_stand_for(dictionary):
    compressed, _ = compress(dictionary, 8)
    signals = noisy_signals(12, 1e-2)
    coefficients = signals.astype(complex) @ compressed.basis
    expected, found = (match(compressed, values, axis=-1) for values in (signals, coefficients))
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_allclose(found.m0, expected.m0, rtol=1e-12)  # float64, the same numbers
    with pytest.raises(ValueError, match=r"images have 9 frames .* has 100 and a basis of rank 8"):
        match(compressed, signals[:, :9], axis=-1)
