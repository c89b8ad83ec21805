"""Series of magnitudes: matched and refined exactly, told from signed ones, whatever the form of the dictionary."""

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.grids import grid_of, pool_grid
from ganmrf.dictionary.magnitude import is_magnitude, magnitude_dictionary
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.physics.sequences.bssfp import ma_bssfp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

SEQUENCE = mrf_fisp(200)  # negative in its first third, after the inversion


@pytest.fixture(scope="module")
def dictionary():
    return build_dictionary(SEQUENCE, grid_of(0.4 * 1.08 ** np.arange(27), 0.03 * 1.08 ** np.arange(35)))


@pytest.mark.parametrize("form", ["whole", "compressed"])
def test_atoms_are_found_from_their_magnitudes(dictionary, form):
    rows = np.arange(0, len(dictionary.norms), 37)
    images = 30 * np.abs(dictionary.fingerprints[rows] * dictionary.norms[rows, None]).T
    atoms = magnitude_dictionary(dictionary if form == "whole" else compress(dictionary, 30)[0])
    maps = match(atoms, images)
    np.testing.assert_array_equal(maps.index, rows)
    np.testing.assert_allclose(maps.m0, 30, rtol=1e-4)
    wrong = match(dictionary, images)  # the trap: other tissues
    assert np.median(np.abs(wrong.t1 / maps.t1 - 1)) > 0.2


def test_tissue_between_atoms_is_exact_and_has_no_error_bars(dictionary):
    t1, t2 = np.array([0.83, 1.33, 1.9]), np.array([0.07, 0.11, 0.2])
    images = np.abs(12 * np.exp(2j) * np.asarray(simulate(SEQUENCE, Tissue(t1, t2), n_states=101)).T)
    atoms = magnitude_dictionary(dictionary)
    refined = refine(atoms, images, match(atoms, images), magnitude=True)
    for values, truth in ((refined.t1, t1), (refined.t2, t2), (refined.m0, 12)):
        np.testing.assert_allclose(values, truth, rtol=2e-4)
    for bars in (refined.t1_std, refined.t2_std, refined.m0_std):
        assert np.isnan(bars).all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (np.abs, True),
        (lambda x: x, False),
        (lambda x: np.abs(x).astype(complex), False),
        (lambda x: np.round(100 * np.abs(x)).astype(np.int16), True),
        (lambda x: np.abs(x) - 1e-3 * np.abs(x).max(), True),  # as resampling leaves it
        (np.zeros_like, True),
    ],
)
def test_magnitudes_are_told_by_their_signs(change, expected):
    signals = np.asarray(simulate(SEQUENCE, Tissue([0.8, 1.4], [0.05, 0.1])))
    assert is_magnitude(change(signals)) is expected


def test_ringing_in_air_does_not_make_a_series_signed():
    """Interpolation overshoots at the edges of an object, to values below 0 beside it."""
    signals = np.asarray(simulate(SEQUENCE, Tissue([0.8], [0.05]))).T
    ringing = np.concatenate([np.repeat(signals, 20, axis=1), np.repeat(-0.05 * np.abs(signals), 80, axis=1)], axis=1)
    assert not is_magnitude(ringing)
    assert is_magnitude(np.concatenate([np.abs(ringing[:, :20]), ringing[:, 20:]], axis=1))


@pytest.mark.parametrize("shift", [None, 25.0])
def test_pools_that_are_apart_tell_the_sign_of_off_resonance(shift):
    """Signals at opposite off-resonances are conjugates of each other only where both pools are turned together."""
    times = {"t1": 1.0, "t2": 0.1, "t2_b": 0.04, "fraction": 0.3}
    tissue = pool_grid("exchanging", **times, shift=shift, off_resonance=[-12.0, 12.0])
    atoms = build_dictionary(ma_bssfp(60), tissue)
    if shift is None:
        with pytest.warns(UserWarning, match="the sign of off-resonance in the maps is arbitrary"):
            known = magnitude_dictionary(atoms)
    else:
        known = magnitude_dictionary(atoms)
    alike = known.fingerprints[0] @ known.fingerprints[1]
    assert (alike > 1 - 1e-6) == (shift is None)
