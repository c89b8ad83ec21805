import importlib.resources

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from ganmrf.io.schedule import read_columns, read_schedule, write_schedule
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.fisp import Fisp

DATA = importlib.resources.files("ganmrf.data")


@pytest.fixture(autouse=True, scope="module")
def _double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def csv(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "schedule.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_the_second_shipped_schedule_reads():
    sequence = read_schedule(DATA / "mrf_fisp_cao2019.csv", echo_time=2e-3, inversion_time=0.02)
    assert sequence.n_frames == 500
    np.testing.assert_allclose(sequence.repetition_time, 12e-3, rtol=1e-12)
    np.testing.assert_allclose(sequence.echo_time, 2e-3, rtol=1e-12)
    np.testing.assert_allclose(sequence.inversion_time, 0.02, rtol=1e-12)


ANGLE_UNITS = {"deg": np.pi / 180, "rad": 1}
TIME_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1}
FRAME = st.tuples(st.floats(-6, 6), st.floats(1e-3, 1), st.floats(0, 1e-3))


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])  # the file is overwritten
@hypothesis.given(
    frames=st.lists(FRAME, min_size=1, max_size=5),
    names=st.tuples(*(map(st.sampled_from, (["flip_angle", "FA"], ["repetition_time", "TR"], ["echo_time", "te"])))),
    angle_unit=st.sampled_from(sorted(ANGLE_UNITS)),
    time_unit=st.sampled_from(sorted(TIME_UNITS)),
)
def test_what_is_written_in_any_unit_is_read_in_rad_and_s(csv, frames, names, angle_unit, time_unit):
    frames = [(1.0, 0.01, 1e-3), *frames]  # one of usual size
    scale = np.array([ANGLE_UNITS[angle_unit], TIME_UNITS[time_unit], TIME_UNITS[time_unit]])
    header = ",".join(f"{name}_{unit}" for name, unit in zip(names, (angle_unit, time_unit, time_unit), strict=True))
    rows = [",".join(map(repr, map(float, frame / scale))) for frame in np.array(frames)]
    sequence = read_schedule(csv("\n".join([header, *rows])))
    read = np.stack([sequence.flip_angle, sequence.repetition_time, sequence.echo_time], axis=1)
    # One division and one multiplication.
    np.testing.assert_allclose(read, frames, rtol=1e-15)
    assert sequence.inversion_time is None


def test_spreadsheet_habits_are_read(csv):
    """A byte order mark, spaces, blank lines, carriage returns, further columns."""
    columns = read_columns(csv("\ufeffframe, fa_deg ,TR_ms,note\r\n1, 90 ,10,first\r\n\r\n2,45, 12 ,\r\n,,,\r\n"))
    assert columns.keys() == {"flip_angle", "repetition_time"}
    np.testing.assert_allclose(columns["flip_angle"], [np.pi / 2, np.pi / 4], rtol=1e-15)
    np.testing.assert_allclose(columns["repetition_time"], [0.01, 0.012], rtol=1e-15)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_cells_may_be_apart_by_other_characters(csv, delimiter):
    columns = read_columns(csv("fa_deg,tr_ms,note\n90, 10.5,a\n".replace(",", delimiter)))
    assert columns["repetition_time"] == pytest.approx([0.0105])


@pytest.mark.parametrize(
    ("row", "words"),
    [("1.2,10,2", "flip_angle is 1.2 degrees at most: is its column in rad"), ("60,0.01,0.002", "is 0.01 ms .* in s")],
)
def test_columns_that_seem_to_have_another_unit_are_told(csv, row, words):
    path = csv(f"fa_deg,tr_ms,te_ms\n{row}\n")
    with pytest.warns(UserWarning, match=words):
        assert read_schedule(path).n_frames == 1


def test_echo_time_given_replaces_the_column(csv):
    path = csv("fa_deg,tr_ms,te_ms\n90,10,2\n")
    assert float(read_schedule(path).echo_time[0]) == pytest.approx(2e-3, rel=1e-12)
    assert float(read_schedule(path, echo_time=3e-3).echo_time[0]) == pytest.approx(3e-3, rel=1e-12)
    assert float(read_schedule(str(path), echo_time=0.0).echo_time[0]) == 0


def test_inversion_time_has_a_column(csv):
    path = csv("fa_deg,tr_ms,te_ms,ti_ms\n90,10,2,18\n45,10,2,18\n")
    assert float(read_schedule(path).inversion_time) == pytest.approx(18e-3, rel=1e-12)
    assert float(read_schedule(path, inversion_time=0.04).inversion_time) == pytest.approx(40e-3, rel=1e-12)


@pytest.mark.parametrize("inversion_time", [None, 0.0218374])
def test_a_written_schedule_is_read_back(tmp_path, inversion_time):
    rng = np.random.default_rng(0)
    sequence = Fisp(rng.uniform(0, 1.5, 40), rng.uniform(0.01, 0.02, 40), 1.908e-3, inversion_time)
    write_schedule(tmp_path / "written.csv", sequence)
    read = read_schedule(tmp_path / "written.csv")
    # Six decimals of degrees and ms.
    np.testing.assert_allclose(read.flip_angle, sequence.flip_angle, atol=np.deg2rad(1e-6))
    for name in ("repetition_time", "echo_time"):
        np.testing.assert_allclose(getattr(read, name), getattr(sequence, name), atol=1e-9)
    assert (read.inversion_time is None) == (inversion_time is None)
    if inversion_time is not None:
        assert float(read.inversion_time) == pytest.approx(inversion_time, abs=1e-9)


def test_the_power_of_pulses_is_written_and_read_back(tmp_path):
    expected = Fisp(np.full(3, 0.5), 0.012, 2e-3, pulse_duration=2e-3, saturation_angle=np.array([0.0, 0.3, 1.2]))
    write_schedule(tmp_path / "schedule.csv", expected)
    found = read_schedule(tmp_path / "schedule.csv")
    np.testing.assert_allclose(found.pulse_duration, 2e-3, rtol=1e-9)
    np.testing.assert_allclose(found.saturation_angle, expected.saturation_angle, atol=1e-8)  # six decimals of degrees


GOOD_HEADER = "fa_deg,tr_ms,te_ms\n"
BAD_FILES = [
    ("", r": empty: a header and one row a frame are needed$"),
    (" \n\n", r": empty"),
    (GOOD_HEADER, r": empty"),
    ("fa_deg,te_ms\n90,2\n", r": no column repetition_time_ms$"),
    ("tr_ms,te_ms\n10,2\n", r": no column flip_angle_deg$"),
    ("fa_deg,tr_ms\n90,10\n", r": no column echo_time_ms$"),
    ("90,10,2\n90,10,2\n", r": no column flip_angle_deg .* repetition_time_ms .* echo_time_ms$"),
    ("fa,tr_ms,te_ms\n90,10,2\n", r": column 'fa' has no unit: name it fa_deg or rad$"),
    ("fa_deg,Repetition_Time,te_ms\n90,10,2\n", r": column 'Repetition_Time' has no unit"),
    ("fa_grad,tr_ms,te_ms\n90,10,2\n", r": column 'fa_grad': unit 'grad' is not one of deg, rad$"),
    ("fa_deg,tr_min,te_ms\n90,10,2\n", r": column 'tr_min': unit 'min' is not one of us, ms, s$"),
    ("fa_deg,flip_angle_rad,tr_ms,te_ms\n90,1,10,2\n", r": two columns hold flip_angle$"),
    (GOOD_HEADER + "90,10,2\n90,ten,2\n", r", line 3: tr_ms holds 'ten', which is not a number$"),
    (GOOD_HEADER + "\n90,10\n", r", line 3: 2 cells, where the header has 3$"),
    (GOOD_HEADER + "10,50,2,5\n", r", line 2: 4 cells, where the header has 3$"),  # decimal commas
    (GOOD_HEADER + "90,10,\n", r", line 2: te_ms holds '', which is not a number$"),
    *((GOOD_HEADER + f"{cell},10,2\n", rf", line 2: .*'{cell}'") for cell in ("nan", "1e999", "1_0", "\u0663")),
    ('fa_deg,tr_ms,te_ms,note\n90,10,2,"\n90,10,2,\n', r", line 3: "),  # a quote that takes all that follows
    (GOOD_HEADER + "1" * 200000 + ",10,2\n", r", line 2: "),
    (GOOD_HEADER + "90,-10,2\n", r": Fisp\.repetition_time must be positive and finite; got -0\.01 at index 0$"),
    (
        "fa_deg,tr_ms,te_ms,ti_ms\n90,10,2,18\n90,10,2,19\n",
        r": inversion_time must be the same in every row; got 0.018",
    ),
    (
        GOOD_HEADER + "90,10,20\n",
        r": Fisp\.echo_time must be no longer than the repetition time of frame 1, 0\.01 s; got 0\.02 s",
    ),
    ("fa_rad,tr_ms,te_ms\n1,10,2\n70,10,2\n", r": Fisp\.flip_angle must be within .*; got 70 at index 1$"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_bad_files_are_refused_by_name(csv, text, message):
    path = csv(text)
    with pytest.raises(ValueError, match=message) as error:
        read_schedule(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_text_is_refused(csv):
    with pytest.raises(ValueError, match=r"schedule\.csv: not a text file$"):
        read_schedule(csv("fa_deg,tr_ms\n\xff\xfe,1\n", encoding="latin-1"))


def test_a_balanced_schedule_may_have_phases_and_no_echo_times(csv):
    plain = read_schedule(csv("fa_deg,tr_ms,ti_ms\n30,10,18\n40,12,18\n50,10,18\n"), kind=Bssfp)
    np.testing.assert_allclose(plain.echo_time, [0.005, 0.006, 0.005], rtol=1e-6)  # float32
    np.testing.assert_allclose(np.asarray(plain.rf_phase), [0, np.pi, 0])
    assert float(plain.inversion_time) == pytest.approx(0.018, rel=1e-6)
    path = csv("fa_deg,tr_ms,te_ms,rf_phase_deg\n30,10,2,0\n40,12,3,45\n")
    phases = read_schedule(path, kind=Bssfp)
    np.testing.assert_allclose(phases.rf_phase, [0, np.pi / 4], rtol=1e-6)
    np.testing.assert_allclose(phases.echo_time, [0.002, 0.003], rtol=1e-6)
    with pytest.warns(UserWarning, match=r"RF phases are not read: FISP has phase 0"):
        assert read_schedule(path).n_frames == 2
    with pytest.raises(ValueError, match="no column flip_angle_deg"):
        read_schedule(csv("tr_ms\n10\n"), kind=Bssfp)
