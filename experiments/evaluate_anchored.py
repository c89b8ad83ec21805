r"""Evaluates generators for any sequence on sequences that they have never seen, beside the simulator.

Example::

    python -m experiments.evaluate_anchored --output=runs/evaluated --generator=runs/anchored/generator.npz \
        --generator=runs/radial/generator.npz

For each generator: errors of fingerprints against the number of anchors, on the two published schedules, on random ones
and on heart rhythms; errors outside its box; the derivative of a loss by the sequence; maps of the digital brain; and
the number of dictionaries from which on making it has paid. ``evaluation.json`` and ``report.html`` hold the results.
"""

import json
import sys

import numpy as np
import tqdm
from absl import flags

from experiments.evaluation.anchored import (
    brain_map_errors,
    dictionary_cost,
    errors_by_size,
    extrapolation,
    gradient_errors,
    read_subject,
    unseen_sequences,
)
from experiments.flags import sequence_flags
from experiments.flags.command_line import run
from experiments.reports.anchored import print_evaluation, write_anchored_report
from experiments.reports.generator import summary
from ganmrf.files import make_folder, replacing

flags.adopt_module_key_flags(sequence_flags)
_GENERATORS = flags.DEFINE_multi_string("generator", None, "generator.npz; may be repeated", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "folder for the results", required=True)
_SEED = flags.DEFINE_integer("seed", 0, "of the unseen sequences, the tissues, the brain and its noise", lower_bound=0)
_SEQUENCES = flags.DEFINE_integer("sequences", 28, "unseen sequences, a quarter of them heart rhythms", lower_bound=4)
_TISSUES = flags.DEFINE_integer("tissues", 512, "that errors are of", lower_bound=1)
_MAPS = flags.DEFINE_integer("maps", 20, "unseen sequences that the brain is mapped with", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 128, "rows and columns of the brain's image of 300 mm", lower_bound=8)
_SNR = flags.DEFINE_float("snr", 20.0, "signal-to-noise ratio of its scans")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "how often each job is timed", lower_bound=1)
_ANCHORS = flags.DEFINE_integer("timed_anchors", None, "anchors of the timed dictionaries; default: all")


def main():
    """Evaluates, and writes what came out."""
    folder = make_folder(_OUTPUT.value)
    config = sequence_flags.simulation_config()
    subjects = [read_subject(path, config.tissue()) for path in _GENERATORS.value]
    if len({subject.name for subject in subjects}) < len(subjects):
        raise ValueError("--generator: two of them are in folders of the same name; results could not be told apart")
    unseen = unseen_sequences(_SEED.value, _SEQUENCES.value, config.frames or 1000)
    found = {}
    for subject in subjects:
        found[subject.name] = _evaluate(subject, unseen)
        print_evaluation(subject.name, found[subject.name])
    with replacing(folder / "evaluation.json") as path:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    settings = {"generator": _GENERATORS.value, "seed": _SEED.value, "sequences": _SEQUENCES.value}
    settings |= {"tissues": _TISSUES.value, "maps": _MAPS.value, "size": _SIZE.value, "snr": _SNR.value}
    settings |= {"rounds": _ROUNDS.value, "timed_anchors": _ANCHORS.value, "simulation": config}
    write_anchored_report(folder / "report.html", settings, found)
    print(f"report: {folder / 'report.html'}")


def _evaluate(subject, unseen):
    """Everything about one generator, in plain numbers."""
    random = unseen["random"]
    mapped = (random * _MAPS.value)[: _MAPS.value]
    with tqdm.tqdm(total=len(unseen) + len(mapped) + 3, desc=subject.name, disable=not sys.stderr.isatty()) as bar:

        def done(value):
            bar.update()
            return value

        generator = subject.generator
        weights = generator.weights(subject.tissue)
        timed = weights if _ANCHORS.value is None else generator.weights(subject.tissue, _ANCHORS.value)
        errors = {
            group: done(errors_by_size(subject, sequences, _TISSUES.value, _SEED.value))
            for group, sequences in unseen.items()
        }
        cost = done(dictionary_cost(generator, timed, random[0], _ROUNDS.value))
        gradient = done(gradient_errors(generator, weights, random[0]))
        outside = done({} if generator.kind == "table" else extrapolation(generator, random[:4], _SEED.value))
        settings = {"size": _SIZE.value, "snr": _SNR.value}
        maps = [
            done(brain_map_errors(generator, weights, each, seed=_SEED.value + i, **settings))
            for i, each in enumerate(mapped)
        ]
    return {
        "kind": generator.kind,
        "axes": list(generator.box.names),
        "slice_positions": 1 if generator.slice_profile is None else int(np.size(generator.slice_profile.nodes)),
        "atoms": subject.tissue.size,
        "core_seconds": subject.core_seconds,
        "errors": {
            group: {str(size): summary(values) for size, values in by_size.items()} for group, by_size in errors.items()
        },
        "outside": outside,
        "gradient": gradient._asdict(),
        "maps": {name: [getattr(each, name) for each in maps] for name in ("t1", "t2", "changed")},
        "cost": cost._asdict(),
    }


if __name__ == "__main__":
    run(main)
