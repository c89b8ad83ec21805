r"""The dictionary of one patient's heart rhythm, generated on the fly.

Example::

    ganmrf cardiac_dictionary --generator=runs/anchored/generator.npz --output=patient.npz \
        --rr_ms=850,910,870,905,1180,640,880,900

``--rr_ms`` lists the time from each beat to the next, as the scanner's physiological log has it. The sequence has a
block of frames in every beat, after an inversion before the first. Anchors of it are simulated, and the dictionary of
``--grid``, or ``--t1_ms`` and ``--t2_ms``, is generated from them. ``--check`` simulates it too, for its errors and its
time. A report beside ``--output`` shows the rhythm, the sequence and fingerprints.
"""

import functools
import pathlib
import time

import numpy as np

from experiments.benchmarks.timing import timed
from experiments.flags.command_line import command
from experiments.flags.config import check_same_simulation
from ganmrf.anchors.generator_file import load_anchored
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.npz import check_size, save_dictionary
from ganmrf.io.schedule import read_columns
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.sequences.cardiac import cardiac_mrf
from ganmrf.report.anchored_figures import rhythm_figure
from ganmrf.report.figures import fingerprint_figure, schedule_figure
from ganmrf.report.html import Picture, Section, write_report
from ganmrf.runs.configs import PreparationConfig, SimulationConfig
from ganmrf.settings import configuration, group, setting

_SHOWN_MS = ((1200, 45), (1900, 160), (350, 70))  # T1, T2: about those of myocardium, blood and fat at 3 T


@configuration
class Config:
    """The rhythm, the generator and the dictionary's file."""

    generator: str = setting(meaning="generator.npz of train_anchored", reads=True)
    output: str = setting(meaning="file to write, .npz or .mat", suffixes=(".npz", ".mat"))
    rr_ms: tuple[float, ...] = setting(
        meaning="time from each beat to the next in ms, in the order of the beats", above=0, repeats=True
    )
    frames_per_beat: int = setting(50, "frames of a block", at_least=1)
    repetition_time_ms: float = setting(5.1, "repetition time within a block in ms", above=0)
    flip_angles: str | None = setting(
        None, "CSV with flip angles of one beat or of all; default: 4 to 25 degrees in every beat", reads=True
    )
    compressed: bool = setting(False, "coefficients in the anchors' basis, not all frames")
    check: bool = setting(False, "also simulate the dictionary, for its errors and its time")
    preparation: PreparationConfig = group(PreparationConfig)
    simulation: SimulationConfig = group(SimulationConfig, without=("schedule", "frames"))


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Generates the dictionary, and shows it."""
    output, generator = pathlib.Path(config.output), load_anchored(config.generator)
    sequence, rr_intervals = _sequence(config)
    check_same_simulation(config.simulation, given, None, generator.slice_profile, config.generator)
    tissue = config.simulation.tissue()
    generator.require_inside(tissue)
    check_size(output, tissue.size, 1 if config.compressed else sequence.n_frames)
    clock = time.perf_counter()
    prepared = config.preparation.prepare(generator, sequence)
    if config.compressed:
        check_size(output, tissue.size, prepared.basis.shape[1])
    weights = generator.weights(tissue, prepared.n_anchors)
    first = time.perf_counter() - clock
    clock = time.perf_counter()
    prepared = config.preparation.prepare(generator, sequence, allow_error=np.inf)  # has been judged
    dictionary = prepared.generate(weights, compressed=config.compressed)
    again = time.perf_counter() - clock
    print(f"{rr_intervals.size} beats, {sequence.n_frames} frames, {prepared.summary()}")
    made = f"{tissue.size} atoms in {1e3 * again:.0f} ms"
    print(f"{made}; {first:.2f} s before that for weights, and programs made ready")
    save_dictionary(output, dictionary)
    print(f"saved as {output} ({output.stat().st_size / 1e6:.1f} MB)")
    checked = ""
    if config.check:
        checked = _checked(prepared, weights, sequence, generator.slice_profile)
        print(checked)
    report = output.with_suffix(".html")
    words = f"{made}. {checked} {prepared.summary()}."
    _report(config, report, dictionary, rr_intervals, words)
    print(f"report: {report}")


def _sequence(config):
    simulation = config.simulation
    rr_intervals = 1e-3 * np.array(config.rr_ms)
    block_ms = config.frames_per_beat * config.repetition_time_ms
    if (shortest := rr_intervals.min()) < 1e-3 * block_ms * (1 - 1e-6):
        block = f"a block of {config.frames_per_beat} frames, {block_ms:g} ms"
        raise ValueError(f"rr_ms: {1e3 * shortest:g} is shorter than {block}")
    times = {"echo_time": simulation.echo_time_ms, "inversion_time": simulation.inversion_time_ms}
    settings = {name: 1e-3 * value for name, value in times.items() if value is not None}
    if config.flip_angles is not None:
        columns = read_columns(config.flip_angles)
        if "flip_angle" not in columns:
            raise ValueError(f"flip_angles: {config.flip_angles} has no column flip_angle_deg")
        settings["flip_angle"] = columns["flip_angle"]
    shape = {"frames_per_beat": config.frames_per_beat, "repetition_time": 1e-3 * config.repetition_time_ms}
    return cardiac_mrf(rr_intervals, **shape, **settings), rr_intervals


def _checked(prepared, weights, sequence, slice_profile):
    simulate = functools.partial(build_dictionary, sequence, weights.tissue, slice_profile=slice_profile)
    (seconds,) = timed({"simulated": simulate}, rounds=1)["simulated"]
    truth = simulate(accuracy=1e-5)
    errors = fingerprint_errors(prepared.generate(weights).fingerprints, truth.fingerprints)
    high = np.quantile(errors, 0.99)
    found = f"{errors.mean():.1e} on average, 99 % below {high:.1e}, largest {errors.max():.1e}"
    return f"Simulated in {1e3 * seconds:.0f} ms; the errors are {found}."


def _report(config, path, dictionary, rr_intervals, words):
    tissue, sequence = dictionary.tissue, dictionary.sequence
    times = np.log(np.stack([tissue.t1, tissue.t2], axis=1))
    shown = np.unique([np.abs(times - np.log(1e-3 * np.array(each))).sum(axis=1).argmin() for each in _SHOWN_MS])
    signals = build_dictionary(sequence, tissue.rows(shown), slice_profile=dictionary.slice_profile, accuracy=1e-5)
    generated = dictionary.fingerprints[shown]
    if dictionary.basis is not None:
        generated = generated @ dictionary.basis.T
    names = [f"{1e3 * tissue.t1[row]:.0f}/{1e3 * tissue.t2[row]:.0f} ms" for row in shown]
    block = 1e-3 * config.frames_per_beat * config.repetition_time_ms
    rhythm = rhythm_figure(rr_intervals, block), "Time from each beat to the next, and when frames are acquired."
    schedule = schedule_figure(sequence), "Flip angle and repetition time of every frame; beats end with a long one."
    compared = fingerprint_figure(signals.fingerprints, names, overlay=generated)
    caption = "Unit fingerprints of some atoms (T1/T2), simulated and generated; below, the difference."
    write_report(
        path,
        title="A dictionary for one heart's rhythm",
        summary=words,
        sections=[
            Section("Rhythm and sequence", figures=[Picture(*rhythm), Picture(*schedule)]),
            Section("Fingerprints", figures=[Picture(compared, caption)]),
        ],
        settings=config,
    )


if __name__ == "__main__":
    main.run()
