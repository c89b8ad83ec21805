"""Inputs of every kind that are truncated, changed or mixed up."""

import pathlib
import random

import numpy as np
import scipy.io

from ganmrf.files import read_arrays
from tests.soak.bench import JOBS, Bench
from tests.soak.verdicts import fault_of, names

# Job, what of its inputs is damaged, and whether damage can be told: by a checksum, or by what is there twice.
_KINDS = [
    ("images.nii.gz by d.npz", "d.npz", True),
    ("images.nii.gz by d.npz", "images.nii.gz", True),
    ("images.nii.gz by d.npz", "mask.nii.gz", True),
    ("images.npz by d.mat", "images.npz", True),
    ("images.npz by d.mat", "d.mat", False),
    ("images.mat by d.zarr", "images.mat", False),
    ("images.mat by d.zarr", "d.zarr/*/c", True),
    ("images.mat by d.zarr", "d.zarr/**/zarr.json", False),
    ("maps", "scan.h5", False),
    ("from csv", "s.csv", False),
    ("from seq", "mrf.seq", False),
    ("generated", "generator.npz", True),
    ("prepared", "any.npz", True),
    ("resumed", "trained/config.json", False),
    ("resumed", "trained/metrics.jsonl", True),
    ("resumed", "trained/checkpoints", True),
    ("gone on", "mapped/stages", True),
]


def case(bench: Bench, number: int, draw: random.Random):
    """The command and its disturbance, the folder where it ran, and its fault."""
    name, pattern, told_apart = _KINDS[number % len(_KINDS)]
    job, damage = JOBS[name], _DAMAGES[number // len(_KINDS) % len(_DAMAGES)]
    (made, _), folder = bench.undisturbed(job), bench.fresh(job.inputs)
    if name == "resumed":
        (folder / job.output).unlink()  # so that it is made of what is left
    found = [path for each in folder.glob(pattern) for path in (each, *each.rglob("*"))]
    files = sorted(path for path in found if path.is_file() and path.stat().st_size)
    path = draw.choice(files)
    what = damage(path, draw, files)
    if not told_apart or (damage is _swap and path.suffix == ".npz"):  # whose checksums are right again
        made = None
    before = names(folder)
    outcome = bench.run(job, folder)
    left = names(folder) - before if outcome.code == 2 else set()
    told = f"ganmrf {job.line} with {path.relative_to(folder)} {what}"
    return told, folder, fault_of(outcome, left=left, result=folder / job.output, made=made)


def _truncate(path, draw, _):
    data = path.read_bytes()
    size = draw.randrange(len(data))
    path.write_bytes(data[:size])
    return f"cut to {size} of {len(data)} bytes"


def _flip(path, draw, _):
    data = bytearray(path.read_bytes())
    at, bit = draw.randrange(len(data)), draw.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"with bit {bit} of byte {at} flipped"


def _zero(path, draw, _):
    data = path.read_bytes()
    start, size = draw.randrange(len(data)), draw.choice((1, 16, 512, 4096))
    path.write_bytes(data[:start] + bytes(len(data[start : start + size])) + data[start + size :])
    return f"with {size} bytes zeroed from {start}"


def _swap(path: pathlib.Path, draw, files):
    """Exchanges two arrays of a file of arrays, two files of a folder, or two stretches of any other file."""
    if path.suffix in (".npz", ".mat"):
        arrays = {name: value for name, value in read_arrays(path).items() if not name.startswith("__")}
        one, other = (draw.sample(sorted(arrays), 2) * 2)[:2] if len(arrays) > 1 else [next(iter(arrays))] * 2
        arrays[one], arrays[other] = arrays[other], arrays[one]
        np.savez(path, **arrays) if path.suffix == ".npz" else scipy.io.savemat(path, arrays)
        return f"with {one} and {other} exchanged"
    beside = [other for other in files if other.parent == path.parent and other != path]
    if beside and path.suffix != ".json":
        other = draw.choice(beside)
        mine, others = path.read_bytes(), other.read_bytes()
        path.write_bytes(others), other.write_bytes(mine)
        return f"exchanged with {other.name}"
    data = path.read_bytes()
    a, b, c = sorted(draw.choices(range(len(data) + 1), k=3))
    path.write_bytes(data[:a] + data[b:c] + data[a:b] + data[c:])
    return f"with the bytes {a} to {b} and {b} to {c} exchanged"


_DAMAGES = (_truncate, _flip, _zero, _swap)
