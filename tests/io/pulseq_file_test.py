"""Pulseq files as they are written: by older and newer programs and by hand, signed or not, cut, or never playable."""

import re

import jax
import numpy as np
import pypulseq
import pytest

from ganmrf.io.pulseq_read import read_pulseq, read_pulseq_trajectory
from tests.io.pulseq_files import build, by_hand, fisp, inversion, readout, unsigned, with_extensions

UNSIGNED = pytest.mark.filterwarnings("ignore:.*has no signature")  # in tests of something else


def assert_same_scan(path, other):
    for read in (read_pulseq, read_pulseq_trajectory):
        jax.tree.map(np.testing.assert_array_equal, read(path), read(other))


# Shapes


def sine(n):
    """Samples in the middle of n equal steps of a period."""
    return np.sin(2 * np.pi * (np.arange(n) + 0.5) / n)


def assert_plays_sine(path):
    """Half of a step, from 0 at the edge, lies before the first of 20 samples of a sine, which are taken in turn."""
    k = np.cumsum([1e6 * sine(20)[0] * 2.5e-6, *(5.0 * (sine(20)[1:] + sine(20)[:-1]))])
    found = read_pulseq_trajectory(path)
    np.testing.assert_allclose(found[..., 0], np.broadcast_to(k, (2, 20)), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[..., 1], 0)
    np.testing.assert_allclose(read_pulseq(path).flip_angle, np.deg2rad(36), rtol=1e-5)


@pytest.mark.parametrize("minor", [2, 3])
def test_shape_of_an_older_file_that_does_not_compress_is_one_of_differences(tmp_path, minor):
    path = by_hand(tmp_path / "old.seq", 3, (20, np.diff(sine(20), prepend=0)))
    if minor == 2:  # its blocks have no extensions
        text = path.read_text(encoding="utf-8").replace("minor 3", "minor 2")
        path.write_text(re.sub(r"^((?:\d ){7})0$", r"\1", text, flags=re.MULTILINE), encoding="utf-8")
    assert_plays_sine(path)


@pytest.mark.parametrize("short", [False, True])
def test_shape_of_an_older_file_that_can_only_be_samples_is_read_as_such(tmp_path, short):
    """So is one whose last run is counted one too short: this one ends with two samples of the same value."""
    path = by_hand(tmp_path / "old.seq", 3, (20, sine(20)))
    if short:
        path.write_text(path.read_text(encoding="utf-8").replace("\n98\n", "\n97\n"), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"old\.seq: shapes .*3 are not written as this version has them"):
        assert_plays_sine(path)


@UNSIGNED
def test_shape_of_samples_at_and_between_the_edges_of_the_raster(tmp_path):
    path = by_hand(
        tmp_path / "new.seq", 5, (39, np.cos(np.arange(1, 40) / 40)), first=1e6, last=1e6 * np.cos(1), spacing=-1
    )
    # All of the cosine of which the file has the inner 39 samples, 5 us apart; lines are below it by 1e-4.
    into = (np.arange(20) + 0.5) / 20
    found = read_pulseq_trajectory(path)[1, :, 0]
    np.testing.assert_allclose(found, 1e6 * 2e-4 * np.sin(into), rtol=1e-4)


@UNSIGNED
def test_shape_with_its_times(tmp_path):
    path = by_hand(tmp_path / "new.seq", 5, (3, (0, 1, 0)), (3, (0, 5, 20)), first=0, last=0, spacing=4)
    time = np.arange(20) + 0.5
    k = np.where(time < 5, time**2 / 10, 10 - (20 - time) ** 2 / 30)
    np.testing.assert_allclose(read_pulseq_trajectory(path)[0, :, 0], 1e6 * 1e-5 * k, rtol=1e-5)


# Comments, signatures, cuts


@UNSIGNED
def test_comments_and_blank_lines_mean_nothing(tmp_path):
    path, other = build(tmp_path / "scan.seq", fisp, prepare=inversion), tmp_path / "other.seq"
    lines = [line for line in unsigned(path).splitlines() if line.strip()]
    other.write_text("# Ours\n" + "".join(f"{line} # line\n" for line in lines), encoding="utf-8")
    assert_same_scan(other, path)


def test_line_breaks_of_windows_do_not_matter_to_the_signature(tmp_path):
    path, other = build(tmp_path / "scan.seq", fisp), tmp_path / "other.seq"
    other.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert_same_scan(other, path)


def test_edited_file_is_read_with_a_warning(tmp_path):
    path = build(tmp_path / "scan.seq", fisp)
    edited = path.read_text(encoding="utf-8").replace("[DEFINITIONS]\n", "[DEFINITIONS]\nScanner ours\n")
    path.write_text(edited, encoding="utf-8")
    with pytest.warns(UserWarning, match=r"scan\.seq: was edited or damaged: it does not match its signature"):
        assert read_pulseq(path).n_frames == 4
    path.write_text(edited[: edited.index("\n[SIGNATURE]")], encoding="utf-8")
    with pytest.warns(UserWarning, match=r"scan\.seq: has no signature"):
        assert read_pulseq(path).n_frames == 4


@UNSIGNED
def test_truncated_file_is_refused_wherever_it_is_cut(tmp_path):
    text = unsigned(build(tmp_path / "whole.seq", fisp, prepare=inversion))
    (tmp_path / "cut.seq").write_text(text, encoding="utf-8")
    assert read_pulseq(tmp_path / "cut.seq").n_frames == 4
    # Line breaks at the end are all that a file can lose.
    for length in np.linspace(text.index("[BLOCKS]"), len(text.rstrip()), 60).astype(int):
        (tmp_path / "cut.seq").write_text(text[:length], encoding="utf-8")
        with pytest.raises(ValueError, match=r"cut\.seq: "):
            read_pulseq(tmp_path / "cut.seq")


@UNSIGNED
def test_sections_that_are_not_known_are_named(tmp_path):
    path = tmp_path / "scan.seq"
    path.write_text(unsigned(build(path, fisp)).replace("[ADC]", "[NOTES]\nours 1\n\n[ADC]"), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"scan\.seq: section \[NOTES\] is not known"):
        read_pulseq(path)


@UNSIGNED
def test_rasters_that_are_not_named_are_said(tmp_path):
    path = tmp_path / "scan.seq"
    path.write_text(re.sub(r"GradientRasterTime.*\n", "", unsigned(build(path, fisp))), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"scan\.seq: .* taken: GradientRasterTime 10 us"):
        read_pulseq(path)


# Extensions

ROTATIONS = "[EXTENSIONS]\n1 7 1 0\n2 7 2 0\n\nextension ROTATIONS 7\n"
TURN = np.deg2rad(50)


@UNSIGNED
def test_gradients_of_a_block_are_rotated(tmp_path):
    """Frame 1 about z, so that x turns towards y; frame 3 about y, so that x leaves the plane."""
    path = build(tmp_path / "scan.seq", fisp)
    k = read_pulseq_trajectory(path)
    c, s = np.cos(TURN / 2), np.sin(TURN / 2)
    blocks_of_frame = 6
    gradients = {1 + blocks_of_frame * frame + j: number for frame, number in ((1, 1), (3, 2)) for j in (2, 3)}
    with_extensions(path, gradients, f"{ROTATIONS}1 {c} 0 0 {s}\n2 {c} 0 {s} 0\n")
    turned = read_pulseq_trajectory(path)
    np.testing.assert_array_equal(turned[[0, 2]], k[[0, 2]])
    np.testing.assert_allclose(turned[1], k[1, :, :1] * [np.cos(TURN), np.sin(TURN)], rtol=1e-5)
    np.testing.assert_allclose(turned[3], k[3, :, :1] * [np.cos(TURN), 0], rtol=1e-5, atol=1e-9)


@UNSIGNED
def test_rotation_of_one_block_leaves_the_blocks_before_it(tmp_path):
    """The prephaser along x stays, and the readout turns by a quarter: k runs along y, at the x of the prephaser."""
    path = build(tmp_path / "scan.seq", fisp)
    k = read_pulseq_trajectory(path)[0]
    with_extensions(path, {4: 1}, f"{ROTATIONS}1 {np.sqrt(0.5)} 0 0 {np.sqrt(0.5)}\n2 1 0 0 0\n")
    prephased = -readout()[1].area / 2
    turned = read_pulseq_trajectory(path)[0]
    np.testing.assert_allclose(turned[:, 0], prephased, rtol=1e-5)
    np.testing.assert_allclose(turned[:, 1], k[:, 0] - prephased, atol=1e-3)


@UNSIGNED
@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            ROTATIONS.replace("ROTATIONS", "RF_SHIMS") + "1 2 1 0 1 0\n",
            "block 2 has the extension RF_SHIMS, which is not",
        ),
        (ROTATIONS + "1 1 0 0 1\n", "block 2: a rotation must be one quaternion of length 1"),
        (ROTATIONS + "3 1 0 0 0\n", "truncated or damaged: rotation 1"),
        (ROTATIONS.replace("1 7 1 0", "1 7 1 1") + "1 1 0 0 0\n", "block 2: a rotation must be one quaternion|no end"),
        ("[EXTENSIONS]\n1 7 1 0\n", "truncated or damaged: extension of kind 7"),
    ],
)
def test_extensions_that_cannot_be_played_are_refused(tmp_path, sections, message):
    path = with_extensions(build(tmp_path / "scan.seq", fisp), {2: 1}, sections)
    for read in (read_pulseq, read_pulseq_trajectory):
        with pytest.raises(ValueError, match=rf"scan\.seq: {message}"):
            read(path)


def labelled(add, frame):
    add(pypulseq.make_delay(1e-3), pypulseq.make_label("LIN", "SET", frame), pypulseq.make_label("SLC", "INC", 1))
    fisp(add, frame)


def delayed(add, frame):
    add(pypulseq.make_delay(1e-3))
    fisp(add, frame)


def soft(add, frame):
    add(pypulseq.make_soft_delay("TR", numID=0, default_duration=1e-3))
    fisp(add, frame)


def gated(add, frame):
    add(pypulseq.make_delay(1e-3), pypulseq.make_trigger("physio1", duration=1e-4))
    fisp(add, frame)


@UNSIGNED
def test_labels_play_nothing(tmp_path):
    """Also those that pypulseq does not know."""
    path, plain = build(tmp_path / "labelled.seq", labelled), build(tmp_path / "plain.seq", delayed)
    assert_same_scan(path, plain)
    path.write_text(unsigned(path).replace("SLC", "OURS"), encoding="utf-8")
    assert_same_scan(path, plain)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [(soft, "4 blocks have a soft delay"), (gated, "3 blocks have a trigger that the scanner waits")],
)
def test_durations_that_may_be_longer_are_said(tmp_path, kernel, message):
    path = build(tmp_path / "scan.seq", kernel, prepare=inversion if kernel is soft else None)
    with pytest.warns(UserWarning, match=rf"scan\.seq: {message}"):
        found = read_pulseq(path)
    np.testing.assert_array_equal(
        found.repetition_time, read_pulseq(build(tmp_path / "plain.seq", delayed)).repetition_time
    )


# Files that none can play


def test_missing_or_other_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*none\.seq: No such file"):
        read_pulseq(tmp_path / "none.seq")
    for content in (b"", b"\x93NUMPY\x01\xff\xfe", b"flip_angle_deg,tr_ms\n5,12\n"):
        (tmp_path / "other.seq").write_bytes(content)
        with pytest.raises(ValueError, match=r"other\.seq: not a Pulseq file"):
            read_pulseq(tmp_path / "other.seq")


@UNSIGNED
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"num_samples.*?\n\n", "num_samples 1000000000\n0\n0\n999999998\n\n", r"a shape of 1e\+09 samples"),
        (r"num_samples.*?\n\n", "num_samples 1_000_000_000\n0\n0\n999999998\n\n", r"a shape of 1e\+09 samples"),
        (
            r"\[SHAPES\]\n",
            "[SHAPES]\n" + "".join(f"shape_id {i}\nnum_samples 1000000\n0\n" for i in range(10, 200)),
            "hold",
        ),
        (r"(\[ADC\]\s+1 )64", r"\g<1>999999999", r"a readout of 1e\+09 samples"),
        (r"[-+.\de]+(\n*)\Z", r"nan\1", r"line \d+: 'nan' is no number"),
        (r"minor 5", "minor 6", r"Pulseq version 1\.6\.0: 1\.2 to 1\.5 are read"),
        (r"(\[ADC\]\s+1 64) \d+", r"\1", r"line \d+: 8 entries, but this version has 9"),
        (
            r"BlockDurationRaster \S+",
            "BlockDurationRaster ten",
            "the definition BlockDurationRaster must be a number above 0",
        ),
        (r"\[ADC\]\s+1 ", "[ADC]\n7 ", "truncated or damaged: ADC event 1"),
        (r"(\[ADC\]\s+)(1 [^\n]*\n)", r"\1\2\2", r"line \d+: number 1 is there twice"),
    ],
)
def test_what_none_can_play_is_refused_before_it_is_made(tmp_path, old, new, message):
    path = tmp_path / "scan.seq"
    path.write_text(re.sub(old, new, unsigned(build(path, fisp)), count=1, flags=re.DOTALL), encoding="utf-8")
    for read in (read_pulseq, read_pulseq_trajectory):
        with pytest.raises(ValueError, match=rf"scan\.seq: .*{message}"):
            read(path)
