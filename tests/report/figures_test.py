"""Figures show what they are given in ms and degrees, on ranges that all maps share."""

import io

import numpy as np
import pytest
from PIL import Image

from ganmrf.report import figures
from tests.report.drawn import assert_laid_out, images, legend, numbers

# Plotted values are float64 copies of float32 input in other units: float32 rounding.
UNITS = 1e-6


def maps(shape=(12, 10)):
    mask = np.zeros(shape, bool)
    mask[3:9, 4:8] = True
    t1 = np.linspace(0.5, 2.5, mask.size).reshape(shape)
    return t1, t1 / 20, mask


def texts(figure):
    axes = figure.axes
    return " ".join([a.get_title() for a in axes] + [a.get_xlabel() for a in axes] + [a.get_ylabel() for a in axes])


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    return np.asarray(Image.open(buffer).convert("RGB"))


def lines(axes):
    return {line.get_label(): line for line in axes.lines if len(line.get_xdata()) > 2}


def test_fingerprints_are_drawn_as_given():
    signals = np.random.default_rng(0).normal(size=(2, 30))
    (axes,) = figures.fingerprint_figure(signals, ["WM", "GM"]).axes
    for name, signal in zip(["WM", "GM"], signals, strict=True):
        np.testing.assert_array_equal(lines(axes)[name].get_ydata(), signal)


def test_overlay_is_dashed_and_its_difference_shown():
    signals = np.random.default_rng(0).normal(size=(2, 30))
    overlay = signals + np.array([0.1, -0.2])[:, None]
    above, below = figures.fingerprint_figure(signals, ["WM", "GM"], overlay=overlay).axes
    dashed = [line for line in above.lines if line.is_dashed() and len(line.get_xdata())]
    np.testing.assert_array_equal([line.get_ydata() for line in dashed], overlay)
    differences = [line.get_ydata() for line in below.lines if len(line.get_xdata()) == 30]
    np.testing.assert_allclose(differences, np.broadcast_to([[0.1], [-0.2]], (2, 30)), rtol=1e-12)  # one subtraction
    said = below.get_ylabel().lower()
    assert said.index("generated") < said.index("simulated")  # which is subtracted from which


def test_complex_fingerprints_show_magnitude_and_phase():
    signals = np.exp(1j * np.array([[0.0, 0.5, 1.0], [-3.0, 2.0, 0.1]])) * np.array([[1.0, 2.0, 3.0], [0.1, 1.0, 0.01]])
    overlay = signals + np.array([[0.3j], [-0.4]])
    above, phase, below = figures.fingerprint_figure(signals, ["WM", "GM"], overlay=overlay).axes
    np.testing.assert_allclose(lines(above)["WM"].get_ydata(), [1, 2, 3], rtol=1e-12)
    shown = [line.get_ydata() for line in phase.lines]
    np.testing.assert_allclose(shown[0], np.rad2deg([0, 0.5, 1]), rtol=1e-12)
    np.testing.assert_allclose(shown[1], [*np.rad2deg([-3.0, 2.0]), np.nan], rtol=1e-12)  # the last is all but 0
    np.testing.assert_allclose([line.get_ydata() for line in below.lines[:2]], [[0.3] * 3, [0.4] * 3], rtol=1e-12)


@pytest.mark.parametrize(
    ("signals", "names", "overlay", "message"),
    [
        (np.ones((2, 5)), ["one"], None, "2 curves, but 1 names"),
        (np.ones(5), ["one"], None, r"signals must be \(curves, frames\); got float64 \(5,\)"),
        (np.ones((1, 5)), ["one"], np.ones((1, 4)), r"overlay has shape \(1, 4\), but signals has \(1, 5\)"),
    ],
)
def test_fingerprints_that_do_not_fit_are_refused(signals, names, overlay, message):
    with pytest.raises(ValueError, match=message):
        figures.fingerprint_figure(signals, names, overlay=overlay)


def test_maps_are_in_ms_on_shared_ranges_and_cropped_to_the_mask():
    t1, t2, mask = maps()
    figure = figures.map_figure({"t1": t1, "t2": t2}, 0.5j * t1, mask=mask)
    t1_image, t2_image, m0_image = images(figure)
    inside = mask[1:11, 2:10]  # the mask with its margin of two voxels
    shown = t1_image.get_array()
    np.testing.assert_array_equal(~shown.mask, inside)
    np.testing.assert_allclose(shown[inside], 1e3 * t1[mask], rtol=1e-12)  # one product
    np.testing.assert_allclose(m0_image.get_array()[inside], 0.5 * t1[mask], rtol=1e-12)  # magnitude of a complex map
    assert t1_image.get_clim() == (0, 3000)
    assert t2_image.get_clim() == (0, 150)
    assert (t1_image.cmap.name, t2_image.cmap.name, m0_image.cmap.name) == ("lipari", "navia", "gray")
    assert "T1 (ms)" in texts(figure)
    assert "T2 (ms)" in texts(figure)
    assert all(image.origin == "upper" for image in (t1_image, t2_image, m0_image))


def test_saturation_is_marked():
    t1, t2, mask = maps()
    t1_image, t2_image, _ = images(figures.map_figure({"t1": 2 * t1, "t2": t2}, t1, mask=mask))
    assert t1_image.colorbar.extend == "max"
    assert t2_image.colorbar.extend == "neither"


@pytest.mark.parametrize("power", [-5, 7])
def test_the_scale_of_small_and_large_signals_is_in_the_unit(power):
    t1, t2, mask = maps()
    figure = figures.map_figure({"t1": t1, "t2": t2}, np.full_like(t1, 2.0 * 10.0**power), mask=mask)
    assert images(figure)[2].get_clim() == pytest.approx((0, 2))
    assert f"{power}" in images(figure)[2].colorbar.ax.get_xlabel()


def test_match_quality_adds_a_panel():
    t1, t2, mask = maps()
    quality = np.where(mask, 0.97, 0.1)
    quality[4, 5] = np.nan
    shown = images(figures.map_figure({"t1": t1, "t2": t2}, t1, mask=mask, quality=quality))
    assert len(shown) == 4
    # Voxels outside the mask do not set the range.
    assert shown[3].get_clim() == (0.95, 1)


def test_a_map_of_b0_is_even_about_resonance():
    t1, t2, mask = maps()
    b0 = np.where(mask, np.linspace(-10, 40, mask.shape[1]), -1e3)
    figure = figures.map_figure(
        {"t1": t1, "off_resonance": b0, "t2": t2}, t1, mask=mask, quality=np.where(mask, 0.97, 0.1)
    )
    assert len(images(figure)) == 5
    shown = images(figure)[3]
    low, high = shown.get_clim()
    assert -low == high == pytest.approx(np.percentile(np.abs(b0[mask]), 99))
    np.testing.assert_allclose(shown.get_array()[mask[1:11, 2:10]], b0[mask])
    assert "B0 (Hz)" in texts(figure)


def test_maps_of_further_parameters_have_their_units_and_colours():
    t1, t2, mask = maps()
    values = {"t1": t1, "t2": t2, "fraction": 0.1 * t1, "exchange_rate": 20 * t1, "lineshape": 1e-5 * t1}
    figure = figures.map_figure(values, t1, mask=mask, quality=np.where(mask, 0.97, 0.1))
    shown = images(figure)
    assert [image.cmap.name for image in shown[:5]] == ["lipari", "navia", *3 * ["batlow"]]
    assert shown[2].get_clim() == (0, 0.3)
    np.testing.assert_allclose(shown[4].get_array().compressed(), 10 * t1[mask], rtol=1e-12)  # us
    assert {"f", "k (1/s)", "G (us)"} <= {image.colorbar.ax.get_xlabel() for image in shown}
    assert_laid_out(figure)


def test_what_is_not_determined_is_grey_and_said():
    t1, _, mask = maps()
    wrong = np.zeros(mask.shape, bool)
    wrong[tuple(np.argwhere(mask)[:3].T)] = True
    wrong[0, 0] = True  # outside the mask
    values = {"t1": t1, "fraction": 0.1 * t1}
    figure = figures.map_figure(values, t1, mask=mask, undetermined={"fraction": wrong, "t1": ~mask})
    shown, grey = (image.get_array() for image in figure.axes[1].images)
    assert grey.count() == 3
    assert mask.sum() - shown.count() == 3  # no colour beneath
    assert len(figure.axes[0].images[0].get_array().compressed()) == mask.sum()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not determined by this sequence"]
    assert_laid_out(figure)
    assert not figures.map_figure(values, t1, mask=mask, undetermined={"fraction": ~mask}).legends
    with_colour, with_grey = (
        pixels(figures.map_figure(values, t1, mask=mask, undetermined={"fraction": each})) for each in (~mask, mask)
    )
    assert not np.array_equal(with_colour, with_grey[: len(with_colour)])


def test_a_fraction_is_compared_in_its_own_range():
    t1, _, mask = maps()
    fraction = np.where(mask, 0.1 * t1, 0.0)
    truth_image, _, difference, _ = images(
        figures.comparison_figure(fraction, fraction + 0.01, mask=mask, quantity="f")
    )
    assert truth_image.get_clim() == (0, 0.3)
    np.testing.assert_allclose(difference.get_array().compressed(), 0.01, rtol=1e-9)
    np.testing.assert_allclose(difference.get_clim(), (-0.03, 0.03))


def test_outside_the_mask_and_without_value_maps_are_black():
    t1, t2, mask = maps((40, 40))
    t1 = np.where(mask, 3.0, 1.5)  # cream on a black ground
    with_value = pixels(figures.map_figure({"t1": t1, "t2": t2}, t1, mask=mask))
    without = pixels(figures.map_figure({"t1": np.full_like(t1, np.nan), "t2": t2}, t1, mask=mask))
    black = [(image == 0).all(-1).sum() for image in (with_value, without)]
    # The 6 x 4 voxels of the T1 panel turn black: 24 of its 10 x 8, so the black area grows.
    assert black[1] > black[0] > 0


@pytest.mark.parametrize("shape", [(60, 30), (30, 30), (30, 60)])
def test_nothing_is_cut_off_whatever_the_shape_of_the_maps(shape):
    t1 = np.full(shape, 1.0)
    figure = figures.comparison_figure(t1, t1, mask=np.ones(shape, bool), quantity="T1")
    figure.draw_without_rendering()
    everything = figure.get_tightbbox()  # inches
    assert 0 <= everything.x0 < everything.x1 <= figure.get_figwidth()
    assert 0 <= everything.y0 < everything.y1 <= figure.get_figheight()


def test_maps_without_a_single_match_are_drawn():
    t1, _, mask = maps()
    nothing = np.full_like(t1, np.nan)
    assert pixels(figures.map_figure({"t1": nothing, "t2": nothing}, nothing, mask=mask, quality=nothing)).size
    assert pixels(figures.comparison_figure(t1, nothing, mask=mask, quantity="T1")).size


def test_comparison_shows_estimate_minus_truth_at_a_tenth_of_the_range():
    _, t2, mask = maps()
    estimate = t2 + 0.004
    figure = figures.comparison_figure(t2, estimate, mask=mask, quantity="T2")
    truth_image, estimate_image, difference, _ = images(figure)
    np.testing.assert_allclose(difference.get_array().compressed(), 4.0, rtol=1e-12)  # two products, one difference
    assert truth_image.get_clim() == estimate_image.get_clim()
    assert difference.get_clim() == (-15, 15)
    assert truth_image.cmap.name == "navia"


def test_comparison_shows_csf_and_small_relative_differences():
    _, t2, mask = maps()
    t2 = np.where(np.arange(t2.size).reshape(t2.shape) % 2, t2, 1.9)  # fluid
    truth_image, _, _, relative = images(figures.comparison_figure(t2, 1.001 * t2, mask=mask, quantity="T2"))
    assert truth_image.get_clim() == (0, 1900)
    np.testing.assert_allclose(relative.get_array().compressed(), 0.1, rtol=1e-9)
    np.testing.assert_allclose(relative.get_clim(), (-0.1, 0.1), rtol=1e-9)


def test_off_resonance_has_colours_that_tell_its_sign():
    mask = np.ones((6, 5), bool)
    truth = np.linspace(-10, 20, 30).reshape(6, 5)
    one, other, difference = images(figures.off_resonance_figure(truth, truth - 2, mask=mask))
    assert one.get_clim() == other.get_clim() == (-20, 20)
    np.testing.assert_allclose(difference.get_array(), -2, rtol=1e-12)
    assert difference.get_clim() == (-2, 2)


def test_comparison_of_another_quantity_is_refused():
    t1, _, mask = maps()
    with pytest.raises(ValueError, match=r"quantity must be one of T1, T2, .*; got 'T3'"):
        figures.comparison_figure(t1, t1, mask=mask, quantity="T3")


def test_maps_that_do_not_fit_the_mask_are_refused():
    t1, t2, mask = maps()
    with pytest.raises(ValueError, match=r"t2 has shape \(12,\), but mask has \(12, 10\)"):
        figures.map_figure({"t1": t1, "t2": t2[:, 0]}, t1, mask=mask)
    with pytest.raises(ValueError, match="0 voxels"):
        figures.map_figure({"t1": t1, "t2": t2}, t1, mask=np.zeros_like(mask))


def test_agreement_shows_each_tissue_where_it_lies():
    truth_t1, truth_t2 = np.array([1.0, 2.0, 4.0, 1.0, 1.0]), np.array([0.05, 0.1, 0.5, 0.1, 0.1])
    estimate_t1 = np.array([1.1, 1.8, 4.0, np.nan, 7.0])
    labels = np.array([1, 2, 1, 1, 0])  # the fourth voxel has no match, the fifth no tissue
    figure = figures.agreement_figure(
        truth_t1, estimate_t1, truth_t2, truth_t2, labels=labels, names={1: "white matter", 2: "grey matter"}
    )
    above, _, below, _ = figure.axes
    white, grey = (dots.get_offsets() for dots in above.collections)
    np.testing.assert_allclose(white, [[1000, 1100], [4000, 4000]], rtol=1e-12)  # unit change only
    np.testing.assert_allclose(grey, [[2000, 1800]], rtol=1e-12)
    errors = np.concatenate([dots.get_offsets()[:, 1] for dots in below.collections])
    np.testing.assert_allclose(errors, [10, 0, -10], atol=1e-12)  # 100 (a / b - 1): absolute rounding
    low, high = above.lines[0].get_xydata()
    assert low[0] == low[1]
    assert high[0] == high[1]
    assert legend(figure) == ["white matter", "grey matter"]


def test_agreement_counts_the_outliers_it_does_not_show():
    truth = np.ones(400)
    estimate = truth + np.linspace(-0.01, 0.01, 400)
    estimate[:2] = 3.0
    figure = figures.agreement_figure(
        truth, estimate, truth, truth, labels=np.ones(400, int), names={1: "white matter"}
    )
    below = figure.axes[2]
    assert below.get_ylim()[1] < 2  # per cent: the two outliers of 200 % do not set the range
    assert [numbers(text.get_text()) for text in below.texts] == [[2, 400]]


def test_agreement_without_a_voxel_is_refused():
    with pytest.raises(ValueError, match=r"no voxel with a label of \[1\]"):
        figures.agreement_figure(*np.ones((4, 3)), labels=np.zeros(3, int), names={1: "white matter"})
    with pytest.raises(ValueError, match=r"do not fit labels of shape \(2,\)"):
        figures.agreement_figure(*np.ones((4, 3)), labels=np.zeros(2, int), names={1: "white matter"})


def test_profile_stands_each_weight_on_its_node():
    nodes, weights = np.array([0.2, 0.7, 1.0]), np.array([0.25, 0.25, 0.5])
    figure = figures.profile_figure(nodes, weights)
    stems = figure.axes[0].collections[0].get_segments()
    np.testing.assert_array_equal([stem[0] for stem in stems], np.stack([nodes, np.zeros(3)], axis=1))
    np.testing.assert_array_equal([stem[1] for stem in stems], np.stack([nodes, weights], axis=1))
    # 0.2 / 4 + 0.7 / 4 + 1 / 2
    assert 0.725 in numbers(texts(figure))
    with pytest.raises(ValueError, match=r"got \(3,\), \(2,\)"):
        figures.profile_figure(nodes, weights[:2])
