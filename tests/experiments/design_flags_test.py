"""What the flags of a design make of limits, shapes and goals, and what is refused.

Where a search ends is not the question here: it is left out, and random starts are sequences enough.
"""

import json
from unittest import mock

import numpy as np
import pytest
import scipy.interpolate

from ganmrf.design.optimise import DesignState, init_state
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.runs import designing
from tests.experiments.designs import CHECKS, FEW, ROUNDING, TISSUE, degrees, main, milliseconds, ratios


def searched(state):
    """What a search yields that ends where it begins."""
    yield state, {"step": 1, "values": state.best_value[None], "best": state.best_value, "converged": True}


def unsearched(folder, *options, starts=3, valued=False):
    """The starts themselves, of 24 frames; where they are ``valued``, by the objective with all orders that matter."""

    def unvalued(*arguments):
        return DesignState(np.int32(0), arguments[-1], (), arguments[-1], np.zeros(starts, np.float32))

    given = f"--workdir={folder}", f"--frames={FEW}", f"--starts={starts}", "--steps=1", *options, *CHECKS
    with (
        mock.patch.object(designing, "optimise", lambda *arguments, **_: searched(arguments[2])),
        mock.patch.object(designing, "_ACCURACY", 1e-6),
        mock.patch.object(designing, "init_state", init_state if valued else unvalued),
    ):
        return main(*given)


@pytest.mark.parametrize(
    ("options", "by_definition"),
    [
        ((), lambda t1, t2: np.max([t1, 2 * t2])),
        (("--gain_t2=5", "--reduce=mean"), lambda t1, t2: np.mean([t1, 5 * t2])),
        (("--gain_t1=3", "--reduce=rms"), lambda t1, t2: 2.5 * np.sqrt(np.mean([1.2 * t1**2, 0.8 * t2**2]))),
        (("--gain_t1=0",), lambda _, t2: np.max(2 * t2)),
    ],
    ids=lambda value: ",".join(value) or "default" if isinstance(value, tuple) else "",
)
def test_the_objective_is_what_the_flags_define(tmp_path, options, by_definition):
    found = unsearched(tmp_path, *options, valued=True)
    expected = [by_definition(*ratios(sequence, found.start)) for sequence in found.basins]
    assert np.ptp(expected) > 0.01
    # The worst is a smooth maximum, above the exact one where several are near it; and float32, in which 24 frames
    # hardly tell T1 from T2.
    above = 0 if "reduce" in str(options) else 0.04
    assert (found.best >= np.multiply(expected, 1 - 2e-3)).all()
    assert (found.best <= np.multiply(expected, 1 + 2e-3 + above)).all()


def test_the_worst_b1_counts(tmp_path):
    found = unsearched(tmp_path, "--design_b1=0.7,1.3", "--reduce=mean", valued=True)
    tissues = [Tissue(TISSUE.t1, TISSUE.t2, b1) for b1 in (0.7, 1.3)]
    expected = [
        np.mean([[1], [2]] * np.concatenate([ratios(each, found.start, of) for of in tissues], axis=1))
        for each in found.basins
    ]
    np.testing.assert_allclose(found.best, expected, rtol=2e-3)  # as above


@pytest.mark.parametrize(("reduce", "reduced"), [("worst", np.max), ("mean", np.mean)])
def test_separation_compares_neighbours(tmp_path, reduce, reduced):
    found = unsearched(tmp_path, "--objective=separation", f"--reduce={reduce}", "--design_b1=0.8,1", valued=True)

    def unit(sequence, t1, t2):
        voxels = Tissue(*np.broadcast_arrays(t1 * TISSUE.t1, t2 * TISSUE.t2, np.array([[0.8], [1.0]])))
        signals = np.asarray(simulate(sequence, voxels), complex)
        return signals / np.linalg.norm(signals, axis=-1, keepdims=True)

    for sequence, value in zip(found.basins, found.best, strict=True):
        own = unit(sequence, 1, 1)
        others = [unit(sequence, *times) for times in ((0.9, 1), (1.1, 1), (1, 0.9), (1, 1.1))]
        products = [np.abs(np.sum(own.conj() * other, axis=-1)) for other in others]
        assert float(value) == pytest.approx(reduced(products), abs=1e-6)  # float32


def test_roughness_counts_where_it_is_asked_for(tmp_path):
    plain, rough = (
        unsearched(tmp_path / name, "--shape=frames", f"--smoothness={name}", valued=True) for name in ("0", "0.5")
    )
    for sequence, without, value in zip(rough.basins, plain.best, rough.best, strict=True):
        bends = np.diff(degrees(sequence), 2) / 170, np.diff(milliseconds(sequence), 2) / 9
        # 1 would be from end to end of a range and back.
        expected = sum(np.mean(np.square(each)) for each in bends)
        assert float(value - without) == pytest.approx(0.5 * expected, abs=2e-5)  # float32 of values of 2


def fit_of_splines(values, coefficients):
    """What uniform cubic B-splines of so many coefficients leave of the values of all frames."""
    pieces = coefficients - 3
    knots = np.arange(-3, pieces + 4) / pieces
    basis = scipy.interpolate.BSpline.design_matrix((np.arange(len(values)) + 0.5) / len(values), knots, 3).toarray()
    return np.abs(values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]).max()


def test_splines_have_the_knots_they_were_given(tmp_path):
    for spacing, coefficients in ((12, 5), (4, 9)):
        free = ("--noscan_time_fixed", "--scan_time_s=1")
        found = unsearched(tmp_path / str(spacing), f"--knot_spacing={spacing}", *free)
        for sequence in found.basins[1:]:
            for values, most in ((degrees(sequence), 85), (milliseconds(sequence), 16)):
                assert fit_of_splines(values, coefficients) < 1e-5 * most  # float32
                assert fit_of_splines(values, coefficients - 1) > 1e-4 * most


def test_frames_are_each_by_itself(tmp_path):
    found = unsearched(tmp_path, "--shape=frames")
    for sequence in found.basins[1:]:
        assert fit_of_splines(degrees(sequence), 15) > 1


def test_lobes_have_each_one_top(tmp_path):
    free = ("--noscan_time_fixed", "--scan_time_s=2")
    for sequence in unsearched(tmp_path, "--frames=96", "--shape=lobes", *free).basins[1:]:
        angle, times = degrees(sequence), milliseconds(sequence)
        turns = np.count_nonzero(np.diff(np.diff(angle) > 0))
        assert 5 <= turns <= 5 + 4  # tops of 5 lobes, and 4 places between them
        assert fit_of_splines(angle, 13) > 1  # which are no splines of 10 frames a piece, as repetition times are
        assert fit_of_splines(times, 13) < 1e-5 * 16


@pytest.mark.parametrize("free", ["flip_angle", "repetition_time", "inversion_time"])
def test_only_what_is_to_be_optimised_changes(tmp_path, free):
    found = unsearched(tmp_path, f"--optimise={free}", "--noscan_time_fixed", "--scan_time_s=1", starts=2)
    for name in ("flip_angle", "repetition_time", "inversion_time"):
        # What stays went through float64 and back.
        same = np.allclose(getattr(found.basins[1], name), getattr(found.start, name), rtol=1e-6)
        assert same == (name != free), name


def test_limits_hold_where_they_are_given(tmp_path):
    seconds = 0.33
    free = unsearched(tmp_path / "free", "--shape=frames").basins[1:]
    some = ("--flip_angle_deg=10,50", "--repetition_time_ms=12,14", "--inversion_range_ms=25")
    bound = ("--max_flip_change_deg=2", "--rf_power=8", f"--scan_time_s={seconds}")
    held = unsearched(tmp_path / "held", "--shape=frames", *some, *bound).basins
    most = ("--scan_time_s=0.36", "--noscan_time_fixed")
    longest = unsearched(tmp_path / "longest", "--shape=frames", *most).basins

    def numbers(sequence):
        angle, times = degrees(sequence), milliseconds(sequence)
        total = 1e-3 * times.sum() + float(sequence.inversion_time)
        return angle, times, np.abs(np.diff(angle)).max(), np.sum(np.deg2rad(angle) ** 2) / total, total

    for sequence in held:
        angle, times, change, power, total = numbers(sequence)
        assert 10 * (1 - ROUNDING) <= angle.min() <= angle.max() <= 50 * (1 + ROUNDING)
        assert 12 * (1 - ROUNDING) <= times.min() <= times.max() <= 14 * (1 + ROUNDING)
        assert change <= 2 + 50 * ROUNDING  # a difference is as exact as the angles
        assert power <= 8 * (1 + ROUNDING)
        assert total == pytest.approx(seconds, rel=ROUNDING)
        assert float(sequence.inversion_time) == pytest.approx(0.025, rel=ROUNDING)
    for sequence in free:  # none of it by chance
        angle, times, change, power, total = numbers(sequence)
        assert angle.min() < 10
        assert angle.max() > 50
        assert times.min() < 12
        assert times.max() > 14
        assert change > 2
        assert power > 8
        assert total == pytest.approx(float(mrf_fisp(FEW).repetition_time.sum()) + 0.018, rel=ROUNDING)
    totals = [numbers(sequence)[-1] for sequence in longest]
    assert max(totals) <= 0.36 * (1 + ROUNDING)
    assert min(totals) < 0.99 * 0.36  # at most, not just


def test_random_starts_are_those_of_the_seed(tmp_path):
    many = {seed: unsearched(tmp_path / f"{seed}", f"--seed={seed}", starts=3).basins for seed in (0, 1)}
    again = unsearched(tmp_path / "again", starts=2).basins
    assert len(again) == 2
    np.testing.assert_array_equal(again[0].flip_angle, many[1][0].flip_angle)  # the given one
    np.testing.assert_array_equal(again[1].flip_angle, many[0][1].flip_angle)
    for other in (many[0][2], many[1][1]):
        assert np.abs(degrees(other) - degrees(again[1])).max() > 1


def test_the_optimiser_is_that_of_the_flags(tmp_path):
    """A gradient that never changes moves Adam by its rate, L-BFGS by the gradient."""
    taken = {}

    def search(_, optimiser, state, steps, **options):
        taken.update(options, optimiser=optimiser, steps=steps)
        return searched(state)

    with mock.patch.object(designing, "optimise", search):
        main(f"--workdir={tmp_path}", f"--frames={FEW}", "--starts=1", "--steps=7", "--learning_rate=0.03", *CHECKS)
    state = taken["optimiser"].init(np.zeros(1))
    moves = []
    for _ in range(8):
        update, state = taken["optimiser"].update(np.ones(1), state)
        moves.append(-float(update[0]))
    assert moves[0] == pytest.approx(0.03, rel=1e-5)
    assert moves[7] == pytest.approx(0, abs=1e-8)
    assert moves[6] > 1e-4
    assert taken["steps"] == 7


def test_tissues_are_read_back_from_the_folder(tmp_path):
    first = unsearched(tmp_path, "--tissues=fat:300/50,liver: lobe:800/40", starts=2)
    again = unsearched(tmp_path, starts=2)
    np.testing.assert_array_equal(again.sequence.flip_angle, first.sequence.flip_angle)
    assert json.loads((tmp_path / "config.json").read_text())["tissues"] == ["fat:300/50", "liver: lobe:800/40"]


def schedule(path, angles, inversion=True):
    """A CSV of some flip angles in degrees."""
    titles = "fa_deg,tr_ms,te_ms" + (",ti_ms" if inversion else "")
    rows = [f"{angle},13,2" + (",20" if inversion else "") for angle in angles]
    path.write_text("\n".join([titles, *rows]) + "\n")
    return path


def test_a_start_without_inversion_stays_without(tmp_path):
    path = schedule(tmp_path / "none.csv", np.linspace(5, 60, FEW), inversion=False)
    found = unsearched(tmp_path / "run", f"--schedule={path}")
    assert all(sequence.inversion_time is None for sequence in found.basins)
    assert "inversion_time" not in (tmp_path / "run" / "sequence.csv").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scan_time_s=0.2",), "scan_time: 0.2 s is too short for 24 frames: .* need at least 0.294 s"),
        (("--scan_time_s=0.5",), "scan_time: 0.5 s cannot be filled by 24 frames: .* at most 0.424 s"),
        (("--rf_power=1", "--flip_angle_deg=20,60"), "rf_power: 1 rad.* too low for 24 frames: .* need at least "),
        (("--repetition_time_ms=16,12",), "repetition_time must rise"),
        (("--repetition_time_ms=11,12,13",), "--repetition_time_ms must be one number or two; got 11,12,13"),
        (
            ("--repetition_time_ms=3,16",),
            "quickest sequence that the limits allow .*repetition_time of frame 0 is 3 ms",
        ),
        (("--interleaves=1",), "quickest sequence that the limits allow .*; the shortest possible is "),
        (("--max_flip_change_deg=0",), "max_flip_change must be positive"),
        (("--tissues=fat:50/300",), r"t2 must not exceed t1; got t2 = 0.3 at .*, t1 = 0.05"),
        (("--tissues=fat",), "--tissues must be name:T1/T2 in ms, .*; got fat"),
        (("--tissues=fat:1/2/3",), "--tissues must be name:T1/T2"),
        (("--tissues=fat:300/50,fat:300/60",), "--tissues must be name:T1/T2"),
        (("--tissues=",), "--tissues must be name:T1/T2"),
        (("--tissues=fat:nan/50",), "Tissue.t1 must be positive and finite"),
        (("--design_b1=0,1",), "--design_b1 must be positive numbers, separated by commas; got 0,1"),
        (("--frames=0",), "n_frames must be 1 to 1000, .*; got 0"),
        (("--optimise=flip_angles",), "optimise must be some of flip_angle, .*; got flip_angles"),
        (("--gain_t1=0", "--gain_t2=0"), "no weight is above 0"),
        (("--objective=separation", "--reduce=rms"), "--reduce=rms goes with --objective=bound"),
        (("--knot_spacing=0",), "knot_spacing must be positive; got 0 frames"),
        (("--learning_rate=0",), "learning_rate and steps must be positive; got 0 and"),
        (("--frames=2",), "the sequence of 2 frames does not determine 3 of 3 tissues"),
        (("--schedule={dark}",), "the sequence of 24 frames does not determine 3 of 3 tissues"),
        (
            ("--schedule={plain}", "--inversion_range_ms=18,40"),
            "--inversion_range_ms goes with a start that has an inversion",
        ),
        (("--generator={plain}",), "plain.csv"),
        (("--generator=none.npz",), "none.npz: .*No such file"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_leaves_a_folder_that_can_be_used(tmp_path, options, words):
    dark = schedule(tmp_path / "dark.csv", np.zeros(FEW))
    plain = schedule(tmp_path / "plain.csv", np.full(FEW, 20), inversion=False)
    given = [option.format(dark=dark, plain=plain) for option in options]
    if not any(option.startswith(("--frames", "--schedule")) for option in given):
        given.append(f"--frames={FEW}")
    with pytest.raises(ValueError, match=words):
        main(f"--workdir={tmp_path / 'run'}", *given, *CHECKS)
    left = [path.name for path in (tmp_path / "run").iterdir()] if (tmp_path / "run").exists() else []
    assert left in ([], ["lock"])  # settings would bind what comes next
