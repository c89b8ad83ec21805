"""Checks of flags against what a file holds."""

import jax
import numpy as np

from ganmrf.runs.configs import SimulationConfig


def check_same_simulation(config: SimulationConfig, given: frozenset[str], sequence, slice_profile, source):
    """Refuses flags that name another sequence or slice profile than a file's.

    Args:
      config: what the flags name.
      given: names of the flags that were given; the others may differ.
      sequence: the file's; None compares the slice profile alone.
      slice_profile: the file's, or None for a uniform slice.
      source: the file, for the error.

    Raises:
      ValueError: it names the flags.
    """
    kinds = {
        "sequence": (("schedule", "frames", "echo_time_ms", "inversion_time_ms"), config.sequence, sequence),
        "slice profile": (("slice_nodes", "time_bandwidth", "window"), config.slice_profile, slice_profile),
    }
    if sequence is None:
        del kinds["sequence"]
    for kind, (names, make, stored) in kinds.items():
        ours = [f"--{name}" for name in names if name in given]
        if ours and not _same(jax.tree.leaves(make()), jax.tree.leaves(stored)):
            raise ValueError(f"{' '.join(ours)} gives another {kind} than the one of {source}")


def _same(one, other):
    return len(one) == len(other) and all(
        np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-5, atol=1e-9)  # rounding of a CSV, and of float32
        for a, b in zip(one, other, strict=True)
    )
