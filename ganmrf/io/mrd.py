"""Raw data and images in ISMRMRD's format, MRD: what scanners' converters write and Gadgetron and BART read.

The signal is ``kspace(k) = sum over r of image(r) exp(-2 pi i k r)`` with ``r = (column - nx // 2, row - ny // 2)``
times the voxel size, columns along ``read_dir`` and rows along ``phase_dir``.

References:
  Inati et al. 2017, doi:10.1002/mrm.26089. https://ismrmrd.readthedocs.io.
"""

import dataclasses
import pathlib
import warnings

import h5py
import numpy as np

from ganmrf.files import replacing
from ganmrf.io.mrd_file import read_file, read_header
from ganmrf.io.mrd_frames import NOISE, frame_order, points_of, records_of_slice
from ganmrf.io.mrd_header import affine_of, new_header, place_of, sequence_of, stated_units
from ganmrf.io.mrd_noise import noise_of
from ganmrf.io.mrd_xml import encoding_of, parse_header
from ganmrf.io.trajectories import UNITS, GivenTrajectory, read_trajectory, stored_per_metre
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.tissue import FACTS

with warnings.catch_warnings():  # the import changes which warnings a user sees
    import ismrmrd
    from ismrmrd import hdf5, xsd

_UNITS = {facts.suffix: facts.unit for facts in FACTS.values() if facts.unit}  # of maps
_MOST = 2**16 - 1  # frames, coils, samples or readouts: MRD counts each in 16 bits


@dataclasses.dataclass(frozen=True)
class RawData:
    """One 2-D slice of raw data, frame by frame.

    Attributes:
      kspace: (frames, coils, samples), complex64, finite; the samples of all readouts of a frame, one after the other.
      trajectory: kx and ky of each sample, 1/m, (frames, samples, 2), float32; None where it is not known.
      matrix: (y, x), of the image.
      field_of_view: along (y, x), m.
      slice_thickness: m.
      dwell_time: between samples, s; None where it is not known.
      affine: (4, 4), from voxel indices (x, y, z) to positions in mm, as in NIfTI (RAS); None where it is not known.
      sequence: the sequence that was played; None where the file does not say it for these frames. Files hold
        FISP alone.
      trajectory_units: units of the trajectory before it was converted, given or found; None where there was none.
      noise: samples of noise alone, (coils, samples), complex64, with the variance and covariance that the noise has in
        ``kspace``; None where there are none.

    Raises:
      ValueError: arrays whose shapes disagree or that are not finite, or sizes that are not positive.
    """

    kspace: np.ndarray
    trajectory: np.ndarray | None
    matrix: tuple[int, int]
    field_of_view: tuple[float, float]
    slice_thickness: float
    dwell_time: float | None = None
    affine: np.ndarray | None = None
    sequence: PulseSequence | None = None
    trajectory_units: str | None = None
    noise: np.ndarray | None = None

    def __post_init__(self):
        kspace = np.asarray(self.kspace, np.complex64)
        object.__setattr__(self, "kspace", kspace)
        if kspace.ndim != 3 or kspace.size == 0:
            raise ValueError(f"kspace must be (frames, coils, samples), not empty; got shape {kspace.shape}")
        if (wrong := ~np.isfinite(kspace)).any():
            first = np.argmax(wrong.any(axis=(1, 2)))
            raise ValueError(
                f"kspace: {np.count_nonzero(wrong)} of {kspace.size} values are NaN or infinite, first in frame {first}"
            )
        if self.noise is not None:
            noise = np.asarray(self.noise, np.complex64)
            object.__setattr__(self, "noise", noise)
            if noise.ndim != 2 or len(noise) != kspace.shape[1] or not noise.size:
                raise ValueError(f"noise must be (coils, samples) of {kspace.shape[1]} coils; got shape {noise.shape}")
            if unfit := np.count_nonzero(~np.isfinite(noise)):
                raise ValueError(f"noise: {unfit} of {noise.size} values are NaN or infinite")
        if self.trajectory is not None:
            trajectory = np.asarray(self.trajectory, np.float32)
            object.__setattr__(self, "trajectory", trajectory)
            if trajectory.shape != (expected := (len(kspace), kspace.shape[2], 2)):
                raise ValueError(f"trajectory must be (frames, samples, 2) = {expected}; got {trajectory.shape}")
            if unfit := np.count_nonzero(~np.isfinite(trajectory)):
                raise ValueError(f"trajectory: {unfit} of {trajectory.size} values are NaN or infinite")
        for name in ("matrix", "field_of_view"):
            if len(lengths := getattr(self, name)) != 2:
                raise ValueError(f"{name} must be (y, x); got {lengths}")
        for name in ("matrix", "field_of_view", "slice_thickness"):
            value = getattr(self, name)
            if not all(0 < size < np.inf for size in np.ravel(value)):
                raise ValueError(f"{name} must be positive and finite; got {value}")
        if self.sequence is not None and self.sequence.n_frames != len(kspace):
            raise ValueError(f"sequence has {self.sequence.n_frames} frames, but kspace has {len(kspace)}")

    @property
    def voxel_size(self) -> tuple[float, float]:
        """Of the image, along (y, x), m."""
        return tuple(size / count for size, count in zip(self.field_of_view, self.matrix, strict=True))


def read_mrd(
    path,
    *,
    trajectory=None,
    trajectory_units: str | None = None,
    frame_counter: str | None = None,
    slice_index: int | None = None,
    dataset: str | None = None,
    header=None,
    skip_readouts: int | None = None,
    matrix=None,
    field_of_view=None,
) -> RawData:
    """Reads one slice of raw data, from HDF5 or an ISMRMRD stream, and puts it in order, frame by frame.

    Left out are readouts flagged as noise, parallel calibration alone, navigation, phase correction, feedback, dummy
    scan, surface coil correction or phase stabilisation; those in front (``skip_readouts``); then all readouts but
    those of the first encoding space; and of each readout the samples that ``discard_pre`` and ``discard_post`` count.
    Oversampled readouts stay oversampled: the trajectory says where the samples lie. What is missing or malformed in
    the header and not needed is left out, with a warning.

    Args:
      path: the file; its content tells HDF5 from a stream, not its suffix.
      trajectory: of the samples that are read, in the order of `RawData`: a `GivenTrajectory`, an array of its values,
        or a file for `read_trajectory`. None takes the trajectory of the file; for a Cartesian file without one, None
        computes it from ``kspace_encode_step_1``, ``center_sample`` and the encoded field of view.
      trajectory_units: of the trajectory, unless a `GivenTrajectory` says its own: ``voxel``, cycles per voxel (+-0.5,
        as in Gadgetron); ``k/kmax`` (+-1); ``rad/voxel`` (+-pi); ``fov``, cycles per field of view (+-matrix/2, as in
        BART), all of the encoded space; ``1/m``, ``1/cm``, ``1/mm`` or ``rad/m``. MRD files do not name their units.
        None takes those that `write_mrd` noted, or else those that reach the edge of k-space.
      frame_counter: the counter that numbers the frames: repetition, contrast, phase, set, average, segment,
        kspace_encode_step_1, user_0 to user_7, or acquisition (each readout is a frame, in the order of the scan). None
        takes the counter among repetition, contrast, phase, set and user_0 to user_7 that varies, preferably one with
        equally many readouts at each value. Where none varies, a Cartesian scan is one frame; for any other scan
        average, segment and kspace_encode_step_1 are tried in the same way, and then acquisition.
      slice_index: value of the counter ``slice``, where it has several.
      dataset: the group of the HDF5 file; None for ``dataset``.
      header: a file whose XML header takes the place of that in ``path``: MRD, or the XML itself.
      skip_readouts: how many readouts of the file are left out in front, flagged ones counted too. None leaves out,
        with a warning, those that are not flagged and have all another size than the scan, which has more.
      matrix: whole number, or (y, x), that overrules the header's matrix of the image; that of the encoding, in which
        trajectories are measured, changes with it.
      field_of_view: m, one number or (y, x), in the same way.

    Returns:
      The raw data. ``noise`` is from the readouts flagged as noise, or else from those in front that hold no signal,
      scaled to the dwell time of the scan (`noise_of`). ``affine`` has the centre of the slice in voxel
      (nx // 2, ny // 2). ``sequence`` is None unless the header has TR, TE and flip angle, each once or for every
      frame, with values that a `Fisp` can have. (Some converters write one flip angle where the scan had many.)

    Raises:
      ValueError: a file that is missing, truncated or without MRD raw data in the group; a header without sizes, or
        with parameters of the sequence that are no numbers; readouts with different numbers of coils or samples;
        several slices or partitions; frames missing, doubled or incomplete, or no clear choice of a counter; no
        trajectory, or one of another shape; values that are not finite. The line names the file.
    """
    path = pathlib.Path(path)
    trajectory = as_given(trajectory, trajectory_units)
    xml, records = read_file(path, dataset)
    source, of_header, notes = path, [], []
    if header is not None:
        source, xml = header, read_header(header, dataset)
    if xml is None:
        raise ValueError(f"{source}: no XML header: give a file that has it with --header=FILE")
    try:
        parsed = parse_header(xml, of_header)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    try:
        chosen, front = records_of_slice(records, slice_index, skip_readouts, notes)
        encoding = encoding_of(parsed, int(chosen["head"]["encoding_space_ref"][0]), matrix, field_of_view, notes)
        noise = noise_of(records, front, chosen["head"][0], parsed.acquisitionSystemInformation, notes)
        raw = assemble(parsed, encoding, chosen, noise, trajectory, trajectory_units, frame_counter)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for line in [*(f"{source}: {note}" for note in of_header), *(f"{path}: {note}" for note in notes)]:
        warnings.warn(line, stacklevel=2)
    return raw


def write_mrd(path, raw: RawData):
    """Writes raw data, whole or not at all; `read_mrd` gives it back, the trajectory to the rounding of float32.

    A frame is one readout, numbered by ``repetition``; noise comes first, in readouts flagged so. The trajectory is
    stored in cycles per voxel. The frequency of the protons, which MRD demands, is written as 0: unknown. A trajectory
    that is not written has to be given when the file is read. A sequence of another kind than FISP is not written.

    Raises:
      ValueError: a folder that cannot be written, more frames, coils or samples of a frame than MRD can count (65535),
        a trajectory beyond one cycle per voxel, or an affine whose voxels have another size than the field of view
        gives.
    """
    frames, coils, samples = raw.kspace.shape
    for name, count in (("frames", frames), ("coils", coils), ("samples of a frame", samples)):
        if count > _MOST:
            raise ValueError(f"{path}: {count} {name}, but MRD counts up to {_MOST}")
    header = new_header(raw.matrix, raw.field_of_view, raw.slice_thickness, raw.sequence)
    header.acquisitionSystemInformation = xsd.acquisitionSystemInformationType(receiverChannels=coils)
    limits = header.encoding[0].encodingLimits
    limits.repetition = xsd.limitType(maximum=frames - 1)
    limits.kspace_encoding_step_1 = xsd.limitType(maximum=0)
    noise = [] if raw.noise is None else np.split(raw.noise, range(_MOST, raw.noise.shape[1], _MOST), axis=1)
    records = np.zeros(len(noise) + frames, hdf5.acquisition_dtype)
    _fill_heads(records["head"], raw, [part.shape[1] for part in noise])
    points = np.zeros((frames, 0), np.float32)
    if raw.trajectory is not None:
        points = (raw.trajectory * (np.divide(raw.field_of_view, raw.matrix)[::-1])).astype(np.float32)
        if (beyond := np.abs(points).max()) > 1:
            raise ValueError(f"{path}: trajectory reaches {beyond:.3g} cycles per voxel; the most is 1")
        points = points.reshape(frames, -1)
    empty = [points[0, :0]] * len(noise)
    for record, data, traj in zip(records, map(_numbers, [*noise, *raw.kspace]), [*empty, *points], strict=True):
        record["data"], record["traj"] = data, traj
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        group, xml = file.create_group("dataset"), [xsd.ToXML(header).encode()]
        group.create_dataset("xml", data=xml, dtype=h5py.string_dtype("ascii"), maxshape=(None,))
        group.create_dataset("data", data=records, maxshape=(None,))


def write_mrd_images(path, maps: dict, *, field_of_view, slice_thickness: float, affine=None):
    """Writes maps of one slice, (y, x) arrays by name, as MRD images, one group a map, whole or not at all.

    Maps of tissue parameters, ``T1map`` and so on, are in SI units, and their attributes say so. Real maps are stored
    in float32, complex ones in complex64. Field of view, m, slice thickness, m, and affine are as in `RawData`.

    Raises:
      ValueError: no maps, maps of different shapes or with other axes, a folder that cannot be written, or an affine
        whose voxels have another size than the field of view gives.
    """
    maps = {name: np.asarray(values) for name, values in maps.items()}
    shapes = {values.shape for values in maps.values()}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 2:
        held = ", ".join(f"{name} {values.shape}" for name, values in maps.items())
        raise ValueError(f"{path}: maps must be (y, x), all alike, one at least; got {held or 'none'}")
    head = {name: tuple(vector) for name, vector in place_of(affine, shape, field_of_view, slice_thickness).items()}
    head |= {"image_index": 1, "field_of_view": tuple(np.multiply(1e3, (*field_of_view[::-1], slice_thickness)))}
    with replacing(path) as temporary, ismrmrd.Dataset(str(temporary), mode="w") as dataset:
        dataset.write_xml_header(xsd.ToXML(new_header(shape, field_of_view, slice_thickness)).encode())
        for series, (name, values) in enumerate(maps.items()):
            unit = {"Unit": _UNITS[name]} if name in _UNITS else {}
            meta = ismrmrd.Meta({"DataRole": ["Quantitative"], "SeriesDescription": [name], **unit})
            head |= {"image_series_index": series, "attribute_string_len": len(meta.serialize())}
            head["image_type"] = ismrmrd.IMTYPE_COMPLEX if np.iscomplexobj(values) else ismrmrd.IMTYPE_REAL
            stored = values.astype(np.complex64 if np.iscomplexobj(values) else np.float32)
            image = ismrmrd.Image.from_array(stored, **head)
            image.meta = meta
            dataset.append_image(name, image)


def as_given(trajectory, units: str | None) -> GivenTrajectory | None:
    """A trajectory as `read_mrd` takes it, with its units."""
    if units is not None and units not in UNITS:
        raise ValueError(f"--trajectory_units must be one of {', '.join(UNITS)}; got {units!r}")
    if isinstance(trajectory, (str, pathlib.Path)):
        return read_trajectory(trajectory, units=units)
    if trajectory is not None and not isinstance(trajectory, GivenTrajectory):
        return GivenTrajectory(trajectory, units)
    return trajectory


def assemble(header, encoding, records, noise, trajectory: GivenTrajectory | None, units, counter) -> RawData:
    """The raw data of the acquisitions of one slice, with the other arguments of `read_mrd`."""
    head = records["head"]
    cartesian = encoding.trajectory == xsd.trajectoryType.CARTESIAN
    order = frame_order(head, counter, encoding.encodingLimits, cartesian=cartesian)
    frames, readouts = order.shape
    coils, length = int(head["active_channels"][0]), int(head["number_of_samples"][0])
    samples = slice(int(head["discard_pre"][0]), length - int(head["discard_post"][0]))
    if samples.start >= samples.stop:
        raise ValueError(f"discard_pre and discard_post leave none of the {length} samples of a readout")
    kspace = np.concatenate(list(records["data"][order.ravel()])).astype(np.float32, copy=False).view(np.complex64)
    kspace = kspace.reshape(frames, readouts, coils, length)[..., samples].swapaxes(1, 2).reshape(frames, coils, -1)
    dwell_time = 1e-6 * float(head["sample_time_us"][0])
    encoded = encoding.encodedSpace
    space = (
        (encoded.matrixSize.x, encoded.matrixSize.y),
        (
            1e-3 * encoded.fieldOfView_mm.x,
            1e-3 * encoded.fieldOfView_mm.y,
        ),
    )
    if trajectory is None:
        points, units = points_of(records, order, samples, encoding, units)
        points, units = stored_per_metre(points, units or stated_units(encoding), *space)
    else:
        points, units = trajectory.per_metre(frames, kspace.shape[2], dwell_time, *space)
    matrix, size = encoding.reconSpace.matrixSize, encoding.reconSpace.fieldOfView_mm
    image = {
        "matrix": (matrix.y, matrix.x),
        "field_of_view": (1e-3 * size.y, 1e-3 * size.x),
        "slice_thickness": 1e-3 * size.z / max(matrix.z, 1),
    }
    return RawData(
        kspace=kspace,
        trajectory=points,
        trajectory_units=units,
        **image,
        dwell_time=dwell_time if dwell_time > 0 else None,
        affine=affine_of(head[0], **image),
        sequence=sequence_of(header.sequenceParameters, frames),
        noise=noise,
    )


def _numbers(samples):
    return np.ascontiguousarray(samples).view(np.float32).ravel()


def _fill_heads(head, raw, noise):
    """Heads of readouts of noise, of so many samples, and then of frames."""
    frames, coils, samples = raw.kspace.shape
    head["version"], head["scan_counter"] = 1, np.arange(len(head))
    head["number_of_samples"] = [*noise, *[samples] * frames]
    head["available_channels"] = head["active_channels"] = coils
    head["sample_time_us"] = 0 if raw.dwell_time is None else 1e6 * raw.dwell_time
    head["flags"][: len(noise)] = np.uint64(1 << (NOISE - 1))
    head = head[len(noise) :]
    head["trajectory_dimensions"] = 0 if raw.trajectory is None else 2
    head["idx"]["repetition"] = np.arange(frames)
    for field, value in place_of(raw.affine, raw.matrix, raw.field_of_view, raw.slice_thickness).items():
        head[field] = value
    for flag, rows in (
        (ismrmrd.ACQ_FIRST_IN_REPETITION, slice(None)),
        (ismrmrd.ACQ_LAST_IN_REPETITION, slice(None)),
        (ismrmrd.ACQ_LAST_IN_MEASUREMENT, slice(-1, None)),
    ):
        head["flags"][rows] |= np.uint64(1 << (flag - 1))
