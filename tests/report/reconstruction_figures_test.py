"""Figures of a reconstruction show what they are given, with its units, and nothing of it twice or cut off."""

import numpy as np
import pytest

from ganmrf.report import reconstruction_figures as figures
from tests.report.drawn import assert_laid_out, images, labels, numbers, titles

# Plotted values are inputs in other units: one product or quotient of float64.
UNITS = 1e-12

MASK = np.zeros((24, 20), bool)
MASK[4:20, 3:17] = True
INSIDE = MASK[2:22, 1:19]  # with the margin of two voxels that is shown
T1 = np.where(MASK, np.linspace(0.5, 2.5, MASK.size).reshape(MASK.shape), np.nan)


def trajectory(n_frames, n_samples=30):
    radius, angle = np.linspace(0, 160.0, n_samples), np.linspace(0, 9.0, n_samples)
    turn = 0.3 * np.arange(n_frames)[:, None]
    return np.stack([radius * np.cos(angle + turn), radius * np.sin(angle + turn)], axis=-1)


def test_first_readout_stands_before_those_of_the_next_frames():
    k = trajectory(100)
    figure = figures.trajectory_figure(k)
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_xydata(), k[0])
    np.testing.assert_array_equal(left.collections[0].get_segments(), k[1:48])
    assert left.get_aspect() == 1
    assert numbers(left.get_title()) == [48, 100]  # frames shown, of all
    # The samples of this spiral lie evenly from 0 to 160 1/m.
    np.testing.assert_allclose(
        right.lines[0].get_xydata(), np.stack([np.arange(1, 31), np.linspace(0, 160, 30)], 1), rtol=UNITS
    )
    assert sum("(1/m)" in label for label in labels(figure)) == 3
    assert_laid_out(figure)


def test_nothing_of_the_other_frames_leaves_the_axes():
    k = trajectory(2) * np.array([1.0, 3.0])[:, None, None]
    left = figures.trajectory_figure(k).axes[0]
    assert left.get_xlim()[0] <= k[..., 0].min() < k[..., 0].max() <= left.get_xlim()[1]
    assert left.get_ylim()[0] <= k[..., 1].min() < k[..., 1].max() <= left.get_ylim()[1]


@pytest.mark.parametrize(
    ("trajectory", "message"),
    [
        (np.ones((4, 5)), r"trajectory must be real, \(frames, samples, 2\), .*; got float64 \(4, 5\)"),
        (np.ones((4, 5, 3)), r"got float64 \(4, 5, 3\)"),
        (np.ones((4, 0, 2)), r"got float64 \(4, 0, 2\)"),
        (np.ones((4, 5, 2), complex), "got complex128"),
    ],
)
def test_trajectories_that_do_not_fit_are_refused(trajectory, message):
    with pytest.raises(ValueError, match=message):
        figures.trajectory_figure(trajectory)


def test_coils_have_magnitude_and_phase_on_shared_ranges():
    magnitude = np.linspace(0, 1, 480).reshape(24, 20)
    coils = np.stack([magnitude * np.exp(0.5j * np.pi), 3 * magnitude * np.exp(-0.25j * np.pi)])
    figure = figures.sensitivities_figure(coils)
    first, second, first_phase, second_phase = images(figure)
    np.testing.assert_allclose(first.get_array(), magnitude, rtol=UNITS)
    np.testing.assert_allclose(second.get_array(), 3 * magnitude, rtol=UNITS)
    assert first.get_clim() == second.get_clim()
    # Where there is no signal there is no phase.
    np.testing.assert_allclose(first_phase.get_array().compressed(), np.full(479, 90), rtol=UNITS)
    np.testing.assert_allclose(second_phase.get_array().compressed(), np.full(479, -45), rtol=UNITS)
    assert first_phase.get_clim() == (-180, 180)
    assert [numbers(title) for title in titles(figure)] == [[1], [2], [], []]
    assert "(deg)" in labels(figure)[1]


@pytest.mark.parametrize("n_coils", [1, 3, 11, 30])
def test_two_dozen_coils_are_shown_at_most(n_coils):
    coils = (1 + np.arange(n_coils))[:, None, None] * np.ones((1, 24, 20), complex)
    figure = figures.sensitivities_figure(coils)
    few = min(n_coils, 24)
    drawn = {axes.get_title(): axes.images[0] for axes in figure.axes if axes.get_title()}
    assert {numbers(name)[0]: image.get_array().max() for name, image in drawn.items()} == {
        i + 1: i + 1 for i in range(few)
    }
    assert len(images(figure)) == 2 * few
    assert numbers(figure.get_suptitle())[:2] == ([24, 30] if n_coils > 24 else [])
    assert_laid_out(figure)


def test_sensitivities_without_coil_axis_are_refused():
    with pytest.raises(ValueError, match=r"sensitivities must be \(coils, y, x\), .*; got \(24, 20\)"):
        figures.sensitivities_figure(np.ones((24, 20)))


def test_coefficients_have_a_scale_of_their_own_and_their_share_of_energy():
    ramp = np.linspace(0.5, 1, MASK.size).reshape(MASK.shape)
    coefficients = np.stack([2j * ramp, -ramp])
    coefficients[:, ~MASK] = 100  # outside the mask nothing counts
    figure = figures.coefficients_figure(coefficients, mask=MASK)
    # Energies of 4 and 1 shares; the scales take the factor of 2 away.
    assert [numbers(title) for title in titles(figure)] == [[1, 80], [2, 20]]
    first, second = (image.get_array() for image in images(figure))
    np.testing.assert_array_equal(~first.mask, INSIDE)
    np.testing.assert_allclose(first.compressed(), second.compressed(), rtol=UNITS)
    # The 99.5 % quantile of 224 voxels lies between the third and the second brightest: 0.005 * 223 = 1.1.
    assert np.count_nonzero(first.compressed() > 1) == 2
    np.testing.assert_allclose(first.compressed() / first.max(), ramp[MASK] / ramp[MASK].max(), rtol=UNITS)


@pytest.mark.parametrize("rank", [1, 5, 10])
def test_eight_coefficients_are_shown_at_most(rank):
    figure = figures.coefficients_figure(np.ones((rank, *MASK.shape)), mask=MASK)
    assert len(images(figure)) == min(rank, 8)
    # Those that are not shown have their share of the energy all the same.
    assert numbers(titles(figure)[0]) == [1, 100 / rank]
    assert numbers(figure.get_suptitle()) == ([8, 10] if rank > 8 else [])
    assert_laid_out(figure)


def test_a_coefficient_of_0_is_black_and_has_no_share():
    figure = figures.coefficients_figure(np.zeros((2, *MASK.shape)), mask=MASK)
    assert [numbers(title) for title in titles(figure)] == [[1, 0], [2, 0]]
    assert not images(figure)[0].get_array().any()


def test_coefficients_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"coefficients must be \(rank, y, x\), .*; got \(24, 20\)"):
        figures.coefficients_figure(T1, mask=MASK)
    with pytest.raises(ValueError, match=r"each of coefficients has shape \(24, 19\), but mask has \(24, 20\)"):
        figures.coefficients_figure(np.ones((2, 24, 19)), mask=MASK)


def test_uncertainty_is_in_per_cent_and_black_where_there_is_none():
    t1_std, t2, t2_std = 0.02 * T1, T1 / 20, 0.005 * T1  # 2 and 10 per cent
    t1_std[10, 5:8] = 0.04 * T1[10, 5:8]
    t2_std[10, 10], t2_std[11, 10], t2[12, 10] = np.inf, np.nan, 0
    figure = figures.uncertainty_figure({"t1": T1, "t2": t2}, {"t1": t1_std, "t2": t2_std}, mask=MASK)
    one, two = (image.get_array() for image in images(figure))
    assert [numbers(title) for title in titles(figure)] == [[2], [10, 3, 224]]  # median; voxels without, of all
    np.testing.assert_array_equal(~one.mask, INSIDE)
    assert INSIDE.sum() - two.count() == 3
    np.testing.assert_allclose(two.compressed(), np.full(221, 10), rtol=UNITS)
    # Three voxels of 224 are less than 5 %: they do not set the range, and the bar says that they lie beyond it.
    np.testing.assert_allclose(images(figure)[0].get_clim(), (0, 2), rtol=UNITS)
    assert images(figure)[0].colorbar.extend == "max"
    assert images(figure)[0].cmap.name == images(figure)[1].cmap.name
    assert [("T1" in one, "T2" in one, "(%)" in one) for one in labels(figure)] == [
        (True, False, True),
        (False, True, True),
    ]
    assert_laid_out(figure)


def test_maps_without_any_uncertainty_are_drawn():
    nothing = np.full(MASK.shape, np.inf)
    figure = figures.uncertainty_figure({"t1": T1, "t2": T1}, {"t1": nothing, "t2": nothing}, mask=MASK)
    assert numbers(titles(figure)[0]) == [224, 224]
    assert_laid_out(figure)


def test_a_range_of_uncertainty_ends_where_nothing_is_known():
    figure = figures.uncertainty_figure({"t1": T1, "t2": T1}, {"t1": 0.2 * T1, "t2": 1e7 * T1}, mask=MASK)
    assert [image.get_clim()[1] for image in images(figure)] == pytest.approx([20, 100], rel=UNITS)
    assert numbers(titles(figure)[1]) == [100]
    assert_laid_out(figure)


@pytest.mark.parametrize(("field", "name", "unit"), [("off_resonance", "B0", " Hz"), ("fraction", "f", "")])
def test_uncertainty_of_what_can_be_0_is_absolute(field, name, unit):
    std = np.where(MASK, 0.25, 9.0)
    std[tuple(np.argwhere(MASK)[0])] = np.inf
    values = {"t1": T1, "t2": T1, field: 0 * T1}
    figure = figures.uncertainty_figure(values, {"t1": 0.2 * T1, "t2": 0.2 * T1, field: std}, mask=MASK)
    shown = images(figure)
    assert sum("(Hz)" in label for label in labels(figure)) == bool(unit)
    (absolute,) = (image for image in shown if np.isclose(image.get_clim()[1], 0.25))
    assert absolute.get_array().count() == MASK.sum() - 1
    assert any(f"{name}, median 0.25{unit}" in title for title in titles(figure))
    assert_laid_out(figure)
    nothing = np.full(MASK.shape, np.inf)
    assert_laid_out(figures.uncertainty_figure(values, {"t1": T1, "t2": T1, field: nothing}, mask=MASK))


def test_uncertainty_of_rates_is_relative():
    values = {"t1": T1, "t2": T1, "fraction": 0.1 * T1, "exchange_rate": 10 * T1, "t1_b": T1}
    figure = figures.uncertainty_figure(values, {name: 0.3 * each for name, each in values.items()}, mask=MASK)
    assert len(images(figure)) == 5
    np.testing.assert_allclose(images(figure)[3].get_array().compressed(), 30, rtol=UNITS)
    assert_laid_out(figure)
    nothing = {name: np.where(np.median(T1) < T1, 0.3 * each, np.inf) for name, each in values.items()}
    for count in (2, 3, 4):  # titles of two lines
        some = dict(list(nothing.items())[:count])
        assert_laid_out(figures.uncertainty_figure(values, some, mask=MASK))


def test_uncertainty_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"t2_std must be 0 or more; got -0\.1"):
        figures.uncertainty_figure({"t1": T1, "t2": T1}, {"t1": T1, "t2": np.full(MASK.shape, -0.1)}, mask=MASK)
    with pytest.raises(ValueError, match=r"t1_std has shape \(20,\), but mask has \(24, 20\)"):
        figures.uncertainty_figure({"t1": T1, "t2": T1}, {"t1": T1[0], "t2": T1}, mask=MASK)


def test_convergence_starts_at_the_first_iteration_on_a_logarithmic_axis():
    figure = figures.convergence_figure([0.5, 0.1, 0.02])
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 0.5], [2, 0.1], [3, 0.02]])
    assert axes.get_yscale() == "log"
    assert numbers(axes.get_title()) == [0.02, 3]
    figure.draw_without_rendering()
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    assert_laid_out(figure)


@pytest.mark.parametrize(
    ("residuals", "message"),
    [
        ([], r"residuals must be \(iterations,\), one at least; got \(0,\)"),
        (np.ones((2, 2)), r"got \(2, 2\)"),
        ([0.5, 0.0], "residuals must be positive and finite; got 0 at index 1"),
        ([0.5, np.nan], "got nan at index 1"),
    ],
)
def test_residuals_without_logarithm_are_refused(residuals, message):
    with pytest.raises(ValueError, match=message):
        figures.convergence_figure(residuals)


def test_reconstructions_stand_above_their_errors():
    truth = T1.copy()
    truth[4:8] = np.nan  # 56 of 224 voxels are not known
    high, gaps = 1.1 * T1, 0.95 * T1
    gaps[10, 5:9] = np.nan
    figure = figures.reconstructions_figure({"high": high, "with gaps": gaps}, truth, mask=MASK)
    of_truth, of_high, _, high_error, gaps_error = images(figure)
    _, *names = titles(figure)
    assert names[:2] == ["high", "with gaps"]
    assert [numbers(title) for title in names[2:]] == [[10], [5, 4]]  # RRMSE; voxels without a match
    np.testing.assert_allclose(of_truth.get_array().compressed(), 1e3 * truth[np.isfinite(truth)], rtol=UNITS)
    np.testing.assert_allclose(of_high.get_array().compressed(), 1100 * T1[MASK], rtol=UNITS)
    np.testing.assert_allclose(high_error.get_array().compressed(), np.full(168, 10), rtol=UNITS)
    np.testing.assert_allclose(gaps_error.get_array().compressed(), np.full(164, -5), rtol=UNITS)
    assert of_truth.get_clim() == of_high.get_clim() == (0, 3000)
    assert high_error.get_clim() == gaps_error.get_clim() == (-20, 20)
    assert (of_high.cmap.name, high_error.cmap.name) == ("lipari", "vik")
    assert [unit in label for unit, label in zip(("T1 (ms)", "(%)"), labels(figure), strict=True)] == [True, True]
    assert [numbers(text.get_text()) for axes in figure.axes for text in axes.texts] == [[168]]  # voxels with a truth


def test_t2_has_its_own_colours_and_saturation_is_marked():
    figure = figures.reconstructions_figure({"low": 0.5 * T1}, T1, mask=MASK, quantity="T2")
    of_truth, _, error = images(figure)
    assert (of_truth.cmap.name, of_truth.get_clim()) == ("navia", (0, 150))
    assert (of_truth.colorbar.extend, error.colorbar.extend) == ("max", "min")


@pytest.mark.parametrize("n_maps", [1, 3, 6])
@pytest.mark.parametrize("shape", [(40, 20), (20, 40)])
def test_long_names_do_not_overlap(n_maps, shape):
    name = "CG-SENSE in the subspace, WITH A REFINEMENT and_a_word_that_has_no_blank_in_it, number"
    truth = np.ones(shape)
    maps = {f"{name} {i}": truth for i in range(n_maps)}
    figure = figures.reconstructions_figure(maps, truth, mask=truth > 0)
    assert_laid_out(figure)
    assert [title.replace("\n", "").replace(" ", "") for title in titles(figure)[1 : n_maps + 1]] == [
        name.replace(" ", "") for name in maps
    ]


def test_a_reconstruction_without_a_match_is_drawn():
    figure = figures.reconstructions_figure({"nothing": np.full(MASK.shape, np.nan)}, T1, mask=MASK)
    assert numbers(titles(figure)[-1]) == [224]
    assert_laid_out(figure)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maps": {}}, "maps must be 1 to 6; got 0"),
        ({"maps": {f"{i}": T1 for i in range(7)}}, "maps must be 1 to 6; got 7"),
        ({"maps": {"ours": T1[0]}}, r"maps\['ours'\] has shape \(20,\), but mask has \(24, 20\)"),
        ({"truth": T1[0]}, r"truth has shape \(20,\)"),
        ({"truth": np.full(MASK.shape, np.nan)}, "truth must be finite and positive in one voxel"),
        ({"quantity": "T3"}, r"quantity must be one of T1, T2, .*; got 'T3'"),
        ({"mask": np.zeros_like(MASK)}, "0 voxels"),
    ],
)
def test_reconstructions_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        figures.reconstructions_figure(**{"maps": {"ours": T1}, "truth": T1, "mask": MASK} | arguments)
