"""Checks of flags against what a file holds."""

import pathlib

import jax
import numpy as np

from ganmrf.dictionary.slice_fields import same_slice
from ganmrf.runs.simulation_config import OF_OTHER_SEQUENCES, SimulationConfig
from ganmrf.runs.slices import OF_SLICE, PowerConfig

_POWER = tuple(vars(PowerConfig()))


def check_same_simulation(config: SimulationConfig, given: frozenset[str], sequence, slice_profile, source):
    """Refuses, by a `ValueError`, flags of those ``given`` that name another sequence or slice than a file's.

    ``sequence`` and ``slice_profile`` are of the file ``source``; without a sequence slices alone are compared.
    """
    kinds = {"slice profile": (OF_SLICE, config.slice_profile, slice_profile)}
    if sequence is not None:
        names = "sequence", "schedule", "frames", "echo_time_ms", "inversion_time_ms", *OF_OTHER_SEQUENCES, *_POWER
        kinds = {"sequence": (names, config.sequence, sequence)} | kinds
    for kind, (names, make, stored) in kinds.items():
        ours = [f"--{name}" for name in names if name in given]
        if ours and not (same_slice if names is OF_SLICE else _same)(make(), stored):
            raise ValueError(f"{' '.join(ours)} gives another {kind} than the one of {source}")


def check_apart(scan: str, output: str):
    """Refuses, by a `ValueError`, an output folder inside that of the scan: what is written would be read with it."""
    if pathlib.Path(output).resolve().is_relative_to(pathlib.Path(scan).resolve()):
        raise ValueError(f"output lies in the folder of the scan, --input={scan}: choose another")


def _same(one, other):
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-5, atol=1e-9)  # rounding of a CSV, and of float32
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )
