"""How fast the paper's dictionary is simulated and a brain is matched and refined, beside a matrix product.

Example::

    ganmrf benchmarks.dictionary

Run it on a quiet machine. Every round times each job once, in turn; the table gives the median and the fastest round.
Matching is quoted against one float32 product of the same matrices, two for complex images, which is the least work a
search that looks at every atom can do. Everything is compiled before the first round.
"""

import statistics

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.timing import timed
from experiments.flags.command_line import command
from ganmrf import build_dictionary, match, mrf_fisp, tissue_grid
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.refine import refine
from ganmrf.files import write_json
from ganmrf.imaging.phantom import acquire, add_noise, digital_brain
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.slice_profile import sinc_slice_profile
from ganmrf.report.html import machine_facts, peak_memory
from ganmrf.settings import configuration, setting

_REFINED = 10_000  # voxels


@configuration
class Config:
    """The jobs."""

    rounds: int = setting(7, "how often each job is timed", at_least=1)
    rank: int = setting(20, "of the compressed basis for the fine grid", at_least=1)
    size: int = setting(256, "rows and columns of the brain", at_least=8)
    output: str | None = setting(None, "JSON file for the table; default: none", suffixes=(".json",))


@command(Config)
def main(config: Config):
    """Prints the tables."""
    sequence, grid, profile = mrf_fisp(), tissue_grid(), sinc_slice_profile(12)
    dictionary = build_dictionary(sequence, grid)
    exact = simulate_many(sequence, grid, n_states=sequence.n_frames)
    error = np.linalg.norm(dictionary.fingerprints * dictionary.norms[:, None] - exact, axis=1)
    print(f"automatic states: largest relative error {(error / np.linalg.norm(exact, axis=1)).max():.1e}")
    del exact

    brain = digital_brain(size=config.size)
    images = add_noise(acquire(brain, sequence), 20.0, mask=brain.brain_mask)
    full = {
        "dictionary, uniform slice": lambda: build_dictionary(sequence, grid),
        "dictionary, 12-node slice": lambda: build_dictionary(sequence, grid, slice_profile=profile),
        "matching, all frames": lambda: match(dictionary, images, mask=brain.mask),
        "product, all frames": product(images[:, brain.mask].T, dictionary.fingerprints),
    }
    rows = printed(full, config.rounds)
    print(f"{brain.mask.sum()} voxels; peak memory of the process so far {peak_memory() / 1e9:.2f} GB")
    rows |= printed(_refining(dictionary, images, brain), config.rounds)

    fine, kept = compress(build_dictionary(sequence, tissue_grid("fine")), config.rank)
    print(f"rank {config.rank} of the fine grid keeps all but {1 - kept:.1e} of the energy")
    coefficients = images[:, brain.mask].T @ fine.basis.astype(np.float32)
    name = f"rank {config.rank}, {len(fine.norms)} atoms"
    few = {
        f"matching, {name}": lambda: match(fine, images, mask=brain.mask),
        f"product, {name}": product(coefficients, fine.fingerprints),
    }
    rows |= printed(few, config.rounds)
    for kind in ("all frames", name):
        share = statistics.median(rows[f"product, {kind}"]) / statistics.median(rows[f"matching, {kind}"])
        print(f"matching, {kind}: {100 * share:.0f} % of the speed of a matrix product")
    if config.output:
        write_json(config.output, {"machine": machine_facts(), "seconds": rows})


def _refining(dictionary, images, brain):
    """Jobs that fit 10000 voxels of the brain between the atoms, from all frames and from six coefficients."""
    voxels = images[:, brain.brain_mask][:, :_REFINED]
    compressed, _ = compress(dictionary, 6)
    coefficients = compressed.basis.T @ voxels
    maps, few = match(dictionary, voxels), match(compressed, coefficients)
    return {
        f"refining {voxels.shape[1]} voxels, all frames": lambda: refine(dictionary, voxels, maps),
        f"refining {voxels.shape[1]} voxels, rank 6": lambda: refine(compressed, coefficients, few),
    }


def printed(jobs, rounds):
    """Seconds of every round of every job, the jobs in turn; prints median and fastest."""
    rows = timed(jobs, rounds)
    for name, seconds in rows.items():
        print(f"{name:34s} median {statistics.median(seconds):7.3f} s   fastest {min(seconds):7.3f} s", flush=True)
    return rows


def product(signals, atoms):
    """A job: real and imaginary parts of the signals times all atoms in float32, a block of voxels at a time."""
    parts = np.concatenate([signals.real, signals.imag])
    columns = jnp.asarray(np.ascontiguousarray(atoms.T))
    block = jax.jit(lambda rows: (rows @ columns).max())

    def job():
        jax.block_until_ready([block(parts[start : start + 512]) for start in range(0, len(parts), 512)])

    return job


if __name__ == "__main__":
    main.run()
