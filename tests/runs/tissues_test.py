"""Kinds of tissue by fields: axes in SI units, what is fixed, and the power of the pulses that saturate."""

import dataclasses
import json
import pathlib

import numpy as np
import pypulseq
import pytest

from ganmrf.io.pulseq_settings import Excitation, Readout
from ganmrf.io.pulseq_slice import read_power
from ganmrf.io.pulseq_write import write_pulseq
from ganmrf.io.schedule import write_schedule
from ganmrf.physics.rf_pulse import gaussian, windowed_sinc
from ganmrf.physics.sequences.blocks import Played, Train
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import TISSUES, ExchangingPools, SemisolidPool, flag_name, parameters
from ganmrf.runs.sequences import SequenceConfig
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import PowerConfig, SliceConfig
from ganmrf.runs.tissues import TissueConfig, pool_words
from ganmrf.settings import flat, from_plain, to_plain
from tests.io.pulseq_files import build
from tests.io.pulseq_frames import frame, t2_prepared

pytestmark = pytest.mark.usefixtures("quick_compiler")

TIMES = {"t1_ms": "800,1800", "t2_ms": "70"}


def test_every_parameter_of_every_kind_has_a_flag():
    flags = flat(SimulationConfig())
    for kind in TISSUES.values():
        assert {flag_name(field, parameter) for field, parameter in parameters(kind).items()} <= flags.keys()


def test_a_grid_of_pools_in_si_units():
    axes = {"fraction": "0:0.2:0.1", "lineshape_us": "15.1", "t1_b_ms": "340"}
    tissue = SimulationConfig(**TIMES, pools=TissueConfig("semisolid", **axes, fix=("exchange_rate:14",))).tissue()
    assert isinstance(tissue, SemisolidPool)
    assert tissue.shape == (6,)
    np.testing.assert_allclose(np.unique(tissue.fraction), [0, 0.1, 0.2], rtol=1e-6)
    for field, value in (("exchange_rate", 14), ("t1_b", 0.34), ("lineshape", 15.1e-6), ("b1", 1)):
        assert getattr(tissue, field).shape == ()  # one value is a number, and no axis
        np.testing.assert_allclose(getattr(tissue, field), value, rtol=1e-6)
    with_shift = TissueConfig("exchanging", fraction="0.1", shift_hz="-20:20:20", t2_b_ms="15")
    shifted = SimulationConfig(**TIMES, b1="0.9,1", pools=with_shift).tissue()
    assert isinstance(shifted, ExchangingPools)
    np.testing.assert_array_equal(np.unique(shifted.shift), [-20, 0, 20])
    np.testing.assert_allclose(np.unique(shifted.b1), [0.9, 1], rtol=1e-6)
    named = SimulationConfig(grid="coarse", pools=TissueConfig("semisolid", fix=("fraction:0.1",))).tissue()
    assert named.size == SimulationConfig(grid="coarse").tissue().size


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"fraction": "0.1"}, r"fraction would change nothing: .*exchanging\|semisolid; got 0.1"),
        ({"tissue": "exchanging", "lineshape_us": "15"}, "lineshape_us would change nothing: .*=semisolid"),
        ({"tissue": "semisolid", "fraction": "0:2:1"}, "fraction must be 0 to 1; got 2"),
        ({"tissue": "semisolid", "exchange_rate_per_s": "-3"}, "exchange_rate_per_s must be .*-3"),
        ({"tissue": "semisolid", "t1_b_ms": "0:100:50"}, "t1_b_ms must be"),
        ({"tissue": "exchanging", "shift_hz": "2e4"}, r"shift_hz must be in Hz, 10000 at most .*rad/s"),
        ({"tissue": "semisolid", "t1_b_ms": "340000"}, r"t1_b_ms must be in ms, 20000 at most .*; got 340000$"),
        ({"tissue": "semisolid", "fix": ("t1_b:340",)}, r"fix=t1_b must be in s, 20 at most \(is it in ms\?.*got 340"),
        ({"tissue": "semisolid", "fix": ("t2_b:0.01",)}, "fix must be name:value .*fraction, .*lineshape; got t2_b"),
        ({"tissue": "semisolid", "fix": ("t1:0.8",)}, "fix must be name:value .*got t1:0.8"),
        ({"tissue": "semisolid", "fix": ("fraction",)}, "fix must be name:value .*got fraction"),
        ({"tissue": "semisolid", "fix": ("fraction:1.5",)}, "fix=fraction must be 0 to 1; got 1.5"),
        ({"tissue": "semisolid", "fix": ("t1_b:0.3", "t1_b:0.4")}, "fix names t1_b twice"),
        ({"tissue": "semisolid", "fix": ("t1_b:0.3",), "t1_b_ms": "300"}, "fix=t1_b stands in place of --t1_b_ms"),
        ({"fix": ("t1_b:0.3",)}, r"fix would change nothing: .*exchanging\|semisolid; got t1_b:0.3"),
        ({"tissue": "three_pools"}, "tissue must be one of one_pool, exchanging, semisolid"),
    ],
)
def test_what_a_kind_of_tissue_does_not_have_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        TissueConfig(**fields)


def test_settings_of_runs_without_pools_are_still_read():
    stored = json.loads((pathlib.Path(__file__).parents[2] / "ganmrf/data/paper_network/config.json").read_text())
    found = from_plain(SimulationConfig(), stored["simulation"])
    assert found.pools.tissue == "one_pool"
    pools = SimulationConfig(pools=TissueConfig("semisolid", fix=("t1_b:0.3",)))
    assert from_plain(SimulationConfig(), json.loads(json.dumps(to_plain(pools)))) == pools


def semisolid(power=None, **fields):
    return SimulationConfig(**fields, pools=TissueConfig("semisolid"), powers=power or PowerConfig())


def test_pulses_saturate_as_the_pulse_of_the_slice_is_shaped():
    full, pulse = SliceConfig("full"), windowed_sinc(8.0, "hann").samples
    sequence = semisolid(frames=9, slice=full).sequence()
    np.testing.assert_allclose(sequence.pulse_duration, 1.8e-3, rtol=1e-6)
    np.testing.assert_allclose(sequence.pulse_shape, np.mean(pulse**2) / np.mean(pulse) ** 2, rtol=1e-6)
    own = semisolid(PowerConfig(2.0, 1.5), frames=9, slice=full).sequence()
    np.testing.assert_allclose([own.pulse_duration, own.pulse_shape], [2e-3, 1.5], rtol=1e-6)
    hard = semisolid(PowerConfig(1.0), frames=9).sequence()  # of a uniform slice: a rectangle
    np.testing.assert_allclose([hard.pulse_duration, hard.pulse_shape], [1e-3, 1], rtol=1e-6)
    with pytest.raises(ValueError, match=r"pulse_duration_ms is required"):
        semisolid(frames=9).sequence()
    for value, words in (({"pulse_duration_ms": 2.0}, "pulse_duration_ms"), ({"pulse_shape": 2.0}, "pulse_shape")):
        with pytest.raises(ValueError, match=f"{words} would change nothing: it goes with --tissue=semisolid"):
            SimulationConfig(powers=PowerConfig(**value))
    assert SimulationConfig(frames=9, slice=full).sequence().pulse_duration is None  # of no use to one pool


@pytest.mark.parametrize("kind", ["cardiac", "bssfp", "spgr", "tse"])
def test_every_kind_of_sequence_says_how_its_pulses_saturate(kind):
    sequence = semisolid(PowerConfig(2.0, 1.5), kind=SequenceConfig(kind)).sequence()
    trains = [block for block in sequence.as_blocks().blocks if isinstance(block, Train)]
    assert trains
    for train in trains:
        np.testing.assert_allclose(train.pulse_duration, 2e-3, rtol=1e-6)
        np.testing.assert_allclose(train.pulse_shape, 1.5, rtol=1e-6)


def test_a_schedule_that_is_played_says_how_its_pulses_saturate(tmp_path):
    path, pulse = str(tmp_path / "scan.seq"), gaussian(3.0)
    excitation = Excitation(pulse=pulse, duration=2.4e-3)
    write_pulseq(path, mrf_fisp(3), Readout(np.zeros((10, 2)), np.zeros(3), 10, 4e-6), excitation=excitation)
    shape = np.mean(pulse.samples**2) / np.mean(pulse.samples) ** 2
    for fields in ({"schedule": path}, {"slice": SliceConfig("full", path), "frames": 3}):
        found = semisolid(**fields).sequence()
        # The file holds samples at other times than the pulse's.
        np.testing.assert_allclose([found.pulse_duration, found.pulse_shape], [2.4e-3, shape], rtol=2e-3)
    assert semisolid(PowerConfig(1.0), schedule=path).power().duration == 1e-3


def test_preparations_that_are_played_say_how_they_saturate(tmp_path):
    path = build(tmp_path / "scan.seq", lambda add, _: frame(add, 5), prepare=t2_prepared)
    plain, saturating = (
        SimulationConfig(str(path), **TIMES, **of) for of in ({}, {"pools": TissueConfig("semisolid")})
    )
    one, other = plain.sequence().blocks, saturating.sequence().blocks
    assert isinstance(one[0], Played)
    assert one[0].pulse_duration is None  # of no use to one pool
    # The samples of each waveform last as long as the waveform.
    steps = np.asarray(other[0].pulse_duration)
    assert steps.shape == one[0].flip_angle.shape
    assert len(np.unique(np.round(steps, 9))) <= 3  # of three pulses
    assert np.isfinite(simulate(saturating.sequence(), saturating.tissue())).all()


def test_preparations_of_unknown_power_are_refused():
    for text in ("hard_t2:50", "mlev4_t2:50", "hard_inversion:21"):
        with pytest.raises(ValueError, match=f"preparations_ms does not go with --tissue=semisolid.*{text}"):
            semisolid(kind=SequenceConfig("cardiac", preparations_ms=(text,)))
    sequence = semisolid(
        PowerConfig(2.0, 1.5), kind=SequenceConfig("cardiac", preparations_ms=("hyperbolic_secant:21", "t2:50", "none"))
    ).sequence()
    tissue = SimulationConfig(t1_ms="1400", t2_ms="50", pools=TissueConfig("semisolid", fraction="0.1")).tissue()
    assert np.isfinite(simulate(sequence, tissue)).all()


def test_the_power_of_a_pulse_in_a_file_is_that_of_its_samples(tmp_path):
    system = pypulseq.Opts()
    rf, gz, rephaser = pypulseq.make_sinc_pulse(
        np.pi / 6,
        system=system,
        duration=2e-3,
        time_bw_product=4,
        apodization=0.5,
        slice_thickness=5e-3,
        return_gz=True,
    )
    sequence = pypulseq.Sequence(system)
    sequence.add_block(rf, gz)
    sequence.add_block(rephaser)
    path = tmp_path / "sinc.seq"
    sequence.write(str(path))
    found, signal = read_power(path), np.abs(rf.signal) * np.sign(rf.signal.real)
    np.testing.assert_allclose(found.duration, 2e-3, rtol=1e-3)
    np.testing.assert_allclose(found.shape, np.mean(signal**2) / np.mean(signal) ** 2, rtol=1e-3)


def test_a_second_pool_in_words():
    sequence = dataclasses.replace(mrf_fisp(9), pulse_duration=2e-3, pulse_shape=1.5)
    assert pool_words(SimulationConfig(**TIMES).tissue(), sequence) == ""
    pools = TissueConfig("semisolid", fraction="0:0.2:0.1")
    words = pool_words(SimulationConfig(**TIMES, pools=pools).tissue(), sequence)
    assert all(each in words for each in ("2 ms", "1.5"))
    assert all(each in words for each in ("semisolid", "f 0 to 0.2 (3 values)", "k 14 1/s", "T1b 340 ms", "G 15.1 us"))


def test_another_model_of_the_slice_keeps_the_pools():
    pools = dataclasses.replace(semisolid(), slice=SliceConfig("full"))
    assert pools.with_slice("partitioned").pools == pools.pools


def test_a_schedule_in_csv_brings_the_power_of_its_pulses(tmp_path):
    path, shorter = tmp_path / "schedule.csv", {"pulse_duration_ms": 1.0}
    written = dataclasses.replace(mrf_fisp(5), pulse_duration=3e-3, pulse_shape=1.7)
    write_schedule(path, written)
    config = SimulationConfig(schedule=str(path), **TIMES, pools=TissueConfig("semisolid"))
    sequence = config.sequence()
    np.testing.assert_allclose([sequence.pulse_duration, sequence.pulse_shape], [[3e-3] * 5, [1.7] * 5], rtol=1e-6)
    np.testing.assert_allclose(config.power()[:2], [[3e-3] * 5, [1.7] * 5], rtol=1e-6)
    flagged = dataclasses.replace(config, powers=PowerConfig(**shorter)).sequence()
    np.testing.assert_allclose([float(flagged.pulse_duration), flagged.pulse_shape[0]], [1e-3, 1.7], rtol=1e-6)
