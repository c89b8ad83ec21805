"""Published schedules: the MRF-FISP sequence of Jiang et al."""

import importlib.resources

import numpy as np

from ganmrf.physics.sequences.fisp import Fisp

# Half-sine lobes of the MRF-FISP flip angles (degrees): first frame, last frame, phase of the first frame, amplitude.
_LOBES = ((0, 198, 2, 30.0), (209, 408, 1, 38.0), (419, 618, 1, 65.0), (628, 827, 1, 40.0), (839, 999, 1, 22.0))
_FLOOR_DEG = 5.0  # flip angle that the lobes rise from
_TR_OFFSET_MS = 0.40  # between the published list and the repetition times of the GAN-MRF paper
ECHO_TIME_S = 1.908e-3  # of public copies of the schedule


def mrf_fisp(n_frames: int = 1000) -> Fisp:
    """The inversion-prepared MRF-FISP sequence of Jiang et al. as GAN-MRF uses it (flip angle 5-70 deg, TR 12-15 ms).

    The flip angles are five half-sine lobes over a floor of 5 degrees with pauses (0 degrees) between them; the
    repetition times are the published list + 0.40 ms, which gives the range 12.07-14.73 ms of the GAN-MRF paper. Echo
    time 1.908 ms and inversion time 18 ms are those of public copies of the schedule.

    Raises:
      ValueError: ``n_frames``, the length of the prefix to return, outside 1 to 1000.

    References:
      Jiang et al. 2015, doi:10.1002/mrm.25559. Yang et al. 2020, arXiv:2004.02270.
    """
    if not 1 <= n_frames <= 1000:
        raise ValueError(f"n_frames must be 1 to 1000, the length of the published schedule; got {n_frames}")
    flip_angle_deg = np.zeros(1000)
    for first, last, phase, amplitude in _LOBES:
        frames = np.arange(first, last + 1)
        flip_angle_deg[frames] = _FLOOR_DEG + amplitude * np.sin(np.pi * (frames - first + phase) / 200)
    with (importlib.resources.files("ganmrf.data") / "mrf_fisp_jiang2015.csv").open(encoding="utf-8") as file:
        published_ms = np.loadtxt(file, delimiter=",", skiprows=1, usecols=2)
    return Fisp(
        flip_angle=np.deg2rad(flip_angle_deg)[:n_frames],
        repetition_time=(1e-3 * published_ms + 1e-3 * _TR_OFFSET_MS)[:n_frames],
        echo_time=ECHO_TIME_S,
        inversion_time=18e-3,
    )
