"""The XML header of MRD files as people write it: what a reconstruction needs is asked for by name, the rest is not."""

import collections
import contextlib
import dataclasses
import enum
import reprlib
import typing
import warnings
from xml.etree import ElementTree

import numpy as np

from ganmrf.io.mrd_frames import listed

with warnings.catch_warnings():  # the import changes which warnings a user sees
    from ismrmrd import xsd

_NAMESPACE = "{http://www.ismrm.org/ISMRMRD}"
_MOST_VOXELS = 2**16 - 1  # along an axis: MRD counts them in 16 bits
_SIZES = {  # of a space: what they must be, and the flag that overrules them
    "matrixSize": ("a whole number, 1 to 65535", "--matrix", lambda n: n % 1 == 0 and 1 <= n <= _MOST_VOXELS),
    "fieldOfView_mm": ("positive and finite", "--field_of_view_mm", lambda size: 0 < size < np.inf),
}
_NARROWEST, _WIDEST = 2.0, 2000.0  # mm, of an image: sizes in m lie below, those in um above
_ANY_THICKNESS = 1.0  # mm: the size that NIfTI gives an axis of which nothing is known


def parse_header(xml, notes: list):
    """The XML header, bytes or text, in the library's dataclasses, where what is missing is None.

    What is malformed stays as its text. ``notes`` gets a line that names both. Unknown elements, which later versions
    of the format may add, do no harm.

    Raises:
      ValueError: no MRD header, or a malformed parameter of the sequence.
    """
    try:
        root = _root(xml.strip())
    except Exception as error:  # of its syntax or its encoding, several types
        raise ValueError(f"xml: not an MRD header ({' '.join(str(error).split())})") from error
    if _local(root) != "ismrmrdHeader":
        raise ValueError(f"xml: not an MRD header (it is <{_local(root)}>)")
    faults = {} if root.tag.startswith(_NAMESPACE) else {"the namespace": root.tag.rpartition("}")[0][1:] or None}
    header = _filled(xsd.ismrmrdHeader, root, "", faults)
    for name in ("TR", "TE", "TI", "flipAngle_deg"):
        if (place := f"sequenceParameters/{name}") in faults:
            held = reprlib.repr(faults[place])
            raise ValueError(f"xml: {place} must be a number; got {held}: give a mended copy with --header=FILE.xml")
    if faults:
        told = [f"{place} {'missing' if text is None else reprlib.repr(text)}" for place, text in faults.items()]
        notes.append(f"the header is not as MRD has it, and is read all the same: {listed(told)}")
    return header


def _root(xml):
    """The outermost element of a text, or of bytes in the encoding that they declare, or else in Latin-1."""
    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        if isinstance(xml, str):
            raise
        with contextlib.suppress(ElementTree.ParseError):  # names of patients, which some converters copy as they are
            return ElementTree.fromstring(xml.decode("latin-1"))
        raise


def encoding_of(header, space: int, matrix, field_of_view, notes: list):
    """An encoding of the header, whose sizes all are known.

    ``matrix`` and ``field_of_view``, m, each one number, (y, x) or None, overrule those of the image; the encoded space
    keeps its ratio to the image, which is the oversampling. A slice whose thickness the header does not say is 1 mm
    thick, and ``notes`` gets a line about it.

    Raises:
      ValueError: no such encoding, sizes that are missing or not positive, or overruling values that no image can have.
    """
    given = {
        "matrixSize": _pair(matrix, "matrixSize"),
        "fieldOfView_mm": _pair(None if field_of_view is None else np.multiply(1e3, field_of_view), "fieldOfView_mm"),
    }
    found = header.encoding[space] if space < len(header.encoding) else None
    if found is None and None in given.values():
        held = f"encoding_space_ref is {space}, but the header has {len(header.encoding)} encodings"
        raise ValueError(f"{held}: give --matrix=Y,X and --field_of_view_mm=Y,X")
    image, encoded = _sizes(found, "reconSpace"), _sizes(found, "encodedSpace")
    for size in _SIZES:  # where the image has none, it is as large as what is encoded
        image[size] = {axis: encoded[size][axis] if held is None else held for axis, held in image[size].items()}
    for size, values in given.items():
        for axis, value in () if values is None else zip("xy", values, strict=True):
            both = encoded[size][axis], image[size][axis]
            oversampling = both[0] / both[1] if all(_is_size(size, held) for held in both) else 1
            wider = oversampling * value
            image[size][axis], encoded[size][axis] = value, round(wider) if size == "matrixSize" else wider
    for name, sizes in (("encodedSpace", encoded), ("reconSpace", image)):
        for size, (rule, flag, _) in _SIZES.items():
            for axis in "xy":
                if not _is_size(size, held := sizes[size][axis]):
                    held = "nothing" if held is None else reprlib.repr(held)
                    raise ValueError(f"{name}/{size}/{axis} must be {rule}; got {held}: give {flag}=Y,X")
    widest = max(image["fieldOfView_mm"][axis] for axis in "xy")
    if field_of_view is None and not _NARROWEST <= widest <= _WIDEST:
        raise ValueError(
            f"reconSpace/fieldOfView_mm is {widest:.4g}, no size of an image in mm: give --field_of_view_mm=Y,X"
        )
    if not _is_size("fieldOfView_mm", image["fieldOfView_mm"]["z"]):
        image["fieldOfView_mm"]["z"] = _ANY_THICKNESS
        notes.append(
            f"the header says no slice thickness, in reconSpace/fieldOfView_mm/z: {_ANY_THICKNESS:g} mm is taken"
        )
    kind = getattr(found, "trajectory", None)
    return xsd.encodingType(
        encodedSpace=_space(encoded),
        reconSpace=_space(image),
        encodingLimits=getattr(found, "encodingLimits", None) or xsd.encodingLimitsType(),
        trajectory=kind if isinstance(kind, xsd.trajectoryType) else xsd.trajectoryType.OTHER,
        trajectoryDescription=getattr(found, "trajectoryDescription", None),
    )


def _sizes(encoding, name):
    """Sizes of a space along x, y and z, by their names in the header; None for those that are missing."""
    space = getattr(encoding, name, None)
    return {size: {axis: getattr(getattr(space, size, None), axis, None) for axis in "xyz"} for size in _SIZES}


def _space(sizes):
    matrix, size = sizes["matrixSize"], sizes["fieldOfView_mm"]
    slices = matrix["z"] if _is_size("matrixSize", matrix["z"]) else 1
    return xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=int(matrix["x"]), y=int(matrix["y"]), z=slices),
        fieldOfView_mm=xsd.fieldOfViewMm(**size),
    )


def _is_size(size, value):
    return isinstance(value, (int, float)) and _SIZES[size][2](value)


def _pair(given, size):
    """Along (x, y), of one number or (y, x) that overrule a size; None for none."""
    if given is None:
        return None
    rule, flag, _ = _SIZES[size]
    values = np.ravel(given).tolist()
    if len(values) not in (1, 2) or not all(_is_size(size, value) for value in values):
        raise ValueError(f"{flag} must be {rule}: one number, or Y,X; got {','.join(f'{value:g}' for value in values)}")
    return values[-1], values[0]


def _filled(kind, element, place, faults):
    """An object of a dataclass of the library from an element; ``faults`` gets what is wrong with it, by its place."""
    children, hints, made = collections.defaultdict(list), typing.get_type_hints(kind), object.__new__(kind)
    for child in element:
        children[_local(child)].append(child)
    for field in dataclasses.fields(kind):
        of, name = hints[field.name], f"{place}/{field.name}".lstrip("/")
        several = typing.get_origin(of) is list
        optional = several or type(None) in typing.get_args(of)
        one = next((part for part in typing.get_args(of) if part is not type(None)), of)
        values = [_value(one, child, name, faults) for child in children[field.name]]
        if not values and not optional:
            faults[name] = None
        object.__setattr__(made, field.name, values if several else values[0] if values else None)
    return made


def _value(kind, element, place, faults):
    if dataclasses.is_dataclass(kind):
        return _filled(kind, element, place, faults)
    text = (element.text or "").strip()
    with contextlib.suppress(ValueError):
        return {bytes: str}.get(kind, getattr(kind, "from_string", kind))(text)
    faults[place] = text
    if issubclass(kind, enum.Enum):
        return {member.value.lower(): member for member in kind}.get(text.lower(), text)
    with contextlib.suppress(ValueError):
        if kind is int and (number := float(text)).is_integer():
            return int(number)
    return text


def _local(element):
    """The name of an element without its namespace."""
    return element.tag.rpartition("}")[2]
