"""Networks emit complex fingerprints off resonance, and refuse what they were not trained at."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.anchors.generator_file import load_generator, save_generator
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.gan.data import split_and_scale
from ganmrf.gan.generate import fingerprints, finish, generate, stream
from ganmrf.gan.real_columns import complex_basis, complex_frames, real_basis, real_columns, weighted
from ganmrf.gan.recipes import recipe
from ganmrf.gan.train import fit, init_state
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.sequences.bssfp import ma_bssfp
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = {"width": 48, "depth": 2, "rank": 24, "steps": 200, "optimiser": "adam"}


@pytest.fixture(scope="module")
def balanced():
    """297 atoms at each of 5 off-resonances, 40 frames."""
    grid = tissue_grid("coarse").ravel()
    t1, t2 = (np.repeat(np.asarray(time), 5) for time in (grid.t1, grid.t2))
    return build_dictionary(ma_bssfp(40), Tissue(t1, t2, 1.0, np.tile(np.linspace(-4.0, 4.0, 5), grid.size)))


def finished(dictionary, **changes):
    chosen = recipe(**SMALL | changes)
    data = split_and_scale(dictionary, chosen, split=(1, 0, 0))
    *_, (state, _) = fit(chosen, data, init_state(chosen, data), chunk=chosen.steps)
    return finish(chosen, state.params, data, dictionary)


@pytest.fixture(scope="module")
def generator(balanced):
    return finished(balanced)


def test_columns_are_signals_as_real_numbers():
    rng = np.random.default_rng(0)
    signals, basis = (rng.standard_normal((2, *shape)).T @ [1, 1j] for shape in ((7, 5), (3, 7)))
    basis = np.linalg.qr(basis)[0]
    columns, matrix = real_columns(signals), real_basis(basis)
    assert columns.shape == (5, 14)
    np.testing.assert_array_equal(complex_frames(jnp.asarray(columns, np.float32)), signals.astype(np.complex64))
    np.testing.assert_allclose(columns @ matrix, real_columns(signals @ basis), atol=1e-14)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(6), atol=1e-14)
    np.testing.assert_array_equal(complex_basis(matrix), basis)
    weights = rng.standard_normal((4, 5))
    np.testing.assert_allclose(weighted(weights, signals), weights @ signals, atol=1e-14)


def test_complex_fingerprints_are_generated(generator, balanced):
    made, compressed = (generate(generator, balanced.tissue, compressed=each) for each in (False, True))
    assert made.fingerprints.dtype == np.complex64
    np.testing.assert_allclose(np.linalg.norm(made.fingerprints, axis=1), 1, atol=1e-5)
    assert fingerprint_errors(made.fingerprints, balanced.fingerprints).mean() < 6e-2
    assert np.abs(made.norms / balanced.norms - 1).mean() < 0.1
    assert compressed.fingerprints.shape == (balanced.norms.size, 24)
    np.testing.assert_allclose(compressed.fingerprints @ compressed.basis.conj().T, made.fingerprints, atol=1e-5)
    assert made.sequence is generator.sequence
    streamed = stream(generator, balanced.tissue)
    np.testing.assert_array_equal(streamed.fingerprints[3:6], made.fingerprints[3:6])


def test_off_resonance_is_an_input_that_can_be_differentiated(generator):
    direction = np.random.default_rng(0).standard_normal((2, 40))

    def projected(off_resonance):
        at = jnp.array([1.0]), jnp.array([0.1]), jnp.zeros((1, 0)), off_resonance[None]
        made = fingerprints(generator, *at)[0][0]
        return jnp.sum(direction[0] * made.real + direction[1] * made.imag)

    slope = jax.grad(projected)(jnp.float32(1.0))
    below, above = (projected(jnp.float32(value)) for value in (0.98, 1.02))
    np.testing.assert_allclose(slope, (above - below) / 0.04, rtol=1e-2, atol=1e-3)


def test_tissue_beyond_what_was_trained_is_refused(generator):
    with pytest.raises(ValueError, match="off_resonance = 6 Hz, 50 % beyond -4 to 4 Hz"):
        generate(generator, Tissue(1.0, 0.1, 1.0, 6.0))
    with pytest.raises(ValueError, match="an axis for off_resonance: the atoms must have it"):
        generate(generator, Tissue(1.0, 0.1))


def test_a_file_gives_the_same_generator(generator, balanced, tmp_path):
    save_generator(tmp_path / "g.npz", generator)
    one, other = (generate(each, balanced.tissue) for each in (generator, load_generator(tmp_path / "g.npz")))
    np.testing.assert_array_equal(one.fingerprints, other.fingerprints)
    jax.tree.map(np.testing.assert_array_equal, one.sequence, other.sequence)
    with np.load(tmp_path / "g.npz") as archive:
        contents = dict(archive)
    assert "off_resonance" in str(contents["structure"])


def test_one_off_resonance_is_no_axis(balanced):
    one = balanced.tissue.rows(slice(2, None, 5))
    dictionary = build_dictionary(balanced.sequence, dataclasses.replace(one, off_resonance=np.float32(2.0)))
    bounded = finished(dictionary, head="tanh", refit=False, steps=2)
    assert bounded.box.names == ("t1", "t2")
    assert generate(bounded, dictionary.tissue).fingerprints.shape == (297, 40)
    with pytest.raises(ValueError, match=r"trained at off_resonance = 2 Hz alone"):
        generate(bounded, Tissue(1.0, 0.1))


def test_densities_are_of_real_fingerprints(balanced):
    density = recipe(reconstruction="likelihood", refit=False, rank=4, noise=5)
    with pytest.raises(ValueError, match="likelihood takes real fingerprints"):
        split_and_scale(balanced, density)
