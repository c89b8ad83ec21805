"""Which acquisitions of an MRD file are the scan, which frame each belongs to, and where it samples k-space.

``head`` always is the structured array of acquisition headers, (acquisitions,), whose fields have the names of the
format (https://ismrmrd.readthedocs.io, "Raw Acquisition Data").
"""

import numpy as np

_LEFT_OUT = {  # bit of the flags, counted from 1: kind of acquisition that is no part of the scan
    19: "noise",
    20: "parallel calibration",
    23: "navigation",
    24: "phase correction",
    26: "feedback",
    27: "dummy scan",
    28: "real-time feedback",
    29: "surface coil correction",
    30: "phase stabilisation reference",
    31: "phase stabilisation",
}
_CALIBRATION_AND_IMAGING, _REVERSED = 21, 22
_FRAME_COUNTERS = ("repetition", "contrast", "phase", "set", *(f"user_{i}" for i in range(8)))
_OTHER_COUNTERS = ("average", "segment", "kspace_encode_step_1")  # usually the parts of a frame
COUNTERS = (*_FRAME_COUNTERS, *_OTHER_COUNTERS, "acquisition")
_LIMITS = {"kspace_encode_step_1": "kspace_encoding_step_1"}  # the header spells it another way


def records_of_slice(records, slice_index) -> np.ndarray:
    """The acquisitions of one slice of the scan, all of one size.

    ``records`` is the structured array of all acquisitions, with the fields ``head``, ``traj`` and ``data``;
    ``slice_index`` is a value of the counter ``slice``, or None where there is one only.

    Raises:
      ValueError: no acquisitions, several slices and none chosen, several partitions, acquisitions of different sizes,
        or one whose samples are not as many as its head says.
    """
    total, everything = len(records), records["head"]
    records = records[_of_the_scan(everything)]
    if not len(records):
        kinds = [kind for bit, kind in _LEFT_OUT.items() if _flagged(everything["flags"], bit).any()]
        left_out = f", all of them {', '.join(kinds)}" if total else ""
        raise ValueError(f"data: no acquisitions of a scan: the file has {total}{left_out}")
    spaces = records["head"]["encoding_space_ref"]
    records = records[spaces == spaces.min()]
    records = records[_select_slice(records["head"], slice_index)]
    head = records["head"]
    for name in ("active_channels", "number_of_samples", "discard_pre", "discard_post", "trajectory_dimensions"):
        if len(values := np.unique(head[name])) > 1:
            raise ValueError(f"{name} must be the same in all acquisitions; got {listed(values)}")
    size = 2 * int(head["active_channels"][0]) * int(head["number_of_samples"][0])
    points = int(head["trajectory_dimensions"][0]) * int(head["number_of_samples"][0])
    for i, record in enumerate(records):
        if (len(record["data"]), len(record["traj"])) != (size, points):
            raise ValueError(
                f"acquisition {i} of the scan has {len(record['data'])} numbers of data and {len(record['traj'])} of "
                f"trajectory, where its head gives {size} and {points}"
            )
    return records


def frame_order(head, counter, limits, *, cartesian: bool) -> np.ndarray:
    """Indices of acquisitions, (frames, readouts of a frame).

    Frames are in the order of the ``counter``, one of `COUNTERS`, or None to choose one, as `read_mrd` says; readouts
    are in the order of ``kspace_encode_step_1``, which numbers the lines of an image in a ``cartesian`` scan, and then
    in that of the scan. The header's encoding ``limits`` may say how many frames the scan has.

    Raises:
      ValueError: an unknown counter, several counters that may number the frames, or frames that are missing or have
        more or fewer readouts than most.
    """
    if counter is not None and counter not in COUNTERS:
        raise ValueError(f"frame_counter must be one of {', '.join(COUNTERS)}; got {counter!r}")
    counter = counter or _choose(head, cartesian)
    values = _values(head, counter) if counter else np.zeros(len(head), int)
    if counter in _FRAME_COUNTERS + _OTHER_COUNTERS:
        _check_frames(values, counter, getattr(limits, _LIMITS.get(counter, counter), None))
    order = np.lexsort((head["scan_counter"], head["idx"]["kspace_encode_step_1"], values))
    return order.reshape(len(np.unique(values)), -1)


def points_of(records, order, samples: slice, encoding, units) -> tuple[np.ndarray, str | None]:
    """The trajectory, (frames, samples, 2), that acquisitions hold, or their counters in a Cartesian scan; its units.

    ``order`` is of `frame_order`; ``samples`` of each readout are kept; ``units`` are of a trajectory in the file.

    Raises:
      ValueError: no trajectory in a scan that is not Cartesian, one that is not of kx and ky, or Cartesian readouts
        that run backwards.
    """
    head, flat = records["head"], order.ravel()
    if head["trajectory_dimensions"][0]:
        points = _stored_points(records, flat, samples)
    elif encoding.trajectory.value == "cartesian":
        points, units = _cartesian_points(head[flat], samples, encoding), "1/m"
    else:
        raise ValueError(f"no trajectory in the file ({encoding.trajectory.value}): give trajectory=")
    return points.reshape(len(order), -1, 2), units


def listed(values) -> str:
    """The first five values as text, and the number of the others."""
    rest = f" and {len(values) - 5} more" if len(values) > 5 else ""
    return ", ".join(str(value) for value in values[:5]) + rest


def _of_the_scan(head) -> np.ndarray:
    """Acquisitions without a flag of those in ``_LEFT_OUT``; calibration readouts that are image data too stay."""
    flags = head["flags"]
    left_out = {bit: _flagged(flags, bit) for bit in _LEFT_OUT}
    left_out[20] &= ~_flagged(flags, _CALIBRATION_AND_IMAGING)
    return ~np.any([*left_out.values()], axis=0)


def _select_slice(head, slice_index) -> np.ndarray:
    """The acquisitions of one slice, boolean."""
    slices = np.unique(head["idx"]["slice"])
    if slice_index is None and len(slices) > 1:
        raise ValueError(f"slice has the values {listed(slices)}, and one slice is read: choose it with slice_index")
    chosen = np.ones(len(head), bool) if slice_index is None else head["idx"]["slice"] == slice_index
    if not chosen.any():
        raise ValueError(f"no slice {slice_index}: slice has the values {listed(slices)}")
    partitions = np.unique(head["idx"]["kspace_encode_step_2"][chosen])
    if len(partitions) > 1:
        raise ValueError(f"kspace_encode_step_2 has the values {listed(partitions)}: only 2-D scans are read")
    return chosen


def _flagged(flags, bit):
    return flags >> np.uint64(bit - 1) & np.uint64(1) == 1


def _values(head, counter):
    if counter == "acquisition":
        return np.argsort(np.argsort(head["scan_counter"], kind="stable"), kind="stable")
    index = head["idx"]
    values = index["user"][:, int(counter[-1])] if counter.startswith("user_") else index[counter]
    return values.astype(int)


def _choose(head, cartesian):
    """The counter that numbers the frames; None for one frame."""
    for names in (_FRAME_COUNTERS, () if cartesian else _OTHER_COUNTERS):
        varying = {name: values for name in names if np.ptp(values := _values(head, name))}
        even = {name: values for name, values in varying.items() if len(set(np.bincount(values)) - {0}) == 1}
        distinct = {}  # counters that number the same frames are one
        for name, values in (even or varying).items():
            distinct.setdefault(np.unique(values, return_inverse=True)[1].tobytes(), name)
        if len(distinct) > 1:
            raise ValueError(f"{', '.join(distinct.values())} may each number the frames: choose with frame_counter")
        if distinct:
            return next(iter(distinct.values()))
    return None if cartesian else "acquisition"


def _check_frames(values, counter, limit):
    found, counts = np.unique(values, return_counts=True)
    first, last = found[0], found[-1]
    if limit is not None and limit.maximum >= last:  # 0 where a converter left the limits empty
        first, last = min(limit.minimum, first), limit.maximum
    if len(missing := np.setdiff1d(np.arange(first, last + 1), found)):
        raise ValueError(f"{counter}: missing of {first} to {last}: {listed(missing)}")
    usual = np.bincount(counts).argmax()
    for wrong, word in ((counts > usual, "doubled"), (counts < usual, "incomplete")):
        if wrong.any():
            rule = f"{counts[wrong][0]} readouts where most frames have {usual}"
            raise ValueError(f"{counter}: {word}: {listed(found[wrong])} ({rule})")


def _stored_points(records, order, samples):
    """The trajectory of acquisitions in some order, in the units of the file, (acquisitions, samples, 2)."""
    dimensions = int(records["head"]["trajectory_dimensions"][0])
    points = np.concatenate(list(records["traj"][order])).reshape(len(records), -1, dimensions)[:, samples]
    if dimensions == 1 or points[..., 2:].any():  # kz, or weights as some files have
        raise ValueError(f"trajectory_dimensions is {dimensions}, and kx and ky alone are read: give trajectory=")
    return points[..., :2]


def _cartesian_points(head, samples, encoding):
    """Where Cartesian readouts sample k-space, 1/m, (acquisitions, samples, 2)."""
    if (reverse := _flagged(head["flags"], _REVERSED)).any():
        count = np.count_nonzero(reverse)
        raise ValueError(f"{count} Cartesian readouts are flagged as reversed, which is not read: give trajectory=")
    size, limit = encoding.encodedSpace.fieldOfView_mm, encoding.encodingLimits.kspace_encoding_step_1
    centre = encoding.encodedSpace.matrixSize.y // 2 if limit is None else limit.center
    column = np.arange(samples.start, samples.stop) - head["center_sample"].astype(int)[:, None]
    line = head["idx"]["kspace_encode_step_1"].astype(int)[:, None] - centre
    return np.stack(np.broadcast_arrays(1e3 * column / size.x, 1e3 * line / size.y), axis=-1)
