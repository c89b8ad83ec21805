r"""The dictionary of one patient's heart rhythm, simulated, or generated on the fly.

Example::

    ganmrf cardiac_dictionary --output=patient.npz --rr_ms=850,910,870,905,1180,640,880,900

``--rr_ms`` lists the time from each beat to the next, as the scanner's physiological log has it. The sequence is the
published one of cardiac MRF, with as many beats as there are times: a train of frames in every beat, before them an
inversion, nothing, and three T2 preparations in turn, or what ``--preparations_ms`` says. The dictionary of ``--grid``,
or ``--t1_ms`` and ``--t2_ms``, is simulated; with ``--generator`` anchors of the sequence are, and the dictionary is
generated from them, with the error told. A generator of FISP serves best where nothing is prepared but the first beat.
``--check`` then simulates the dictionary too, for the errors and the time. A report beside ``--output`` shows the
rhythm, the sequence and fingerprints.
"""

import contextlib
import functools
import pathlib
import time

import jax
import numpy as np

from experiments.benchmarks.timing import timed
from experiments.flags.command_line import command
from experiments.flags.config import check_same_simulation
from ganmrf.anchors.generator_file import load_anchored
from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.npz import check_size, save_dictionary
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.sequences.cardiac import CardiacFisp, without_gaps
from ganmrf.report.anchored_figures import rhythm_figure
from ganmrf.report.figures import fingerprint_figure
from ganmrf.report.html import Picture, Section, write_report
from ganmrf.report.sequence_figures import schedule_caption, schedule_figure
from ganmrf.runs.preparation_config import PreparationConfig
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import AS_PLAYED, OF_SLICE, slice_words
from ganmrf.runs.tissues import pool_words
from ganmrf.settings import configuration, group, setting

_SHOWN_MS = ((1200, 45), (1900, 160), (350, 70))  # T1, T2: about those of myocardium, blood and fat at 3 T
_NOT_CARDIAC = ("frames", "inversion_time_ms", "schedule_slice", "schedule_seed", "flip_angle_deg")
_NOT_CARDIAC += ("phase_increment_deg", "refocusing_angle_deg", "echo_spacing_ms")


@configuration
class Config:
    """The rhythm, the dictionary's file, and the generator."""

    output: str = setting(meaning="file to write, .npz or .mat", suffixes=(".npz", ".mat"))
    generator: str | None = setting(
        None, "generator.npz of train_anchored; default: the dictionary is simulated", reads=True
    )
    compressed: bool = setting(False, "coefficients in the anchors' basis, not all frames", goes_with=("generator",))
    check: bool = setting(False, "also simulate the dictionary, for its errors and its time", goes_with=("generator",))
    preparation: PreparationConfig = group(PreparationConfig)
    simulation: SimulationConfig = group(
        SimulationConfig,
        without=_NOT_CARDIAC,
        defaults={("sequence", "cardiac"), *AS_PLAYED},
        choices={"sequence": ("cardiac",)},
    )

    def __post_init__(self):
        if not self.simulation.kind.rr_ms:
            raise ValueError("rr_ms is required: time from each beat to the next in ms, in the order of the beats")
        for name, value in vars(self.preparation).items():
            if value is not None and self.generator is None:
                raise ValueError(f"{name} goes with --generator")


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Simulates or generates the dictionary, and shows it."""
    output, cardiac, tissue = pathlib.Path(config.output), config.simulation.sequence(), config.simulation.tissue()
    check_size(output, tissue.size, 1 if config.compressed else cardiac.n_frames)
    make = _simulated if config.generator is None else _generated
    dictionary, words = make(config, given, cardiac, tissue)
    words = [f"{len(cardiac.rr_intervals)} beats, {cardiac.n_frames} frames", *words]
    pools = pool_words(dictionary.tissue, dictionary.sequence)
    words.append(f"Assumed is {slice_words(dictionary.slice_profile)}{f' and {pools}' if pools else ''}")
    print("\n".join(words))
    save_dictionary(output, dictionary)
    print(f"saved as {output} ({output.stat().st_size / 1e6:.1f} MB)")
    report = output.with_suffix(".html")
    unread = () if config.generator is None else {*OF_SLICE} - given  # the slice is the generator's
    _report(config, report, dictionary, cardiac, ". ".join(words) + ".", unread)
    print(f"report: {report}")


def _simulated(config, _, cardiac, tissue) -> tuple[Dictionary, list[str]]:
    """The dictionary, and what there is to say about it, in sentences without their stops."""
    clock = time.perf_counter()
    dictionary = build_dictionary(cardiac, tissue, slice_profile=config.simulation.slice_profile(), progress=True)
    return dictionary, [f"{tissue.size} atoms simulated in {time.perf_counter() - clock:.2f} s"]


def _generated(config, given, cardiac, tissue) -> tuple[Dictionary, list[str]]:
    """As `_simulated`."""
    generator = load_anchored(config.generator)
    check_same_simulation(config.simulation, given - {"sequence"}, None, generator.slice_profile, config.generator)
    generator.require_inside(tissue)
    sequence = _as_learned(generator, cardiac)
    clock = time.perf_counter()
    prepared = config.preparation.prepare(generator, sequence)
    if config.compressed:
        check_size(config.output, tissue.size, prepared.basis.shape[1])
    weights = generator.weights(tissue, prepared.n_anchors)
    first = time.perf_counter() - clock
    clock = time.perf_counter()
    prepared = config.preparation.prepare(generator, sequence, allow_error=np.inf)  # has been judged
    dictionary = prepared.generate(weights, compressed=config.compressed)
    again = time.perf_counter() - clock
    words = [prepared.summary(), f"{tissue.size} atoms generated in {1e3 * again:.0f} ms"]
    words.append(f"{first:.2f} s before that for weights, and programs made ready")
    if config.check:
        words.append(_checked(prepared, weights, sequence, generator.slice_profile))
    return dictionary, words


def _as_learned(generator, cardiac: CardiacFisp):
    """The sequence, for generators of FISP as a `Fisp` where nothing is prepared but the first beat."""
    if generator.family == "fisp":
        with contextlib.suppress(ValueError):
            return without_gaps(cardiac)
    return cardiac


def _checked(prepared, weights, sequence, slice_profile):
    simulate = functools.partial(build_dictionary, sequence, weights.tissue, slice_profile=slice_profile)
    (seconds,) = timed({"simulated": simulate}, rounds=1)["simulated"]
    truth = simulate(accuracy=1e-5)
    errors = fingerprint_errors(prepared.generate(weights).fingerprints, truth.fingerprints)
    high = np.quantile(errors, 0.99)
    found = f"{errors.mean():.1e} on average, 99 % below {high:.1e}, largest {errors.max():.1e}"
    return f"Simulated in {1e3 * seconds:.0f} ms; the errors are {found}"


def _report(config, path, dictionary, cardiac, words, unread):
    tissue = jax.tree.map(np.asarray, dictionary.tissue)
    times = np.log(np.stack([tissue.t1, tissue.t2], axis=1))
    shown = np.unique([np.abs(times - np.log(1e-3 * np.array(each))).sum(axis=1).argmin() for each in _SHOWN_MS])
    names = [f"{1e3 * tissue.t1[row]:.0f}/{1e3 * tissue.t2[row]:.0f} ms" for row in shown]
    rhythm = rhythm_figure(cardiac), "Time from each beat to the next, what prepares it, and when frames are acquired."
    schedule = schedule_figure(cardiac), schedule_caption(cardiac)
    caption, compared = "Unit fingerprints of some atoms (T1/T2)", dictionary.fingerprints[shown]
    if config.generator is None:
        figure = fingerprint_figure(compared, names)
    else:
        caption += ", simulated and generated; below, the difference"
        if dictionary.basis is not None:
            compared = compared @ dictionary.basis.conj().T
        profile = dictionary.slice_profile
        truth = build_dictionary(dictionary.sequence, tissue.rows(shown), slice_profile=profile, accuracy=1e-5)
        figure = fingerprint_figure(truth.fingerprints, names, overlay=compared)
    write_report(
        path,
        title="A dictionary for one heart's rhythm",
        summary=words,
        sections=[
            Section("Rhythm and sequence", figures=[Picture(*rhythm), Picture(*schedule)]),
            Section("Fingerprints", figures=[Picture(figure, f"{caption}.")]),
        ],
        settings=config,
        unread=unread,
    )


if __name__ == "__main__":
    main.run()
