"""Sequences of every kind by the fields that flags have: in SI units, and refused where fields do not go together."""

import numpy as np
import pytest

from ganmrf.physics.bloch import isochromat_signal
from ganmrf.physics.sequences.kinds import kind_of
from ganmrf.physics.sequences.preparations import Inversion, T2Preparation
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import unusual_values
from ganmrf.runs.sequences import SequenceConfig
from ganmrf.runs.simulation_config import SimulationConfig

pytestmark = pytest.mark.usefixtures("quick_compiler")


def made(kind, shared=None, **own):
    return SimulationConfig(**shared or {}, kind=SequenceConfig(kind, **own)).sequence()


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "own.csv"
        path.write_text(text, encoding="utf-8")
        return {"schedule": str(path)}

    return write


@pytest.mark.parametrize(
    ("kind", "frames"), [("fisp", 1000), ("cardiac", 15 * 47), ("bssfp", 1000), ("spgr", 1000), ("tse", 32)]
)
def test_every_kind_has_defaults(kind, frames):
    sequence = made(kind)
    assert kind_of(sequence) == kind
    assert sequence.n_frames == frames
    assert SimulationConfig(kind=SequenceConfig(kind)).names_sequence == (kind != "fisp")


def test_balanced_frames_are_of_the_family_or_of_a_schedule(csv):
    one, other = (made("bssfp", {"frames": 30}, schedule_seed=seed) for seed in (0, 1))
    assert one.n_frames == other.n_frames == 30
    assert np.abs(one.flip_angle - other.flip_angle).max() > 0
    late = made("bssfp", {"frames": 30, "echo_time_ms": 3.0, "inversion_time_ms": 40.0})
    np.testing.assert_allclose(late.echo_time, 0.003, rtol=1e-6)
    assert float(late.inversion_time) == pytest.approx(0.04)
    rows = "".join(f"{10 + n},12\n" for n in range(20))
    own = made("bssfp", csv(f"fa_deg,tr_ms\n{rows}") | {"frames": 7})
    np.testing.assert_allclose(own.flip_angle, np.deg2rad(10 + np.arange(7)), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(own.rf_phase), np.pi * (np.arange(7) % 2))
    assert own.inversion_time is None


def test_a_spoiled_gradient_echo_in_si_units():
    times = {"frames": 5, "echo_time_ms": 2.0, "inversion_time_ms": 30.0}
    sequence = made("spgr", times, flip_angle_deg=20.0, repetition_time_ms=8.0, phase_increment_deg=50.0)
    np.testing.assert_allclose(sequence.flip_angle, np.full(5, np.deg2rad(20)), rtol=1e-6)
    found = sequence.repetition_time[0], sequence.echo_time[0], sequence.inversion_time, sequence.phase_increment
    np.testing.assert_allclose(found, [0.008, 0.002, 0.03, np.deg2rad(50)], rtol=1e-6)
    assert float(made("spgr").echo_time[0]) == pytest.approx(0.005)  # in the middle of 10 ms


def test_echoes_have_one_refocusing_angle_or_one_each():
    same = made("tse", {"frames": 4}, refocusing_angle_deg=(120.0,), echo_spacing_ms=8.0)
    np.testing.assert_allclose(same.refocusing_angle, np.deg2rad([120.0] * 4), rtol=1e-6)
    assert float(same.echo_spacing) == pytest.approx(0.008)
    each = made("tse", refocusing_angle_deg=(180.0, 150.0, 120.0))
    np.testing.assert_allclose(each.refocusing_angle, np.deg2rad([180, 150, 120]), rtol=1e-6)
    with pytest.raises(ValueError, match="frames must be 2, the number of --refocusing_angle_deg; got 4"):
        made("tse", {"frames": 4}, refocusing_angle_deg=(180.0, 150.0))


def test_heartbeats_have_their_preparations_in_turn(csv):
    sequence = made(
        "cardiac", rr_ms=(900.0, 800.0, 700.0), frames_per_beat=10, preparations_ms=("t2:50", "inversion:20")
    )
    assert sequence.flip_angle.shape == (3, 10)
    np.testing.assert_allclose(sequence.rr_intervals, [0.9, 0.8, 0.7], rtol=1e-6)
    first, second, third = sequence.preparations
    assert isinstance(first, T2Preparation)
    assert isinstance(second, Inversion)
    assert (float(first.time), float(third.time)) == (pytest.approx(0.05), pytest.approx(0.05))
    of_beat = made("cardiac", csv("fa_deg\n5\n10\n15\n"), rr_ms=(900.0, 800.0), repetition_time_ms=6.0)
    np.testing.assert_allclose(of_beat.flip_angle, np.deg2rad([[5, 10, 15]] * 2), rtol=1e-6)
    assert float(of_beat.repetition_time) == pytest.approx(0.006)


# On resonance, with T1 and T2 so long that nothing relaxes, and z of 1 before it.
PREPARED = {
    "inversion:20:0.96": 1 - 2 * 0.96,
    "saturation:100:0.9": 1 - 0.9,
    "hard_inversion:20": -1,
    "hard_saturation:100": 0,
    "hard_t2:50": 1,
    "mlev4_t2:50": 1,
    "hyperbolic_secant:20": -1,
}


@pytest.mark.parametrize("preparation", PREPARED)
def test_preparations_are_ideal_in_part_or_played(preparation):
    rhythm = {"rr_ms": (900.0,), "frames_per_beat": 1}
    sequences = [made("cardiac", preparations_ms=(each,), **rhythm) for each in (preparation, "none")]
    with unusual_values():
        prepared, full = (isochromat_signal(each, Tissue(1e4, 1e4))[0] for each in sequences)
    # The hyperbolic secant leaves some thousandths of z, and 0.1 s of T1 are 1e-5.
    assert (prepared / full).real == pytest.approx(PREPARED[preparation], abs=5e-3)


def test_times_of_played_preparations_are_those_to_the_frames_or_of_t2():
    names = "hard_inversion:20", "hyperbolic_secant:20", "hard_t2:50", "mlev4_t2:50"
    first, second, *of_t2 = made("cardiac", preparations_ms=names, rr_ms=(900.0,) * 4).preparations
    assert (float(first.duration), float(second.wait)) == (pytest.approx(0.02), pytest.approx(0.02))
    assert [float(each.duration) for each in of_t2] == [pytest.approx(0.05)] * 2


@pytest.mark.parametrize(
    ("kind", "shared", "own", "words"),
    [
        ("tse", {}, {"flip_angle_deg": 10.0}, "flip_angle_deg does not go with --sequence=tse"),
        ("spgr", {"schedule": "a.csv"}, {}, "schedule does not go with --sequence=spgr"),
        ("fisp", {}, {"rr_ms": (900.0,)}, "rr_ms does not go with --sequence=fisp"),
        ("bssfp", {"schedule": "a.seq"}, {}, "schedule of --sequence=bssfp must be a CSV"),
        ("bssfp", {"echo_time_ms": 11.0}, {}, "echo_time_ms must be .* repetition time of frame .* ms; got 11 ms$"),
        ("spgr", {"echo_time_ms": 11.0}, {}, "echo_time_ms must be .* the repetition time, 10 ms; got 11 ms$"),
        ("cardiac", {}, {"rr_ms": (900.0, 260.0, 900.0)}, "rr_ms: beat 2 lasts 260 ms, 9.7 ms less"),
        ("cardiac", {}, {"rr_ms": (0.9, 0.9)}, r"rr_ms must be 10 ms or more \(is it in s\?\); got 0.9,0.9"),
        ("spgr", {}, {"repetition_time_ms": 1e5}, "repetition_time_ms must be at most 10000"),
        ("cardiac", {}, {"preparations_ms": ("t2:-5",)}, "preparations_ms must .* 0 to 10000 ms; got t2:-5"),
        ("cardiac", {}, {"preparations_ms": ("inversion:nan",)}, "0 to 10000 ms; got inversion:nan"),
        ("cardiac", {}, {"preparations_ms": ("mlev4_t2:20000",)}, "0 to 10000 ms; got mlev4_t2:20000"),
        ("cardiac", {}, {"preparations_ms": ("inversion:9:1.2",)}, "efficiencies from 0 to 1; got inversion:9:1.2"),
        ("cardiac", {}, {"preparations_ms": ("t2:9:0.9",)}, "preparations_ms must be none, or .*; got t2:9:0.9"),
        ("cardiac", {}, {"preparations_ms": ("none:9",)}, "preparations_ms must be none, or .*; got none:9"),
        (
            "cardiac",
            {},
            {"preparations_ms": ("inversion:9:1:1",)},
            "preparations_ms must be none, or .*; got inversion:9:1",
        ),
        ("cardiac", {}, {"preparations_ms": ("t2",)}, "preparations_ms must be none, or .*; got t2"),
        ("cardiac", {}, {"preparations_ms": ("inversion:x",)}, "preparations_ms must .*; got inversion:x"),
        ("cardiac", {}, {"preparations_ms": ("spoil:3",)}, "preparations_ms must .*; got spoil:3"),
        ("epi", {}, {}, "sequence must be one of fisp, cardiac, bssfp, spgr, tse; got epi"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(kind, shared, own, words):
    with pytest.raises(ValueError, match=words):
        made(kind, shared, **own)


def test_a_schedule_of_heartbeats_wants_flip_angles(csv):
    with pytest.raises(ValueError, match="has no column flip_angle_deg"):
        made("cardiac", csv("tr_ms\n5\n"))
    with pytest.raises(ValueError, match="schedule_seed stands in place of --schedule"):
        made("bssfp", csv("fa_deg,tr_ms\n10,12\n"), schedule_seed=3)
