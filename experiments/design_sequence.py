"""Designs an MRF-FISP sequence: what precision is wanted, for which tissues, within which limits.

Example::

    ganmrf design_sequence --workdir=runs/design --frames=400

The sequence flags name the start, which is also what the design is held against: flip angles, repetition times and the
inversion time are changed until T1 and T2 of the tissues are as much more precise as ``--gain_t1`` and ``--gain_t2``
ask for, in the worst case, in the same scan time. The folder gets the design as ``sequence.csv`` and, with spirals,
``sequence.seq``; ``sequence.png``, ``results.json`` and ``report.html``, which also shows noisy voxels, a digital
brain, other B1 and other tissues. Called again with the same ``--workdir`` it goes on where it was cut off, from the
start of the first call.

With ``--tissue=semisolid`` tissue has a pool that magnetisation is transferred to. Its fraction is estimated beside T1
and T2, ``--gain_fraction``, or ``--objective=joint`` for the least sum of squares of all relative errors; exchange and
what the semisolid pool is like are known. ``--saturation_pulses_deg`` adds a saturation pulse to each frame.

A full slice is dear, and the more so the more tissues and B1 there are: ``--population=300`` serves as many tissues
over the ranges that those of ``--tissues`` span. With ``--own_anchors`` the search simulates some dozens of anchors in
their place, or with ``--generator`` those of a trained generator; what it finds is evaluated by the simulator.
"""

import dataclasses
import pathlib
import tempfile

import numpy as np

from experiments.evaluation.design import require_check_memory
from experiments.flags.command_line import command
from experiments.reports.design import evaluate_design, write_design_report
from experiments.reports.design_verification import verification_table
from ganmrf.design.limits import violations
from ganmrf.files import check_output, replacing, write_json
from ganmrf.io.pulseq_write import write_pulseq
from ganmrf.io.schedule import read_schedule, write_schedule
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.sequence_power import with_power
from ganmrf.report.design_figures import design_figure
from ganmrf.runs.designing import DesignConfig, design, kept_start
from ganmrf.runs.slices import AS_PLAYED, PulseConfig, slice_words
from ganmrf.runs.spiral_config import SpiralConfig
from ganmrf.runs.workdir import Workdir
from ganmrf.settings import configuration, group, setting

_FILES = "sequence.seq", "sequence.png", "results.json", "report.html"  # beside sequence.csv


@configuration
class Config:
    """The folder, and the checks of the design."""

    workdir: str = setting(meaning="folder of the design", kept=False)
    snr: float = setting(50.0, "of the checks: M0 over the noise of a frame", above=0)
    draws: int = setting(400, "noisy voxels of each tissue", at_least=2)
    brain_size: int = setting(128, "rows and columns of the digital brain", at_least=48)
    design: DesignConfig = group(DesignConfig, defaults=AS_PLAYED)
    pulse: PulseConfig = group(PulseConfig)
    sampling: SpiralConfig = group(SpiralConfig)


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Designs, checks, and writes what came out."""
    with Workdir(config.workdir, config, given) as workdir:
        config, folder = workdir.config, workdir.path
        path = folder / "sequence.csv"
        for output in (path, *(folder / name for name in _FILES)):
            check_output(output)
        config = dataclasses.replace(config, design=config.design.played_for(config.pulse.pulse_duration_ms))
        start = kept_start(workdir, config.design)
        require_check_memory(start.n_frames, len(config.design.named_tissues), config.draws, config.brain_size)
        limits = config.design.limits(start)
        _check_playable(limits, config)
        found = design(workdir, config.design)
        write_schedule(path, found.sequence)
        if found.sequence.saturation_angle is None:
            _write_pulseq(folder / "sequence.seq", found.sequence, config)
        written = read_schedule(path)
        if config.design.simulation.pools.saturated:
            written = with_power(written, config.design.simulation.power())
        if broken := {name: amount for name, amount in violations(written, limits).items() if amount}:
            raise ValueError(f"{path}: the design breaks its limits: {broken}")
        sizes = {"draws": config.draws, "brain_size": config.brain_size}
        evaluated = evaluate_design(found._replace(sequence=written), config.design, snr=config.snr, **sizes)
        write_json(folder / "results.json", evaluated.numbers())
        with replacing(folder / "sequence.png") as temporary:
            design_figure(*evaluated.sequences(), limits=limits).savefig(temporary, dpi=120)
        write_design_report(folder / "report.html", config, evaluated)
    print(f"slice: {slice_words(config.design.simulation.slice_profile())}")
    for name, gains in evaluated.gains().items():
        words = (f"{of} {gain:.2f} times" for of, gain in zip(evaluated.quantities, gains, strict=True))
        print(f"{name:14s} {', '.join(words)} as precise as the start")
    if found.verification is not None:
        print(verification_table(found, config.design.served).text())
    if found.sequence.saturation_angle is not None:
        print("no sequence.seq: its saturation pulses are of no form that the writer of Pulseq files has")
    print(f"report: {folder / 'report.html'}")


def _check_playable(limits, config):
    """Raises `ValueError` where no time would be left for the spirals, which a search would otherwise end with."""
    quickest = Fisp(
        np.full(2, limits.flip_angle[1]),
        np.full(2, limits.repetition_time[0]),
        limits.echo_time,
        None if limits.inversion_time is None else limits.inversion_range[0],
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            _write_pulseq(pathlib.Path(folder) / "quickest.seq", quickest, config)
        except ValueError as error:
            raise ValueError(f"the quickest sequence that the limits allow cannot be played: {error}") from error


def _write_pulseq(path, sequence, config):
    excitation = config.pulse.excitation(config.design.simulation.played())
    readout = config.sampling.readout(sequence.n_frames)
    write_pulseq(path, sequence, readout, excitation=excitation, limits=config.sampling.limits)


if __name__ == "__main__":
    main.run()
