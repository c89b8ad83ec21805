"""Makes a generator for any sequence of a kind: anchors, and weights over a box of tissue.

Example::

    ganmrf train_anchored --workdir=runs/anchored
    ganmrf train_anchored --workdir=runs/table_b1 --kind=table --b1_range=0.7,1.3 --b1=0.7:1.3:0.075
    ganmrf train_anchored --workdir=runs/cardiac --sequence=cardiac
    ganmrf train_anchored --workdir=runs/semisolid --tissue=semisolid --b1_range=0.7,1.3 --slice_model=full

``--sequence`` is the kind of the random sequences: spoiled FISP, FISP in heartbeats after preparations, or balanced
SSFP. ``--tissue`` is the kind of tissue; every parameter with a range is an axis. A ``trunk`` is a network over all
axes, trained across the sequences, or, with ``--start``, from another trunk on; a ``table`` holds one fixed grid, that
of ``--grid`` or ``--t1_ms``, ``--t2_ms`` and ``--b1``; ``radial`` interpolates, without learning, from the same
anchors, and ``radial_spread`` from some that are spread evenly. Called again with the same ``--workdir`` it goes on
where it was cut off. ``generator.npz`` is what `generate_dictionary`, `cardiac_dictionary` and `evaluate_anchored`
take; ``report.html`` shows errors on sequences never learned from, fingerprints of three tissues on simulated ones, and
the bias that errors of fingerprints induce in maps.
"""

import pathlib

from experiments.evaluation.example import example
from experiments.evaluation.unseen import unseen_sequences
from experiments.flags.command_line import command
from experiments.reports.anchored import table_by_anchors
from experiments.reports.example import example_section
from experiments.reports.generator import summary
from ganmrf.anchors.generator import radial_generator, validation_errors
from ganmrf.physics.tissue import FACTS
from ganmrf.report.anchored_figures import accuracy_figure, anchor_figure
from ganmrf.report.html import Picture, Section, write_report
from ganmrf.report.training_figures import training_figure
from ganmrf.runs.anchoring import RADIAL, AnchoredConfig, anchored_as, make_in_folder
from ganmrf.runs.slices import slice_words
from ganmrf.settings import configuration, group, setting


@configuration
class Config:
    """Where it is made."""

    workdir: str = setting(meaning="folder of the generator", kept=False)
    anchored: AnchoredConfig = group(AnchoredConfig)


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Makes the generator, and writes what it does on sequences that it has not seen."""
    workdir = pathlib.Path(config.workdir)
    made = make_in_folder(workdir, config.anchored, given)
    kind = made.config.kind
    evaluated = {kind: (made.generator, made.anchor_set)}
    for other in RADIAL if kind not in RADIAL else ():
        anchor_set = anchored_as(made.anchor_set, other)
        evaluated[other] = radial_generator(anchor_set), anchor_set
    errors = {
        name: {size: summary(of_size) for size, of_size in validation_errors(*pair).items()}
        for name, pair in evaluated.items()
    }
    words = "Relative L2 error of unit fingerprints, of tissues and sequences that nothing was learned from"
    table = table_by_anchors(errors, words)
    print(table.text())
    shown = _shown(made)
    print(shown.tables[0].text())
    began = ", with those of the generator that it began with" if made.config.start else ""
    print(f"made in {made.core_seconds:.0f} core-seconds{began}: {workdir / 'generator.npz'}")
    _write_report(workdir / "report.html", made, errors, table, shown)
    print(f"report: {workdir / 'report.html'}")


def _shown(made):
    """Fingerprints under the published sequence, or a random one of as many frames as flags said."""
    frames = made.config.simulation.frames
    unseen = unseen_sequences(made.generator, made.config.seed, 1, frames or 1000)
    name = next(iter(unseen)) if frames is None else "random"
    sequence = unseen[name][0]
    return example_section({made.config.kind: example(made.generator, sequence)}, name)


def _axes(box):
    return ", ".join(f"{FACTS[name].name} ({box.range_words(name)})" for name in box.names)


def _write_report(path, made, errors, table, shown):
    kind, size = made.config.kind, made.generator.sizes[-1]
    best = errors[kind][size]
    accuracy = Picture(accuracy_figure(errors), "Solid: mean; dotted: 99 % quantile.")
    anchors = Picture(anchor_figure(made.generator.anchors), "The tissues that are simulated exactly.")
    sections = [
        Section("Errors on unseen sequences", figures=[accuracy], tables=[table]),
        shown,
        Section("Anchors", figures=[anchors]),
    ]
    if made.rows:
        steps = [row["step"] for row in made.rows]
        figure = training_figure(steps, {"unseen tissues": [row["validation_error"] for row in made.rows]}, "Error")
        words = "Relative error of the joint features, before the output layer is solved for."
        sections.append(Section("Training", figures=[Picture(figure, words)]))
    write_report(
        path,
        title=f"A generator for sequences of kind {made.generator.family}, tissue of kind {made.generator.box.kind}",
        summary=(
            f"Weights of kind {kind} over {_axes(made.generator.box)}, learned from {made.config.sequences} sequences "
            f"of {made.config.simulation.frames or 1000} frames in {made.core_seconds:.0f} core-seconds"
            f"{' (those of its start too)' if made.config.start else ''}. In "
            f"{slice_words(made.generator.slice_profile)}, with {size} anchors, the mean error on unseen sequences is "
            f"{best['mean']:.1e}; 99 % of the tissues are below {best['quantile_99']:.1e}, the largest is "
            f"{best['worst']:.1e}."
        ),
        sections=sections,
        settings=made.config,
    )


if __name__ == "__main__":
    main.run()
