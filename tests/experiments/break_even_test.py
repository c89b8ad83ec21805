"""After how many dictionaries generators pay: the numbers, the words, and costs of known generators."""

import dataclasses
import time

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.evaluation.break_even import Case, CaseCosts, GeneratorCost, case_costs
from experiments.evaluation.generator import Method
from experiments.reports.break_even import break_even_section, break_even_table
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.physics.sequences.published import mrf_fisp
from tests.report.drawn import assert_laid_out, numbers

PAPER = 8.0, 0.3, 5970  # hours of training, seconds of generating, atoms
SECONDS = st.floats(1e-3, 1e5)


@given(making=SECONDS, each=SECONDS, simulate=SECONDS, any_sequence=st.booleans())
def test_it_pays_after_the_least_number_for_which_making_and_generating_take_no_longer(
    making, each, simulate, any_sequence
):
    cost = GeneratorCost(making, each, any_sequence, 0.0)
    number = cost.pays_after(simulate)
    if each >= simulate:
        assert number is None
    else:
        assert making + number * each <= number * simulate * (1 + 1e-9)
        assert number == 1 or making + (number - 1) * each > (number - 1) * simulate * (1 - 1e-9)
    of_others = cost.pays_for_new_sequences(simulate)
    assert of_others == (number if any_sequence else 1 if making + each < simulate else None)


def test_generators_are_timed_and_told_their_errors():
    sequence = mrf_fisp(n_frames=20)
    tissue = jax.tree.map(np.asarray, tissue_grid("coarse").ravel())
    exact = build_dictionary(sequence, tissue, accuracy=1e-6)
    off = dataclasses.replace(exact, fingerprints=1.01 * exact.fingerprints)

    def slowly(dictionary):
        """Generates after some work: waiting would take no core-seconds."""
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass
        return dictionary

    case = Case(
        sequence,
        tissue,
        None,
        learned=tissue.rows(slice(3)),
        judged=np.arange(0, tissue.size, 2),
        of_one_sequence={"off": Method(lambda _: off, 5.0)},
        of_any_sequence={"slow": Method(lambda _: slowly(exact), 7.0)},
    )
    costs = case_costs(case, rounds=1)
    assert costs.atoms == tissue.size
    assert costs.generators["slow"].any_sequence
    assert costs.generators["slow"].making == 7.0
    assert costs.generators["slow"].each >= 0.02
    assert costs.generators["slow"].error < 1e-4
    assert not costs.generators["off"].any_sequence
    assert 5.0 < costs.generators["off"].making < 15.0  # what it learned from was simulated, too
    assert costs.generators["off"].error == pytest.approx(0.01, rel=0.01)
    plain = costs.plain()["generators"]["slow"]
    assert plain["pays_after"] == costs.generators["slow"].pays_after(costs.simulate)


def test_a_report_says_when_each_pays_and_draws_the_lines_of_all():
    network, anchors = GeneratorCost(20.0, 0.1, False, 1e-5), GeneratorCost(30.0, 0.4, True, 1e-4)
    dear = CaseCosts(5970, 2.1, {"network": network, "anchors": anchors})
    cheap = CaseCosts(5970, 0.05, {"network": network, "anchors": anchors})
    section = break_even_section({"uniform slice": cheap, "full slice": dear}, PAPER, "network")
    text = section.text
    assert {10.0, 18.0} <= set(numbers(text))
    assert text.count("never") == 3  # both in the uniform slice, and the network for ever new sequences in the full one
    (picture,) = section.figures
    assert_laid_out(picture.figure)
    uniform, full = picture.figure.axes
    assert len(full.lines) > len(uniform.lines)  # the paper's own figures, and the rings
    rows = {row[0]: row[-2:] for row in break_even_table("full slice", dear).rows}
    assert rows == {"simulated": ["-", "-"], "network": ["10", "never"], "anchors": ["18", "18"]}
