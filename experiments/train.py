"""Trains a generator of fingerprints, or goes on with a run that was cut off.

Example::

    python -m experiments.train --workdir=runs/best
    python -m experiments.train --workdir=runs/paper --preset=paper --steps=200000

The folder gets ``config.json``, ``metrics.jsonl`` (losses and errors), ``checkpoints`` and, at the end,
``generator.npz``. Called again with the same ``--workdir`` it goes on from the newest checkpoint, on whatever device.
"""

from absl import flags

from experiments.flags import recipe_flags, sequence_flags
from experiments.flags.command_line import given_flags, run
from ganmrf.runs.training import train_in_folder

flags.adopt_module_key_flags(sequence_flags)
flags.adopt_module_key_flags(recipe_flags)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run", required=True)


def main():
    """Trains."""
    simulation, training = sequence_flags.simulation_config(), recipe_flags.training_config()
    finished = train_in_folder(_WORKDIR.value, simulation, training, given_flags())
    last = finished.rows[-1]
    errors = ", ".join(f"{name} {last[f'{name}_error']:.2e}" for name in finished.data.sets)
    print(f"step {last['step']}: mean relative error before any refit: {errors}")
    print(f"{last['seconds']:.1f} s, {last['core_seconds']:.1f} core-seconds: {_WORKDIR.value}/generator.npz")


if __name__ == "__main__":
    run(main)
