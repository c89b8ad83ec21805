"""Tissues that a sequence is designed for, by name, as a flag writes them."""

import numpy as np

from ganmrf.imaging.phantom import BRAIN_TISSUES
from ganmrf.imaging.phantom import TISSUES as TIMES
from ganmrf.physics.tissue import TISSUES, TissueModel, flag_name, parameters

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
    """How a tissue of a kind is written: ``name:t1_ms/t2_ms``."""
    return "name:" + "/".join(flag_name(*each) for each in _fields(kind).items())


def read_tissues(kind: type[TissueModel], texts: tuple[str, ...] | None) -> dict[str, tuple[float, ...]]:
    """Name -> parameters in the units of flags, of tissues as they are written; None for the default ones.

    Raises:
      ValueError: another form, two of one name, or values that a tissue cannot have.
    """
    if texts is None:
        texts = next(_DEFAULTS[name] for name, each in TISSUES.items() if each is kind)
    try:
        pairs = [text.rsplit(":", 1) for text in texts]
        found = {name: tuple(map(float, values.split("/"))) for name, values in pairs}
        if not all(found) or len(found) < len(pairs):
            raise ValueError("a name is missing or there twice")
        tissue_of(kind, found)
    except (TypeError, ValueError) as error:
        rule = f"{form_of(kind)}, T1 >= T2 > 0, separated by commas"
        raise ValueError(f"tissues must be {rule}; got {','.join(texts)} ({error})") from error
    return found


def tissue_of(kind: type[TissueModel], named: dict[str, tuple[float, ...]]) -> TissueModel:
    """The tissues of `read_tissues`, SI, B1 = 1, (tissues,)."""
    fields = _fields(kind)
    columns = np.transpose([np.broadcast_to(values, len(values)) for values in named.values()])
    if len(columns) != len(fields):
        raise ValueError(f"{len(columns)} numbers in place of {len(fields)}")
    scales = [parameter.per_shown for parameter in fields.values()]
    return kind(**{name: column / scale for name, column, scale in zip(fields, columns, scales, strict=True)})
