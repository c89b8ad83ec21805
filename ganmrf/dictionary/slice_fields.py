"""The slice of a dictionary in its file: the name of its model, and its pulse and spoiler as arrays.

Arrays are called as the fields that hold them, behind ``slice_``; turns are those of the dephasing across one slice
thickness, and lengths are in slice thicknesses. A `SliceProfile` is ``slice_nodes`` and ``slice_weights`` without a
model, and a uniform slice is none of them: older files have no more.
"""

import dataclasses

import numpy as np

from ganmrf.dictionary.sequence_fields import text_of
from ganmrf.physics.rf_pulse import RfPulse
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, SliceModel, SliceProfile

MODEL = "slice_model"  # variable of text: a name of `MODELS`
MODELS = {"full": FullSlice, "partitioned": PartitionedSlice}
SAMPLES = "slice_pulse_samples"

_OF_PULSE = (SAMPLES, "slice_time_bandwidth")
_DTYPES = {"turns": "float64", "n_positions": "int64", "phases": "bool", "extent": "float64"}  # of a model's fields
NAMES = {*_OF_PULSE, *(f"slice_{name}" for name in _DTYPES)}  # of any model


def model_of(profile: SliceModel | None) -> str | None:
    """The name of a slice's model as in flags; None of a uniform slice."""
    names = {cls: name for name, cls in MODELS.items()} | {SliceProfile: "small_tip", type(None): None}
    return names[type(profile)]


def fields_of_slice(profile: SliceModel | None) -> dict[str, np.ndarray]:
    """A slice as arrays by their names in files, `MODEL` among them."""
    if profile is None:
        return {}
    if isinstance(profile, SliceProfile):
        return {"slice_nodes": np.asarray(profile.nodes), "slice_weights": np.asarray(profile.weights)}
    pulse = profile.pulse.samples, np.asarray(profile.pulse.time_bandwidth)
    fields = {MODEL: np.asarray(model_of(profile))} | dict(zip(_OF_PULSE, pulse, strict=True))
    return fields | {f"slice_{name}": np.asarray(getattr(profile, name), _DTYPES[name]) for name in _own(type(profile))}


def same_slice(one: SliceModel | None, other: SliceModel | None) -> bool:
    """Whether two slices are the same but for the rounding of float32, and of other machines."""
    ours, theirs = map(fields_of_slice, (one, other))
    return model_of(one) == model_of(other) and all(
        np.shape(values) == np.shape(theirs[name]) and np.allclose(values, theirs[name], rtol=1e-5, atol=1e-9)
        for name, values in ours.items()
        if name != MODEL
    )


def slice_variables(path, texts) -> dict[str, tuple[int, str | None]]:
    """Names of the arrays of a file's model: number of axes and dtype of each, None of samples, which are any numbers.

    ``texts`` has the file's `MODEL`, where there is one.

    Raises:
      ValueError: a model that this version does not know. The message names the path.
    """
    model = text_of(path, texts, MODEL, None)
    if model is None:
        return {}
    if model not in MODELS:
        known = ", ".join(MODELS)
        raise ValueError(f"{path}: its slice is of model {model!r:.40}; this version knows {known}: update ganmrf")
    own = {f"slice_{name}": (0, _DTYPES[name]) for name in _own(MODELS[model])}
    return dict(zip(_OF_PULSE, ((1, None), (0, "float64")), strict=True)) | own


def slice_of(path, fields) -> SliceModel | None:
    """The slice of `fields_of_slice`, which may be among other fields.

    Raises:
      ValueError: as `slice_variables`; both a model and nodes, or a field with a value that no slice has. The message
        names the path.
    """
    variables = slice_variables(path, fields)
    if variables and "slice_nodes" in fields:
        raise ValueError(f"{path}: {MODEL} is for a slice without slice_nodes: damaged")
    numbers = {name: _number(path, name, fields[name], dtype) for name, (axes, dtype) in variables.items() if not axes}
    try:
        if not variables:
            return SliceProfile(fields["slice_nodes"], fields["slice_weights"]) if "slice_nodes" in fields else None
        pulse, cls = RfPulse(fields[SAMPLES], numbers[_OF_PULSE[1]]), MODELS[str(fields[MODEL])]
        return cls(pulse, **{name: numbers[f"slice_{name}"] for name in _own(cls)})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _own(cls):
    """Names of a model's fields beside its pulse."""
    return [field.name for field in dataclasses.fields(cls) if field.name != "pulse"]


def _number(path, name, array, dtype):
    """The number of an array as Python has it: models hold Python's, and some of theirs are part of a tree's shape."""
    if array.ndim == 0 and array.dtype.kind in "biuf":
        with np.errstate(invalid="ignore"):  # of numbers that the dtype does not have
            cast = array.astype(dtype)
        if cast == array or dtype == "float64":
            return cast.item()
    raise ValueError(f"{path}: {name} must be one number, {dtype}; got {array.dtype} of shape {array.shape}: damaged")
