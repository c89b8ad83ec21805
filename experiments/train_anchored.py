"""Makes a generator for any sequence: anchors, and weights over a box of tissue.

Example::

    python -m experiments.train_anchored --workdir=runs/anchored
    python -m experiments.train_anchored --workdir=runs/table_b1 --kind=table --b1_range=0.7,1.3 --b1=0.7:1.3:0.075

A ``trunk`` is a network over T1 and T2 (and B1), trained across random sequences; a ``table`` holds one fixed grid,
that of ``--grid`` or ``--t1_ms``, ``--t2_ms`` and ``--b1``; ``radial`` interpolates, without learning, from the same
anchors, and ``radial_spread`` from some that are spread evenly. Called again with the same ``--workdir`` it goes on
where it was cut off. ``generator.npz`` is what `generate_dictionary`, `cardiac_dictionary` and `evaluate_anchored`
take; ``report.html`` shows errors on sequences never learned from.
"""

import pathlib

from absl import flags

from experiments.flags import sequence_flags
from experiments.flags.command_line import given_flags, run
from experiments.reports.generator import summary
from ganmrf.anchors.generator import radial_generator, validation_errors
from ganmrf.anchors.trunk import RECIPE
from ganmrf.report.anchored_figures import accuracy_figure, anchor_figure
from ganmrf.report.html import Picture, Section, Table, write_report
from ganmrf.report.training_figures import training_figure
from ganmrf.runs.anchoring import KINDS, RADIAL, AnchoredConfig, anchored_as, make_in_folder

flags.adopt_module_key_flags(sequence_flags)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the generator", required=True)
_KIND = flags.DEFINE_enum("kind", "trunk", KINDS, "where weights come from")
_T1 = flags.DEFINE_string("t1_range_ms", "10,3000", "least and largest T1")
_T2 = flags.DEFINE_string("t2_range_ms", "2,500", "least and largest T2; atoms have T2 <= T1")
_B1 = flags.DEFINE_string("b1_range", None, "least and largest B1+, a third axis; default: 1 for all")
_SEED = flags.DEFINE_integer("seed", 0, "of sequences, tissues and the network", lower_bound=0)
_NUMBERS = {
    "sequences": (16, "random sequences to learn from"),
    "candidates": (4096, "tissues that anchors are chosen from"),
    "tissues": (8192, "fresh tissues of each sixth of a trunk's training"),
    "refit_tissues": (16384, "tissues that a trunk's output layer is solved for on"),
    "batch_size": (RECIPE.batch_size, "tissues a step"),
    "steps": (RECIPE.steps, "updates"),
}
_BY_AXES = {  # without and with B1
    "anchors": ((96, 256), "most anchors"),
    "width": ((128, RECIPE.width), "units of a hidden layer of the trunk"),
    "depth": ((3, RECIPE.depth), "hidden layers"),
}
_FLAGS = {
    name: flags.DEFINE_integer(name, default, meaning, lower_bound=1) for name, (default, meaning) in _NUMBERS.items()
}
_FLAGS |= {
    name: flags.DEFINE_integer(name, None, f"{meaning}; default: {few}, or {many} with --b1_range", lower_bound=1)
    for name, ((few, many), meaning) in _BY_AXES.items()
}


def main():
    """Makes the generator, and writes what it does on sequences that it has not seen."""
    config = AnchoredConfig(
        kind=_KIND.value,
        t1_range_ms=_T1.value,
        t2_range_ms=_T2.value,
        b1_range=_B1.value,
        seed=_SEED.value,
        **{name: flag.value or _BY_AXES[name][0][_B1.value is not None] for name, flag in _FLAGS.items()},
    )
    given = given_flags()
    workdir = pathlib.Path(_WORKDIR.value)
    simulation = sequence_flags.simulation_config()
    made = make_in_folder(workdir, simulation, config, given)
    evaluated = {made.config.kind: (made.generator, made.anchor_set)}
    for kind in RADIAL if made.config.kind not in RADIAL else ():
        anchor_set = anchored_as(made.anchor_set, kind)
        evaluated[kind] = radial_generator(anchor_set), anchor_set
    errors = {
        name: {size: summary(of_size) for size, of_size in validation_errors(*pair).items()}
        for name, pair in evaluated.items()
    }
    cells = [
        [str(size), *(f"{of[size][key]:.2e}" for of in errors.values() for key in ("mean", "quantile_99"))]
        for size in made.generator.sizes
    ]
    columns = ("Anchors", *(f"{name}, {what}" for name in errors for what in ("mean", "99 % quantile")))
    caption = "Relative L2 error of unit fingerprints: tissues and sequences that nothing was learned from."
    print(caption)
    for row in (columns, *cells):
        print(f"{row[0]:>8s}" + "".join(f"{cell:>30s}" for cell in row[1:]))
    print(f"made in {made.core_seconds:.0f} core-seconds: {workdir / 'generator.npz'}")
    size = made.generator.sizes[-1]
    best = errors[made.config.kind][size]
    trained = []
    if made.rows:
        steps = [row["step"] for row in made.rows]
        figure = training_figure(steps, {"unseen tissues": [row["validation_error"] for row in made.rows]}, "Error")
        words = "Relative error of the joint features, before the output layer is solved for."
        trained = [Section("Training", figures=[Picture(figure, words)])]
    write_report(
        workdir / "report.html",
        title="A generator for any sequence",
        summary=(
            f"Weights of kind {made.config.kind} over {', '.join(made.generator.box.names)}, made in "
            f"{made.core_seconds:.0f} core-seconds. With {size} anchors the mean error on unseen sequences is "
            f"{best['mean']:.1e}; 99 % of the tissues are below {best['quantile_99']:.1e}."
        ),
        sections=[
            Section(
                "Errors on unseen sequences",
                figures=[Picture(accuracy_figure(errors), f"{caption} Solid: mean; dotted: 99 % quantile.")],
                tables=[Table(columns, cells)],
            ),
            Section(
                "Anchors",
                figures=[Picture(anchor_figure(made.generator.anchors), "The tissues that are simulated exactly.")],
            ),
            *trained,
        ],
        settings={"simulation": simulation, "anchored": made.config},
    )
    print(f"report: {workdir / 'report.html'}")


if __name__ == "__main__":
    run(main)
