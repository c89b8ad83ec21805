"""A pulse sequence in a dictionary's file: its kind, its values as arrays, and how they belong together.

Arrays are called as the fields that hold them, with their unit: ``flip_angle_rad``. Those of a part of a sequence have
its name and place in front: ``blocks_0_flip_angle_rad``. Phases of half turns are counted: ``rf_phase_half_turns``. How
arrays belong together is text, which FISP does without unless it says the power of its pulses: older files of FISP
have none. A power of pulses that is not known is left out, so that older versions read the rest.
"""

import contextlib
import json

import numpy as np

from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.kinds import KINDS, PARTS, kind_of
from ganmrf.pytrees import array_nodes, arrays_and_structure, tree_of

TEXTS = ("kind", "structure")  # variables of text: a name of `KINDS`; how arrays belong together, in JSON
DTYPES = ("float32", "float64", "int64", "bool")  # of the arrays

_UNITS = {  # name of a field: what is added to it
    "flip_angle": "rad",
    "refocusing_angle": "rad",
    "excitation_angle": "rad",
    "rf_phase": "rad",
    "receiver_phase": "rad",
    "repetition_time": "s",
    "echo_time": "s",
    "inversion_time": "s",
    "echo_spacing": "s",
    "rr_intervals": "s",
    "time": "s",
    "wait": "s",
    "pulse_duration": "s",
    "saturation_angle": "rad",
}
# Fields of sequences and their parts that say the power of pulses, by which a semisolid pool is saturated: all None
# where nothing is said.
_POWER = "pulse_duration", "pulse_shape", "saturation_angle", "inversion_saturation", "saturation"
_POWER_NAMES = tuple(f"{name}_{_UNITS[name]}" if name in _UNITS else name for name in _POWER)
NAMES = {  # of any kind, but for parts
    "rf_phase_half_turns",
    *(f"{name}_{unit}" for name, unit in _UNITS.items()),
    *_POWER_NAMES,
}
_OF_FISP = ("flip_angle", "repetition_time", "echo_time", "inversion_time")
_LONGEST = 2**24  # characters of the structure: a block takes a thousand


def fields_of_sequence(sequence: PulseSequence) -> dict[str, np.ndarray]:
    """A sequence as arrays by their names in files, `TEXTS` among them; one of another class is that of its blocks."""
    if type(sequence) not in KINDS.values():
        sequence = sequence.as_blocks()
    fields, structure = arrays_and_structure(sequence, _variable)
    for node in array_nodes(structure):
        node["jax"] = True  # of NumPy's phases, a constructor would make half turns where it can
    _leave_out_unknown_power(structure)
    fields["kind"] = np.asarray(kind_of(sequence))
    if not isinstance(sequence, Fisp) or has_power(fields):
        fields["structure"] = np.asarray(json.dumps(structure))
    return fields


def _leave_out_unknown_power(structure):
    """Removes from a structure the fields that say the power of pulses, of sequences and parts that do not say it."""
    for part in structure.values() if isinstance(structure, dict) else structure:
        if isinstance(part, dict | list):
            _leave_out_unknown_power(part)
    if isinstance(structure, dict) and "class" in structure:
        fields = structure["fields"]
        if not any(name in _POWER and "array" in node for name, node in fields):
            structure["fields"] = [[name, node] for name, node in fields if name not in _POWER]


def has_power(names) -> bool:
    """Whether some of the names of a file's variables say the power of pulses."""
    return any(name.endswith(_POWER_NAMES) for name in names)


def variables_of(path, texts) -> dict[str, tuple[int, str | None]]:
    """Names of the arrays of a file's sequence: number of axes and dtype of each, None where it may be any of floats.

    ``texts`` has the file's `TEXTS`, those that there are.

    Raises:
      ValueError: a kind that this version does not know, or a structure that is damaged. The message names the path.
    """
    kind, structure = _kind_and_structure(path, texts)
    if structure is None:
        return {_variable([name]): (int(name != "inversion_time"), None) for name in _OF_FISP}
    with _telling(path):
        found = {node["array"]: (len(node["shape"]), node["dtype"]) for node in array_nodes(structure)}
        names_and_dtypes = all(map(str.isidentifier, found)) and {dtype for _, dtype in found.values()} <= {*DTYPES}
        if structure["class"] != KINDS[kind].__name__ or not names_and_dtypes:
            raise TypeError(f"it is none of a sequence of kind {kind}")
    return found


def sequence_of(path, fields) -> PulseSequence:
    """The sequence of `fields_of_sequence`, which may be among other fields; errors name the path.

    Raises:
      ValueError: as `variables_of`; arrays that are missing, or values that no sequence of its kind has.
    """
    _, structure = _kind_and_structure(path, fields)
    arrays = {name: fields[name] for name in variables_of(path, fields) if name in fields}
    with _telling(path):
        if structure is None:
            return Fisp(*(arrays.get(_variable([name])) for name in _OF_FISP))
        return tree_of(arrays, structure, (*KINDS.values(), *PARTS))


def text_of(path, texts, name: str, otherwise: str | None) -> str | None:
    """The text of a file's variable of that name, or ``otherwise`` where there is none.

    Raises:
      ValueError: a variable that is not one text, or is far longer than any; the message names the path.
    """
    if name not in texts:
        return otherwise
    text = texts[name]
    if text.ndim or text.dtype.kind != "U" or text.dtype.itemsize > 4 * _LONGEST:
        raise ValueError(f"{path}: {name} must be text, {_LONGEST} characters at most")
    return str(text)


def _kind_and_structure(path, texts):
    """The kind of a sequence and its structure, None of FISP that has none."""
    kind = text_of(path, texts, "kind", "fisp")
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise ValueError(f"{path}: its sequence is of kind {kind!r:.40}; this version knows {known}: update ganmrf")
    if kind == "fisp" and "structure" not in texts:
        return kind, None
    with _telling(path):
        structure = json.loads(text_of(path, texts, "structure", ""))
        if kind == "fisp" and ("kind" not in texts or structure["class"] != Fisp.__name__):
            raise ValueError("its sequence has a structure of another kind, but its kind is fisp, or missing: damaged")
        return kind, structure


@contextlib.contextmanager
def _telling(path):
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: the structure of its sequence is damaged ({error!s:.200})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _variable(path):
    """Name of the array to which a path of fields and places leads."""
    *parts, last = path
    last = "half_turns" if last == "counts" else f"{last}_{_UNITS[last]}" if last in _UNITS else last
    return "_".join([*parts, last])
