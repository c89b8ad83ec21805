"""Siemens raw data, TWIX (``.dat``), as MRD would have it: ``pip install ganmrf[twix]``.

twixtools knows the layout of the format. It trusts what a file claims, so the readouts are found here, where each claim
is compared with the size of the file.

References:
  https://github.com/pehses/twixtools. https://github.com/ismrmrd/siemens_to_ismrmrd: what is what in MRD.
"""

import dataclasses
import pathlib
import re
import struct
import types
import warnings

import numpy as np

from ganmrf.files import check_readable
from ganmrf.io.mrd import RawData, as_given, assemble
from ganmrf.io.mrd_frames import NOISE, flagged, records_of_slice
from ganmrf.io.mrd_header import new_header
from ganmrf.io.mrd_noise import noise_of
from ganmrf.io.mrd_xml import encoding_of
from ganmrf.memory import check_claim

with warnings.catch_warnings():  # the import changes which warnings a user sees
    from ismrmrd import hdf5

_COUNTERS = {
    "kspace_encode_step_1": "Lin",
    "kspace_encode_step_2": "Par",
    "average": "Ave",
    "slice": "Sli",
    "contrast": "Eco",
    "phase": "Phs",
    "repetition": "Rep",
    "set": "Set",
    "segment": "Seg",
}
_USER_COUNTERS = ("Ida", "Idb", "Idc", "Idd", "Ide")
_FLAGS = {  # and their numbers in MRD
    "NOISEADJSCAN": NOISE,
    "PATREFSCAN": 20,
    "PATREFANDIMASCAN": 21,
    "REFLECT": 22,
    "PHASCOR": 24,
    "HPFEEDBACK": 26,
    "RETRO_DUMMYSCAN": 27,
    "RTFEEDBACK": 28,
    "REFPHASESTABSCAN": 30,
    "PHASESTABSCAN": 31,
}
_MOST = 2**16 - 1  # voxels along an axis, which MRD counts in 16 bits
_LENGTH_BITS = 2**25 - 1  # of FlagsAndDMALength
# As siemens_to_ismrmrd has them: a readout of noise takes 7.68 ms, but for the adjustment of the coils, which samples
# every 5 us; and the share of the bandwidth of such a readout that the receiver lets pass.
_NOISE_READOUT_US, _COIL_ADJUSTMENT, _COIL_ADJUSTMENT_US = 7680, "AdjCoilSens", 5
_RECEIVER = types.SimpleNamespace(relativeReceiverNoiseBandwidth=0.793)


def read_twix(
    path,
    *,
    trajectory=None,
    trajectory_units: str | None = None,
    slice_index: int | None = None,
    matrix=None,
    field_of_view=None,
    skip_readouts: int | None = None,
    frame_counter: str | None = None,
) -> RawData:
    """Reads one slice of the last measurement of a TWIX file (VB, or VD and later), frame by frame.

    Readouts are left out, slices selected and frames found as `read_mrd` does, by the counters that siemens_to_ismrmrd
    makes of Siemens' own: Rep is repetition, Eco contrast, Phs phase, Set, Ave average, Seg segment, Lin
    kspace_encode_step_1, and Ida to Ide user_0 to user_4.

    Args:
      path: the file.
      trajectory: which TWIX files do not hold; as `read_mrd` takes it.
      trajectory_units: as `read_mrd` takes them.
      slice_index: value of the counter Sli, where it has several.
      matrix: whole number, or (y, x), that overrules the protocol's base resolution.
      field_of_view: m, one number or (y, x), that overrules the protocol's.
      skip_readouts: how many readouts of the measurement are left out in front, as `read_mrd` does.
      frame_counter: the counter that numbers the frames, by its name in MRD; None to choose one, as `read_mrd` does.

    Returns:
      The raw data. ``noise`` is from the noise readouts of this and of earlier measurements. ``affine`` is from the
      position and orientation of the first readout, with read and phase directions as siemens_to_ismrmrd writes them:
      columns run along the first, rows along the second. ``dwell_time`` is the protocol's, but None for sequences of
      Pulseq, whose readouts the protocol does not know.

    Raises:
      ValueError: a file that is missing or not whole, without readouts of a scan, or whose sizes are not in the
        protocol and not given; twixtools not being installed; or as `read_mrd`. The line names the file.
    """
    path = pathlib.Path(path)
    trajectory, notes = as_given(trajectory, trajectory_units), []
    check_readable(path)
    layout = _layout(path)
    size = path.stat().st_size
    check_claim(path, size, size)
    try:
        measurements = _measurements(path, layout)
        protocol = measurements[-1].protocol
        if not measurements[-1].ended:
            notes.append("the measurement has no end mark: it may have been cut off or stopped")
        records = [measurement.records(layout) for measurement in measurements]
        earlier = [held[flagged(held["head"], NOISE)] for held in records[:-1]]
        records = np.concatenate([records[-1], *earlier])  # so that the readouts keep their numbers
        chosen, front = records_of_slice(records, slice_index, skip_readouts, notes)
        noise = noise_of(records, front, chosen["head"][0], _RECEIVER, notes)
        header = _header(protocol)
        encoding = encoding_of(header, 0, matrix, field_of_view, notes)
        raw = assemble(header, encoding, chosen, noise, trajectory, trajectory_units, frame_counter)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)
    return raw


@dataclasses.dataclass(frozen=True)
class _Measurement:
    """One measurement of a file.

    Attributes:
      protocol: values as the file has them, by their names.
      heads: of the readouts, with the fields of Siemens' measurement data headers.
      samples: of each readout, (coils, samples), complex64, where they lie in the file.
      ended: whether a mark says that the measurement has ended.
    """

    protocol: dict[str, str]
    heads: np.ndarray
    samples: list[np.ndarray]
    ended: bool

    def records(self, layout) -> np.ndarray:
        """The readouts as MRD has them."""
        made, heads = np.zeros(len(self.heads), hdf5.acquisition_dtype), self.heads
        head, counters = made["head"], heads["Counter"]
        for bit, number in ((layout.mask_dict[name], number) for name, number in _FLAGS.items()):
            head["flags"] |= (heads["EvalInfoMask"] >> np.uint64(bit) & np.uint64(1)) << np.uint64(number - 1)
        for name, counter in _COUNTERS.items():
            head["idx"][name] = counters[counter]
        for i, counter in enumerate(_USER_COUNTERS):
            head["idx"]["user"][:, i] = counters[counter]
        head["scan_counter"], head["center_sample"] = heads["ScanCounter"], heads["CenterCol"]
        head["number_of_samples"], head["active_channels"] = heads["SamplesInScan"], heads["UsedChannels"]
        head["discard_pre"], head["discard_post"] = heads["CutOff"]["Pre"], heads["CutOff"]["Post"]
        head["sample_time_us"] = self._dwell_times(flagged(head, NOISE))
        place = heads["SliceData"]
        head["position"] = np.stack([place["SlicePos"][axis] for axis in ("Sag", "Cor", "Tra")], axis=1)
        with np.errstate(all="ignore"):  # `assemble` refuses axes that are not orthogonal unit vectors
            head["phase_dir"], head["read_dir"], head["slice_dir"] = _directions(place["Quaternion"])
        for record, samples in zip(made, self.samples, strict=True):
            record["data"] = np.ascontiguousarray(samples).view(np.float32).ravel()
            record["traj"] = np.zeros(0, np.float32)
        return made

    def _dwell_times(self, is_noise):
        """us; 0 where they are not known."""
        if "pulseq" in self.protocol.get("tSequenceFileName", "").lower():
            return 0
        adjusts = _COIL_ADJUSTMENT in self.protocol.get("tProtocolName", "")
        of_noise = _COIL_ADJUSTMENT_US if adjusts else _NOISE_READOUT_US / np.maximum(self.heads["SamplesInScan"], 1)
        return np.where(is_noise, of_noise, 1e-3 * _number(self.protocol, "sRXSPEC.alDwellTime[0]"))


def _layout(path):
    """What twixtools knows of the format."""
    try:
        from twixtools import hdr_def, mdh_def
    except ImportError as error:
        raise ValueError(
            f"{path}: Siemens TWIX is read with twixtools, which is not installed: pip install 'ganmrf[twix]'"
        ) from error
    return types.SimpleNamespace(
        raid=hdr_def.MultiRaidFileHeader,
        mask_dict=mdh_def.mask_dict,
        of_scan=np.dtype(mdh_def.Scan_header),  # VD and later: one for all channels, and one for each
        of_channel=np.dtype(mdh_def.Channel_header),
        of_both=np.dtype(mdh_def.VB17_header),  # VB: one for each channel
    )


def _measurements(path, layout):
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    try:
        first, count = struct.unpack_from("<2I", content)
        if first >= 10000 or count > layout.raid["entry"].shape[0]:  # a VB file begins with its header
            return [_measurement(content, layout, newer=False)]
        entries = np.frombuffer(content, layout.raid, 1)[0]["entry"][:count]
        places = [(int(entry["off_"]), int(entry["len_"]) or content.size - int(entry["off_"])) for entry in entries]
        if not places or any(start + length > content.size for start, length in places):
            raise ValueError(f"not a whole TWIX file: it has {content.size} bytes, and claims measurements beyond")
        return [_measurement(content[start:][:length], layout, newer=True) for start, length in places]
    except struct.error as error:
        raise ValueError("not a whole TWIX file: a header goes beyond its end") from error


def _measurement(content, layout, *, newer):
    """A measurement, of its own bytes."""
    (place,) = struct.unpack_from("<I", content)
    if not 8 <= place <= content.size:
        raise ValueError(f"not a TWIX file: a header of {place} bytes among {content.size}")
    text = content[:place].tobytes().decode("latin1")
    of_readout, of_channel = (layout.of_scan, layout.of_channel) if newer else (layout.of_both, layout.of_both)
    shared = of_readout.itemsize if newer else 0
    ends, skipped = (np.uint64(1 << layout.mask_dict[name]) for name in ("ACQEND", "SYNCDATA"))
    heads, samples, ended = [], [], False
    while not ended and place + of_readout.itemsize <= content.size:
        head = np.frombuffer(content, of_readout, 1, place)[0]
        ended = bool(head["EvalInfoMask"] & ends)
        row = of_channel.itemsize + 8 * int(head["SamplesInScan"])
        length = shared + int(head["UsedChannels"]) * row
        if ended or head["EvalInfoMask"] & skipped:
            length = int(head["FlagsAndDMALength"]) & _LENGTH_BITS
        if not ended and not of_readout.itemsize <= length <= content.size - place:
            raise ValueError(
                f"not a whole TWIX file: readout {len(heads)} claims {length} bytes, and {content.size - place} follow"
            )
        if not (ended or head["EvalInfoMask"] & skipped):
            rows = content[place + shared : place + length].reshape(-1, row)[:, of_channel.itemsize :]
            heads.append(head)
            samples.append(rows.view(np.complex64))
        place += length
    return _Measurement(_protocol(text), np.array(heads, of_readout), samples, ended)


def _protocol(text):
    """The values of the protocol, the first of each name; without quotation marks."""
    held = re.findall(r"^([\w.\[\]]+)[ \t]*=[ \t]*(\S.*?)[ \t]*$", text, re.MULTILINE)
    return {name: value.strip('"') for name, value in reversed(held)}


def _number(protocol, name):
    """A value of the protocol; 0 where it is missing or no finite number."""
    try:
        value = float(protocol.get(name, 0))
    except ValueError:
        return 0.0
    return value if np.isfinite(value) else 0.0


def _header(protocol):
    """A header of MRD with the sizes of the protocol; without an encoding where these are missing."""
    across, along, thickness = (
        1e-3 * _number(protocol, f"sSliceArray.asSlice[0].{name}")
        for name in ("dPhaseFOV", "dReadoutFOV", "dThickness")
    )
    columns = _number(protocol, "sKSpace.lBaseResolution")
    rows = columns * across / along if along > 0 else 0  # square voxels
    if not all(1 <= count <= _MOST for count in (rows, columns)):
        return types.SimpleNamespace(encoding=[], sequenceParameters=None)
    return new_header((round(rows), round(columns)), (across, along), thickness)


def _directions(quaternions):
    """Phase, read and slice directions, (readouts, 3) each: columns of the rotations of quaternions (w, x, y, z)."""
    w, x, y, z = quaternions.astype(float).T
    return (
        np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], axis=1),
        np.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], axis=1),
        np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], axis=1),
    )
