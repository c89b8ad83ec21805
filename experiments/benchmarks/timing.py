"""Times of jobs that take turns, and what generating a dictionary costs beside simulating it."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from ganmrf.dictionary.build import build_dictionary
from ganmrf.gan.generate import TrainedGenerator, generate
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import Tissue

PRODUCT_SIZE = 2048  # rows and columns of the matrix product


class GenerationCost(NamedTuple):
    """Medians of jobs that took turns, s, and rates.

    Attributes:
      atoms: number of atoms, all frames each.
      generate: by the network, float32.
      simulate: by the simulator at its default accuracy, slice -> s.
      rate: arithmetic of the network's matrix products over the time of all of generation, operations per second.
      product_rate: that of a float32 product of two large matrices in the same rounds.
    """

    atoms: int
    generate: float
    simulate: dict[str, float]
    rate: float
    product_rate: float


def timed(jobs: Mapping[str, Callable], rounds: int, clock: Callable = time.perf_counter) -> dict[str, list]:
    """Seconds of every round of every job, by ``clock``, the jobs in turn, after each has run once."""
    seconds = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(rounds):
        for name, job in jobs.items():
            start = clock()
            job()
            seconds[name].append(clock() - start)
    return seconds


def medians(jobs: Mapping[str, Callable], rounds: int, clock: Callable = time.perf_counter) -> dict[str, float]:
    """Median seconds of every job, as `timed` measures them."""
    return {name: statistics.median(seconds) for name, seconds in timed(jobs, rounds, clock).items()}


def generation_cost(
    generator: TrainedGenerator, tissue: Tissue, profiles: Mapping[str, SliceModel], *, rounds: int
) -> GenerationCost:
    """Times a generator beside the simulator and a matrix product; ``profiles`` are models of the slice by name."""
    left, right = np.random.default_rng(0).standard_normal((2, PRODUCT_SIZE, PRODUCT_SIZE), np.float32)

    def simulate(profile):
        return lambda: build_dictionary(generator.sequence, tissue, slice_profile=profile)

    jobs = {"generate": lambda: generate(generator, tissue, allow_extrapolation=True), "product": lambda: left @ right}
    jobs |= {f"simulate {name}": simulate(profile) for name, profile in profiles.items()}
    seconds = medians(jobs, rounds)
    return GenerationCost(
        atoms=tissue.size,
        generate=seconds["generate"],
        simulate={name: seconds[f"simulate {name}"] for name in profiles},
        rate=tissue.size * _operations(generator) / seconds["generate"],
        product_rate=2 * PRODUCT_SIZE**3 / seconds["product"],
    )


def _operations(generator):
    """Additions and multiplications of the matrix products that make one fingerprint."""
    kernels = [leaf for leaf in jax.tree.leaves(generator.params) if leaf.ndim == 2]
    basis = generator.scaling.basis
    return 2 * sum(kernel.size for kernel in kernels) + (0 if basis is None else 2 * basis.size)
