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
NOISE, _CALIBRATION_AND_IMAGING, _REVERSED = 19, 21, 22
_SIZE = ("active_channels", "number_of_samples", "trajectory_dimensions")
_FRAME_COUNTERS = ("repetition", "contrast", "phase", "set", *(f"user_{i}" for i in range(8)))
_OTHER_COUNTERS = ("average", "segment", "kspace_encode_step_1")  # usually the parts of a frame
COUNTERS = (*_FRAME_COUNTERS, *_OTHER_COUNTERS, "acquisition")
_OTHER = "--frame_counter=acquisition takes every readout for a frame"
_LIMITS = {"kspace_encode_step_1": "kspace_encoding_step_1"}  # the header spells it another way


def records_of_slice(records, slice_index, skip_readouts, notes: list) -> tuple[np.ndarray, np.ndarray]:
    """The acquisitions of one slice of the scan, all of one size, and those in front that are left out.

    ``records`` is the structured array of all acquisitions, with the fields ``head``, ``traj`` and ``data``;
    ``slice_index`` is a value of the counter ``slice``, or None where there is one only. ``skip_readouts`` of the file
    are left out, or with None those in front that are fewer than the scan's and have all another size; ``notes`` gets a
    line about these.

    Raises:
      ValueError: no acquisitions, several slices and none chosen, several partitions, acquisitions of different sizes,
        or one whose samples are not as many as its head says.
    """
    head = records["head"]
    whole = _places_of_the_scan(head)
    if skip_readouts is None:
        skip = _place_behind_others(head, _of_first_space(head, whole), notes)
    elif not 0 <= (skip := skip_readouts) <= whole[-1]:
        raise ValueError(f"--skip_readouts must be 0 to {whole[-1]}, which leaves one readout; got {skip}")
    places = _of_first_space(head, whole[whole >= skip])
    places = places[_select_slice(head[places], slice_index)]
    for name in (*_SIZE, "discard_pre", "discard_post"):
        if len(held := np.unique(values := head[name][places])) > 1:
            behind = np.flatnonzero(values != values[-1])[-1] + 1
            raise ValueError(
                f"{name} must be the same in all acquisitions of the scan; got {listed(held)}: where the last "
                f"{len(places) - behind} are the scan, give --skip_readouts={places[behind]}"
            )
    return _checked(records[places]), records[whole[whole < skip]]


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
        raise ValueError(f"--frame_counter must be one of {', '.join(COUNTERS)}; got {counter!r}")
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
        raise ValueError(f"no trajectory in the file ({encoding.trajectory.value}): give --trajectory=FILE")
    return points.reshape(len(order), -1, 2), units


def flagged(head, bit: int) -> np.ndarray:
    """Which acquisitions have a flag, by its number in the format, from 1 on."""
    return head["flags"] >> np.uint64(bit - 1) & np.uint64(1) == 1


def listed(values) -> str:
    """The first five values as text, and the number of the others."""
    rest = f" and {len(values) - 5} more" if len(values) > 5 else ""
    return ", ".join(str(value) for value in values[:5]) + rest


def _places_of_the_scan(head) -> np.ndarray:
    """Indices of acquisitions without a flag of those in ``_LEFT_OUT``, but of calibration that is image data too."""
    left_out = {bit: flagged(head, bit) for bit in _LEFT_OUT}
    left_out[20] &= ~flagged(head, _CALIBRATION_AND_IMAGING)
    places = np.flatnonzero(~np.any([*left_out.values()], axis=0))
    if not len(places):
        kinds = [kind for bit, kind in _LEFT_OUT.items() if flagged(head, bit).any()]
        held = f", all of them {', '.join(kinds)}" if len(head) else ""
        raise ValueError(f"data: no acquisitions of a scan: the file has {len(head)}{held}")
    return places


def _of_first_space(head, places):
    spaces = head["encoding_space_ref"][places]
    return places[spaces == spaces.min()]


def _place_behind_others(head, places, notes):
    """Index of the first acquisition of the scan, of ``places``, behind fewer ones of which none has its size."""
    sizes = np.stack([head[name][places] for name in _SIZE], axis=1)
    same = (sizes == sizes[-1]).all(axis=1)
    count = np.argmax(same)
    if not same[count:].all() or not 0 < 2 * count < len(places):
        return 0
    coils, samples, dimensions = sizes[0]
    notes.append(
        f"the first {count} readouts have another size than the {len(places) - count} that follow ({coils} coils, "
        f"{samples} samples, trajectory of {dimensions} numbers; not {', '.join(map(str, sizes[-1]))}) and are left "
        f"out; --skip_readouts=0 keeps them"
    )
    return places[count]


def _checked(records):
    """The same acquisitions; raises `ValueError` where one does not hold as many numbers as its head says."""
    for i, record in enumerate(records):
        held = len(record["data"]), len(record["traj"])
        if held != (expected := numbers_of(record["head"])):
            raise ValueError(
                f"acquisition {i} of the scan has {held[0]} numbers of data and {held[1]} of trajectory, where its "
                f"head gives {expected[0]} and {expected[1]}"
            )
    return records


def numbers_of(head) -> tuple[int, int]:
    """How many numbers of data and of trajectory an acquisition has by its head."""
    coils, samples, dimensions = (int(head[name]) for name in _SIZE)
    return 2 * coils * samples, dimensions * samples


def _select_slice(head, slice_index) -> np.ndarray:
    """The acquisitions of one slice, boolean."""
    slices = np.unique(head["idx"]["slice"])
    if slice_index is None and len(slices) > 1:
        raise ValueError(f"slice has the values {listed(slices)}, and one slice is read: choose --slice={slices[0]}")
    chosen = np.ones(len(head), bool) if slice_index is None else head["idx"]["slice"] == slice_index
    if not chosen.any():
        raise ValueError(f"no slice {slice_index}: slice has the values {listed(slices)}: choose --slice={slices[0]}")
    partitions = np.unique(head["idx"]["kspace_encode_step_2"][chosen])
    if len(partitions) > 1:
        raise ValueError(f"kspace_encode_step_2 has the values {listed(partitions)}: only 2-D scans are read")
    return chosen


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
            names = [*distinct.values()]
            raise ValueError(f"{', '.join(names)} may each number the frames: choose --frame_counter={names[0]}")
        if distinct:
            return next(iter(distinct.values()))
    return None if cartesian else "acquisition"


def _check_frames(values, counter, limit):
    found, counts = np.unique(values, return_counts=True)
    first, last = found[0], found[-1]
    known = isinstance(getattr(limit, "minimum", None), int) and isinstance(limit.maximum, int)
    if known and limit.maximum >= last:  # 0 where a converter left the limits empty
        first, last = min(limit.minimum, first), limit.maximum
    if len(missing := np.setdiff1d(np.arange(first, last + 1), found)):
        raise ValueError(f"{counter}: missing of {first} to {last}: {listed(missing)} ({_OTHER})")
    usual = np.bincount(counts).argmax()
    for wrong, word in ((counts > usual, "doubled"), (counts < usual, "incomplete")):
        if wrong.any():
            rule = f"{counts[wrong][0]} readouts where most frames have {usual}"
            raise ValueError(f"{counter}: {word}: {listed(found[wrong])} ({rule}; {_OTHER})")


def _stored_points(records, order, samples):
    """The trajectory of acquisitions in some order, in the units of the file, (acquisitions, samples, 2)."""
    dimensions = int(records["head"]["trajectory_dimensions"][0])
    points = np.concatenate(list(records["traj"][order])).reshape(len(records), -1, dimensions)[:, samples]
    if dimensions == 1 or points[..., 2:].any():  # kz, or weights as some files have
        raise ValueError(f"trajectory_dimensions is {dimensions}, and kx and ky alone are read: give --trajectory=FILE")
    return points[..., :2]


def _cartesian_points(head, samples, encoding):
    """Where Cartesian readouts sample k-space, 1/m, (acquisitions, samples, 2)."""
    if (reverse := flagged(head, _REVERSED)).any():
        count = np.count_nonzero(reverse)
        raise ValueError(
            f"{count} Cartesian readouts are flagged as reversed, which is not read: give --trajectory=FILE"
        )
    size, limit = encoding.encodedSpace.fieldOfView_mm, encoding.encodingLimits.kspace_encoding_step_1
    centre = getattr(limit, "center", None)
    centre = centre if isinstance(centre, int) else encoding.encodedSpace.matrixSize.y // 2
    column = np.arange(samples.start, samples.stop) - head["center_sample"].astype(int)[:, None]
    line = head["idx"]["kspace_encode_step_1"].astype(int)[:, None] - centre
    return np.stack(np.broadcast_arrays(1e3 * column / size.x, 1e3 * line / size.y), axis=-1)
