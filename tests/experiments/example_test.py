"""What is shown of a generator: tissues that it serves, on the same tissues simulated."""

import numpy as np
import pytest

from experiments.evaluation.example import example
from experiments.reports.example import biases
from ganmrf.anchors.anchor_set import build_anchor_set
from ganmrf.anchors.generator import radial_generator, table_generator
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.physics.sequences.bssfp import ma_bssfp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.tissue_box import TissueBox

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = {"n_sequences": 2, "n_frames": 40, "n_candidates": 64, "seed": 0}
BRAIN = TissueBox(("t1", "t2"), low=[0.1, 0.01], high=[3.0, 0.6])


def anchor_set(box, n_anchors, family="fisp"):
    return build_anchor_set(box, None, family=family, n_anchors=n_anchors, **SMALL)


def test_the_brain_is_shown_where_the_box_holds_it_and_more_anchors_bias_less():
    found = [example(radial_generator(anchor_set(BRAIN, number)), mrf_fisp(40)) for number in (16, 48)]
    for each in found:
        assert [name.split()[0] for name in each.names] == ["WM", "GM", "CSF"]
        np.testing.assert_array_equal(each.generated.tissue.t2, each.simulated.tissue.t2)
    few, many = (biases(each) for each in found)
    assert set(few) == {"t1", "t2", "m0"}
    assert all(many[name]["mean"] < few[name]["mean"] for name in few)


def test_elsewhere_tissues_of_the_box_are_shown_off_resonance_too():
    box = TissueBox(("t1", "t2", "off_resonance"), low=[0.8, 0.03, -30], high=[1.6, 0.08, 30])
    shown = example(radial_generator(anchor_set(box, 32, "bssfp")), ma_bssfp(40))
    assert len(shown.names) == 3
    assert not box.outside(shown.simulated.tissue).any()
    assert np.iscomplexobj(shown.generated.fingerprints)
    assert np.ptp(shown.simulated.tissue.off_resonance[:3]) > 0
    assert "off_resonance" in biases(shown)


def test_of_a_table_its_own_atoms_are_shown():
    anchors, grid = anchor_set(BRAIN, 32), tissue_grid("coarse")
    inside = grid.rows(np.flatnonzero(~BRAIN.outside(grid)))
    shown = example(table_generator(anchors, inside, anchors.features_of(inside)), mrf_fisp(40))
    own = {(float(t1), float(t2)) for t1, t2 in zip(inside.t1, inside.t2, strict=True)}
    tissue = shown.simulated.tissue
    assert {(float(t1), float(t2)) for t1, t2 in zip(tissue.t1, tissue.t2, strict=True)} <= own
