"""What a Pulseq file of versions 1.2 to 1.5 holds: blocks, events, extensions and shapes, in the units of the file."""

import hashlib
import math
import pathlib
import re
import warnings
from typing import NamedTuple

import numpy as np

from ganmrf.files import check_readable
from ganmrf.memory import check_claim

MOST_SAMPLES = 10**6  # of a shape or a readout: a second of an RF pulse, ten of a gradient
_LARGEST = 1e12  # of all numbers: no hardware comes near, and their products stay finite
_LARGEST_SHAPE = 1.01  # shapes are scaled to 1, and of sums of rounded differences a hundredth is far from that
# Entries of an event after its number, by the minor version since which they are these. Times in us but for a dwell
# time in ns; amplitudes in Hz and Hz/m; magnitude, phase, shape, time and phase_shape are numbers of shapes; use, label
# and hint are text.
_ENTRIES = {
    "BLOCKS": {2: "delay rf gx gy gz adc", 3: "delay rf gx gy gz adc extension"},  # from 1.4 a duration for the delay
    "RF": {
        2: "amplitude magnitude phase delay frequency phase_offset",
        4: "amplitude magnitude phase time delay frequency phase_offset",
        5: "amplitude magnitude phase time center delay frequency_ppm phase_ppm frequency phase_offset use",
    },
    "GRADIENTS": {
        2: "amplitude shape delay",
        4: "amplitude shape time delay",
        5: "amplitude first last shape time delay",
    },
    "TRAP": {2: "amplitude rise flat fall delay"},
    "ADC": {
        2: "samples dwell delay frequency phase_offset",
        5: "samples dwell delay frequency_ppm phase_ppm frequency phase_offset phase_shape",
    },
    "DELAYS": {2: "delay"},
    "EXTENSIONS": {2: "kind event next"},
    "extension ROTATIONS": {2: "w x y z"},
    "extension TRIGGERS": {2: "kind channel delay duration"},
    "extension LABELSET": {2: "value label"},
    "extension DELAYS": {2: "kind offset factor hint"},
}
_TEXT = "use", "label", "hint"
_OTHER_SECTIONS = {"VERSION", "DEFINITIONS", "SHAPES", "SIGNATURE"}


class PulseqFile(NamedTuple):
    """Tables of a file, by the names of its sections; an event is found by its number, and has its entries by name."""

    path: pathlib.Path
    minor_version: int
    definitions: dict[str, str]
    blocks: list[dict[str, int]]
    events: dict[str, dict[int, dict]]
    extensions: dict[int, str]  # names of kinds
    shapes: dict[int, np.ndarray]

    def find(self, table: dict, number, what: str):
        """The event or shape of a number; raises `ValueError` where the file has none."""
        if number not in table:
            raise ValueError(f"{self.path}: truncated or damaged: {what} {number:g} is played, but not in the file")
        return table[number]


def read_pulseq_file(path) -> PulseqFile:
    """Reads the sections of a Pulseq file, with or without blank lines and comments between them.

    A file that does not match its signature, or of version 1.4 and above without one, is read with a warning.

    Raises:
      ValueError: a file that is missing, truncated, of another kind or version, or whose entries are not those of its
        version; with the line where there is one.

    References:
      Pulseq file format specification 1.5.1, https://pulseq.github.io/specification.pdf.
    """
    path = pathlib.Path(path)
    check_readable(path)
    content = path.read_bytes()
    sections, extensions = _sections(content.replace(b"\r\n", b"\n").decode("utf-8-sig", "replace").split("\n"))
    if "VERSION" not in sections:
        raise ValueError(f"{path}: not a Pulseq file: no [VERSION] section")
    version = _version(path, sections["VERSION"])
    _check_signature(path, content, version, sections.get("SIGNATURE"))
    for name in sections.keys() - _ENTRIES.keys() - _OTHER_SECTIONS:
        if not name.startswith("extension "):  # those matter where a block has them
            warnings.warn(f"{path}: section [{name}] is not known, and left out", stacklevel=2)
    shapes = _shapes(path, sections.get("SHAPES", ()), version[1], len(content))
    events = {}
    for name, since in _ENTRIES.items():
        minor = 2 if name == "BLOCKS" and version <= (1, 2, 1) else version[1]
        entries = since[max(first for first in since if first <= minor)]
        events[name] = _events(path, sections.get(name, ()), entries)
    blocks = [{name: int(value) for name, value in block.items()} for block in events.pop("BLOCKS").values()]
    definitions = {words[0]: " ".join(words[1:]) for _, words in sections.get("DEFINITIONS", ())}
    return PulseqFile(path, version[1], definitions, blocks, events, extensions, shapes)


def _sections(lines):
    """Rows by section, each as the number of its line and its words; and the names of extensions by their number."""
    sections, extensions, rows = {}, {}, []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if words and words[0].startswith("["):
            rows = sections.setdefault(words[0].strip("[]"), [])
        elif len(words) == 3 and words[0] == "extension" and words[2].isdecimal():
            extensions[int(words[2])] = words[1]
            rows = sections.setdefault(" ".join(words[:2]), [])
        elif words:
            rows.append((number, words))
    return sections, extensions


def _version(path, rows):
    found = {words[0]: re.match(r"\d*", words[-1])[0] for _, words in rows}  # a revision may be 1post2
    try:
        version = tuple(int(found.get(name, 0)) for name in ("major", "minor", "revision"))
    except ValueError:
        version = (0, 0, 0)
    if not (1, 2, 0) <= version < (1, 6, 0):
        raise ValueError(f"{path}: Pulseq version {'.'.join(map(str, version))}: 1.2 to 1.5 are read")
    return version


def _check_signature(path, content, version, rows):
    """Warns of a file that is not as it was signed; refuses one that may be cut within its last line."""
    if rows is None:
        if not content.endswith(b"\n"):
            raise ValueError(
                f"{path}: truncated: its last line has no end (where nothing is missing, add a line break)"
            )
        if version >= (1, 4, 0):
            warnings.warn(f"{path}: has no signature, which would tell whether it is as it was written", stacklevel=2)
        return
    bodies = [body.rpartition(b"\n[SIGNATURE]")[0] for body in (content, content.replace(b"\r\n", b"\n"))]
    bodies += [body + b"\n" for body in bodies]  # the line break belongs to the signature, which some writers ignore
    if not {words[-1].lower() for _, words in rows} & {hashlib.md5(body).hexdigest() for body in bodies}:
        warnings.warn(f"{path}: was edited or damaged: it does not match its signature", stacklevel=2)


def _events(path, rows, entries):
    """Events by their number: entries by name."""
    names, events = entries.split(), {}
    for number, words in rows:
        if len(words) != 1 + len(names):
            raise ValueError(
                f"{path}: line {number}: {len(words)} entries, but this version has {1 + len(names)}: number {entries}"
            )
        values = [
            word if name in _TEXT else _number(path, number, word) for name, word in zip(names, words[1:], strict=True)
        ]
        event = int(_number(path, number, words[0]))
        if event in events:
            raise ValueError(f"{path}: line {number}: number {event} is there twice")
        events[event] = dict(zip(names, values, strict=True))
    return events


def _number(path, line, word):
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not abs(value) < _LARGEST:
        raise ValueError(f"{path}: line {line}: {word[:20]!r} is no number that can be played")
    return value


def _shapes(path, rows, minor_version, size):
    packed, counts = {}, {}
    for number, words in rows:
        if words[0].lower() == "shape_id" and len(words) == 2:
            current = int(_number(path, number, words[1]))
            packed[current], counts[current] = [], 0
        elif not packed:
            raise ValueError(f"{path}: line {number}: a shape begins with its shape_id; found {words[0][:20]!r}")
        elif words[0].lower() == "num_samples" and len(words) == 2:
            counts[current] = _number(path, number, words[1])
        else:
            packed[current].append(_number(path, number, words[0]))
    if (most := max(counts.values(), default=0)) > MOST_SAMPLES:
        raise ValueError(f"{path}: a shape of {most:.4g} samples; {MOST_SAMPLES} are the most that are read")
    check_claim(path, 8 * sum(counts.values()), size)
    shapes = {number: _unpacked(packed[number], counts[number], minor_version) for number in packed}
    for number, (samples, _) in shapes.items():
        if samples is None:
            lines = f"its {len(packed[number])} lines are not"
            raise ValueError(
                f"{path}: truncated or damaged: shape {number} has {counts[number]:g} samples, which {lines}"
            )
    if odd := [str(number) for number, (_, as_written) in shapes.items() if not as_written]:
        what = "are not written as this version has them, and are read as what they can mean"
        warnings.warn(f"{path}: shapes {', '.join(odd)} {what}", stacklevel=2)
    return {number: samples for number, (samples, _) in shapes.items()}


def _unpacked(packed, count, minor_version):
    """The samples of a shape, None if it has others than ``count``; and whether it is written as the version has it.

    From version 1.4 a shape of as many lines as samples holds the samples. All others hold differences, of which one
    that is there twice is followed by how often it comes again. Some programs write samples in older files too; and
    some count one too few at the end.
    """
    stored = len(packed) == count > 0
    if stored and minor_version >= 4:
        return np.array(packed), True
    differences, repeats, i, run = [], [], 0, False
    while i < len(packed):
        run = i + 2 < len(packed) and packed[i] == packed[i + 1]
        differences.append(packed[i])
        repeats.append(2 + int(packed[i + 2]) if run else 1)
        i += 3 if run else 1
    short = run and sum(repeats) == count - 1
    if short:
        repeats[-1] += 1
    if packed and min(repeats) >= 1 and sum(repeats) == count:
        samples = np.cumsum(np.repeat(differences, repeats))
        if not stored or np.abs(samples).max() <= _LARGEST_SHAPE:
            return samples, not short
    return (np.array(packed), False) if stored else (None, False)
