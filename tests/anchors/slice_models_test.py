"""Anchored generators of a slice that every hard pulse turns: weights for its pulse and spoiler serve any sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.anchors.anchor_set import build_anchor_set, with_spread_anchors
from ganmrf.anchors.generator import radial_generator, table_generator
from ganmrf.anchors.generator_file import load_anchored, save_generator
from ganmrf.anchors.prepared import anchored_fingerprints, prepare
from ganmrf.design.signal_models import generator_model, simulator_model
from ganmrf.dictionary.build import build_dictionary
from ganmrf.physics.rf_pulse import RfPulse, windowed_sinc
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate_reverse
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice
from ganmrf.physics.tissue_box import TissueBox

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES = 50  # as many as a heart beat has, so that one program simulates both
BOX = TissueBox(("t1", "t2"), [0.2, 0.02], [3.0, 0.2])
SEQUENCE = mrf_fisp(FRAMES)
EARLY = RfPulse.of_waveform(np.hanning(32)[1:-1] * np.exp(0.6j * np.linspace(-1, 2, 30) ** 2), 4)  # complex
SLICES = {
    "full": FullSlice(windowed_sinc(4, "hann", n_samples=30), 4.0),
    "complex": FullSlice(EARLY, 3.5),
    "partitioned": PartitionedSlice(windowed_sinc(4, "hann", n_samples=30), 8),
}
SETTINGS = {"n_anchors": 32, "n_sequences": 4, "n_frames": FRAMES, "n_candidates": 128}


@pytest.fixture(scope="module")
def grid():
    return BOX.spread(np.random.default_rng(1).random((200, 2)))


@pytest.fixture(scope="module", params=SLICES)
def made(request, grid):
    """A table for a slice, and its anchors."""
    anchor_set = build_anchor_set(BOX, SLICES[request.param], **SETTINGS)
    return table_generator(anchor_set, grid, anchor_set.features_of(grid)), anchor_set


def errors(generated, truth):
    return np.linalg.norm(np.asarray(generated.fingerprints) - truth.fingerprints, axis=1)


def test_unseen_sequences_are_generated_in_the_slice_and_their_errors_known(made, grid):
    generator, _ = made
    profile = generator.slice_profile
    prepared = prepare(generator, SEQUENCE, allow_error=1.0, rounds=0)
    generated = prepared.generate(grid)
    assert generated.slice_profile == profile
    truth = build_dictionary(SEQUENCE, grid, accuracy=1e-5, slice_profile=profile)
    assert generated.fingerprints.dtype == truth.fingerprints.dtype
    found = errors(generated, truth)
    assert found.mean() < 5e-4
    assert 0.4 < found.mean() / prepared.certificate.mean < 2.5
    np.testing.assert_allclose(generated.norms, truth.norms, rtol=1e-2)  # integrals over the slice
    uniform = build_dictionary(SEQUENCE, grid).fingerprints
    assert np.linalg.norm(np.abs(generated.fingerprints) - np.abs(uniform), axis=1).mean() > 20 * found.mean()


@pytest.mark.parametrize("made", ["full"], indirect=True)
def test_spread_anchors_and_files(made, tmp_path):
    generator, anchor_set = made
    radial = radial_generator(with_spread_anchors(anchor_set))
    for each in (generator, radial):
        save_generator(tmp_path / "g.npz", each)
        assert load_anchored(tmp_path / "g.npz").slice_profile == generator.slice_profile


@pytest.mark.parametrize("made", ["full"], indirect=True)
def test_gradients_go_through_the_anchors(made, grid):
    generator, _ = made
    few = generator.weights(grid).rows(slice(20))

    def loss(fingerprints):
        return jnp.mean(jnp.abs(jnp.sum(fingerprints[1:] * fingerprints[:-1].conj(), axis=1)))

    def generated(sequence):
        return loss(anchored_fingerprints(generator, sequence, few, n_states=20)[0])

    def simulated(sequence):
        signals = simulate_reverse(sequence, few.tissue, slice_profile=generator.slice_profile, n_states=20)
        return loss(signals / jnp.linalg.norm(signals, axis=1, keepdims=True))

    ours, truth = (jax.jit(jax.grad(each))(SEQUENCE).flip_angle for each in (generated, simulated))
    assert np.linalg.norm(ours - truth) < 0.02 * np.linalg.norm(truth)


@pytest.mark.parametrize("made", ["full", "complex"], indirect=True)
def test_designs_by_a_generator_see_its_slice(made):
    _, anchor_set = made
    generator, tissue = radial_generator(anchor_set), BOX.spread(np.array([[0.4, 0.5], [0.6, 0.4]]))
    models = generator_model(generator, tissue), simulator_model(slice_profile=generator.slice_profile)
    ours, truth = (jax.jit(model)(SEQUENCE, tissue) for model in models)
    for name, bound in (("signal", 0.01), ("d_t1", 0.1), ("d_t2", 0.1)):
        one, other = (np.asarray(getattr(each, name)) for each in (ours, truth))
        assert np.linalg.norm(one - other) < bound * np.linalg.norm(other)
