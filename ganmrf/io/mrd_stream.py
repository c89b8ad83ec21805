"""The header and the acquisitions of an ISMRMRD stream: messages, as they are sent to Gadgetron, kept in a file.

References:
  https://ismrmrd.readthedocs.io, "Message Types". siemens_to_ismrmrd writes streams since version 1.3.
"""

import math
import struct
import warnings

import numpy as np

with warnings.catch_warnings():  # the import changes which warnings a user sees
    from ismrmrd import hdf5

_HEADER, _CLOSE, _ACQUISITION = 3, 4, 1008
_HEAD = hdf5.acquisition_header_dtype
_DATA_BYTES = {1: 2, 2: 2, 3: 4, 4: 4, 5: 4, 6: 8, 7: 8, 8: 16}  # of one value of images and arrays, by data_type


def is_stream(path) -> bool:
    """Whether a file begins with the number of a message."""
    with open(path, "rb") as file:
        start = file.read(2)
    return len(start) == 2 and struct.unpack("<H", start)[0] in _BODIES


def read_stream(path) -> tuple[bytes | None, np.ndarray]:
    """The XML header, None without any, and all acquisitions as ``h5py`` gives those of an HDF5 file.

    Values are read where they lie in the file, so that nothing is allocated for what a message claims.

    Raises:
      ValueError: a message that is cut off or of an unknown kind. The line names the file.
    """
    content, place, xml, found = np.memmap(path, np.uint8, "r"), 0, None, []
    try:
        while place < content.size:
            (kind,) = struct.unpack_from("<H", content, place)
            if kind == _CLOSE:
                break
            if kind not in _BODIES:
                raise ValueError(f"{path}: not a whole ISMRMRD stream (at byte {place} a message of kind {kind})")
            start = place + 2
            end = start + _BODIES[kind](content, start)
            if end > content.size:
                raise struct.error
            if kind == _HEADER and xml is None:
                xml = content[start + 4 : end].tobytes().rstrip(b"\0")
            if kind == _ACQUISITION:
                found.append((start, end))
            place = end
    except struct.error as error:
        raise ValueError(
            f"{path}: not a whole ISMRMRD stream (the message at byte {place} goes beyond the end)"
        ) from error
    if (left := content.size - place - 2) != 0:
        closing = f"{left} bytes follow its closing message" if left > 0 else "no closing message: it may be cut off"
        warnings.warn(f"{path}: an ISMRMRD stream with {closing}", stacklevel=2)
    return xml, _records(content, found)


def _records(content, found):
    records = np.zeros(len(found), hdf5.acquisition_dtype)
    for record, (start, end) in zip(records, found, strict=True):
        record["head"] = np.frombuffer(content, _HEAD, 1, start)[0]
        values = np.frombuffer(content[start + _HEAD.itemsize : end], "<f4")
        points = int(record["head"]["trajectory_dimensions"]) * int(record["head"]["number_of_samples"])
        record["traj"], record["data"] = values[:points], values[points:]
    return records


def _text(content, start):
    return 4 + struct.unpack_from("<I", content, start)[0]


def _acquisition(content, start):
    samples, channels, dimensions = (
        struct.unpack_from("<H", content, start + _HEAD.fields[name][1])[0]
        for name in ("number_of_samples", "active_channels", "trajectory_dimensions")
    )
    return _HEAD.itemsize + 4 * samples * (dimensions + 2 * channels)


def _image(content, start):
    head, fields = hdf5.image_header_dtype.itemsize, hdf5.image_header_dtype.fields
    (data_type,) = struct.unpack_from("<H", content, start + fields["data_type"][1])
    size = struct.unpack_from("<3H", content, start + fields["matrix_size"][1])
    (channels,) = struct.unpack_from("<H", content, start + fields["channels"][1])
    (attributes,) = struct.unpack_from("<Q", content, start + head)
    return head + 8 + attributes + math.prod(size) * channels * _DATA_BYTES.get(data_type, 0)


def _waveform(content, start):
    samples, channels = struct.unpack_from("<28xHH", content, start)
    return 40 + 4 * samples * channels


def _array(content, start):
    data_type, _, axes = struct.unpack_from("<3H", content, start)
    shape = struct.unpack_from(f"<{axes}Q", content, start + 6)
    return 6 + 8 * axes + math.prod(shape) * _DATA_BYTES.get(data_type, 0)


# The bytes that follow the number of a message, by that number: name of a configuration, configuration, header, text,
# and so on.
_BODIES = {
    1: lambda *_: 1024,
    2: _text,
    _HEADER: _text,
    5: _text,
    _ACQUISITION: _acquisition,
    1022: _image,
    1026: _waveform,
    1030: _array,
}
