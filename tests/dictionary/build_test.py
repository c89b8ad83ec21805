"""A dictionary holds each atom's own fingerprint, to the accuracy asked for."""

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.grids import grid_of, tissue_grid
from ganmrf.dictionary.match import match
from ganmrf.dictionary.npz import load_dictionary, save_dictionary
from ganmrf.dictionary.refine import refine
from ganmrf.physics.bloch import isochromat_signal
from ganmrf.physics.sequences.blocks import Inversion, T2Preparation
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.cardiac import CardiacFisp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue


@pytest.fixture(scope="module")
def dictionary():
    return build_dictionary(mrf_fisp(200), tissue_grid("coarse"))


def test_rows_are_unit_fingerprints_of_their_atoms(dictionary):
    assert dictionary.fingerprints.shape == (297, 200)
    assert dictionary.fingerprints.dtype == np.float32
    reference = (1j * isochromat_signal(dictionary.sequence, dictionary.tissue)).real
    signals = dictionary.fingerprints * dictionary.norms[:, None]
    error = np.linalg.norm(signals - reference, axis=1) / np.linalg.norm(reference, axis=1)
    assert error.max() <= 1e-4  # the accuracy asked for
    np.testing.assert_allclose(np.linalg.norm(dictionary.fingerprints, axis=1), 1, rtol=3e-7)  # float32


def test_silent_atoms_are_refused():
    sequence = Fisp(flip_angle=np.zeros(5), repetition_time=0.01, echo_time=0.002)
    with pytest.raises(ValueError, match=r"atom 0 \(T1 1 s, T2 0.1 s\) has no signal"):
        build_dictionary(sequence, Tissue(t1=[1.0], t2=[0.1]))


@pytest.mark.parametrize("kind", ["bssfp", "spoiled", "cardiac"])
def test_a_dictionary_of_any_sequence_is_matched_and_refined(kind):
    """Complex atoms or real ones: the tissue of an atom, and one between the atoms, from signals of any phase."""
    angles = np.random.default_rng(0).uniform(0.1, 1.0, 60)
    preparations = Inversion(0.02), T2Preparation(0.05), None
    sequence = {
        "bssfp": Bssfp(angles, 10e-3, inversion_time=0.02),
        "spoiled": SpoiledGradientEcho(angles, 10e-3, 3e-3, inversion_time=0.02),
        "cardiac": CardiacFisp(angles.reshape(3, 20), 6e-3, 2e-3, preparations, np.full(3, 0.8)),
    }[kind]
    atoms = build_dictionary(sequence, grid_of(0.5 * 1.15 ** np.arange(10), 0.03 * 1.15 ** np.arange(12)))
    truth = Tissue(np.array([float(atoms.tissue.t1[40]), 0.93]), np.array([float(atoms.tissue.t2[40]), 0.071]))
    images = 7 * np.exp(1j) * np.asarray(simulate(sequence, truth, n_states=31)).T
    maps = match(atoms, images)
    assert maps.index[0] == 40
    assert maps.quality[0] == pytest.approx(1, abs=1e-6)
    assert match(compress(atoms, 20)[0], images).index[0] == 40
    refined = refine(atoms, images, maps)
    for values, expected in ((refined.t1, truth.t1), (refined.t2, truth.t2), (np.abs(refined.m0), 7)):
        np.testing.assert_allclose(values, expected, rtol=1e-3)


def test_off_resonance_is_matched_and_stored(tmp_path):
    t1, shifts = np.array([0.5, 1.0, 1.5]), np.array([-20.0, 0.0, 20.0])
    tissue = Tissue(np.tile(t1, 3), 0.08, 1.0, np.repeat(shifts, 3))
    sequence = Bssfp(np.random.default_rng(0).uniform(0.1, 1.0, 60), 10e-3)
    atoms = build_dictionary(sequence, tissue)
    save_dictionary(tmp_path / "atoms.npz", atoms)
    for each in (atoms, load_dictionary(tmp_path / "atoms.npz")):
        found = match(each, np.asarray(simulate(sequence, Tissue(1.0, 0.08, 1.0, 20.0)))[:, None])
        assert (found.index.tolist(), found.off_resonance.tolist()) == ([7], [20])
