"""Checks of a design: its report shows the slice it was designed for, and noisy voxels spread as the bound says."""

import numpy as np
import pytest

from experiments.evaluation.design import monte_carlo
from experiments.reports.design import Evaluation, sequence_section
from experiments.reports.design_verification import verification_table
from ganmrf.design.bounds import Precision
from ganmrf.design.limits import Limits
from ganmrf.design.verification import Verification
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import FullSlice, small_tip
from ganmrf.physics.tissue import Tissue
from ganmrf.runs.designing import Design, DesignConfig
from ganmrf.runs.simulation_config import SimulationConfig

FRAMES = 60
SEQUENCE, TISSUE = mrf_fisp(FRAMES), Tissue(np.array([0.9, 1.4]), np.array([0.05, 0.09]))
LIMITS = Limits((0.0, 1.5), (12e-3, 15e-3), 1.908e-3, inversion_time=18e-3)


def drawn_signals(simulation):
    """Lines of the figure of signals in the section on the sequence, (tissues, frames)."""
    config = DesignConfig(simulation, tissues=("WM:900/50", "GM:1400/90"))
    found = Design(SEQUENCE, SEQUENCE, [SEQUENCE], np.ones(1), np.ones((1, 1)), 1.0, LIMITS, 1.0)
    fields = dict.fromkeys(Evaluation._fields) | {"found": found, "config": config}
    figures = [picture.figure for picture in sequence_section(Evaluation(**fields)).figures]
    (axes,) = (
        figure.axes[0]
        for figure in figures
        if len(figure.axes) == 1 and figure.axes[0].get_legend_handles_labels()[1] == ["WM", "GM"]
    )
    return np.stack([line.get_ydata() for line in axes.lines[:2]])


@pytest.mark.parametrize("model", ["none", "small_tip", "full"])
def test_signals_are_those_of_the_slice(model):
    pulse = windowed_sinc(8.0, "hann")
    slice_profile = {"none": None, "small_tip": small_tip(pulse), "full": FullSlice(pulse, 4.0)}[model]
    expected = np.asarray(simulate(SEQUENCE, TISSUE, accuracy=1e-6, slice_profile=slice_profile))
    found = drawn_signals(SimulationConfig(frames=FRAMES).with_slice(model))
    # The report simulates to 1e-4.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_noisy_voxels_spread_as_the_bound_says():
    """60 frames, at noise so small that estimates are linear in it."""
    tissue = Tissue(np.array([0.832, 1.331, 2.569]), np.array([0.0792, 0.11, 0.329]))
    dictionary = build_dictionary(SEQUENCE, tissue_grid("coarse"))
    found = monte_carlo(SEQUENCE, dictionary, tissue, snr=3000.0, draws=400, seed=0)
    assert found.predicted.max() < 0.1
    # The standard deviation of 400 is known to 3.5 %, the mean of 6, of which pairs are correlated, to 2 %: 10 % is
    # five times that.
    assert np.sqrt(np.mean((found.measured / found.predicted) ** 2)) == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(found.measured, found.predicted, rtol=0.18)  # five times 3.5 %


def test_bounds_by_anchors_stand_beside_those_of_the_simulator():
    """Of three voxels, one of which no signal determines."""
    exact = Precision({"t1": np.array([0.1, 0.2, np.inf]), "t2": np.array([0.4, 0.8, 0.5])}, np.ones(3))
    claimed = Precision({"t1": np.array([0.1, 0.19, 0.3]), "t2": np.array([0.4, 0.88, 0.5])}, np.ones(3))
    found = Design(SEQUENCE, SEQUENCE, [SEQUENCE], np.ones(1), np.ones((1, 1)), 1.0, LIMITS, 1.0, 12)
    found = found._replace(verification=Verification(claimed, exact))
    assert found.verification.apart == pytest.approx(0.1)
    tissue = Tissue(np.array([0.9, 1.4, 1.5]), 0.05)
    assert found.verification.words(tissue) == "T1 by -5 to 0 %, T2 by 0 to 10 %"
    rows = verification_table(found, tissue).rows
    assert [row[0] for row in rows] == ["T1", "T2"]
    np.testing.assert_allclose([float(cell) for cell in rows[1][1:]], [50, 88, 50, 80, 10])
