"""The slice of a Pulseq file: its pulse against isochromats that are turned as the file's blocks say."""

import numpy as np
import pypulseq
import pytest

from ganmrf.io.pulseq_sequence import read_pulseq_sequence
from ganmrf.io.pulseq_slice import read_rf_pulse
from ganmrf.physics.rf_pulse import rotation, windowed_sinc
from tests.io.isochromats import play
from tests.io.pulseq_files import THICKNESS, build, hard_pulse, opened, readout, scan, write
from tests.shared import shared

POSITION = np.array([-1.1, -0.52, -0.3, 0.0, 0.17, 0.45, 0.8])  # slice thicknesses


def excited(path, made):
    """Writes a frame of an RF pulse with its slice gradient and rephaser, made by pypulseq, and a spoiler."""
    rf, gz, rephaser = made

    def kernel(add, _):
        add(rf, gz)
        add(rephaser)
        before, gx, adc = readout()
        add(before)
        add(gx, adc)
        add(pypulseq.make_trapezoid("z", area=3000.0), pypulseq.make_trapezoid("x", area=-gx.area / 2))

    return build(path, kernel, n_frames=2)


def sinc(degrees, **options):
    options = {"duration": 2e-3, "slice_thickness": THICKNESS, "return_gz": True, "use": "excitation"} | options
    return pypulseq.make_sinc_pulse(np.deg2rad(degrees), **options)


def modulated():
    """A pulse whose phase bends by 2 rad towards its ends."""
    time = (np.arange(2000) + 0.5) / 2000 - 0.5
    rf, gz, rephaser = sinc(60, time_bw_product=4, apodization=0.5)
    rf.signal = rf.signal * np.exp(8j * time**2)
    return rf, gz, rephaser


def over_the_ramps():
    """The slice gradient rises and falls while the pulse is played."""
    rf, gz, _ = sinc(70, time_bw_product=6, apodization=0.5)
    long = pypulseq.make_trapezoid("z", amplitude=gz.amplitude, rise_time=5e-4, flat_time=1e-3, fall_time=5e-4)
    rf.delay = rf.deadtime = 0.0
    return rf, long, pypulseq.make_trapezoid("z", area=-long.area / 2)


@pytest.mark.parametrize(
    "made",
    [
        sinc(90, time_bw_product=4),
        sinc(60, time_bw_product=6, apodization=0.46, phase_offset=0.7),
        sinc(90, time_bw_product=5, center_pos=0.3),  # rephased from its peak
        modulated(),
        over_the_ramps(),
    ],
    ids=["sinc", "hamming", "asymmetric", "modulated", "ramps"],
)
def test_pulse_turns_every_position_as_isochromats_are(tmp_path, made):
    path = excited(tmp_path / "scan.seq", made)
    found = read_pulseq_sequence(path)
    phase = (
        float(np.angle(np.sum(made[0].signal))) + made[0].phase_offset
    )  # of the file, of which the first frame has 0
    angle = float(np.abs(found.sequence.as_blocks().blocks[0].flip_angle[0]))
    flip, _, post = rotation(found.rf_pulse, angle, POSITION)
    played = play(opened(path), found.slice_thickness * POSITION)[0]
    np.testing.assert_allclose(-1j * np.sin(flip) * np.exp(1j * (post + phase)), played, atol=3e-3)  # of 180 samples
    assert np.abs(played[3]) > 0.5  # in the middle


def test_slice_beside_the_middle_is_turned_alike(tmp_path):
    rf, gz, rephaser = sinc(60, time_bw_product=4)
    middle = read_rf_pulse(excited(tmp_path / "middle.seq", (rf, gz, rephaser)))
    rf.freq_offset, rf.phase_offset = 2e3, -2 * np.pi * 2e3 * rf.center
    beside = read_rf_pulse(excited(tmp_path / "beside.seq", (rf, gz, rephaser)))
    np.testing.assert_allclose(beside.samples, middle.samples, atol=1e-9)
    assert beside.time_bandwidth == middle.time_bandwidth


@pytest.mark.parametrize(("product", "window"), [(8.0, "hann"), (4.0, "none"), (6.0, "hamming")])
def test_what_we_write_is_what_we_read(tmp_path, product, window):
    excitation = {"time_bandwidth": product, "window": window, "spoil_cycles": 3, "slice_thickness": 4e-3}
    path = write(tmp_path / "scan.seq", scan(inversion_time=0.02, echo_time=2.5e-3), excitation=excitation)
    found = read_pulseq_sequence(path)
    assert found.slice_thickness == pytest.approx(4e-3)
    assert found.turns == pytest.approx(3, abs=1e-3)
    expected = windowed_sinc(product, window)
    for angle in (0.1, 1.2):
        turned, meant = (rotation(pulse, angle, POSITION) for pulse in (found.rf_pulse, expected))
        # 1800 samples are taken together in tens here, and 180 are taken out there.
        np.testing.assert_allclose(turned[0], meant[0], atol=5e-4)
        transverse = [np.sin(flip) * np.exp(1j * (pre - post)) for flip, pre, post in (turned, meant)]
        np.testing.assert_allclose(*transverse, atol=5e-4)


def test_thickness_is_that_of_the_file_or_the_width_of_the_profile(tmp_path):
    made = sinc(60, time_bw_product=8, apodization=0.5)
    path = excited(tmp_path / "scan.seq", made)
    width = read_pulseq_sequence(path).slice_thickness
    assert width == pytest.approx(THICKNESS, rel=0.01)
    text = path.read_text(encoding="utf-8")
    for line, expected in (
        ("FOV 0.2 0.2 0.0052", 5.2e-3),
        ("FOV 200 200 5", width),  # mm
        ("FOV 0.2 0.2 0.06", width),  # a stack of slices
        ("FOV here", width),
        ("SliceThickness 0.0048", 4.8e-3),
    ):
        path.write_text(text.replace("[DEFINITIONS]\n", f"[DEFINITIONS]\n{line}\n"), encoding="utf-8")
        with pytest.warns(UserWarning, match="does not match its signature"):
            found = read_pulseq_sequence(path)
        assert found.slice_thickness == pytest.approx(expected, rel=1e-6)
        assert float(found.rf_pulse.time_bandwidth) == pytest.approx(8 * expected / THICKNESS, rel=1e-4)


def test_slice_that_is_not_rephased_is_said(tmp_path):
    rf, gz, _ = sinc(60, time_bw_product=4)
    path = excited(tmp_path / "scan.seq", (rf, gz, pypulseq.make_delay(1e-3)))
    with pytest.warns(UserWarning, match=r"scan\.seq: block 1: the slice is not rephased"):
        found = read_pulseq_sequence(path)
    assert found.rf_pulse.samples.size == 180


def test_pulses_that_select_no_slice_are_named(tmp_path):
    rf, gz, rephaser = sinc(60, time_bw_product=4)
    turning = pypulseq.make_extended_trapezoid(
        "z", times=np.array([0, 1e-4, 9e-4, 13e-4, 21e-4, 22e-4]), amplitudes=4e5 * np.array([0, 1, 1, -1, -1, 0])
    )
    path = excited(tmp_path / "bipolar.seq", (rf, turning, rephaser))
    with pytest.raises(ValueError, match=r"bipolar\.seq: block 1: the gradient of the pulse changes its direction"):
        read_rf_pulse(path)
    rf.signal = rf.signal * np.sign(np.arange(len(rf.signal)) - 999.5)
    with pytest.raises(ValueError, match=r"odd\.seq: block 1: the pulse has no area"):
        read_rf_pulse(excited(tmp_path / "odd.seq", (rf, gz, rephaser)))
    with pytest.raises(ValueError, match=r"hard\.seq: none of 4 RF pulses selects a slice"):
        read_rf_pulse(build(tmp_path / "hard.seq", lambda add, _: add(hard_pulse())))


# Of other people


@pytest.mark.parametrize(
    ("name", "product", "expected"),
    [
        ("se_2D_sinc_w_apod_spr", 4, windowed_sinc(4.0, "hann")),
        ("se_2D_sinc_wo_apod_spr", 4, windowed_sinc(4.0, "none")),
        ("openmrf_test_mrf", 6, windowed_sinc(6.0, "hann")),
        ("openmrf_test_cmrf", 2, None),
    ],
)
def test_pulses_of_others(name, product, expected):
    pulse = read_rf_pulse(shared(f"data/real/{name}.seq"))
    assert float(pulse.time_bandwidth) == pytest.approx(product, rel=1e-4)
    if expected is not None:
        np.testing.assert_allclose(pulse.samples, expected.samples, atol=1e-3 * expected.samples.max())
