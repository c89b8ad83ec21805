import numpy as np
import pytest

from ganmrf import metrics

# Values small enough to work out by hand: only float64 rounding may differ.
ROUNDING = 1e-14


def test_rrmse_by_hand():
    # ||(1, 0) || / ||(3, 4)|| = 1 / 5.
    assert metrics.rrmse([4.0, 4.0], [3.0, 4.0]) == pytest.approx(0.2, rel=ROUNDING)


def test_rrmse_of_complex_signals_counts_both_parts():
    # ||(1i, 2)|| / ||(3, 4i)|| = sqrt(5) / 5; the phase of the error matters, not only the magnitudes.
    assert metrics.rrmse([3 + 1j, 4j + 2], [3, 4j]) == pytest.approx(5**-0.5, rel=ROUNDING)


def test_rrmse_is_taken_in_double_precision():
    truth = np.ones(10, np.float32)
    estimate = truth + np.float32(2.0**-23)
    # One float32 step on every entry: 2^-23 exactly, where a float32 sum would round.
    assert metrics.rrmse(estimate, truth) == pytest.approx(2.0**-23, rel=ROUNDING)


def test_bias_by_hand_and_signed():
    # (+10 % - 20 %) / 2.
    assert metrics.bias([[1.1], [1.6]], [[1.0], [2.0]]) == pytest.approx(-0.05, rel=ROUNDING)


def test_coverage_is_the_share_of_intervals_that_hold_the_truth():
    # Off by 1.9, 2 and -1.9 standard deviations, and exact without any.
    assert metrics.coverage([1.9, 2.0, 1.1, 5.0], [1, 1, 1, 0], [0, 0, 3, 5]) == 0.75


def test_intervals_by_true_error_bars_hold_the_truth_in_95_of_100_draws():
    rng = np.random.default_rng(0)
    std = rng.uniform(0.1, 3, 10**6)
    # The share of 10^6 draws scatters by 0.02 %.
    assert metrics.coverage(std * rng.standard_normal(std.size), std, np.zeros(std.size)) == pytest.approx(
        0.95, abs=1e-3
    )


@pytest.mark.parametrize("measure", [metrics.rrmse, metrics.bias, lambda one, other: metrics.coverage(one, one, other)])
def test_shapes_that_differ_or_hold_nothing_are_refused(measure):
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\) differ"):
        measure(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="nothing to compare"):
        measure(np.ones(0), np.ones(0))


def test_a_relative_error_needs_a_truth_to_relate_to():
    with pytest.raises(ValueError, match="0 everywhere"):
        metrics.rrmse([1.0], [0.0])
    with pytest.raises(ValueError, match="1 of 2 entries"):
        metrics.bias([1.0, 1.0], [0.0, 1.0])


def tissue_rows():
    labels = np.array([[1, 1, 2], [2, 0, 1]])
    truth_t1 = np.array([[1.0, 3.0, 2.0], [2.0, 9.0, 1.0]])
    t1 = np.array([[1.1, 3.0, 2.2], [1.8, 0.1, np.nan]])
    truth_t2 = np.full((2, 3), 0.1)
    t2 = np.array([[0.1, 0.12, 0.1], [0.1, 5.0, 0.3]])
    return metrics.tissue_table(truth_t1, truth_t2, t1, t2, labels, {2: "grey", 1: "white", 7: "fat"})


def test_tissue_table_by_hand():
    grey, white, _ = tissue_rows()
    assert (grey.name, grey.voxels, grey.unmatched) == ("grey", 2, 0)
    # T1 errors +10 % and -10 % of 2 s: no bias, RRMSE 10 %; T2 exact.
    assert grey.t1 == 2.0
    assert grey.t1_bias == pytest.approx(0, abs=ROUNDING)
    assert grey.t1_rrmse == pytest.approx(0.1, rel=ROUNDING)
    assert (grey.t2_bias, grey.t2_rrmse) == (0, 0)
    # White: the voxel without a T1 match is counted apart, for T2 too.
    assert (white.voxels, white.unmatched) == (2, 1)
    assert white.t1 == 2.0
    assert white.t1_bias == pytest.approx(0.05, rel=ROUNDING)
    assert white.t1_rrmse == pytest.approx(0.1 / 10**0.5, rel=ROUNDING)
    assert white.t2_bias == pytest.approx(0.1, rel=ROUNDING)
    assert white.t2_rrmse == pytest.approx(0.02 / (0.1 * 2**0.5), rel=ROUNDING)


def test_a_tissue_without_voxels_has_no_numbers():
    fat = tissue_rows()[2]
    assert (fat.name, fat.voxels, fat.unmatched) == ("fat", 0, 0)
    assert np.isnan(fat[3:]).all()


def test_tissues_as_text_are_in_ms_and_per_cent():
    rows = metrics.format_tissues(tissue_rows())
    assert rows[0] == ("grey", "2", "0", "2000", "+0.00", "10.00", "100.0", "+0.00", "0.00")
    assert rows[1] == ("white", "2", "1", "2000", "+5.00", "3.16", "100.0", "+10.00", "14.14")
    assert rows[2] == ("fat", "0", "0", *"------")
    assert all(len(row) == len(metrics.TISSUE_COLUMNS) for row in rows)


def test_tissue_table_names_the_map_that_does_not_fit():
    maps = [np.ones(3), np.ones(3), np.ones(3), np.ones(4)]
    with pytest.raises(ValueError, match=r"t2 has shape \(4,\), but labels has \(3,\)"):
        metrics.tissue_table(*maps, np.ones(3, int), {1: "white"})


def test_fingerprint_errors_by_hand():
    simulated = np.array([[3.0, 4.0], [0.0, 1.0], [1j, 0]])
    generated = np.array([[3.0, 4.5], [1.0, 1.0], [1j, 0]])
    np.testing.assert_allclose(metrics.fingerprint_errors(generated, simulated), [0.1, 1, 0], rtol=1e-12)
    many = np.ones((9000, 2), np.float32)  # more than one block
    np.testing.assert_allclose(metrics.fingerprint_errors(1.5 * many, many), 0.5, rtol=1e-12)
    with pytest.raises(ValueError, match="fingerprint_errors: the shapes"):
        metrics.fingerprint_errors(many, many[:5])
