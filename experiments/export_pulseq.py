"""Writes an MRF-FISP sequence with its spirals as a Pulseq file, which scanners can play.

Example::

    python -m experiments.export_pulseq --output=mrf.seq
    python -m experiments.reconstruct_maps --input=scan.h5 --schedule=mrf.seq --output=runs/scan

The flags name the sequence and the spiral. Every experiment reads the file back as ``--schedule``.
"""

import numpy as np
from absl import flags

from experiments.flags import sequence_flags, spiral_flags
from experiments.flags.command_line import run
from ganmrf.io.pulseq_settings import Excitation, Readout, ScannerLimits
from ganmrf.io.pulseq_write import write_pulseq

flags.adopt_module_key_flags(sequence_flags)
flags.adopt_module_key_flags(spiral_flags)
_OUTPUT = flags.DEFINE_string("output", None, "file to write, .seq", required=True)
_SLICE_THICKNESS_MM = flags.DEFINE_float("slice_thickness_mm", 5.0, "of the excitation")
_PULSE_DURATION_MS = flags.DEFINE_float("pulse_duration_ms", 1.8, "of the excitation")
_SPOIL_CYCLES = flags.DEFINE_integer(
    "spoil_cycles", 4, "turns of dephasing across the slice in each frame", lower_bound=1
)


def main():
    """Designs the spiral and writes the file."""
    simulation, sampling = sequence_flags.simulation_config(), spiral_flags.spiral_config()
    sequence, spiral = simulation.sequence(), sampling.spiral()
    write_pulseq(
        _OUTPUT.value,
        sequence,
        Readout(
            gradient=spiral.gradient,
            angles=sampling.angles(sequence.n_frames),
            n_samples=len(spiral.k),
            dwell_time=spiral.dwell_time,
            field_of_view=sampling.field_of_view,
        ),
        excitation=Excitation(
            duration=1e-3 * _PULSE_DURATION_MS.value,
            time_bandwidth=simulation.time_bandwidth,
            window=simulation.window,
            slice_thickness=1e-3 * _SLICE_THICKNESS_MM.value,
            spoil_cycles=_SPOIL_CYCLES.value,
        ),
        limits=ScannerLimits(
            max_gradient=1e-3 * sampling.max_gradient_mt_per_m, max_slew_rate=sampling.max_slew_rate_t_per_m_s
        ),
    )
    seconds = float(np.sum(sequence.repetition_time))
    print(
        f"{_OUTPUT.value}: {sequence.n_frames} frames in {seconds:.2f} s, spirals of "
        f"{1e3 * len(spiral.k) * spiral.dwell_time:.2f} ms at up to {1e3 * spiral.largest_gradient:.1f} mT/m and "
        f"{spiral.largest_slew_rate:.0f} T/m/s"
    )


if __name__ == "__main__":
    run(main)
