"""Generators of balanced sequences off resonance, and sequences of another kind than a generator has learned from."""

import dataclasses

import numpy as np
import pytest

from ganmrf.anchors.anchor_set import build_anchor_set
from ganmrf.anchors.generator import radial_generator, table_generator
from ganmrf.anchors.generator_file import load_anchored, save_generator
from ganmrf.anchors.prepared import prepare
from ganmrf.dictionary.build import build_dictionary
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.sequences.bssfp import ma_bssfp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.tissue_box import TissueBox

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES = 40
BOX = TissueBox(("t1", "t2", "off_resonance"), [0.3, 0.03, -3.0], [2.0, 0.2, 3.0])
SEQUENCE = ma_bssfp(FRAMES)  # no family has it


@pytest.fixture(scope="module")
def grid():
    return BOX.spread(np.random.default_rng(1).random((200, 3)))


@pytest.fixture(scope="module")
def generator(grid):
    anchor_set = build_anchor_set(
        BOX, None, family="bssfp", n_anchors=64, n_sequences=4, n_frames=FRAMES, n_candidates=256
    )
    return table_generator(anchor_set, grid, anchor_set.features_of(grid))


def test_balanced_fingerprints_off_resonance_are_complex_and_their_error_known(generator, grid):
    # Echoes in the middle of frames of random length; the other one's right after the pulses.
    for sequence in (SEQUENCE, dataclasses.replace(SEQUENCE, echo_time=0.0)):
        truth = build_dictionary(sequence, grid, accuracy=1e-5)
        prepared = prepare(generator, sequence, rounds=0, allow_error=1.0)
        made, compressed = (prepared.generate(grid, compressed=each) for each in (False, True))
        assert made.fingerprints.dtype == np.complex64
        found = fingerprint_errors(made.fingerprints, truth.fingerprints)
        assert found.mean() < 2e-3
        assert 0.3 < found.mean() / prepared.certificate.mean < 3
        np.testing.assert_allclose(made.norms, truth.norms, rtol=1e-2)
        np.testing.assert_allclose(
            compressed.basis.conj().T @ compressed.basis, np.eye(compressed.basis.shape[1]), atol=1e-6
        )
        np.testing.assert_allclose(compressed.fingerprints, made.fingerprints @ compressed.basis, atol=1e-4)
        streamed = prepared.stream(grid)
        np.testing.assert_allclose(streamed.fingerprints[10:20], made.fingerprints[10:20], atol=1e-6)


def test_files_say_the_kind_and_those_of_old_say_none(generator, tmp_path):
    save_generator(tmp_path / "g.npz", generator)
    assert load_anchored(tmp_path / "g.npz").family == "bssfp"
    with np.load(tmp_path / "g.npz") as archive:
        contents = dict(archive)
    told = str(contents["structure"])
    contents["structure"] = np.asarray(told.replace(', ["family", {"value": "bssfp"}]', ""))
    assert str(contents["structure"]) != told
    np.savez(tmp_path / "old.npz", **contents)
    assert load_anchored(tmp_path / "old.npz").family == "fisp"


def test_another_kind_is_refused_unless_its_error_is_small_or_allowed(generator, grid):
    sequence = mrf_fisp(FRAMES)
    message = (
        r"learned from sequences of kind bssfp, and this one is fisp: the largest error .* above allow_error = 0\.001"
    )
    with pytest.raises(ValueError, match=message):
        prepare(generator, sequence, 16)
    prepared = prepare(generator, sequence, allow_error=1.0)
    truth = build_dictionary(sequence, grid, accuracy=1e-5)
    found = fingerprint_errors(prepared.generate(grid).fingerprints, truth.fingerprints)
    assert found.max() < 3 * prepared.certificate.largest


def test_a_period_in_off_resonance_is_that_of_one_repetition_time():
    box = TissueBox(("t1", "t2", "off_resonance"), [0.3, 0.02, -50], [2.0, 0.1, 50], periodic=("off_resonance",))
    form = {"family": "bssfp", "n_anchors": 32, "n_sequences": 2, "n_frames": FRAMES, "n_candidates": 128}
    generator = radial_generator(build_anchor_set(box, None, **form, repetition_time=10e-3))
    sequence = dataclasses.replace(SEQUENCE, repetition_time=np.full(FRAMES, 10e-3), echo_time=5e-3)
    prepared = prepare(generator, sequence, allow_error=2.0)
    ends = box.spread(np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 1.0]]))  # the same tissue a period apart
    one, other = prepared.generate(ends).fingerprints
    np.testing.assert_allclose(np.abs(np.vdot(one, other)), 1, rtol=1e-4)
    with pytest.raises(ValueError, match=r"for sequences of one repetition time, 10 ms; got 11"):
        prepare(generator, dataclasses.replace(sequence, repetition_time=np.full(FRAMES, 11e-3)), allow_error=2.0)
