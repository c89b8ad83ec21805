"""The waveform of an RF pulse, as the arrays that other programs write."""

import pathlib

import numpy as np

from ganmrf.files import check_readable
from ganmrf.io.series import read_array

_MOST = 10**5  # samples: a tenth of a second of a scanner's finest raster, 1 us


def read_waveform(path) -> np.ndarray:
    """Reads the samples of an RF pulse at equal steps of time, in any unit, real or complex, (samples,).

    ``.npy`` and ``.npz`` hold one array (of several, the one named ``samples``), ``.csv`` one row a sample: its value,
    or its real and imaginary part; a first row of titles is left out.

    Raises:
      ValueError: another suffix, a file that cannot be read or is of another kind, or samples that are not finite, of
        which there is none, or which are more than a pulse has.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() == ".csv":
        samples = _read_csv(path)
    elif path.suffix.lower() in (".npy", ".npz"):
        samples = np.squeeze(read_array(path, None, "samples", min_ndim=1))
    else:
        raise ValueError(f"{path}: an RF pulse is read from .npy, .npz, .csv or .seq")
    if samples.ndim != 1 or not 0 < samples.size <= _MOST:
        raise ValueError(f"{path}: an RF pulse must be (samples,), 1 to {_MOST} of them; got shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: sample {int(np.argmin(np.isfinite(samples)))} of the RF pulse is not finite")
    return samples


def _read_csv(path):
    check_readable(path)
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append([float(cell) for cell in line.split(",")])
        except ValueError:
            if number > 1:
                raise ValueError(f"{path}, row {number}: {line[:20]!r} is no number, or two with a comma") from None
    if {len(row) for row in rows} - {1} and {len(row) for row in rows} - {2}:
        raise ValueError(f"{path}: every row must have one number, or a real and an imaginary part")
    parts = np.array(rows, float)
    return parts[:, 0] + 1j * parts[:, 1] if parts.shape[-1] == 2 else parts.reshape(-1)
