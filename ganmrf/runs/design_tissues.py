"""Tissues that a sequence is designed for, by name, as a flag writes them."""

import numpy as np

from ganmrf.imaging.phantom import BRAIN_TISSUES
from ganmrf.imaging.phantom import TISSUES as TIMES
from ganmrf.physics.tissue import TISSUES, TissueModel, parameters

_OF_SCAN = "b1", "shift", "off_resonance"  # what a design does not take from a tissue
# T1, T2, the fraction of pool b, the exchange rate and what pool b is like, in the units of flags. Semisolid: white and
# grey matter at 3 T of doi:10.1002/mrm.28096, arXiv:2301.08394 and arXiv:2409.05318, whose T1 is that of the mobile
# pool alone. Exchanging: myelin water of white matter, doi:10.1002/mrm.27040.
_DEFAULTS = {
    "one_pool": tuple("{}:{:g}/{:g}".format(name, *(1e3 * t for t in TIMES[name][:2])) for name in BRAIN_TISSUES),
    "exchanging": ("white matter:1100/80/0.15/10/400/15",),
    "semisolid": ("white matter:1840/70/0.21/14/340/15.1", "grey matter:1900/80/0.1/14/350/15.1"),
}


def _fields(kind):
    return {field: parameter for field, parameter in parameters(kind).items() if field not in _OF_SCAN}


def form_of(kind: type[TissueModel]) -> str:
    """How a tissue of a kind is written: ``name:T1/T2 in ms``."""
    facts = _fields(kind).values()
    units = dict.fromkeys(parameter.shown for parameter in facts if parameter.shown)
    return f"name:{'/'.join(parameter.name for parameter in facts)} in {', '.join(units)}"


def default_tissues(kind: type[TissueModel]) -> tuple[str, ...]:
    """Tissues of a kind that designs are for unless others are named, as they are written."""
    return next(_DEFAULTS[name] for name, each in TISSUES.items() if each is kind)


def read_tissues(kind: type[TissueModel], texts: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """Name -> parameters in the units of flags, of tissues as they are written.

    Raises:
      ValueError: another form, two of one name, or values that a tissue cannot have.
    """
    try:
        pairs = [text.rsplit(":", 1) for text in texts]
        found = {name: tuple(map(float, values.split("/"))) for name, values in pairs}
        if not all(found) or len(found) < len(pairs):
            raise ValueError("a name is missing or there twice")
        tissue_of(kind, found)
    except ValueError as error:
        rule = f"{form_of(kind)}, T1 >= T2 > 0, separated by commas"
        raise ValueError(f"tissues must be {rule}; got {','.join(texts)}") from error
    return found


def tissue_of(kind: type[TissueModel], named: dict[str, tuple[float, ...]]) -> TissueModel:
    """The tissues of `read_tissues`, SI, B1 = 1, (tissues,)."""
    fields, sizes = _fields(kind), {len(values) for values in named.values()}
    if sizes != {len(fields)}:
        raise ValueError(f"{sizes} numbers in place of {len(fields)}")
    columns = zip(fields.items(), np.transpose(list(named.values())), strict=True)
    return kind(**{name: column / parameter.per_shown for (name, parameter), column in columns})
