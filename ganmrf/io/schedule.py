"""Schedules as CSV files: degrees and milliseconds in the files, rad and s inside."""

import csv
import math
import pathlib
import warnings

import numpy as np

from ganmrf.files import check_readable, replacing
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.fisp import Fisp, require_fisp

_SCALE = {"deg": np.pi / 180, "rad": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_LEAST = {  # what the largest of a sequence exceeds: less leaves no signal, or no time to read it
    "flip_angle": (3, "degrees", np.pi / 180, "rad"),
    "repetition_time": (0.5, "ms", 1e-3, "s"),
}
_COLUMNS = {  # field: names of its column, and units that the name may end with
    "flip_angle": (("flip_angle", "fa"), ("deg", "rad")),
    "repetition_time": (("repetition_time", "tr"), ("us", "ms", "s")),
    "echo_time": (("echo_time", "te"), ("us", "ms", "s")),
    "inversion_time": (("inversion_time", "ti"), ("us", "ms", "s")),
    "rf_phase": (("rf_phase",), ("deg", "rad")),
    "saturation_angle": (("saturation_angle",), ("deg", "rad")),
    "pulse_duration": (("pulse_duration",), ("us", "ms", "s")),
    "pulse_shape": (("pulse_shape",), ()),
}
_REQUIRED = {Fisp: ("flip_angle", "repetition_time", "echo_time"), Bssfp: ("flip_angle", "repetition_time")}


def read_schedule(
    path, *, echo_time: float | None = None, inversion_time: float | None = None, kind: type = Fisp
) -> Fisp | Bssfp:
    """Reads a sequence from a CSV file whose header names columns with their units.

    One row a frame. Columns: ``flip_angle_deg`` (or ``_rad``; short name ``fa``), ``repetition_time_ms`` (or ``_us``,
    ``_s``; ``tr``), ``echo_time_ms`` (``te``), unless ``echo_time`` is given, and optionally ``inversion_time_ms``
    (``ti``), with the same value in every row, ``pulse_duration_ms``, and with it ``pulse_shape`` and
    ``saturation_angle_deg``. Of a `Bssfp` also ``rf_phase_deg`` (or ``_rad``), without which the phase alternates; its
    echo times, too, may be missing, and are then in the middle of the frames. Other columns are ignored. Cells are
    apart by commas, semicolons or tabs. Warns of flip angles and repetition times so small that their unit seems to be
    another, and of phases that are not 0 where a `Fisp` is read.

    Args:
      path: the CSV file.
      echo_time: echo time of every frame, s, in place of the column.
      inversion_time: time from the inversion to the first pulse, s, in place of the column; None and no column: no
        inversion.
      kind: of the sequence, `Fisp` or `Bssfp`.

    Raises:
      ValueError: an empty file, a column that is missing or has no unit, a row of another length than the header or a
        cell that is not a number (with the line), an inversion time that changes from row to row, or values that no
        sequence can have.
    """
    columns = read_columns(path)
    if echo_time is not None:
        columns["echo_time"] = echo_time
    of_scan = columns.pop("inversion_time", np.zeros(0))
    if inversion_time is None and of_scan.size:
        if np.ptp(of_scan):
            raise ValueError(
                f"{path}: inversion_time must be the same in every row; got {of_scan.min()} s to {of_scan.max()} s"
            )
        inversion_time = of_scan[0]
    missing = [f"{field}_{_COLUMNS[field][1][-2]}" for field in _REQUIRED[kind] if field not in columns]
    if missing:
        raise ValueError(f"{path}: no column {' and no column '.join(missing)}")
    if kind is Fisp and np.any(columns.pop("rf_phase", 0)):
        warnings.warn(f"{path}: its RF phases are not read: FISP has phase 0 in every frame", stacklevel=2)
    try:
        sequence = kind(**columns, inversion_time=inversion_time)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for name, (least, unit, scale, other) in _LEAST.items():
        if 0 < (largest := np.abs(getattr(sequence, name)).max()) < least * scale:
            words = f"{name} is {largest / scale:.3g} {unit} at most: is its column in {other}?"
            warnings.warn(f"{path}: {words}", stacklevel=2)
    return sequence


def write_schedule(path, sequence: Fisp):
    """Writes a sequence as a CSV file for `read_schedule`, in degrees and ms with six decimals, as `replacing` does.

    Its inversion time, if any, is written in every row, and so are the duration and the shape of its pulses and
    saturation angles.
    """
    require_fisp(sequence, "a schedule")
    columns = {
        "flip_angle_deg": np.rad2deg(np.asarray(sequence.flip_angle, float)),
        "repetition_time_ms": 1e3 * np.asarray(sequence.repetition_time, float),
        "echo_time_ms": 1e3 * np.asarray(sequence.echo_time, float),
    }
    if sequence.inversion_time is not None:
        columns["inversion_time_ms"] = np.full(sequence.n_frames, 1e3 * float(sequence.inversion_time))
    for name, field, scale in (
        ("pulse_duration_ms", "pulse_duration", 1e3),
        ("pulse_shape", "pulse_shape", 1.0),
        ("saturation_angle_deg", "saturation_angle", 180 / np.pi),
    ):
        if (value := getattr(sequence, field)) is not None:
            columns[name] = np.broadcast_to(scale * np.asarray(value, float), sequence.n_frames)
    form = {"fmt": "%.6f", "delimiter": ",", "header": ",".join(columns), "comments": "", "encoding": "utf-8"}
    with replacing(path) as temporary:
        np.savetxt(temporary, np.stack([*columns.values()], axis=1), **form)


def read_columns(path) -> dict[str, np.ndarray]:
    """The columns that `read_schedule` knows, by the fields that they are of, in rad and s, float64, (frames,) each."""
    path = pathlib.Path(path) if isinstance(path, str) else path
    if isinstance(path, pathlib.Path):  # not of a package in an archive
        check_readable(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        delimiter = max(",;\t", key=lines[0].count) if lines else ","
        reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file") from error
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    if len(rows) < 2:
        raise ValueError(f"{path}: empty: a header and one row a frame are needed")
    (_, header), *body = rows
    for line, row in body:
        if len(row) != len(header):  # as where a decimal comma makes two cells of a number
            raise ValueError(f"{path}, line {line}: {len(row)} cells, where the header has {len(header)}")
    columns = {}
    for position, title in enumerate(header):
        field, scale = _field_and_scale(path, title)
        if field is None:
            continue
        if field in columns:
            raise ValueError(f"{path}: two columns hold {field}")
        columns[field] = scale * np.array([_number(path, line, title, row[position]) for line, row in body])
    return columns


def _field_and_scale(path, title):
    stem, _, unit = title.lower().rpartition("_")
    for field, (names, units) in _COLUMNS.items():
        if title.lower() in names and not units:
            return field, 1.0
        if title.lower() in names:
            raise ValueError(f"{path}: column {title!r} has no unit: name it {title}_{' or '.join(units)}")
        if stem in names and units:
            if unit not in units:
                raise ValueError(f"{path}: column {title!r}: unit {unit!r} is not one of {', '.join(units)}")
            return field, _SCALE[unit]
    return None, None


def _number(path, line, title, cell):
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in cell or not cell.isascii():  # which Python reads, and no spreadsheet writes
        raise ValueError(f"{path}, line {line}: {title} holds {cell!r}, which is not a number")
    return value
