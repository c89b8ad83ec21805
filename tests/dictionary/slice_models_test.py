"""Voxels whose slice every hard pulse turns are matched and fitted, with error bars, by dictionaries of that slice."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import build_compressed, compress
from ganmrf.dictionary.cramer_rao import cramer_rao
from ganmrf.dictionary.grids import grid_of
from ganmrf.dictionary.induced_bias import bias_to_noise
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.dictionary.residuals import residual_fit
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.dictionary.zarr_fill import begin_store, fill_store
from ganmrf.physics.bloch import slice_signal
from ganmrf.physics.rf_pulse import RfPulse, windowed_sinc
from ganmrf.physics.sequences.bssfp import ma_bssfp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, small_tip
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES = 80
# Few flip angles, and few hard pulses: the reference computes the rotation of each at every B1 and position.
ANGLES = np.deg2rad(np.round(10 + 50 * np.sin(np.pi * np.arange(FRAMES) / 40) ** 2, -1))
SEQUENCE = Fisp(ANGLES, 14e-3, 2e-3, 20e-3)
PULSE = windowed_sinc(4, "hann", n_samples=40)
EARLY = RfPulse.of_waveform(np.hanning(42)[1:-1] * np.exp(0.6j * np.linspace(-1, 2, 40) ** 2), 4)  # complex
SLICES = {
    "full": FullSlice(PULSE, 4.0),
    "complex": FullSlice(EARLY, 3.5),
    "partitioned": PartitionedSlice(PULSE, 16),
}
B1 = np.array([0.9, 1.07])
GRID = grid_of(0.8 * 1.1 ** np.arange(8), 0.05 * 1.1 ** np.arange(8), B1)
T1, T2, B1S = np.array([1.13, 1.27, 0.97]), np.array([0.061, 0.083, 0.072]), B1[[0, 1, 1]]
M0 = np.array([0.7 - 0.4j, 2.0, 1j])


def reference(profile, t1, t2, b1):
    """Signals of a slice, (voxels, frames), complex128, by isochromats that every hard pulse of a pulse turns."""
    tissue = Tissue(*map(np.asarray, (t1, t2, b1)))
    if isinstance(profile, PartitionedSlice):
        turns, n = np.inf, 2 * profile.n_positions
    else:  # whose positions resolve all 80 frames of 4 turns across 3 slice thicknesses
        turns, n = profile.turns, 1024
    return 1j * slice_signal(SEQUENCE, tissue, profile.pulse, turns, n)


def made(profile):
    """A slice, its dictionary and the images of three voxels between the atoms, but for B1."""
    return profile, build_dictionary(SEQUENCE, GRID, slice_profile=profile), M0 * reference(profile, T1, T2, B1S).T


@pytest.fixture(scope="module", params=["full", "partitioned"])
def case(request):
    return made(SLICES[request.param])


def errors_of(dictionary, images, b1_map=None):
    maps = match(dictionary, images)
    refined = refine(dictionary, images, maps, b1_map=b1_map, noise=1e-2)
    assert refined.converged.all()
    return maps, refined, np.abs([refined.t1 / T1 - 1, refined.t2 / T2 - 1, refined.m0 / M0 - 1]).max()


def assert_found(dictionary, images):
    """M0 is that of all there is: dictionaries integrate over the slice, as the scanner does."""
    maps, _, error = errors_of(dictionary, images)
    np.testing.assert_allclose(maps.b1, B1S, rtol=1e-6)
    # Less than two steps away: one of T1 makes up for a part of one of T2.
    assert np.abs(np.log([maps.t1 / T1, maps.t2 / T2])).max() < 2 * np.log(1.1)
    assert maps.quality.min() > 0.999
    assert error < 3e-4  # the accuracy of signals, 1e-4, in their derivatives


def test_voxels_are_found_and_refined(case):
    _, dictionary, images = case
    assert_found(dictionary, images)
    assert_found(compress(dictionary, 20)[0], images)  # what coefficients leave out is no part of the fit


def test_voxels_in_the_slice_of_a_complex_pulse():
    _, dictionary, images = made(SLICES["complex"])
    assert np.iscomplexobj(dictionary.fingerprints)
    assert_found(dictionary, images)


def test_a_map_of_b1_corrects(case):
    profile, dictionary, _ = case
    b1 = np.array([0.95, 1.02, 0.85])  # none that an atom has
    images = M0 * reference(profile, T1, T2, b1).T
    assert errors_of(dictionary, images, b1)[2] < 3e-4
    wrong = refine(dictionary, images, match(dictionary, images))
    assert np.abs(wrong.t2 / T2 - 1).max() > 0.02


def finite_differences(profile, voxel):
    """Signal of a voxel and its derivatives by T1 and T2, central differences: 1e-8 is left out, and 1e-11 rounding."""
    h = 1e-4
    t1 = T1[voxel] * (1 + h * np.array([0, 1, -1, 0, 0]))
    signal, *sides = reference(profile, t1, T2[voxel] * (1 + h * np.array([0, 0, 0, 1, -1])), np.full(5, B1S[voxel]))
    return signal, (sides[0] - sides[1]) / (2 * h * T1[voxel]), (sides[2] - sides[3]) / (2 * h * T2[voxel])


def test_error_bars_are_the_bound_by_finite_differences(case):
    """From the Fisher information of T1, T2, and M0's real and imaginary part."""
    profile, dictionary, images = case
    refined = errors_of(dictionary, images)[1]
    for voxel, m0 in enumerate(M0):
        signal, d_t1, d_t2 = finite_differences(profile, voxel)
        columns = np.stack([m0 * d_t1, m0 * d_t2, signal, 1j * signal])
        jacobian = np.concatenate([columns.real, columns.imag], axis=1)
        covariance = 1e-4 * np.linalg.inv(jacobian @ jacobian.T)
        along = np.array([m0.real, m0.imag]) / abs(m0)
        expected = np.sqrt([covariance[0, 0], covariance[1, 1], along @ covariance[2:, 2:] @ along])
        found = [each[voxel] for each in (refined.t1_std, refined.t2_std, refined.m0_std)]
        np.testing.assert_allclose(found, expected, rtol=2e-3)  # the accuracy of signals, amplified by derivatives
        with jax.enable_x64(True):
            bounds = np.append(*cramer_rao(signal, jnp.stack([d_t1, d_t2]), m0, 1e-2))
        np.testing.assert_allclose(bounds, expected, rtol=1e-7)


def test_maps_scatter_as_the_error_bars_say():
    """600 voxels know their spread to 3 %."""
    profile, rng = SLICES["full"], np.random.default_rng(0)
    dictionary = build_dictionary(SEQUENCE, GRID, slice_profile=profile)
    t1, t2, b1, m0 = np.repeat([T1, T2, B1S, M0], 200, axis=1)
    clean = M0 * reference(profile, T1, T2, B1S).T
    sigma = 2e-3 * np.linalg.norm(clean, axis=0).mean()
    noise = rng.standard_normal((2, FRAMES, m0.size))
    images = np.repeat(clean, 200, axis=1) + sigma * (noise[0] + 1j * noise[1])
    t1, t2, b1 = t1.real, t2.real, b1.real
    maps = match(dictionary, images)
    refined = refine(dictionary, images, maps, b1_map=b1)
    assert refined.converged.all()
    errors = (refined.t1 - t1, refined.t1_std), (refined.t2 - t2, refined.t2_std)
    for error, std in (*errors, (abs(refined.m0) - abs(m0), refined.m0_std)):
        assert np.sqrt(np.mean((error / std) ** 2)) == pytest.approx(1, abs=0.1)


def test_residuals_tell_a_slice_from_a_small_tip_profile():
    """And T2 comes out low by the profile that the flip angle scales."""
    rows = np.repeat([np.arange(3)] * 6, 8, axis=1)  # three tissues, side by side
    clean = (M0[:, None] * reference(SLICES["full"], T1, T2, B1S)).T[:, rows]
    noise = np.random.default_rng(0).standard_normal((2, *clean.shape))
    images = clean + 2e-3 * np.abs(clean).mean() * (noise[0] + 1j * noise[1])
    found = []
    for model in (SLICES["full"], small_tip(PULSE, 8)):
        dictionary = build_dictionary(SEQUENCE, GRID, slice_profile=model)
        maps = match(dictionary, images)
        refined = refine(dictionary, images, maps, b1_map=B1S[rows])
        fit = residual_fit(dictionary, images, maps, refined)
        found.append((fit.fits, np.median(refined.t2 / T2[rows])))
    (right, true), (wrong, low) = found
    assert right
    assert not wrong
    assert true == pytest.approx(1, abs=2e-3)
    assert low < 0.99


@pytest.mark.parametrize("name", SLICES)
def test_dictionaries_in_blocks_and_on_disk_are_those_of_memory(tmp_path, name):
    profile = SLICES[name]
    whole = build_dictionary(SEQUENCE, GRID, slice_profile=profile)
    store = begin_store(tmp_path / "a.zarr", SEQUENCE, GRID, slice_profile=profile, chunk_atoms=50)
    assert fill_store(store) == 3
    stored = open_dictionary(tmp_path / "a.zarr")
    np.testing.assert_array_equal(stored.fingerprints, whole.fingerprints)
    np.testing.assert_array_equal(stored.norms, whole.norms)
    assert stored.slice_profile == profile
    one, kept = compress(whole, 6)
    other, also = build_compressed(SEQUENCE, GRID, 6, slice_profile=profile, whole=False)
    assert kept == pytest.approx(also, abs=1e-6)
    np.testing.assert_allclose(other.norms, one.norms, rtol=1e-5)
    signals = simulate_many(SEQUENCE, GRID, slice_profile=profile)
    for each in (one, other):
        restored = each.norms[:, None] * each.fingerprints @ each.basis.conj().T
        error = np.linalg.norm(restored - signals) / np.linalg.norm(signals)
        assert error == pytest.approx(np.sqrt(1 - kept), rel=0.2)


def test_a_store_of_another_slice_is_refused_by_name(tmp_path):
    profile = SLICES["full"]
    begin_store(tmp_path / "a.zarr", SEQUENCE, GRID, slice_profile=profile, chunk_atoms=50)
    for other, named in (
        (FullSlice(PULSE, 5.0), "slice_turns"),
        (FullSlice(windowed_sinc(4, "hamming", n_samples=40), 4.0), "slice_pulse_samples"),
        (FullSlice(RfPulse(PULSE.samples, 5), 4.0, 2), "slice_extent, slice_time_bandwidth"),
        (PartitionedSlice(PULSE), "slice_model, slice_n_positions, slice_phases, slice_turns"),
        (None, "slice_extent, slice_model, slice_pulse_samples, slice_time_bandwidth, slice_turns"),
    ):
        with pytest.raises(ValueError, match=rf"a.zarr holds another dictionary; these differ: {named}$"):
            begin_store(tmp_path / "a.zarr", SEQUENCE, GRID, slice_profile=other, chunk_atoms=50)


def test_bias_by_errors_of_fingerprints_in_a_slice():
    """Fingerprints of a T1 that is 0.1 % longer shift T1 by that, in units of its error bar."""
    profile, dictionary, images = made(SLICES["full"])
    atoms = Tissue(T1, T2, B1S)
    simulated, longer = (
        build_dictionary(SEQUENCE, dataclasses.replace(atoms, t1=f * T1), slice_profile=profile) for f in (1, 1.001)
    )
    bias = bias_to_noise(simulated, [longer], 1e-2)[0]
    refined = errors_of(dictionary, images / M0 * np.abs(M0))[1]
    np.testing.assert_allclose(bias.t1, 1e-3 * T1 / (refined.t1_std * np.abs(M0)), rtol=0.1)
    assert (bias.t2 < 0.2 * bias.t1).all()


def test_atoms_of_one_tissue_over_off_resonance_are_those_of_isochromats():
    """Nothing dephases balanced frames: a partitioned slice is the full one, in batches that share relaxation, too."""
    tissue = Tissue(np.float32(0.8), np.float32(0.08), off_resonance=np.linspace(-30, 30, 64, dtype=np.float32))
    full, partitioned = (
        build_dictionary(ma_bssfp(12), tissue, slice_profile=model)
        for model in (FullSlice(PULSE, 4.0), PartitionedSlice(PULSE))
    )
    np.testing.assert_allclose(partitioned.fingerprints, full.fingerprints, atol=1e-5)  # float32
    np.testing.assert_allclose(partitioned.norms, full.norms, rtol=1e-5)
