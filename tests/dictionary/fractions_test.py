"""Fractions of known components: exact without noise, as good as the bound with it, and what is refused."""

import dataclasses

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.fractions import fractions_of
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")

T1, T2 = np.array([0.4, 1.0, 4.3]), np.array([0.02, 0.08, 0.5])


@pytest.fixture(scope="module")
def components():
    return build_dictionary(mrf_fisp(150), Tissue(T1, T2))


def mixtures(components, shape=(2, 3), seed=0):
    """Fractions (components, ...), M0 of random phase, and the series that they make."""
    rng = np.random.default_rng(seed)
    fractions = rng.dirichlet(np.ones(len(components.norms)), shape)
    m0 = rng.uniform(1, 9, shape) * np.exp(1j * rng.uniform(-np.pi, np.pi, shape))
    signals = np.asarray(components.fingerprints) * np.asarray(components.norms, float)[:, None]
    return np.moveaxis(fractions, -1, 0), m0, np.moveaxis(m0[..., None] * (fractions @ signals), -1, 0)


@pytest.mark.parametrize("axis", [0, -1])
def test_mixtures_without_noise_are_exact(components, axis):
    fractions, m0, images = mixtures(components)
    found = fractions_of(components, np.moveaxis(images, 0, axis), axis=axis)
    np.testing.assert_allclose(found.fractions, fractions, atol=1e-11)
    np.testing.assert_allclose(found.m0, m0, rtol=1e-11)
    np.testing.assert_allclose([found.components.t1, found.components.t2], [T1, T2], rtol=1e-6)  # float32
    assert found.residual.max() < 1e-6  # the root of the rounding of energies


def test_real_series_may_have_a_negative_m0(components):
    fractions, _, _ = mixtures(components)
    signals = np.asarray(components.fingerprints) * np.asarray(components.norms, float)[:, None]
    found = fractions_of(components, -5 * np.einsum("nyx,nf->fyx", fractions, signals))
    np.testing.assert_allclose(found.fractions, fractions, atol=1e-11)
    np.testing.assert_allclose(found.m0, -5, rtol=1e-11)


def test_coefficients_and_frames_of_a_basis_agree(components):
    fractions, _, images = mixtures(components)
    small, _ = compress(components, 3)
    for given in (images, np.tensordot(small.basis.T, images, 1)):
        np.testing.assert_allclose(fractions_of(small, given, noise=1.0).fractions, fractions, atol=1e-6)  # float32


def test_complex_signals_share_one_phase():
    rng = np.random.default_rng(0)
    angle, time = rng.uniform(0.1, 1, 60), rng.uniform(8e-3, 12e-3, 60)
    sequence = Bssfp(angle, time, rf_phase=rng.uniform(0, 2 * np.pi, 60))
    balanced = build_dictionary(sequence, Tissue(T1, T2, off_resonance=12.0))
    fractions, m0, images = mixtures(balanced)
    found = fractions_of(balanced, images)
    np.testing.assert_allclose(found.fractions, fractions, atol=1e-5)  # by the last step of the phase
    np.testing.assert_allclose(found.m0, m0, rtol=1e-5)


@pytest.mark.parametrize("rank", [None, 3])
def test_components_are_simulated_at_each_b1(components, rank):
    fractions, m0, _ = mixtures(components, (1, 4))
    b1 = np.array([[0.8, 0.9, 0.9, 1.1]])
    played = Tissue(T1[:, None, None], T2[:, None, None], b1)
    images = np.moveaxis(
        np.einsum("kyx,kyxf->yxf", fractions, simulate(components.sequence, played)) * m0[..., None], -1, 0
    )
    own = components if rank is None else compress(components, rank)[0]
    images = np.pad(images, ((0, 0), (0, 0), (0, 1)))  # a voxel without signal
    b1_map = np.pad(b1, ((0, 0), (0, 1)), constant_values=np.nan)
    found = fractions_of(own, images, b1_map=b1_map, noise=1.0)
    tolerance = 1e-4 if rank is None else 0.05  # float32; the basis is that of B1 = 1
    np.testing.assert_allclose(found.fractions[..., :4], fractions, atol=tolerance)
    assert not found.fitted[0, 4]
    assert np.abs(fractions_of(own, images, noise=1.0).fractions[..., :4] - fractions).max() > 0.1
    with pytest.raises(ValueError, match="b1_map"):
        fractions_of(own, images, b1_map=-np.ones((1, 5)))


def test_errors_are_those_of_the_bound(components):
    noise, shape = 0.03, (40, 25)
    signals = np.asarray(components.fingerprints) * np.asarray(components.norms, float)[:, None]
    truth, rng = np.array([0.3, 0.4, 0.3]), np.random.default_rng(0)  # away from 0, where errors are one-sided
    images = 4j * (truth @ signals)[:, None, None] + noise * (rng.standard_normal((150, *shape, 2)) @ [1, 1j])
    found = fractions_of(components, images)
    spread = np.std(found.fractions, axis=(1, 2))
    np.testing.assert_allclose(spread / found.stds.mean(axis=(1, 2)), 1, atol=0.1)  # a thousand voxels tell it to 2 %
    np.testing.assert_allclose(np.sqrt(np.mean(found.noise**2)), noise, rtol=0.02)
    given = fractions_of(components, images, noise=2 * noise)
    np.testing.assert_allclose(given.stds.mean(), 2 * found.stds.mean(), rtol=0.02)


def test_a_component_that_is_missing_shows_in_the_residual(components):
    images = np.asarray(components.fingerprints)[2][:, None]
    part = dataclasses.replace(
        components,
        tissue=components.tissue.rows(np.arange(2)),
        fingerprints=np.asarray(components.fingerprints)[:2],
        norms=np.asarray(components.norms)[:2],
    )
    assert fractions_of(part, images).residual[0] > 0.1


def test_outside_the_mask_and_without_signal_all_is_0(components):
    _, _, images = mixtures(components)
    images[:, 0, 0] = 0
    images[:, 1, 1] = np.nan
    mask = np.ones((2, 3), bool)
    mask[1, 1] = False
    found = fractions_of(components, images, mask=mask)
    expected = mask.copy()
    expected[0, 0] = False
    np.testing.assert_array_equal(found.fitted, expected)
    for values in (found.fractions, found.stds, found.residual, found.noise):
        assert not values[..., ~expected].any()
    np.testing.assert_allclose(found.fractions.sum(axis=0)[expected], 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": np.zeros((150, 2))}, "no signal"),
        ({"images": np.full((150, 2), np.nan)}, "NaN"),
        ({"images": np.ones((99, 2))}, "99 frames"),
        ({"mask": np.ones(3, bool)}, "mask"),
        ({"noise": 0.0}, "noise"),
    ],
)
def test_bad_images_are_refused(components, change, words):
    with pytest.raises(ValueError, match=words):
        fractions_of(components, **({"images": np.ones((150, 2))} | change))


def test_too_few_numbers_to_measure_noise_are_refused(components):
    small, _ = compress(components, 3)
    with pytest.raises(ValueError, match="noise must be given"):
        fractions_of(small, mixtures(components)[2].real)


def test_components_that_cannot_be_told_apart_are_named():
    alike = build_dictionary(mrf_fisp(150), Tissue(np.array([0.4, 1.0, 1.002]), np.array([0.02, 0.08, 0.08])))
    with pytest.raises(ValueError, match=r"T1 1000 ms.*T1 1002 ms.*0\.99999"):
        fractions_of(alike, np.ones((150, 2)))


def test_components_of_several_b1_are_refused(components):
    uneven = dataclasses.replace(components, tissue=Tissue(T1, T2, np.array([0.9, 1.0, 1.1])))
    with pytest.raises(ValueError, match=r"b1.*0\.9 to 1\.1"):
        fractions_of(uneven, np.ones((150, 2)))
