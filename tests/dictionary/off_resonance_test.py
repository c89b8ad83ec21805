"""Off-resonance is estimated with T1 and T2 from signals of any sequence, or given by a map of B0."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.cramer_rao import cramer_rao
from ganmrf.dictionary.induced_bias import bias_to_noise
from ganmrf.dictionary.magnitude import magnitude_dictionary
from ganmrf.dictionary.match import match
from ganmrf.dictionary.match_with_maps import match_with_maps
from ganmrf.dictionary.refine import refine
from ganmrf.dictionary.residuals import residual_fit
from ganmrf.physics.sequences.blocks import simulate_voxel
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

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
    """To the steps that are not taken any more, and orders of FISP left out."""
    for name, values in zip(("t1", "t2"), truth, strict=False):
        np.testing.assert_allclose(getattr(refined, name), values, rtol=1e-4)
    np.testing.assert_allclose(refined.off_resonance, truth[2], atol=2e-3)


@pytest.mark.parametrize("form", ["frames", "basis", "coefficients"])
def test_clean_voxels_between_atoms_are_exact(form):
    truth, images = off_grid()
    atoms = dictionary() if form == "frames" else compress(dictionary(), 40)[0]
    images = 3 * np.exp(2j) * images
    maps = match(atoms, images)
    assert np.abs(maps.off_resonance - truth[2]).max() < STEP
    if form == "coefficients":
        images = atoms.basis.T @ images
    refined = refine(atoms, images, maps)
    assert_found(refined, truth)
    np.testing.assert_allclose(refined.m0, 3 * np.exp(2j), rtol=1e-3)
    assert refined.converged.all()
