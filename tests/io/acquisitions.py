"""MRD files as the ISMRMRD library writes them, one acquisition at a time, whose samples say which they are."""

import ismrmrd
import numpy as np
from ismrmrd import xsd

FRAMES, READOUTS, COILS, SAMPLES = 4, 2, 3, 5
Y, X = 6, 8
FOV_Y, FOV_X, THICKNESS = 0.24, 0.4, 0.005
EPS = np.finfo(np.float32).eps
IN_ORDER = [[0, 1], [2, 3], [4, 5], [6, 7]]


def header(trajectory="spiral", **changes):
    space = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=X, y=Y, z=1),
        fieldOfView_mm=xsd.fieldOfViewMm(x=1e3 * FOV_X, y=1e3 * FOV_Y, z=1e3 * THICKNESS),
    )
    encoding = xsd.encodingType(
        encodedSpace=space,
        reconSpace=space,
        encodingLimits=xsd.encodingLimitsType(),
        trajectory=xsd.trajectoryType(trajectory),
    )
    return xsd.ismrmrdHeader(
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=123456789),
        encoding=[encoding],
        **changes,
    )


def readout(number, *, traj=True, samples=SAMPLES, coils=COILS, flags=(), idx=None, **head):
    """An acquisition whose samples say which it is: number + coil / 10 + i * sample.

    Its trajectory, in cycles per voxel, reaches the edge of k-space with the last of eight readouts.
    """
    data = (number + np.arange(coils)[:, None] / 10 + 1j * np.arange(samples)).astype(np.complex64)
    points = (np.stack([np.arange(samples), np.full(samples, number)], axis=1) / [10, 14]).astype(np.float32)
    acquisition = ismrmrd.Acquisition.from_array(data, points if traj else None, **head)
    for flag in flags:
        acquisition.set_flag(flag)
    for name, value in (idx or {}).items():
        if name.startswith("user_"):
            acquisition.idx.user[int(name[-1])] = value
        else:
            setattr(acquisition.idx, name, value)
    return acquisition


def save(path, acquisitions, head=None):
    path.unlink(missing_ok=True)
    with ismrmrd.Dataset(str(path)) as dataset:
        dataset.write_xml_header(xsd.ToXML(head or header()).encode())
        for acquisition in acquisitions:
            dataset.append_acquisition(acquisition)
    return path


def scan(counter="repetition"):
    """READOUTS readouts for each of FRAMES frames, number 2 frame + readout."""
    return [
        readout(READOUTS * frame + part, idx={counter: frame, "kspace_encode_step_1": part})
        for frame in range(FRAMES)
        for part in range(READOUTS)
    ]


def numbers(raw):
    """Which readouts a frame is made of, read from the samples."""
    return raw.kspace[:, 0].real.reshape(len(raw.kspace), -1, SAMPLES)[..., 0].astype(int).tolist()


def one_line(error, path):
    return str(path) in str(error.value) and "\n" not in str(error.value)
