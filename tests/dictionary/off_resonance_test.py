"""Off-resonance is estimated with T1 and T2 from signals of any sequence, or given by a map of B0."""

import contextlib
import dataclasses
import functools

import jax
import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.induced_bias import bias_to_noise
from ganmrf.dictionary.magnitude import magnitude_dictionary
from ganmrf.dictionary.match import match
from ganmrf.dictionary.match_with_maps import match_with_maps
from ganmrf.dictionary.refine import refine
from ganmrf.dictionary.residuals import residual_fit
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")

T1S, T2S = 0.5 * 1.15 ** np.arange(8), 0.04 * 1.2 ** np.arange(8)
STEP = 5.0  # Hz, of the grid of off-resonances
HZ = np.arange(-20, 20.1, STEP)


def grid(hz=HZ, t1=T1S, t2=T2S):
    """Every tissue at every off-resonance, which varies fastest."""
    t1, t2, hz = (axis.ravel() for axis in np.meshgrid(t1, t2, hz, indexing="ij"))
    return Tissue(t1, t2, off_resonance=hz)


def balanced(n_frames=120, repetition_time=None, **options):
    """Flip angles of Ma's family, and repetition times that vary unless they are given."""
    flip_angle = np.deg2rad(10 + 40 * np.sin(np.pi * (np.arange(n_frames) % 60 + 1) / 60))
    if repetition_time is None:
        repetition_time = np.random.default_rng(0).uniform(10e-3, 13e-3, n_frames)
    return Bssfp(flip_angle, repetition_time, inversion_time=20e-3, **options)


@functools.cache
def dictionary():
    return build_dictionary(balanced(), grid())


@functools.cache
def off_grid():
    """T1, T2 and off-resonance between the atoms, and their series in float64, (frames, voxels)."""
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.6, 1.2, 32), rng.uniform(0.05, 0.12, 32), rng.uniform(-19, 19, 32)
    return truth, signals_of(*truth)


def signals_of(t1, t2, hz, sequence=None):
    sequence = sequence or balanced()
    with jax.enable_x64(True):
        return np.asarray(simulate(jax.tree.map(np.float64, sequence), Tissue(t1, t2, off_resonance=hz))).T


def assert_found(refined, truth):
    """To the steps that are not taken any more, 1e-5 of T1 and T2 and 1e-4 Hz, and orders of FISP left out."""
    for name, values in zip(("t1", "t2"), truth, strict=False):
        np.testing.assert_allclose(getattr(refined, name), values, rtol=1e-4)
    np.testing.assert_allclose(refined.off_resonance, truth[2], atol=1e-3)
    assert refined.converged.all()


@pytest.mark.parametrize("form", ["frames", "basis", "coefficients"])
def test_clean_voxels_between_atoms_are_exact(form):
    truth, images = off_grid()
    atoms = dictionary() if form == "frames" else compress(dictionary(), 40)[0]
    images = 3 * np.exp(2j) * images
    maps = match(atoms, images)
    assert 1 < np.abs(maps.off_resonance - truth[2]).max() < STEP  # the grid's own error
    if form == "coefficients":
        images = atoms.basis.T @ images
    refined = refine(atoms, images, maps)
    assert_found(refined, truth)
    np.testing.assert_allclose(refined.m0, 3 * np.exp(2j), rtol=1e-3)


def test_maps_scatter_as_the_error_bars_say():
    """450 voxels know their spread to 3 %."""
    tissues, sigma, rng = np.array([[0.7, 0.06, -7], [0.9, 0.08, 3], [1.1, 0.1, 12]]), 2e-3, np.random.default_rng(2)
    truth = np.repeat(tissues, 150, axis=0).T
    images = np.repeat(signals_of(*tissues.T), 150, axis=1)
    images = np.exp(1j) * images + sigma * rng.standard_normal((*images.shape, 2)) @ [1, 1j]
    refined = refine(dictionary(), images, match(dictionary(), images))
    assert np.sqrt(np.mean(refined.noise**2)) == pytest.approx(sigma, rel=0.02)
    for name, values in zip(("t1", "t2", "off_resonance"), truth, strict=True):
        error = (getattr(refined, name) - values) / getattr(refined, f"{name}_std")
        assert np.sqrt(np.mean(error**2)) == pytest.approx(1, abs=0.1)


def by_rotations(sequence, t1, t2, hz):
    """Signals of some isochromats under `balanced`, one rotation after the other, (isochromats, frames)."""
    flips, times = np.asarray(sequence.flip_angle, float), np.asarray(sequence.repetition_time, float)
    m, z, signals = np.zeros(len(t1), complex), 1 - 2 * np.exp(-float(sequence.inversion_time) / t1), []

    def pulse(m, z, angle, phase):
        turned = m * np.exp(-1j * phase)
        y = turned.imag * np.cos(angle) - z * np.sin(angle)
        return (turned.real + 1j * y) * np.exp(1j * phase), turned.imag * np.sin(angle) + z * np.cos(angle)

    def wait(m, z, time):
        return m * np.exp((2j * np.pi * hz - 1 / t2) * time), 1 + (z - 1) * np.exp(-time / t1)

    m, z = wait(*pulse(m, z, -flips[0] / 2, 0.0), times[0] / 2)
    for n, (flip, time) in enumerate(zip(flips, times, strict=True)):
        m, z = wait(*pulse(m, z, flip, np.pi * (n % 2)), time / 2)
        signals.append(1j * m * (-1) ** n)
        m, z = wait(m, z, time / 2)
    return np.transpose(signals)


def information(values, m0):
    """Whole Fisher information of T1, T2, off-resonance, Re M0 and Im M0 for noise 1, (5, 5).

    Differences are central: 1e-8 is left out.
    """
    h = np.diag([1e-4 * values[0], 1e-4 * values[1], 1e-3])
    center, *sides = by_rotations(balanced(), *np.concatenate([[values], values + h, values - h]).T)
    columns = [m0 * (sides[n] - sides[n + 3]) / (2 * h[n, n]) for n in range(3)]
    jacobian = np.stack([*columns, center, 1j * center])
    return (jacobian.conj() @ jacobian.T).real


def test_error_bars_are_the_bound_with_off_resonance_unknown_or_given():
    values, m0 = np.array([0.9, 0.08, -18.0]), 0.7 - 0.4j
    images = m0 * signals_of(*values[:, None])
    np.testing.assert_allclose(images[:, 0], m0 * by_rotations(balanced(), *values[:, None])[0], atol=1e-7)  # float32
    maps, fisher = match(dictionary(), images), information(values, m0)
    free = refine(dictionary(), images, maps, noise=0.01)
    unknown = 0.01 * np.sqrt(np.diag(np.linalg.inv(fisher)))[:3]
    found = [free.t1_std[0], free.t2_std[0], free.off_resonance_std[0]]
    np.testing.assert_allclose(found, unknown, rtol=1e-4)  # float32 signals, and what is left out
    known = refine(dictionary(), images, maps, noise=0.01, b0_map=values[2:])
    given = 0.01 * np.sqrt(np.diag(np.linalg.inv(np.delete(np.delete(fisher, 2, 0), 2, 1))))[:2]
    np.testing.assert_allclose([known.t1_std[0], known.t2_std[0]], given, rtol=1e-4)
    assert known.off_resonance_std is None
    assert (unknown[:2] > 1.001 * given).any()  # as a nuisance it costs precision


def test_a_map_of_b0_takes_the_place_of_the_fit():
    truth, images = off_grid()
    maps = match_with_maps(dictionary(), images, b0_map=truth[2])
    assert np.abs(maps.off_resonance - truth[2]).max() <= STEP / 2 * (1 + 1e-3)
    refined = refine(dictionary(), images, maps, b0_map=truth[2])
    assert_found(refined, truth)
    np.testing.assert_array_equal(refined.off_resonance, truth[2])
    assert refined.off_resonance_std is None


def test_one_off_resonance_of_all_atoms_is_that_of_the_voxels():
    atoms = build_dictionary(balanced(), dataclasses.replace(grid([0.0]), off_resonance=12.0))
    images = signals_of([0.8], [0.07], [12.0])
    maps = match(atoms, images)
    np.testing.assert_array_equal(maps.off_resonance, 12)
    assert_found(refine(atoms, images, maps), ([0.8], [0.07], [12.0]))
    assert refine(atoms, images, maps).off_resonance_std is None


def test_a_fit_stays_with_the_period_that_was_matched():
    """After a half pulse at TR/2, and echoes at TR/2, constant TR repeats itself every 2/TR."""
    sequence = balanced(repetition_time=10e-3)
    truth = np.array([0.8, 1.0]), np.array([0.07, 0.09]), np.array([-13.0, 7.0])
    atoms = build_dictionary(sequence, grid(HZ + 200))
    images = signals_of(*truth, sequence)
    refined = refine(atoms, images, match(atoms, images))
    assert_found(refined, (*truth[:2], truth[2] + 200))


FISP = mrf_fisp(200)  # of the paper: repetition times vary
OF_FISP = np.array([0.75, 1.1, 2.4]), np.array([0.05, 0.08, 0.4]), np.array([30.0, 30.0, -20.0])


def fisp_grid(hz=None):
    t1, t2 = 0.6 * 1.25 ** np.arange(8), 0.04 * 1.3 ** np.arange(10)
    if hz is not None:
        return grid(hz, t1, t2)
    pairs = grid([0.0], t1, t2)
    return Tissue(pairs.t1, pairs.t2)


def test_off_resonance_biases_fisp_unless_it_is_fitted_or_given():
    on_resonance, with_axis = (build_dictionary(FISP, fisp_grid(hz)) for hz in (None, np.arange(-40, 41, 20.0)))
    images = signals_of(*OF_FISP, FISP)
    maps = match(on_resonance, images)
    assert maps.off_resonance is None
    biased = refine(on_resonance, images, maps)
    assert biased.off_resonance is None
    assert (np.abs(biased.t2 / OF_FISP[1] - 1) > 1e-3).all()
    assert_found(refine(on_resonance, images, maps, b0_map=OF_FISP[2]), OF_FISP)
    assert_found(refine(with_axis, images, match(with_axis, images)), OF_FISP)


def test_what_signals_do_not_tell_stays_that_of_the_atom():
    """FISP of constant repetition time has the same signals at every off-resonance, but for their phase."""
    constant = dataclasses.replace(FISP, repetition_time=np.full(200, 13e-3))
    atoms = build_dictionary(constant, fisp_grid(np.arange(-40, 41, 20.0)))
    images = signals_of(*OF_FISP, constant)
    maps = match(atoms, images)
    refined = refine(atoms, images, maps, noise=1e-3)
    assert_found(refined, (*OF_FISP[:2], maps.off_resonance))
    assert (refined.off_resonance_std > 1e4).all()


def test_residuals_of_the_right_model_are_noise():
    truth = np.full((16, 16), 0.8), np.full((16, 16), 0.07), np.broadcast_to(np.linspace(-15, 15, 16), (16, 16))
    images = signals_of(*truth)
    images = np.moveaxis(images.T, -1, 0)
    sigma = 4e-3
    images = images + sigma * np.random.default_rng(3).standard_normal((*images.shape, 2)) @ [1, 1j]
    maps = match(dictionary(), images)
    fit = residual_fit(dictionary(), images, maps, refine(dictionary(), images, maps))
    assert fit.noise == pytest.approx(sigma, rel=0.05)
    assert fit.freedom == 2 * 120 - 5
    assert np.sqrt(np.mean(fit.ratio**2)) == pytest.approx(1, abs=0.05)
    known = refine(dictionary(), images, maps, b0_map=truth[2] + 5)
    assert not residual_fit(dictionary(), images, maps, known).fits


def test_magnitudes_of_complex_fingerprints():
    truth, images = off_grid()
    for atoms in (dictionary(), compress(dictionary(), 40)[0]):
        with pytest.warns(UserWarning, match="the sign of off-resonance in the maps is arbitrary"):
            atoms = magnitude_dictionary(atoms)
        assert atoms.fingerprints.dtype == np.float32
        maps = match(atoms, np.abs(images))
        assert np.median(maps.quality) > 0.99
    with pytest.warns(UserWarning, match="the sign of off-resonance in the maps is arbitrary"):
        atoms = magnitude_dictionary(dictionary())
    refined = refine(atoms, np.abs(images), maps, magnitude=True)
    for name, values in zip(("t1", "t2"), truth, strict=False):  # a few voxels start from an atom of another minimum
        assert np.median(np.abs(getattr(refined, name) / values - 1)) < 1e-4
    assert np.isnan(refined.off_resonance_std).all()


def test_magnitudes_do_not_tell_the_sign_but_where_pulses_have_other_phases():
    """No warning is given for atoms of one sign, nor for pulses whose phase steps by a quarter turn."""
    quarters = np.arange(120) * np.pi / 2
    for sequence, equal in ((balanced(), True), (balanced(rf_phase=quarters), False)):
        here, mirrored = (np.abs(signals_of([0.8], [0.07], [hz], sequence)) for hz in (13.0, -13.0))
        assert np.allclose(here, mirrored, atol=1e-5) is equal  # of signals of 0.1: float32
        atoms = build_dictionary(sequence, grid(HZ, T1S[:2], T2S[:2]))
        with pytest.warns(UserWarning, match="the sign") if equal else contextlib.nullcontext():
            magnitude_dictionary(atoms)
    magnitude_dictionary(build_dictionary(balanced(), grid([0.0, 5.0], T1S[:2], T2S[:2])))


def test_an_end_of_the_range_is_no_estimate():
    """Off-resonance of two voxels is beyond half a step outside; what was fitted in its place moves T2."""
    truth = np.full(4, 0.8), np.full(4, 0.07), np.array([0.0, 21.0, 27.0, -27.0])
    images, outside = signals_of(*truth), [False, False, True, True]
    maps = match(dictionary(), images)
    with pytest.warns(UserWarning, match=r"2 of 4 refined voxels .* off-resonance, -22.5 to 22.5 Hz"):
        refined = refine(dictionary(), images, maps, noise=1e-3)
    np.testing.assert_array_equal(np.abs(refined.off_resonance[outside]), 22.5)
    np.testing.assert_array_equal(~refined.converged, outside)
    for bars in (refined.off_resonance_std, refined.t1_std, refined.t2_std, refined.m0_std):
        np.testing.assert_array_equal(np.isinf(bars), outside)
    assert (np.abs(refined.t2 / truth[1] - 1)[outside] > 0.01).all()


def test_errors_of_fingerprints_move_a_fit_with_off_resonance():
    """To first order the error of an atom moves the fit of its signal by what `bias_to_noise` says."""
    rows = np.array([100, 250, 400])
    rng = np.random.default_rng(4)
    error = 1e-4 * rng.standard_normal((*dictionary().fingerprints.shape, 2)) @ [1, 1j]
    wrong = dataclasses.replace(dictionary(), fingerprints=dictionary().fingerprints + error)
    (ratios,) = bias_to_noise(dictionary(), [wrong], noise=1e-3, rows=rows)
    images = (dictionary().norms[rows, None] * wrong.fingerprints[rows]).T
    maps = match(dictionary(), images)
    refined = refine(dictionary(), images, maps, noise=1e-3)
    for name in ("t1", "t2"):
        shift = np.abs(getattr(refined, name) - np.asarray(getattr(dictionary().tissue, name))[rows])
        np.testing.assert_allclose(shift / getattr(refined, f"{name}_std"), getattr(ratios, name), rtol=0.05, atol=2e-3)


def test_maps_of_other_atoms_are_refused():
    _, images = off_grid()
    maps = match(dictionary(), images)
    for other, words in ((None, "is None, but the atoms"), (maps.off_resonance + 1, "Hz where atom")):
        with pytest.raises(ValueError, match=f"maps.off_resonance .*{words}"):
            refine(dictionary(), images, dataclasses.replace(maps, off_resonance=other))
    with pytest.raises(ValueError, match="b0_map must be finite in every refined voxel; got nan"):
        refine(dictionary(), images, maps, b0_map=np.full(32, np.nan))
