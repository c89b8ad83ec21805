"""Searches that leave groups of atoms out find what a search of all atoms in float64 finds."""

import dataclasses
import functools

import numpy as np
import pytest

from ganmrf.dictionary.alike import Groups
from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.match import match
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.tissue import Tissue

N_FRAMES, N_ATOMS, N_VOXELS = 200, 8200, 1030  # as many as are searched in groups
ROUNDING = 1e-5


def curves(values):
    """Smooth unit signals of three parameters, (signals, frames): what fingerprints look like, without physics."""
    time, (a, b, c) = np.linspace(0, 1, N_FRAMES), values.T[..., None]
    signals = np.exp(-a * time) - b * np.exp(-3 * time) + 0.3 * np.sin(5 * c * time)
    return signals / np.linalg.norm(signals, axis=1, keepdims=True)


@functools.cache
def dictionary():
    rng = np.random.default_rng(0)
    atoms = curves(rng.uniform(0.5, 3, (N_ATOMS, 3)))
    tissue = Tissue(np.linspace(1, 2, N_ATOMS), 0.1)
    return Dictionary(tissue, atoms.astype(np.float32), np.ones(N_ATOMS), mrf_fisp(N_FRAMES))


def turned(atoms):
    phase = np.exp(1j * np.linspace(0, 20, N_FRAMES)).astype(np.complex64)
    return dataclasses.replace(atoms, fingerprints=atoms.fingerprints * phase)


def signals_of(noise, phase):
    rng = np.random.default_rng(1)
    signals = curves(rng.uniform(0.5, 3, (N_VOXELS, 3))) * np.exp(1j * rng.uniform(0, 6, (N_VOXELS, 1)))
    noise = noise * rng.standard_normal((*signals.shape, 2)) @ [1, 1j]
    return ((signals + noise) * phase).astype(np.complex64)


def brute_force(atoms, signals):
    signals = signals.astype(complex) if atoms.basis is None else signals @ atoms.basis
    rows = np.asarray(atoms.fingerprints, complex)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.abs(signals @ rows.conj().T).argmax(axis=1)


@pytest.mark.parametrize("noise", [0.0, 1e-2, 1.0])
@pytest.mark.parametrize("form", ["full", "compressed", "complex", "complex compressed"])
def test_indices_are_those_of_a_float64_search(form, noise):
    atoms = turned(dictionary()) if "complex" in form else dictionary()
    signals = signals_of(noise, np.exp(1j * np.linspace(0, 20, N_FRAMES)) if "complex" in form else 1)
    atoms = compress(atoms, 12)[0] if "compressed" in form else atoms
    signals[7] = 0
    expected = np.where(np.arange(N_VOXELS) == 7, -1, brute_force(atoms, signals))
    np.testing.assert_array_equal(match(atoms, signals, axis=-1).index, expected)


def test_atoms_that_are_unlike_all_others_are_found():
    rng = np.random.default_rng(2)
    strange = rng.permutation(N_ATOMS)[:40]
    fingerprints = dictionary().fingerprints.copy()
    fingerprints[strange] += 0.3 * rng.standard_normal((40, N_FRAMES)) / np.sqrt(N_FRAMES)
    fingerprints /= np.linalg.norm(fingerprints, axis=1, keepdims=True)
    atoms = dataclasses.replace(dictionary(), fingerprints=fingerprints)
    signals = fingerprints[np.repeat(strange, 30)] + 0.01 * rng.standard_normal((1200, N_FRAMES))
    found = match(atoms, signals, axis=-1).index
    np.testing.assert_array_equal(found, brute_force(atoms, signals))
    assert np.isin(found, strange).mean() > 0.5


def test_groups_hold_every_atom_and_few_are_left():
    atoms = np.asarray(dictionary().fingerprints, float)
    groups = Groups.of(atoms, np.zeros(N_ATOMS), ROUNDING)
    np.testing.assert_array_equal(np.unique(groups.rows), np.arange(N_ATOMS))
    assert groups.rows.shape[1] <= 64
    signals = signals_of(1e-3, 1)
    signals = signals / np.linalg.norm(signals, axis=1, keepdims=True)
    features, ones = np.stack([signals.real, signals.imag]), np.ones(N_VOXELS)
    voxel, group = groups.shortlist(features, ones, np.zeros(N_VOXELS), -ones)
    kept = np.zeros((N_VOXELS, len(groups.rows)), bool)
    kept[voxel, group] = True
    best = np.abs(signals @ atoms.T).argmax(axis=1)
    assert all(kept[n, (groups.rows == row).any(axis=1)].any() for n, row in enumerate(best))
    assert kept.mean() < 0.1
