"""Writes an MRF-FISP sequence with its spirals as a Pulseq file, which scanners can play.

Example::

    ganmrf export_pulseq --output=mrf.seq
    ganmrf reconstruct_maps --input=scan.h5 --schedule=mrf.seq --output=runs/scan

The flags name the sequence and the spiral. Every experiment reads the file back as ``--schedule``.
"""

import numpy as np

from experiments.flags.command_line import command
from ganmrf.io.pulseq_write import write_pulseq
from ganmrf.physics.sequences.fisp import require_fisp
from ganmrf.runs.simulation_config import FISP_ALONE, OF_OTHER_KINDS, TISSUE_FIELDS, SimulationConfig
from ganmrf.runs.slices import PulseConfig
from ganmrf.runs.spiral_config import SpiralConfig
from ganmrf.settings import configuration, group, naming_fields, setting

_FLAGS = {  # what the writer may refuse -> its flag, with dashes where it does not come first
    "echo_time": "echo_time_ms",
    "inversion_time": "inversion_time_ms",
    "max_gradient": "--max_gradient_mt_per_m",
    "max_slew_rate": "--max_slew_rate_t_per_m_s",
}


@configuration
class Config:
    """The file."""

    output: str = setting(meaning="file to write, .seq", suffixes=(".seq",))
    pulse: PulseConfig = group(PulseConfig)
    simulation: SimulationConfig = group(
        SimulationConfig, without=(*TISSUE_FIELDS, *OF_OTHER_KINDS, "slice_model", "slice_nodes"), **FISP_ALONE
    )
    sampling: SpiralConfig = group(SpiralConfig)


@command(Config)
def main(config: Config):
    """Designs the spiral and writes the file."""
    sequence, sampling = config.simulation.sequence(), config.sampling
    require_fisp(sequence, "schedule: export_pulseq")
    readout, excitation = sampling.readout(sequence.n_frames), config.pulse.excitation(config.simulation.played())
    with naming_fields(**_FLAGS):
        write_pulseq(config.output, sequence, readout, excitation=excitation, limits=sampling.limits)
    seconds, spiral = float(np.sum(sequence.repetition_time)), sampling.spiral()
    print(
        f"{config.output}: {sequence.n_frames} frames in {seconds:.2f} s, spirals of "
        f"{1e3 * readout.n_samples * readout.dwell_time:.2f} ms at up to {1e3 * spiral.largest_gradient:.1f} mT/m and "
        f"{spiral.largest_slew_rate:.0f} T/m/s"
    )


if __name__ == "__main__":
    main.run()
