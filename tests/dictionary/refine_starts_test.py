"""A fit from several atoms ends where the smallest residual is; signals may come from another source."""

import dataclasses

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import grid_of
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.physics.sequences.bssfp import ma_bssfp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture(scope="module")
def balanced():
    """A dictionary, signals off resonance, and their maps."""
    grid = grid_of([0.7, 1.0, 1.4], [0.05, 0.08, 0.12], off_resonance=np.arange(-40, 41, 5.0))
    dictionary = build_dictionary(ma_bssfp(80), grid)
    truth = Tissue(np.array([0.9, 1.2]), np.array([0.07, 0.1]), 1.0, np.array([-7.0, 11.0]))
    signals = np.asarray(simulate(dictionary.sequence, truth))
    return dictionary, truth, signals, match(dictionary, signals, axis=-1)


def far_off(dictionary, maps):
    """The maps with atoms at the far end of the other side of resonance, where there are other valleys."""
    shifts, tissue = np.asarray(dictionary.tissue.off_resonance), dictionary.tissue
    same = [np.flatnonzero((tissue.t1 == t1) & (tissue.t2 == t2)) for t1, t2 in zip(maps.t1, maps.t2, strict=True)]
    ends = -40 * np.sign(maps.off_resonance)
    index = np.array([rows[shifts[rows] == end][0] for rows, end in zip(same, ends, strict=True)])
    return dataclasses.replace(maps, index=index, off_resonance=shifts[index])


def test_another_start_leads_out_of_the_wrong_valley_and_the_right_one_stays(balanced):
    dictionary, truth, signals, maps = balanced
    wrong = far_off(dictionary, maps)
    known = {"axis": -1, "noise": 1e-4}
    assert (np.abs(refine(dictionary, signals, wrong, **known).off_resonance - truth.off_resonance) > 1).all()
    for start, other in ((wrong, maps), (maps, wrong)):
        starts = np.stack([np.full(2, -1), other.index])
        found = refine(dictionary, signals, start, starts=starts, **known)
        np.testing.assert_allclose(found.off_resonance, truth.off_resonance, atol=0.05)
        np.testing.assert_allclose(found.t2, truth.t2, rtol=1e-2)


def test_starts_that_are_no_atoms_are_refused(balanced):
    dictionary, _, signals, maps = balanced
    for starts, words in (
        (np.full((1, 2), 153), "starts must be rows of the 153 atoms, or -1; got 153 to 153"),
        (np.full((1, 2), -2), "starts must be rows"),
        (np.zeros((1, 3), int), "starts has shape"),
    ):
        with pytest.raises(ValueError, match=words):
            refine(dictionary, signals, maps, axis=-1, noise=1e-4, starts=starts)
