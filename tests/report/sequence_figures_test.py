"""Sequences are drawn by frame, or by time where anything stands between their frames."""

import numpy as np
import pytest

from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.blocks import Blocks, Delay, T2Preparation, Train
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.cardiac import published_cardiac
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.sequences.preparations import (
    hard_saturation,
    hard_t2_preparation,
    hyperbolic_secant,
    mlev4_t2_preparation,
)
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.report.sequence_figures import pulse_figure, schedule_caption, schedule_figure
from tests.report.drawn import assert_laid_out, legend, numbers

UNITS = 1e-6  # plotted values are float64 copies of float32 input in other units: float32 rounding


def test_a_schedule_shows_degrees_and_milliseconds_of_every_frame():
    sequence = Fisp(flip_angle=np.deg2rad([10.0, 20.0, 70.0]), repetition_time=[0.012, 0.013, 0.015], echo_time=2e-3)
    figure = schedule_figure(sequence)
    top, bottom = figure.axes
    np.testing.assert_allclose(top.lines[0].get_xydata(), [[1, 10], [2, 20], [3, 70]], rtol=UNITS)
    np.testing.assert_allclose(bottom.lines[0].get_ydata(), [12, 13, 15], rtol=UNITS)
    assert top.get_shared_x_axes().joined(top, bottom)
    assert "deg" in top.get_ylabel()
    assert "ms" in bottom.get_ylabel()
    assert numbers(top.get_title()) == [3, 0.04, 2]  # frames, s, and the echo time in ms


def test_echo_times_that_vary_are_drawn_and_start_up_pulses_are_not():
    sequence = Bssfp(np.deg2rad([10.0, 20.0, 30.0]), [0.010, 0.012, 0.014])
    top, middle = schedule_figure(sequence).axes
    np.testing.assert_allclose(top.lines[0].get_ydata(), [10, 20, 30], rtol=UNITS)
    np.testing.assert_allclose(middle.lines[1].get_ydata(), [5, 6, 7], rtol=UNITS)
    assert "TE" in middle.get_ylabel()


def test_phases_that_are_no_half_turns_have_a_panel():
    sequence = SpoiledGradientEcho(np.full(4, 0.3), 0.01, 0.004)
    *_, phases = schedule_figure(sequence).axes
    # 117 degrees times 0, 1, 3 and 6, within a turn
    np.testing.assert_allclose(phases.lines[0].get_ydata(), [0, 117, 351, 702 - 360], rtol=1e-5)
    assert "phase" in phases.get_ylabel()
    assert "phase" in schedule_caption(sequence)


def test_preparations_stand_where_they_are_played():
    sequence = published_cardiac([1.0, 1.2, 0.9])
    (axes,) = schedule_figure(sequence).axes
    # The first frame of each beat follows the one before by an R-to-R interval; a preparation ends there.
    starts = 0.021 + np.array([0, 1.0, 2.2])
    marks = [text.xy[0] for text in axes.texts]
    np.testing.assert_allclose(marks, 1e3 * np.array([0.021 / 2, starts[2] - 0.030 / 2]), rtol=1e-6)  # ms
    assert [numbers(text.get_text())[-1] for text in axes.texts] == [21, 30]
    assert legend(axes.figure) == ["pulses", "inversion", "T2 preparation"]
    assert "ms" in axes.get_xlabel()


def test_a_t2_preparation_is_marked_with_its_time_and_drawn_with_its_wait():
    train = Train(np.full(9, 0.3), 0.01, 0.004)
    (axes,) = schedule_figure(Blocks((train, T2Preparation(0.05, wait=0.01), train))).axes
    assert numbers(axes.texts[0].get_text())[-1] == 50
    assert axes.texts[0].xy[0] == pytest.approx(90 + 60 / 2)  # ms


def test_played_preparations_are_named_by_what_they_do():
    played = hyperbolic_secant(0.02), hard_saturation(0.1), mlev4_t2_preparation(0.05), hard_t2_preparation(0.04, 0.01)
    figure = schedule_figure(published_cardiac([1.0] * 4, preparations=played))
    assert [numbers(text.get_text())[-1] for text in figure.axes[0].texts] == [20, 100, 50, 40]
    assert legend(figure) == ["pulses", "played inversion", "played saturation", "played T2 preparation"]


def test_pulses_without_echo_and_echoes_without_pulse():
    top, phases = schedule_figure(MultiSpinEcho(np.deg2rad([180.0, 120.0]), 0.010)).axes
    pulses, echoes = top.lines[:2]
    np.testing.assert_allclose(pulses.get_xydata(), [[0, 90], [5, 180], [15, 120]], rtol=UNITS)  # ms, degrees
    np.testing.assert_allclose(echoes.get_xdata(), [10, 20], rtol=UNITS)
    np.testing.assert_allclose(phases.lines[0].get_ydata(), [90, 0, 0], rtol=UNITS)


def test_a_slice_is_the_narrower_the_larger_its_flip_angle():
    """Half a thickness from the middle half of a small angle is turned: there is the edge of the slice."""
    figure = pulse_figure(windowed_sinc(8.0, "hann"), Fisp(np.deg2rad([10.0, 170.0]), 0.012, 2e-3))
    (axes,) = figure.axes
    position, small = axes.lines[0].get_data()
    np.testing.assert_allclose(np.interp([-0.5, 0, 0.5], position, small), [0.5, 1, 0.5], atol=2e-3)
    widest = [np.ptp(line.get_xdata()[line.get_ydata() > 0.5]) for line in axes.lines[:3]]
    assert widest[0] > widest[1] > widest[2]
    assert [numbers(text) for text in legend(figure)[1:]] == [[85], [170]]
    assert_laid_out(figure)


@pytest.mark.parametrize(
    "sequence",
    [
        Bssfp(np.full(50, 0.5), 0.01, rf_phase=np.arange(50.0)),
        published_cardiac(np.full(15, 1.0)),
        published_cardiac(np.full(30, 0.8)),
        MultiSpinEcho(np.full(16, np.pi), 0.01),
        Blocks(
            (Train(np.full(9, 0.3), 0.01, 0.004), Delay(0.4), T2Preparation(0.05), Train(np.full(80, 0.5), 0.01, 0.003))
        ),
    ],
    ids=lambda sequence: type(sequence).__name__,
)
def test_nothing_lies_on_anything_else(sequence):
    assert_laid_out(schedule_figure(sequence))
