"""Designs an MRF-FISP sequence: what precision is wanted, for which tissues, within which limits.

Example::

    python -m experiments.design_sequence --workdir=runs/design --frames=400

The sequence flags name the start, which is also what the design is held against: flip angles, repetition times and the
inversion time are changed until T1 and T2 of the tissues are as much more precise as ``--gain_t1`` and ``--gain_t2``
ask for, in the worst case, in the same scan time. The folder gets the design as ``sequence.csv`` and, with spirals,
``sequence.seq``; ``sequence.png``, ``results.json`` and ``report.html``, which also shows noisy voxels, a digital
brain, other B1 and other tissues. Called again with the same ``--workdir`` it goes on where it was cut off.
"""

import dataclasses
import json
import pathlib
import tempfile

import numpy as np
from absl import flags

from experiments.flags import sequence_flags, spiral_flags
from experiments.flags.command_line import given_flags, numbers_in, run
from experiments.reports.design import evaluate_design, write_design_report
from ganmrf.design.bounds import scan_time
from ganmrf.design.limits import Limits, violations
from ganmrf.files import replacing
from ganmrf.io.pulseq_settings import Excitation, Readout, ScannerLimits
from ganmrf.io.pulseq_write import write_pulseq
from ganmrf.io.schedule import read_schedule, write_schedule
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.report.design_figures import design_figure
from ganmrf.runs.configs import SimulationConfig, SpiralConfig
from ganmrf.runs.designing import DesignConfig, design
from ganmrf.runs.workdir import Workdir

flags.adopt_module_key_flags(sequence_flags)
flags.adopt_module_key_flags(spiral_flags)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the design", required=True)
_TISSUES = flags.DEFINE_list(
    "tissues", ["white matter:832/79.2", "grey matter:1331/110", "CSF:2569/329"], "name:T1/T2, in ms"
)
_RANGES = {
    "flip_angle_deg": flags.DEFINE_list("flip_angle_deg", ["0", "85"], "smallest and largest"),
    "repetition_time_ms": flags.DEFINE_list("repetition_time_ms", ["11.5", "16"], "shortest and longest"),
    "inversion_range_ms": flags.DEFINE_list("inversion_range_ms", ["18", "40"], "shortest and longest inversion time"),
}
_LIMITS = {
    "scan_time_s": flags.DEFINE_float("scan_time_s", None, "with the inversion time; default: the start's"),
    "scan_time_fixed": flags.DEFINE_bool("scan_time_fixed", True, "whether it must be that, not at most that"),
    "max_flip_change_deg": flags.DEFINE_float("max_flip_change_deg", None, "from frame to frame; default: any"),
    "rf_power": flags.DEFINE_float("rf_power", None, "sum of squared flip angles over the scan time, rad^2/s"),
}
_DESIGN = {
    "objective": flags.DEFINE_enum(
        "objective", "bound", ["bound", "separation"], "Cramer-Rao bound, or inner products"
    ),
    "reduce": flags.DEFINE_enum("reduce", "worst", ["worst", "mean", "rms"], "over T1, T2 and the tissues"),
    "gain_t1": flags.DEFINE_float("gain_t1", 1.0, "wanted of the standard deviation of T1, over the start's", 0.0),
    "gain_t2": flags.DEFINE_float("gain_t2", 2.0, "wanted of that of T2", 0.0),
    "shape": flags.DEFINE_enum("shape", "spline", ["spline", "frames", "lobes"], "of flip angles and repetition times"),
    "knot_spacing": flags.DEFINE_float("knot_spacing", 10.0, "frames between two knots of splines"),
    "smoothness": flags.DEFINE_float("smoothness", 0.0, "weight of the mean squared second difference", 0.0),
    "optimise": flags.DEFINE_list("optimise", ["flip_angle", "repetition_time", "inversion_time"], "what is free"),
    "starts": flags.DEFINE_integer("starts", 3, "the start, and random ones around it", lower_bound=1),
    "seed": flags.DEFINE_integer("seed", 0, "of the random starts and of the noise", lower_bound=0),
    "optimiser": flags.DEFINE_enum("optimiser", "adam", ["adam", "lbfgs"], "of the search"),
    "learning_rate": flags.DEFINE_float("learning_rate", 0.1, "of Adam; it falls to 0"),
    "steps": flags.DEFINE_integer("steps", 800, "updates, at most", lower_bound=1),
    "generator": flags.DEFINE_string("generator", None, "anchored generator in place of the simulator"),
}
_DESIGN_B1 = flags.DEFINE_list("design_b1", ["1"], "B1 values that the design must serve")
_CHECKS = {
    "snr": flags.DEFINE_float("snr", 50.0, "of the checks: M0 over the noise of a frame"),
    "draws": flags.DEFINE_integer("draws", 400, "noisy voxels of each tissue", lower_bound=2),
    "brain_size": flags.DEFINE_integer("brain_size", 128, "rows and columns of the digital brain", lower_bound=48),
}


def main():
    """Designs, checks, and writes what came out."""
    _tissues(_TISSUES.value)
    settings = {
        "simulation": dataclasses.asdict(sequence_flags.simulation_config()),
        "sampling": dataclasses.asdict(spiral_flags.spiral_config()),
        "tissues": _TISSUES.value,
        "design_b1": numbers_in(_DESIGN_B1.value, "--design_b1", positive=True),
        **{name: _range(name, flag.value) for name, flag in _RANGES.items()},
        **{name: flag.value for name, flag in (_LIMITS | _DESIGN | _CHECKS).items()},
    }
    with Workdir(_WORKDIR.value, settings, given_flags()) as workdir:
        try:
            settings = workdir.config
            simulation = SimulationConfig(**settings["simulation"])
            start, profile = simulation.sequence(), simulation.slice_profile()
            limits = _limits(settings, start)
            _check_playable(limits, settings)
            config = DesignConfig(
                **{field.name: settings[field.name] for field in dataclasses.fields(DesignConfig)}
                | {"tissues": _tissues(settings["tissues"])}
            )
            found = design(workdir, start, limits, config, profile)
        except ValueError:
            if not workdir.begun and not any(workdir.path.glob("checkpoints/*")):  # bad input, and nothing made yet
                workdir.abandon()
            raise
        path = workdir.path / "sequence.csv"
        write_schedule(path, found.sequence)
        _write_pulseq(workdir.path / "sequence.seq", found.sequence, settings)
        written = read_schedule(path)
        if broken := {name: amount for name, amount in violations(written, limits).items() if amount}:
            raise ValueError(f"{path}: the design breaks its limits: {broken}")
        evaluated = evaluate_design(found._replace(sequence=written), config, limits, settings, profile)
        with replacing(workdir.path / "results.json") as temporary:
            temporary.write_text(json.dumps(evaluated.numbers(), indent=2) + "\n", encoding="utf-8")
        with replacing(workdir.path / "sequence.png") as temporary:
            design_figure(*evaluated.sequences(), limits=limits).savefig(temporary, dpi=120)
        write_design_report(workdir.path / "report.html", settings, evaluated)
    for name, gains in evaluated.gains().items():
        print(f"{name:14s} T1 {gains[0]:.2f} times, T2 {gains[1]:.2f} times as precise as the start")
    print(f"report: {workdir.path / 'report.html'}")


def _tissues(texts):
    try:
        pairs = [text.rsplit(":", 1) for text in texts]
        found = {name: [float(time) for time in times.split("/")] for name, times in pairs}
        if not found or any(len(times) != 2 for times in found.values()) or len(found) < len(pairs):
            raise ValueError
    except ValueError:
        raise ValueError(f"--tissues must be name:T1/T2 in ms, separated by commas; got {','.join(texts)}") from None
    return found


def _range(name, texts):
    values = numbers_in(texts, f"--{name}", repeats=True)
    if len(values) > 2:
        raise ValueError(f"--{name} must be one number or two; got {','.join(texts)}")
    return [values[0], values[-1]]


def _limits(settings, start):
    """The limits; without a scan time, that of the start."""
    if start.inversion_time is None and "inversion_range_ms" in given_flags():
        raise ValueError("--inversion_range_ms goes with a start that has an inversion; that of --schedule has none")
    low, high = settings["inversion_range_ms"]
    seconds = settings["scan_time_s"]
    change = settings["max_flip_change_deg"]
    return Limits(
        flip_angle=tuple(np.deg2rad(settings["flip_angle_deg"]).tolist()),
        repetition_time=tuple(1e-3 * time for time in settings["repetition_time_ms"]),
        echo_time=float(start.echo_time[0]),
        inversion_time=None if start.inversion_time is None else (1e-3 * low, 1e-3 * high),
        scan_time=float(scan_time(start)) if seconds is None else seconds,
        scan_time_fixed=settings["scan_time_fixed"],
        max_flip_change=None if change is None else float(np.deg2rad(change)),
        rf_power=settings["rf_power"],
    )


def _check_playable(limits, settings):
    """Raises `ValueError` where no time would be left for the spirals, which a search would otherwise end with."""
    quickest = Sequence(
        np.full(2, limits.flip_angle[1]),
        np.full(2, limits.repetition_time[0]),
        limits.echo_time,
        None if limits.inversion_time is None else limits.inversion_range[0],
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            _write_pulseq(pathlib.Path(folder) / "quickest.seq", quickest, settings)
        except ValueError as error:
            raise ValueError(f"the quickest sequence that the limits allow cannot be played: {error}") from error


def _write_pulseq(path, sequence, settings):
    sampling = SpiralConfig(**settings["sampling"])
    spiral = sampling.spiral()
    write_pulseq(
        path,
        sequence,
        Readout(
            gradient=spiral.gradient,
            angles=sampling.angles(sequence.n_frames),
            n_samples=len(spiral.k),
            dwell_time=spiral.dwell_time,
            field_of_view=sampling.field_of_view,
        ),
        excitation=Excitation(
            time_bandwidth=settings["simulation"]["time_bandwidth"], window=settings["simulation"]["window"]
        ),
        limits=ScannerLimits(
            max_gradient=1e-3 * sampling.max_gradient_mt_per_m, max_slew_rate=sampling.max_slew_rate_t_per_m_s
        ),
    )


if __name__ == "__main__":
    run(main)
