r"""Evaluates generators for any sequence of a kind on sequences that they have never seen, beside the simulator.

Example::

    ganmrf evaluate_anchored --output=runs/evaluated --generator=runs/anchored/generator.npz \
        --generator=runs/radial/generator.npz

For each generator: errors of fingerprints against the number of anchors, on published sequences and on random ones; on
sequences of no family that it learned from, what the certificate says beside what is true; fingerprints of three
tissues on simulated ones, and the bias over noise that errors of fingerprints induce in maps; errors outside its box;
and the number of dictionaries from which on making it has paid. Of T1, T2 and B1 under FISP also derivatives by the
tissue, and bounds; the derivative of a loss by the sequence; and maps of the digital brain. ``evaluation.json`` and
``report.html`` hold the results.

With ``--recurrent_steps`` a recurrent network in the manner of Liu et al. 2021 is trained for the box of each generator
as a baseline, and stands beside it in errors and cost; the number of steps at which it is as dear is said. It is kept
in ``recurrent`` in the folder for the results: the same command goes on where it was cut off.
"""

from experiments.evaluation import anchored
from experiments.evaluation.example import example
from experiments.evaluation.recurrent_runs import train_beside
from experiments.evaluation.unseen import PUBLISHED, foreign_sequences, unseen_sequences
from experiments.flags.command_line import command
from experiments.reports.anchored import print_evaluation, write_anchored_report
from experiments.reports.example import biases
from experiments.reports.generator import summary
from ganmrf.dictionary.grids import GRIDS_ON_RESONANCE
from ganmrf.files import make_folder, write_json
from ganmrf.imaging.phantom import COARSEST
from ganmrf.physics.simulate_many import require_signal_memory
from ganmrf.progress import Progress
from ganmrf.runs.simulation_config import OF_OTHER_KINDS, SimulationConfig
from ganmrf.runs.slices import OF_SLICE, slice_words
from ganmrf.scanner import Scanner
from ganmrf.settings import configuration, group, naming_fields, setting

# Kinds of sequences and slice profiles are those of the generators, and sequences are random or published ones.
_OF_SEQUENCE = "sequence", "schedule", "schedule_slice", "echo_time_ms", "inversion_time_ms", *OF_OTHER_KINDS
_UNREAD = *_OF_SEQUENCE, *OF_SLICE, "off_resonance_hz"
_READ = {
    "choices": {"grid": GRIDS_ON_RESONANCE},
    "meanings": {
        "frames": "frames of each random sequence, of heart rhythms 15 beats for 1000; default: 1000",
        "grid": "tissue grid of 5970, 297, or 106160 atoms, of generators of T1, T2 and perhaps B1",
    },
}


@configuration
class Config:
    """What is evaluated, and on what."""

    generator: tuple[str, ...] = setting(meaning="generator.npz of train_anchored", apart=True, reads=True)
    output: str = setting(meaning="folder for the results")
    seed: int = setting(0, "of the unseen sequences, the tissues, the brain and its noise", at_least=0)
    sequences: int = setting(28, "unseen sequences, a quarter of them heart rhythms", at_least=4)
    foreign: int = setting(40, "sequences of other families, and with them the published ones", at_least=3)
    tissues: int = setting(512, "tissues that errors are of", at_least=1)
    maps: int = setting(20, "unseen sequences that the brain is mapped with", at_least=1)
    size: int = setting(128, "rows and columns of the brain's image of 300 mm", at_least=COARSEST)
    snr: float = setting(20.0, "signal-to-noise ratio of its scans", above=0)
    rounds: int = setting(7, "how often each job is timed", at_least=1)
    timed_anchors: int | None = setting(None, "anchors of the timed dictionaries; default: all", at_least=1)
    recurrent_steps: int = setting(0, "updates of a recurrent network beside each generator; 0: none", at_least=0)
    simulation: SimulationConfig = group(SimulationConfig, without=_UNREAD, **_READ)


@command(Config)
def main(config: Config):
    """Evaluates, and writes what came out."""
    n_frames = config.simulation.frames or 1000
    Scanner(config.size).require_memory(n_frames, whole=False)
    require_signal_memory(config.tissues, n_frames)
    subjects = [anchored.read_subject(path, config.simulation.tissue()) for path in config.generator]
    with naming_fields(n_anchors="timed_anchors"):
        for subject in subjects:
            subject.generator.require_size(config.timed_anchors)
    if len({subject.name for subject in subjects}) < len(subjects):
        raise ValueError("generator: two of them are in folders of the same name; results could not be told apart")
    others = [each.name for each in subjects if not anchored.is_plain(each.generator)]
    if config.recurrent_steps and others:
        raise ValueError(f"recurrent_steps goes with generators of T1, T2 and B1 under FISP; {others[0]} is another")
    folder, recurrent = make_folder(config.output), {}
    if config.recurrent_steps:
        boxes, run = {each.name: each.generator for each in subjects}, {"seed": config.seed, "n_frames": n_frames}
        recurrent = train_beside(folder / "recurrent", boxes, steps=config.recurrent_steps, **run)
    found, examples = {}, {}
    for subject in subjects:
        drawn = subject.generator, config.seed
        unseen = unseen_sequences(*drawn, config.sequences, n_frames)
        foreign = foreign_sequences(*drawn, config.foreign, n_frames)
        published = [each for name in PUBLISHED for each in unseen.get(name, ())]
        foreign = ({"published": published} if published else {}) | foreign
        found[subject.name] = _evaluate(subject, recurrent.get(subject.name), unseen, foreign, config)
        examples[subject.name] = shown = example(subject.generator, next(iter(unseen.values()))[0])
        found[subject.name]["bias_over_noise"] = biases(shown)
        print_evaluation(subject.name, found[subject.name])
    write_json(folder / "evaluation.json", found)
    write_anchored_report(folder / "report.html", config, found, examples)
    print(f"report: {folder / 'report.html'}")


def _evaluate(subject, recurrent, unseen, foreign, config):
    """Everything about one generator, in plain numbers."""
    random, generator, seed = unseen["random"], subject.generator, config.seed
    plain = anchored.is_plain(generator)
    mapped = (random * config.maps)[: config.maps] if plain else []
    weights_by_size = anchored.random_weights(subject, config.tissues, seed)
    parts = len(unseen) + len(foreign) + len(mapped) + 5
    with Progress(parts, subject.name, unit="part") as bar:

        def done(value):
            bar.update()
            return value

        weights = generator.weights(subject.tissue)
        timed = weights if config.timed_anchors is None else generator.weights(subject.tissue, config.timed_anchors)
        errors = {
            kind: done(anchored.errors_by_size(generator, sequences, weights_by_size))
            for kind, sequences in unseen.items()
        }
        certified = {"anchors": {}, "completed": {}}
        for kind, sequences in foreign.items():
            for what, each in done(anchored.certified(subject, sequences, config.tissues, seed)).items():
                certified[what][kind] = [one._asdict() for one in each]
        baseline = done(recurrent and _baseline(recurrent, subject, unseen, weights_by_size, config))
        cost = done(anchored.dictionary_cost(generator, timed, random[0], config.rounds))
        gradient = done(anchored.gradient_errors(generator, weights, random[0]) if plain else None)
        outside = done({} if not generator.model.any_tissue else anchored.extrapolation(generator, random[:4], seed))
        by_tissue = plain and generator.model.any_tissue
        tangents = done(anchored.tangent_errors(generator, random[0], seed) if by_tissue else None)
        maps = [
            done(anchored.brain_map_errors(generator, weights, each, seed=seed + i, size=config.size, snr=config.snr))
            for i, each in enumerate(mapped)
        ]
    return {
        "kind": generator.model.kind,
        "axes": list(generator.box.names),
        "slice": slice_words(generator.slice_profile),
        "atoms": subject.tissue.size,
        "core_seconds": subject.core_seconds,
        "errors": {
            kind: {str(size): summary(values) for size, values in by_size.items()} for kind, by_size in errors.items()
        },
        "certified": certified,
        "outside": outside,
        "tangents": tangents and tangents._asdict(),
        "gradient": gradient and gradient._asdict(),
        "maps": maps and {name: [getattr(each, name) for each in maps] for name in ("t1", "t2", "changed")},
        "cost": cost._asdict(),
        "recurrent": baseline,
    }


def _baseline(recurrent, subject, unseen, weights_by_size, config):
    """What the recurrent network reaches on the same sequences and tissues."""
    tissue = weights_by_size[subject.generator.sizes[0]].tissue
    return {
        "steps": recurrent.config.steps,
        "core_seconds": recurrent.core_seconds,
        "errors": {kind: summary(recurrent.errors(sequences, tissue)) for kind, sequences in unseen.items()},
        "generate": recurrent.cost(unseen["random"][0], subject.tissue, config.rounds),
    }


if __name__ == "__main__":
    main.run()
