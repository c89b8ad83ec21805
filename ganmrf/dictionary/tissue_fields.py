"""The tissue of a dictionary in its file: its kind, and an array for each of its parameters.

Arrays are called as the fields that hold them, with their unit: ``t1_s``. A parameter but T1 and T2 may be one number
for all atoms. The kind is text, which tissue of one pool does without: older files have none.
"""

import dataclasses

import numpy as np

from ganmrf.dictionary.sequence_fields import text_of
from ganmrf.physics.tissue import TISSUES, TissueModel, kind_of_tissue, parameters, variable_name

KIND = "tissue"  # variable of text: a name of `TISSUES`
_PLAIN = "one_pool"  # the kind of a file that says none
_VARIABLES = {
    kind: {variable_name(name, each): name for name, each in parameters(cls).items()} for kind, cls in TISSUES.items()
}
NAMES = tuple(dict.fromkeys(name for variables in _VARIABLES.values() for name in variables))  # of any kind
# Arrays that may also be one number for all atoms -> the variable that says whether they have one for each.
OR_ONE = {name: f"{name}_per_atom" for name in NAMES if name not in ("t1_s", "t2_s")}
OPTIONAL = {  # what tissue may do without
    variable_name(field.name, parameters(cls)[field.name])
    for cls in TISSUES.values()
    for field in dataclasses.fields(cls)
    if field.default is None
}


def fields_of_tissue(tissue: TissueModel) -> dict[str, np.ndarray]:
    """Tissue as arrays by their names in files, `KIND` among them but for one pool; what is None is absent."""
    kind = kind_of_tissue(tissue)
    found = {name: getattr(tissue, field) for name, field in _VARIABLES[kind].items()}
    found = {name: np.asarray(value) for name, value in found.items() if value is not None}
    return found | ({} if kind == _PLAIN else {KIND: np.asarray(kind)})


def tissue_variables(path, texts) -> tuple[str, ...]:
    """Names of the arrays that a file's tissue has, those of `OPTIONAL` among them.

    ``texts`` has the file's `KIND`, where there is one.

    Raises:
      ValueError: a kind that this version does not know. The message names the path.
    """
    return tuple(_VARIABLES[_kind_of(path, texts)])


def tissue_of(path, fields) -> TissueModel:
    """The tissue of `fields_of_tissue`, which may be among other fields.

    Raises:
      ValueError: as `tissue_variables`, or values that no tissue has. The message names the path.
    """
    kind = _kind_of(path, fields)
    try:
        return TISSUES[kind](**{field: fields[name] for name, field in _VARIABLES[kind].items() if name in fields})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _kind_of(path, texts):
    kind = text_of(path, texts, KIND, _PLAIN)
    if kind not in TISSUES:
        known = ", ".join(TISSUES)
        raise ValueError(f"{path}: its tissue is of kind {kind!r:.40}; this version knows {known}: update ganmrf")
    return kind
