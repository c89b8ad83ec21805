"""Any parameters of tissue with several pools are fitted, the others known or those of the atom; T2 is at most T1."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.grids import grid_of, pool_grid
from ganmrf.dictionary.induced_bias import bias_to_noise
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.dictionary.residuals import residual_fit
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool, Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")

N_FRAMES = 100
SEQUENCE = dataclasses.replace(mrf_fisp(N_FRAMES), pulse_duration=2e-3, pulse_shape=1.5)
T1S, T2S = 0.5 * 1.3 ** np.arange(7), 0.03 * 1.4 ** np.arange(6)
OF_B = {"t1_b": 0.34, "lineshape": 15.1e-6}


def signals_of(tissue, sequence=SEQUENCE):
    """In float64, (frames, voxels)."""
    with jax.enable_x64(True):
        wide = jax.tree.map(np.float64, (sequence, tissue))
        return np.asarray(simulate(*wide, n_states=N_FRAMES // 2 + 1)).T


@functools.cache
def semisolid():
    axes = {"fraction": np.arange(0, 0.31, 0.1), "exchange_rate": [8.0, 14.0, 25.0]}
    return build_dictionary(SEQUENCE, pool_grid("semisolid", t1=T1S, t2=T2S, **axes))


@functools.cache
def between_atoms():
    """Voxels with and, the first four, without pool b, and their series."""
    rng = np.random.default_rng(0)
    fraction = np.where(np.arange(24) < 4, 0, rng.uniform(0.08, 0.28, 24))
    times = rng.uniform(0.8, 1.8, 24), rng.uniform(0.05, 0.11, 24)
    truth = SemisolidPool(*times, fraction, rng.uniform(10, 20, 24), **OF_B)
    return truth, signals_of(truth)


def assert_found(refined, truth, names, rtol=1e-3):
    """To what is left out of signals, 1e-4, times what it takes to tell the parameters of two pools apart."""
    for name in names:
        expected = np.broadcast_to(getattr(truth, name), refined.shape)
        np.testing.assert_allclose(getattr(refined, name), expected, rtol=rtol, atol=rtol / 10, err_msg=name)
    assert refined.converged.all()


@pytest.mark.parametrize("rank", [None, 20])
def test_what_is_not_fitted_is_known_by_number_or_map(rank):
    truth, images = between_atoms()
    dictionary = semisolid() if rank is None else compress(semisolid(), rank)[0]
    maps = match(dictionary, images)
    refined = refine(dictionary, images, maps, known={"exchange_rate": truth.exchange_rate, "t1_b": 0.34})
    assert_found(refined, truth, ("t1", "t2", "fraction"))
    np.testing.assert_array_equal(refined.exchange_rate, np.asarray(truth.exchange_rate, float))
    assert refined.stds.keys() == {"t1", "t2", "fraction"}
    alone = {"t1": truth.t1, "t2": truth.t2, "exchange_rate": truth.exchange_rate}
    assert_found(refine(dictionary, images, maps, fit=["fraction"], known=alone, noise=1e-4), truth, ("fraction",))


def test_rates_are_fitted_too_and_an_empty_pool_has_none():
    truth, images = between_atoms()
    maps = match(semisolid(), images)
    refined = refine(semisolid(), images, maps, fit=("t1", "t2", "fraction", "exchange_rate"), noise=1e-4)
    assert_found(refined, truth, ("t1", "t2", "fraction"))
    empty = np.asarray(truth.fraction) == 0
    np.testing.assert_array_equal(refined.fraction == 0, empty)
    np.testing.assert_allclose(refined.exchange_rate[~empty], truth.exchange_rate[~empty], rtol=1e-2)
    np.testing.assert_array_equal(refined.exchange_rate[empty], maps.exchange_rate[empty])
    np.testing.assert_array_equal(np.isinf(refined.exchange_rate_std), empty)
    for std in (refined.t1_std, refined.t2_std, refined.fraction_std, refined.m0_std):
        assert np.isfinite(std).all()


def test_error_bars_of_an_empty_pool_are_those_without_what_it_alone_has():
    _, images = between_atoms()
    images, maps = images[:, :4], match(semisolid(), images[:, :4])
    names = ("t1", "t2", "fraction", "exchange_rate")
    free = refine(semisolid(), images, maps, fit=names, noise=1e-4, force=True)
    known = refine(semisolid(), images, maps, fit=names[:3], noise=1e-4)
    for name in (*names[:3], "m0"):
        np.testing.assert_allclose(getattr(free, f"{name}_std"), getattr(known, f"{name}_std"), rtol=1e-3)


def test_fractions_scatter_as_the_error_bars_say():
    """240 voxels know their spread to 5 %; where pool b is empty half of them are 0."""
    truth, images = between_atoms()
    rng, sigma = np.random.default_rng(1), 1e-3
    noisy = np.repeat(images[:, :, None], 12, axis=2)
    noisy = noisy + sigma * rng.standard_normal(noisy.shape)
    maps = match(semisolid(), noisy)
    known = {"exchange_rate": np.repeat(np.asarray(truth.exchange_rate)[:, None], 12, axis=1)}
    refined = refine(semisolid(), noisy, maps, known=known, noise=sigma)
    errors = (refined.fraction - np.asarray(truth.fraction)[:, None]) / refined.fraction_std
    assert np.sqrt(np.mean(errors[4:] ** 2)) == pytest.approx(1, abs=0.15)
    assert 0.25 < np.mean(refined.fraction[:4] == 0) < 0.75
    assert (refined.fraction >= 0).all()


def test_residuals_tell_a_second_pool_from_one():
    """A fit of one pool leaves a few per cent of the signal, more than the noise; one of the right tissue the noise."""
    tissue = SemisolidPool(np.full((10, 10), 1.3), 0.08, 0.2, 14.0, **OF_B)
    images = signals_of(tissue)
    sigma = 5e-4
    images = images + sigma * np.random.default_rng(3).standard_normal((*images.shape, 2)) @ [1, 1j]
    fits = []
    for atoms in (semisolid(), build_dictionary(SEQUENCE, grid_of(T1S, T2S))):
        maps = match(atoms, images)
        known = {"exchange_rate": 14.0} if atoms is semisolid() else {}
        fits.append(residual_fit(atoms, images, maps, refine(atoms, images, maps, known=known)))
    right, wrong = fits
    assert right.fits
    assert right.noise == pytest.approx(sigma, rel=0.1)
    assert right.freedom == 2 * N_FRAMES - 5
    assert not wrong.fits


def test_exchanging_pools_and_their_own_times():
    grid = pool_grid("exchanging", t1=T1S, t2=T2S, fraction=np.arange(0, 0.31, 0.1), t2_b=[0.01, 0.02])
    dictionary = build_dictionary(SEQUENCE, grid)
    truth = ExchangingPools([0.9, 1.3], [0.07, 0.09], [0.12, 0.2], 10.0, 0.4, [0.012, 0.017])
    images = signals_of(truth)
    names = ("t1", "t2", "fraction", "t2_b")
    refined = refine(dictionary, images, match(dictionary, images), fit=names, noise=1e-5)
    assert_found(refined, truth, names, rtol=2e-2)
    assert (refined.t2_b <= refined.t1_b).all()
    assert (refined.t2 <= refined.t1).all()


def test_b1_is_fitted_where_the_dictionary_has_several():
    grid = grid_of(T1S, T2S, [0.8, 1.0, 1.2])
    dictionary = build_dictionary(SEQUENCE, grid)
    truth = Tissue([0.9, 1.3], [0.07, 0.09], [0.93, 1.11])
    images = signals_of(truth)
    maps = match(dictionary, images)
    assert_found(refine(dictionary, images, maps, fit=("t1", "t2", "b1")), truth, ("t1", "t2", "b1"))
    kept = refine(dictionary, images, maps)
    np.testing.assert_array_equal(kept.b1, maps.b1)
    assert kept.b1_std is None


def test_t1_alone_is_fitted_where_t2_is_known_and_stays_above_it():
    dictionary = build_dictionary(SEQUENCE, grid_of(T1S, T2S))
    truth = Tissue([0.9], [0.07])
    images = signals_of(truth)
    maps = match(dictionary, images)
    refined = refine(dictionary, images, maps, known={"t2": truth.t2})
    assert_found(refined, truth, ("t1",))
    assert refined.stds.keys() == {"t1"}
    assert refine(dictionary, images, maps, known={"t2": 1.0}).t1 >= 1.0


def test_errors_of_fingerprints_move_a_fit_of_the_fraction():
    """To first order the error of an atom moves the fit of its signal by what `bias_to_noise` says."""
    atoms, rng = semisolid(), np.random.default_rng(2)
    fraction, t2 = np.asarray(atoms.tissue.fraction), np.asarray(atoms.tissue.t2)
    rows = rng.permutation(np.flatnonzero((fraction > 0.15) & (t2 < 0.1)))[:6]
    error = 1e-4 * rng.standard_normal(atoms.fingerprints.shape)
    wrong = dataclasses.replace(atoms, fingerprints=atoms.fingerprints + error)
    (ratios,) = bias_to_noise(atoms, [wrong], noise=1e-3, rows=rows)
    before, after = (
        refine(atoms, images, match(atoms, images), noise=1e-3, force=True)
        for images in ((atoms.norms[rows, None] * each.fingerprints[rows].astype(float)).T for each in (atoms, wrong))
    )
    for name in ("t1", "t2", "fraction", "m0"):
        moved = np.abs(getattr(after, name) - getattr(before, name)) / getattr(before, f"{name}_std")
        # Second order, and the accuracy of the derivatives.
        np.testing.assert_allclose(getattr(ratios, name), moved, rtol=0.05, atol=5e-3, err_msg=name)


def test_what_the_scan_does_not_determine_is_refused_with_its_bounds():
    _, images = between_atoms()
    maps, names = match(semisolid(), images), ("t1", "t2", "fraction", "exchange_rate", "t1_b")
    with pytest.raises(ValueError, match=r"--fit=t1,t2,fraction,exchange_rate,t1_b.* t1_b \d.* %.*--force_fit"):
        refine(semisolid(), images, maps, fit=names, noise=1e-2)
    forced = refine(semisolid(), images, maps, fit=names, noise=1e-2, force=True)
    assert np.median(forced.t1_b_std / forced.t1_b) > 1


def test_bad_input():
    _, images = between_atoms()
    maps = match(semisolid(), images)
    for arguments, words in (
        ({"fit": ["t3"]}, r"--fit=t3 is none of t1, t2, fraction, exchange_rate, t1_b, lineshape, b1, off_resonance"),
        ({"fit": ["t1"], "known": {"t1": 1.0}}, "--fit=t1 is known"),
        ({"fit": ["t1", "b1"]}, "fit=b1: all atoms of the dictionary have 1; a grid of several"),
        ({"fit": ["off_resonance"]}, "--fit=off_resonance: the atoms of the dictionary have none"),
        ({"fit": []}, "nothing to fit"),
        ({"known": {"shift": 1.0}}, "known=shift is none of"),
        ({"known": {"fraction": 1.5}}, "known fraction must be 0 to 1 in every refined voxel; got 1.5 at index 0"),
        ({"known": {"t1_b": np.ones(3)}}, r"known t1_b has shape \(3,\), but the images have \(24,\)"),
        ({"known": {"b1": 1.0}, "b1_map": np.ones(24)}, "b1_map and known both give b1"),
    ):
        with pytest.raises(ValueError, match=words):
            refine(semisolid(), images, maps, **arguments)
    other = dataclasses.replace(maps, fraction=maps.fraction + 0.01)
    with pytest.raises(ValueError, match=r"maps.fraction holds 0\.\d+ where atom \d+ of the dictionary has 0"):
        refine(semisolid(), images, other)
