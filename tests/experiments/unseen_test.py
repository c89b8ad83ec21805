"""Sequences that no generator has learned from, of every kind that generators learn from."""

import types

import numpy as np
import pytest

from experiments.evaluation.unseen import foreign_sequences, unseen_sequences
from ganmrf.physics.sequences.kinds import kind_of
from ganmrf.physics.tissue import Tissue
from ganmrf.physics.tissue_box import TissueBox

PUBLISHED_FRAMES = {"fisp": {1000, 500}, "cardiac": {15 * 47}, "bssfp": {1000}}


@pytest.mark.parametrize("family", PUBLISHED_FRAMES)
def test_every_kind_has_published_random_and_foreign_sequences(family):
    box = TissueBox(("t1", "t2"), np.array([0.3, 0.02]), np.array([3.0, 0.3]))
    generator = types.SimpleNamespace(family=family, box=box, anchors=Tissue(t1=np.ones(1), t2=np.full(1, 0.1)))
    unseen, foreign = unseen_sequences(generator, 0, 8, 100), foreign_sequences(generator, 0, 40, 100)
    drawn = [each for name, of in unseen.items() if not name.startswith("published") for each in of]
    published = [each for name, of in unseen.items() if name.startswith("published") for each in of]
    assert {each.n_frames for each in published} == PUBLISHED_FRAMES[family]
    assert len(drawn) == 8
    strange = [each for of in foreign.values() for each in of]
    assert len(strange) >= 40
    assert {kind_of(each) for each in (*published, *drawn, *strange)} == {family}
    flips = {np.asarray(each.flip_angle).tobytes() for each in (*published, *drawn, *strange)}
    assert len(flips) > 0.9 * len((*published, *drawn, *strange))  # a few extremes share a train
