"""Signals of two pools are the mean over isochromats of the Bloch-McConnell equations, in every kind of sequence."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from ganmrf.physics.bloch import isochromat_signal
from ganmrf.physics.simulate import simulate
from tests.physics.pools.cases import FRACTIONS, RATES, relative, sequences, tissues

pytestmark = pytest.mark.usefixtures("quick_compiler")
CASES = [
    ("fisp", "exchanging"),
    ("fisp", "exchanging, off resonance"),
    ("fisp", "semisolid"),
    ("cardiac", "semisolid"),
    ("bssfp", "exchanging, off resonance"),
    ("bssfp", "semisolid"),
    ("spoiled gradient echo", "semisolid"),
    ("spin echoes", "semisolid"),
    ("blocks", "exchanging, off resonance"),
    ("blocks", "semisolid, off resonance"),
]


@pytest.mark.parametrize(("sequence", "tissue"), CASES)
def test_signals_are_the_mean_over_isochromats(sequence, tissue):
    rng = np.random.default_rng(5)
    sequence, tissue = sequences(rng)[sequence], tissues(rng)[tissue]
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(float), (sequence, tissue))
        expected = 1j * isochromat_signal(*wide)
        found = np.asarray(simulate(*wide))
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    # What has no imaginary part is real.
    real = np.abs(expected.imag).max() < 1e-12 * np.abs(expected).max()
    assert np.isrealobj(found) == real


@pytest.mark.parametrize(("sequence", "tissue"), [CASES[1], CASES[2], CASES[4]])
def test_single_precision(sequence, tissue):
    rng = np.random.default_rng(5)
    sequence, tissue = sequences(rng)[sequence], tissues(rng)[tissue]
    expected = 1j * isochromat_signal(sequence, tissue)
    assert relative(np.asarray(simulate(sequence, tissue)), expected).max() < 1e-5


@hypothesis.given(seed=st.integers(0, 10**6), tissue=st.sampled_from([tissue for _, tissue in CASES[:3]]))
@hypothesis.settings(max_examples=8)
def test_any_fraction_meets_any_rate(seed, tissue):
    rng = np.random.default_rng(seed)
    sequence, tissue = sequences(rng)["fisp"], tissues(rng)[tissue]
    with jax.enable_x64(True):
        sequence, tissue = jax.tree.map(lambda leaf: leaf.astype(float), (sequence, tissue))
        changed = {"fraction": rng.permutation(FRACTIONS), "exchange_rate": rng.permutation(RATES)}
        tissue = dataclasses.replace(tissue, **changed)
        expected = 1j * isochromat_signal(sequence, tissue)
        np.testing.assert_allclose(simulate(sequence, tissue), expected, rtol=0, atol=1e-12)
