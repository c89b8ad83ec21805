"""Figures of training hold the numbers they are given, on logarithmic axes with units."""

import numpy as np

from ganmrf.report.training_figures import error_distribution_figure, sweep_figure, tissue_plane_figure, training_figure


def test_a_sweep_has_a_place_for_lambda_0_and_marks_the_best_one():
    weights = [0, 1, 100]
    (axes,) = sweep_figure(weights, {"training": [3e-2, 2e-3, 4e-3]}, best=1).axes
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0.1, 1, 100])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [3e-2, 2e-3, 4e-3])
    np.testing.assert_allclose(axes.lines[1].get_xdata(), 1)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "100"]


def test_training_curves():
    (axes,) = training_figure([10, 20, 30], {"train": [3, 2, 1], "test": [4, 3, 2]}).axes
    assert [line.get_label() for line in axes.lines] == ["train", "test"]
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [4, 3, 2])
    assert axes.get_yscale() == "log"


def test_the_share_of_atoms_above_an_error():
    (axes,) = error_distribution_figure({"a": [3e-3, 1e-3, 2e-3, 4e-3]}).axes
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [1e-3, 2e-3, 3e-3, 4e-3])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1, 0.75, 0.5, 0.25])


def test_the_plane_marks_what_is_outside():
    t1, t2 = np.array([0.1, 1.0, 2.0]), np.array([0.05, 0.1, 0.2])
    axes, bar = tissue_plane_figure(t1, t2, [1e-4, 1e-3, 1e-2], outside=[True, False, False]).axes
    np.testing.assert_allclose(axes.collections[0].get_offsets(), np.stack([1e3 * t1, 1e3 * t2], axis=1))
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [100])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("T1 (ms)", "T2 (ms)")
    assert bar.get_yscale() == "log"
