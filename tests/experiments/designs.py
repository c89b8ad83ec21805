"""What the tests of `design_sequence` share: the command in this process, and what its sequences are."""

import csv
import functools
from unittest import mock

import jax
import numpy as np
from absl import flags
from absl.testing import flagsaver

from experiments import design_sequence
from ganmrf.design.bounds import precision
from ganmrf.physics.tissue import Tissue

FEW = 24
CHECKS = ("--draws=20", "--brain_size=48", "--size=64")
TISSUE = Tissue(np.array([0.832, 1.331, 2.569]), np.array([0.0792, 0.11, 0.329]))  # the default of the command
ROUNDING = 2e-6  # of a limit: six decimals, and float32
# These programs run for milliseconds: the compiler is what takes time.
quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def main(*options, jit=quickly):
    """The command in this process; returns what was found, unjudged."""
    with (
        flagsaver.flagsaver(),
        mock.patch.object(design_sequence, "evaluate_design") as evaluate,
        mock.patch.object(design_sequence, "design_figure"),
        mock.patch.object(design_sequence, "write_design_report"),
        mock.patch.object(jax, "jit", jit),
    ):
        evaluate.return_value.numbers.return_value = evaluate.return_value.gains.return_value = {}
        design_sequence.design_figure.return_value.savefig = lambda path, **_: path.touch()
        others = {"input", "output"} & set(flags.FLAGS)  # required by a command that another file of tests imported
        flags.FLAGS(["design_sequence", *map(str, options), *(f"--{name}=unused" for name in others)])
        design_sequence.main()
    return evaluate.call_args[0][0]


def columns(folder):
    """Columns of ``sequence.csv`` as they stand there."""
    with open(folder / "sequence.csv", newline="") as file:
        titles, *rows = csv.reader(file)
    return dict(zip(titles, np.array(rows, float).T, strict=True))


def ratios(sequence, start, tissue=TISSUE):
    """Standard deviations of T1 and T2 over those of the start, (2, tissues)."""
    ours, others = (precision(each, tissue) for each in (sequence, start))
    return np.stack([ours.t1 / others.t1, ours.t2 / others.t2])


def degrees(sequence):
    return np.rad2deg(np.asarray(sequence.flip_angle, float))


def milliseconds(sequence):
    return 1e3 * np.asarray(sequence.repetition_time, float)
