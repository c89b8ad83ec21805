"""Noise readouts of MRD files: what they say of the noise in the scan."""

import numpy as np

from ganmrf.io.mrd_frames import NOISE, flagged, numbers_of

# The power of a sample of complex Gaussian noise is over 30 times the mean once in exp(30) = 1e13 samples; a readout
# through the centre of k-space has most of its energy in a few of them.
_HIGHEST_PEAK = 30


def noise_of(records, front, scan, system, notes: list) -> np.ndarray | None:
    """The noise of a scan from its noise readouts: (coils, samples), complex64; None without any that can be used.

    It is that of all acquisitions, ``records``, that are flagged as noise, or else of those in ``front`` of the scan,
    but for those that hold signal. Its variance goes with the bandwidth, and is scaled from that of a noise readout,
    ``relativeReceiverNoiseBandwidth`` over the dwell time, to that of the ``scan``, by its head: 1 over the dwell time.
    That share of the bandwidth is in the header's ``system`` information, or else 1. Where a dwell time is not known,
    nothing is scaled. ``notes`` gets a line about readouts that cannot be used.

    References:
      Kellman and McVeigh 2005, doi:10.1002/mrm.20713: noise equivalent bandwidth.
    """
    marked = records[flagged(records["head"], NOISE)]
    readouts, coils, usable = marked if len(marked) else front, int(scan["active_channels"]), []
    share = getattr(system, "relativeReceiverNoiseBandwidth", None)
    share = share if isinstance(share, float) and 0 < share < np.inf else 1
    for readout in readouts:
        head, data = readout["head"], np.asarray(readout["data"], np.float32)
        if head["active_channels"] != coils or len(data) != numbers_of(head)[0] or not np.isfinite(data).all():
            continue
        samples = data.view(np.complex64).reshape(coils, -1)
        power = np.abs(samples.astype(complex)) ** 2
        if (power.max(axis=1) > _HIGHEST_PEAK * power.mean(axis=1)).any():
            continue
        times = float(head["sample_time_us"]), float(scan["sample_time_us"])
        usable.append(samples * np.float32(np.sqrt(times[0] / times[1] / share) if min(times) > 0 else 1))
    if unused := len(readouts) - len(usable):
        notes.append(
            f"{unused} of {len(readouts)} noise readouts are of no use for prewhitening: they have other coils than "
            f"the scan ({coils}), values that are not finite, or signal"
        )
    return np.concatenate(usable, axis=1) if usable else None
