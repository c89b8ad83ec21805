"""Two stages find what a search of all atoms finds, and never have many atoms at once."""

import dataclasses
import functools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.grid_cells import GridCells
from ganmrf.dictionary.grid_rows import GridRows
from ganmrf.dictionary.match import match
from ganmrf.dictionary.two_stages import two_stages
from ganmrf.physics.sequences.published import mrf_fisp

FRAMES, RANK, VOXELS = 60, 14, 300
SEQUENCE = mrf_fisp(FRAMES)
AXES = {
    "t1": np.geomspace(0.4, 4, 14),
    "t2": np.geomspace(0.02, 0.6, 12),
    "fraction": np.linspace(0, 0.3, 5),
    "exchange_rate": np.geomspace(5, 30, 4),
    "b1": np.linspace(0.7, 1.3, 5),
}
GRID = GridRows.of("semisolid", **AXES)


class Curves:
    """Stands in for a prepared sequence: smooth signals of tissue, without physics, and who asked for how many."""

    def __init__(self, *, valley=False, phase=0.0):
        rng = np.random.default_rng(0)
        self.basis = np.linalg.qr(rng.standard_normal((FRAMES, RANK)))[0]
        self._turn, self._valley = np.exp(1j * phase * np.arange(RANK)) if phase else 1.0, valley
        self._mixing = rng.standard_normal((5, 40)) * np.array([[0.8], [0.8], [0.5], [0.2], [0.5]])
        self._shift, self._to_rank = rng.uniform(-1, 1, 40), rng.standard_normal((40, RANK))
        self._to_rank *= np.exp(-np.arange(RANK) / 3)
        self.asked = []

    def generate(self, tissue, *, compressed):
        assert compressed
        fields = (np.broadcast_to(np.asarray(getattr(tissue, name), float), tissue.shape) for name in AXES)
        logs = np.stack([np.log(each + 0.05) for each in fields], axis=1)
        if self._valley:  # two unlike tissues make nearly the same signal
            logs[:, 0] = np.abs(logs[:, 0] - np.log(1.3)) * (1 + 0.01 * np.sign(logs[:, 0] - np.log(1.3)))
        made = np.tanh(logs @ self._mixing + self._shift) @ self._to_rank * self._turn
        self.asked.append(len(made))
        norms = np.linalg.norm(made, axis=1)
        dtype = np.complex64 if np.iscomplexobj(made) else np.float32
        rows = (made / norms[:, None]).astype(dtype)
        return Dictionary(tissue, rows, norms.astype(np.float32), SEQUENCE, None, self.basis)


@functools.cache
def whole(**options):
    return Curves(**options).generate(GRID.tissue(np.arange(GRID.size)), compressed=True)


def images_of(dictionary, noise):
    """Frames of some atoms of any phase, with noise, (frames, 20, 15), and a voxel without signal."""
    rng = np.random.default_rng(1)
    clean = dictionary.fingerprints[rng.integers(GRID.size, size=VOXELS)] @ dictionary.basis.T
    noisy = clean + noise * rng.standard_normal((VOXELS, FRAMES, 2)) @ [1, 1j] / np.sqrt(FRAMES)
    noisy *= np.exp(1j * rng.uniform(0, 6, (VOXELS, 1)))
    noisy[7] = 0
    return np.moveaxis(noisy.reshape(20, 15, FRAMES), -1, 0)


OPTIONS = [{}, {"phase": 0.7}, {"valley": True}]


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_measured_radii_find_what_a_search_of_all_atoms_finds(options, noise):
    images, mask = images_of(whole(**options), noise), np.arange(VOXELS).reshape(20, 15) % 11 > 0
    expected = match(whole(**options), images, mask=mask)
    found, _ = two_stages(GRID, Curves(**options), n_cells=300, complete=True).match(images, mask=mask)
    np.testing.assert_array_equal(found.index, expected.index)
    assert found.index[0, 7] == found.index[0, 0] == -1
    for name, values in expected.arrays().items():
        np.testing.assert_allclose(getattr(found, name), values, rtol=1e-5, err_msg=name)  # float32, batch by batch


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_estimated_radii_find_nearly_all_of_it_from_fewer_atoms(options):
    images, prepared = images_of(whole(**options), 0.05), Curves(**options)
    found, _ = two_stages(GRID, prepared, n_cells=1000).match(images)
    assert np.mean(found.index == match(whole(**options), images).index) > 0.98
    assert max(prepared.asked) <= 2**14  # at once, of any number


def test_a_voxel_asks_for_few_atoms():
    stages, images = two_stages(GRID, Curves(), n_cells=1000), images_of(whole(), 0.05).reshape(FRAMES, -1)
    assert np.mean([stages.match(images[:, n : n + 1])[1] for n in range(9, 30)]) < GRID.size / 5


def test_less_reach_costs_less_and_loses_more():
    stages = [two_stages(GRID, Curves(), n_cells=500, reach=reach) for reach in (1.0, 0.5, 0.1)]
    images, same, generated = images_of(whole(), 0.05), [], []
    for stage in stages:
        found, number = stage.match(images)
        same.append(np.mean(found.index == match(whole(), images).index))
        generated.append(number)
    assert generated[0] > generated[1] > generated[2]
    assert same[0] > same[2]


def test_coefficients_are_matched_as_frames_are():
    stages, images = two_stages(GRID, Curves(), n_cells=500), images_of(whole(), 0.05)
    coefficients = np.tensordot(whole().basis.T, images, 1)
    np.testing.assert_array_equal(stages.match(coefficients)[0].index, stages.match(images)[0].index)


def test_no_atom_is_farther_from_its_middle_than_a_measured_radius():
    stages = two_stages(GRID, Curves(), n_cells=300, complete=True)
    atoms = whole().fingerprints.astype(float)
    middles = stages.middles.astype(float)[stages.cells.at(np.arange(GRID.size))]
    chords = np.linalg.norm(atoms - middles * np.sign(np.sum(atoms * middles, axis=1, keepdims=True)), axis=1)
    angles, radii = 2 * np.arcsin(chords / 2), stages.radii[stages.cells.at(np.arange(GRID.size))]
    assert (angles <= radii + 1e-6).all()  # the rounding of float32 atoms
    assert np.isclose(np.bincount(stages.cells.at(np.arange(GRID.size)), weights=np.isclose(angles, radii)).min(), 1)


@hypothesis.given(st.dictionaries(st.sampled_from([*AXES]), st.integers(1, 7)))
def test_every_atom_is_in_one_cell(strides):
    cells = GridCells.of(GRID, dict.fromkeys(AXES, 3) | strides)
    members = [cells.atoms(cell) for cell in range(cells.size)]
    np.testing.assert_array_equal(np.sort(np.concatenate(members)), np.arange(GRID.size))
    labels = np.repeat(np.arange(cells.size), [len(rows) for rows in members])
    np.testing.assert_array_equal(cells.at(np.concatenate(members)), labels)
    np.testing.assert_array_equal(cells.at(cells.central(np.arange(cells.size))), np.arange(cells.size))


def test_bad_requests():
    with pytest.raises(ValueError, match="n_cells must be at least 1; got 0"):
        two_stages(GRID, Curves(), n_cells=0)
    with pytest.raises(ValueError, match=r"1 for a complete search; got 0.5"):
        two_stages(GRID, Curves(), complete=True, reach=0.5)
    stages = two_stages(GRID, Curves(), n_cells=100)
    with pytest.raises(ValueError, match="images have 9 frames along axis 0"):
        stages.match(np.ones((9, 3)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        stages.match(np.full((FRAMES, 3), np.nan))
    assert (stages.match(np.zeros((FRAMES, 3)))[0].index == -1).all()
    assert dataclasses.is_dataclass(stages)
