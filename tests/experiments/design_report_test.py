"""The design report shows the signals of the slice that the sequence was designed for."""

import types

import numpy as np
import pytest

from experiments.reports.design import Evaluation, sequence_section
from ganmrf.design.limits import Limits
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import sinc_slice_profile
from ganmrf.physics.tissue import Tissue

SEQUENCE, TISSUE = mrf_fisp(60), Tissue(np.array([0.9, 1.4]), np.array([0.05, 0.09]))
LIMITS = Limits((0.0, 1.5), (12e-3, 15e-3), 1.908e-3, inversion_time=18e-3)


def drawn_signals(slice_profile):
    """Lines of the figure of signals in the section on the sequence, (tissues, frames)."""
    simulation = types.SimpleNamespace(slice_profile=lambda: slice_profile)
    config = types.SimpleNamespace(tissue=TISSUE, named_tissues={"WM": (), "GM": ()}, simulation=simulation)
    found = types.SimpleNamespace(start=SEQUENCE, sequence=SEQUENCE, limits=LIMITS)
    fields = dict.fromkeys(Evaluation._fields) | {"found": found, "config": config}
    figures = [picture.figure for picture in sequence_section(Evaluation(**fields)).figures]
    (axes,) = (
        figure.axes[0]
        for figure in figures
        if len(figure.axes) == 1 and figure.axes[0].get_legend_handles_labels()[1] == ["WM", "GM"]
    )
    return np.stack([line.get_ydata() for line in axes.lines[:2]])


@pytest.mark.parametrize("slice_profile", [None, sinc_slice_profile(6)], ids=["uniform", "sinc"])
def test_signals_are_those_of_the_slice(slice_profile):
    expected = np.asarray(simulate(SEQUENCE, TISSUE, accuracy=1e-6, slice_profile=slice_profile))
    # The report simulates to 1e-4.
    np.testing.assert_allclose(drawn_signals(slice_profile), expected, rtol=0, atol=1e-3 * np.abs(expected).max())
