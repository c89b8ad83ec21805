"""Geometry and sequence in the XML header and the acquisition heads of MRD files; headers to write."""

import warnings

import numpy as np

from ganmrf.io.trajectories import UNITS
from ganmrf.physics.sequences.fisp import Fisp

with warnings.catch_warnings():  # the import changes which warnings a user sees
    from ismrmrd import xsd

_UNITS = "trajectory_units"  # our name for what MRD has no field for
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def sequence_of(parameters, frames: int) -> Fisp | None:
    """The sequence of some frames from a header's parameters (ms, degrees); None where these do not define one."""
    if parameters is None:
        return None
    values = [parameters.flipAngle_deg, parameters.TR, parameters.TE]
    if any(len(value) not in (1, frames) for value in values) or len(parameters.TI) > 1:
        return None
    flip_angle, repetition_time, echo_time = (np.broadcast_to(np.asarray(value), (frames,)) for value in values)
    inversion_time = 1e-3 * parameters.TI[0] if parameters.TI else None
    try:
        return Fisp(np.deg2rad(flip_angle), 1e-3 * repetition_time, 1e-3 * echo_time, inversion_time)
    except ValueError:
        return None


def stated_units(encoding) -> str | None:
    """The units that a header says its trajectory has, as `new_header` does; None where it says none of `UNITS`."""
    described = encoding.trajectoryDescription
    said = [each.value for each in described.userParameterString if each.name == _UNITS] if described else []
    return said[0] if said and said[0] in UNITS else None


def _voxel(matrix, field_of_view, slice_thickness):
    """Size of a voxel along (x, y, z), mm."""
    return 1e3 * np.array([field_of_view[1] / matrix[1], field_of_view[0] / matrix[0], slice_thickness])


def affine_of(head, matrix, field_of_view, slice_thickness):
    """From voxel indices (x, y, z) to positions in mm (RAS), from the head of one acquisition; None without any."""
    axes = np.stack([head["read_dir"], head["phase_dir"], head["slice_dir"]], axis=1).astype(float)
    if not axes.any():
        return None
    if not np.isfinite(head["position"]).all():
        raise ValueError(f"position must be finite; got {head['position'].tolist()}")
    if not (np.isfinite(axes).all() and 0.5 < abs(np.linalg.det(axes)) < 2):
        raise ValueError(f"read_dir, phase_dir and slice_dir must be orthogonal unit vectors; got {axes.T.tolist()}")
    affine = np.eye(4)
    affine[:3, :3] = axes * _voxel(matrix, field_of_view, slice_thickness)
    affine[:3, 3] = head["position"] - affine[:3, :3] @ [matrix[1] // 2, matrix[0] // 2, 0]
    return _LPS_TO_RAS @ affine


def place_of(affine, matrix, field_of_view, slice_thickness):
    """Position and directions, by their names in MRD heads; an empty dict for an affine of None."""
    if affine is None:
        return {}
    affine = np.asarray(affine, float)
    voxel = _voxel(matrix, field_of_view, slice_thickness)
    # The float32 numbers of MRD and NIfTI headers are no more exact than this.
    if affine.shape != (4, 4) or not np.allclose(np.linalg.norm(affine[:3, :3], axis=0), voxel, rtol=1e-4):
        raise ValueError(f"affine must be (4, 4) with voxels of {voxel.tolist()} mm; got {affine.tolist()}")
    affine = _LPS_TO_RAS @ affine
    directions = (affine[:3, :3] / voxel).T
    centre = affine @ [matrix[1] // 2, matrix[0] // 2, 0, 1]
    return {"position": centre[:3], **dict(zip(("read_dir", "phase_dir", "slice_dir"), directions, strict=True))}


def new_header(matrix, field_of_view, slice_thickness, sequence=None):
    """A header with one non-Cartesian encoding (``matrix`` (y, x), sizes in m) and the sequence, if it is FISP."""
    size = dict(zip("xyz", (1e3 * np.array([*field_of_view[::-1], slice_thickness])).tolist(), strict=True))
    space = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=int(matrix[1]), y=int(matrix[0]), z=1), fieldOfView_mm=xsd.fieldOfViewMm(**size)
    )
    encoding = xsd.encodingType(
        encodedSpace=space,
        reconSpace=space,
        encodingLimits=xsd.encodingLimitsType(),
        trajectory=xsd.trajectoryType.OTHER,
        trajectoryDescription=xsd.trajectoryDescriptionType(
            identifier="ganmrf", userParameterString=[xsd.userParameterStringType(name=_UNITS, value="voxel")]
        ),
    )
    header = xsd.ismrmrdHeader(
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=0), encoding=[encoding]
    )
    if isinstance(sequence, Fisp):  # or a reader would take another kind's times and flip angles for those of FISP
        inversion = sequence.inversion_time
        header.sequenceParameters = xsd.sequenceParametersType(
            TR=(1e3 * np.asarray(sequence.repetition_time, float)).tolist(),
            TE=(1e3 * np.asarray(sequence.echo_time, float)).tolist(),
            TI=[] if inversion is None else [1e3 * float(inversion)],
            flipAngle_deg=np.rad2deg(np.asarray(sequence.flip_angle, float)).tolist(),
        )
    return header
