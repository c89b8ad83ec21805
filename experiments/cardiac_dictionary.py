r"""The dictionary of one patient's heart rhythm, generated on the fly.

Example::

    python -m experiments.cardiac_dictionary --generator=runs/anchored/generator.npz --output=patient.npz \
        --rr_ms=850,910,870,905,1180,640,880,900

``--rr_ms`` lists the time from each beat to the next, as the scanner's physiological log has it. The sequence has a
block of frames in every beat, after an inversion before the first. Anchors of it are simulated, and the dictionary of
``--grid``, or ``--t1_ms`` and ``--t2_ms``, is generated from them. ``--check`` simulates it too, for its errors and its
time. A report beside ``--output`` shows the rhythm, the sequence and fingerprints.
"""

import pathlib
import time

import numpy as np
from absl import flags

from experiments.flags import sequence_flags
from experiments.flags.command_line import numbers_in, run
from ganmrf.anchors.generator_file import load_anchored
from ganmrf.anchors.prepared import prepare
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.npz import save_dictionary
from ganmrf.io.schedule import read_columns
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.sequences.cardiac import cardiac_mrf
from ganmrf.report.anchored_figures import rhythm_figure
from ganmrf.report.figures import fingerprint_figure, schedule_figure
from ganmrf.report.html import Picture, Section, write_report

flags.adopt_module_key_flags(sequence_flags)
_GENERATOR = flags.DEFINE_string("generator", None, "generator.npz of train_anchored", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "file to write, .npz or .mat", required=True)
_RR_MS = flags.DEFINE_list("rr_ms", None, "time from each beat to the next, in the order of the beats", required=True)
_FRAMES = flags.DEFINE_integer("frames_per_beat", 50, "frames of a block", lower_bound=1)
_TR_MS = flags.DEFINE_float("repetition_time_ms", 5.1, "repetition time within a block", lower_bound=0)
_FLIP_ANGLES = flags.DEFINE_string("flip_angles", None, "CSV with flip angles of one beat or of all; default: 4-25 deg")
_ANCHORS = flags.DEFINE_integer("anchors", None, "anchors to simulate; default: all that the generator has")
_ACCURACY = flags.DEFINE_float("accuracy", None, "in place of --anchors: error that 99 % of held-out tissues must keep")
_COMPRESSED = flags.DEFINE_bool("compressed", False, "coefficients in the anchors' basis, not all frames")
_CHECK = flags.DEFINE_bool("check", False, "also simulate the dictionary, for its errors and its time")
_OWN = (_GENERATOR, _OUTPUT, _RR_MS, _FRAMES, _TR_MS, _FLIP_ANGLES, _ANCHORS, _ACCURACY, _COMPRESSED, _CHECK)

_SHOWN_MS = ((1200, 45), (1900, 160), (350, 70))  # T1, T2: about those of myocardium, blood and fat at 3 T


def main():
    """Generates the dictionary, and shows it."""
    output = pathlib.Path(_OUTPUT.value)
    if output.suffix not in (".npz", ".mat"):
        raise ValueError(f"--output must end in .npz or .mat; got {output}")
    config, generator = sequence_flags.simulation_config(), load_anchored(_GENERATOR.value)
    sequence, rr_intervals = _sequence(config)
    sequence_flags.check_same_simulation(config, None, generator.slice_profile, _GENERATOR.value)
    tissue = config.tissue()
    generator.require_inside(tissue)
    clock = time.perf_counter()
    prepared = prepare(generator, sequence, _ANCHORS.value, accuracy=_ACCURACY.value)
    weights = generator.weights(tissue, prepared.n_anchors)
    first = time.perf_counter() - clock
    clock = time.perf_counter()
    prepared = prepare(generator, sequence, prepared.n_anchors)
    dictionary = prepared.generate(weights, compressed=_COMPRESSED.value)
    again = time.perf_counter() - clock
    print(f"{rr_intervals.size} beats, {sequence.n_frames} frames, {prepared.n_anchors} anchors; {prepared.summary()}")
    print(
        f"{tissue.size} atoms in {1e3 * again:.0f} ms; {first:.2f} s before that for weights, and programs made ready"
    )
    save_dictionary(output, dictionary)
    print(f"saved as {output} ({output.stat().st_size / 1e6:.1f} MB)")
    checked = ""
    if _CHECK.value:
        checked = _checked(prepared, weights, sequence, generator.slice_profile)
        print(checked)
    report = output.with_suffix(".html")
    words = (
        f"{tissue.size} atoms in {1e3 * again:.0f} ms. {checked} {prepared.n_anchors} anchors; {prepared.summary()}."
    )
    _report(report, dictionary, rr_intervals, words)
    print(f"report: {report}")


def _sequence(config):
    for name in ("schedule", "frames"):
        if getattr(config, name) is not None:
            raise ValueError(f"--{name}: the rhythm makes this sequence; see --flip_angles and --frames_per_beat")
    rr_intervals = 1e-3 * np.array(numbers_in(_RR_MS.value, "--rr_ms", positive=True, repeats=True))
    block_ms = _FRAMES.value * _TR_MS.value
    if rr_intervals.min() < 1e-3 * block_ms * (1 - 1e-6):
        shortest = 1e3 * rr_intervals.min()
        raise ValueError(f"--rr_ms: {shortest:g} is shorter than a block of {_FRAMES.value} frames, {block_ms:g} ms")
    times = {"echo_time": config.echo_time_ms, "inversion_time": config.inversion_time_ms}
    settings = {name: 1e-3 * value for name, value in times.items() if value is not None}
    if _FLIP_ANGLES.value is not None:
        columns = read_columns(_FLIP_ANGLES.value)
        if "flip_angle" not in columns:
            raise ValueError(f"--flip_angles: {_FLIP_ANGLES.value} has no column flip_angle_deg")
        settings["flip_angle"] = columns["flip_angle"]
    shape = {"frames_per_beat": _FRAMES.value, "repetition_time": 1e-3 * _TR_MS.value}
    return cardiac_mrf(rr_intervals, **shape, **settings), rr_intervals


def _checked(prepared, weights, sequence, slice_profile):
    tissue = weights.tissue
    build_dictionary(sequence, tissue, slice_profile=slice_profile)  # makes its programs ready
    clock = time.perf_counter()
    build_dictionary(sequence, tissue, slice_profile=slice_profile)
    seconds = time.perf_counter() - clock
    truth = build_dictionary(sequence, tissue, slice_profile=slice_profile, accuracy=1e-5)
    errors = fingerprint_errors(prepared.generate(weights).fingerprints, truth.fingerprints)
    high = np.quantile(errors, 0.99)
    return f"Simulated in {1e3 * seconds:.0f} ms; the errors are {errors.mean():.1e} on average, 99 % below {high:.1e}."


def _report(path, dictionary, rr_intervals, words):
    tissue, sequence = dictionary.tissue, dictionary.sequence
    times = np.log(np.stack([tissue.t1, tissue.t2], axis=1))
    shown = [int(np.argmin(np.abs(times - np.log(1e-3 * np.array(each))).sum(axis=1))) for each in _SHOWN_MS]
    shown = np.unique(shown)
    signals = build_dictionary(sequence, tissue.rows(shown), slice_profile=dictionary.slice_profile, accuracy=1e-5)
    generated = dictionary.fingerprints[shown]
    if dictionary.basis is not None:
        generated = generated @ dictionary.basis.T
    names = [f"{1e3 * tissue.t1[row]:.0f}/{1e3 * tissue.t2[row]:.0f} ms" for row in shown]
    block = 1e-3 * _FRAMES.value * _TR_MS.value
    rhythm = Picture(
        rhythm_figure(rr_intervals, block), "Time from each beat to the next, and when frames are acquired."
    )
    schedule = Picture(
        schedule_figure(sequence), "Flip angle and repetition time of every frame; beats end with a long one."
    )
    figure = fingerprint_figure(signals.fingerprints, names, overlay=generated)
    fingerprints = Picture(
        figure, "Unit fingerprints of some atoms (T1/T2), simulated and generated; below, the difference."
    )
    write_report(
        path,
        title="A dictionary for one heart's rhythm",
        summary=words,
        sections=[
            Section("Rhythm and sequence", figures=[rhythm, schedule]),
            Section("Fingerprints", figures=[fingerprints]),
        ],
        settings={flag.name: flag.value for flag in _OWN},
    )


if __name__ == "__main__":
    run(main)
