"""What `evaluate_anchored` found, in words, tables and figures."""

import numpy as np

from experiments.anchored_judgement import BEYOND, Cost
from ganmrf.report.anchored_figures import accuracy_figure, break_even_figure, extrapolation_figure
from ganmrf.report.html import Picture, Section, Table, machine_facts, write_report

_NUMBERS = (1, 10, 100, 1000, 10000)  # of dictionaries in the break-even table
_COST_COLUMNS = ("Simulated", "Generated", "Generated, compressed")


def print_judgement(name: str, found: dict):
    """Prints what was found about one generator."""
    print(f"{name}: {found['kind']} over {', '.join(found['axes'])}, slice positions: {found['slice_positions']}")
    table = _error_table(name, found)
    for row in (table.columns, *table.rows):
        print(f"  {row[0]:>8s}" + "".join(f"{cell:>26s}" for cell in row[1:]))
    print(f"  maps, RRMSE: {_map_words(found['maps'])}")
    print(f"  gradient: {_gradient_words(found['gradient'])}")
    print(f"  {found['atoms']} atoms: {_cost_words(Cost(**found['cost']))}")
    print(f"  {_break_even_words(found)}", flush=True)


def _error_table(name, found):
    groups = found["errors"]
    rows = [
        [size, *(f"{by_size[size]['mean']:.1e} / {by_size[size]['quantile_99']:.1e}" for by_size in groups.values())]
        for size in next(iter(groups.values()))
    ]
    return Table(("Anchors", *groups), rows, f"{name}: mean / 99 % quantile")


def _map_words(maps):
    t1, t2, changed = (100 * np.array(maps[name]) for name in ("t1", "t2", "changed"))
    return (
        f"T1 {t1.mean():.3f} % (at most {t1.max():.3f} %), T2 {t2.mean():.3f} % (at most {t2.max():.3f} %); "
        f"{changed.mean():.3f} % of the voxels changed atom; {t1.size} sequences"
    )


def _gradient_words(gradient):
    return (
        f"relative error {gradient['flip_angle']:.1e} (flip angles), {gradient['repetition_time']:.1e} (repetition "
        f"times), {gradient['atoms']} atoms; value and gradient in {gradient['seconds']:.2f} s, simulated in {gradient['simulator_seconds']:.2f} s"
    )


def _cost_words(cost):
    return ", ".join(
        f"{what.lower()} {1e3 * wall:.0f} ms ({1e3 * core:.0f} core-ms)"
        for what, (wall, core) in zip(_COST_COLUMNS, cost, strict=True)
    )


def _break_even_words(found):
    cost = Cost(**found["cost"])
    made, saved = found["core_seconds"], cost.simulate[1] - cost.generate[1]
    if saved <= 0:
        return f"made in {made:.0f} core-seconds; never pays: generating takes no fewer of them than simulating"
    return f"made in {made:.0f} core-seconds; pays after {np.ceil(made / saved):.0f} dictionaries"


def write_judgement(path, found: dict):
    """Writes the report.

    Args:
      path: the HTML file.
      found: name of a generator -> what `evaluate_anchored` found.
    """
    random = {
        name: {int(size): of["errors"]["random"][size] for size in of["errors"]["random"]} for name, of in found.items()
    }
    costs = {
        name: (of["core_seconds"], of["cost"]["generate"][1], of["cost"]["simulate"][1]) for name, of in found.items()
    }
    outside = {name: of["outside"] for name, of in found.items() if of["outside"]}
    best = min(found, key=lambda name: min(each["mean"] for each in random[name].values()))
    least = min(each["mean"] for each in random[best].values())
    caption = "Unit fingerprints of random sequences that were never learned from. Solid: mean; dotted: 99 % quantile."
    sections = [
        Section(
            "Errors on unseen sequences",
            figures=[Picture(accuracy_figure(random), caption)],
            tables=[_error_table(name, of) for name, of in found.items()],
        )
    ]
    if outside:
        words = "Mean error of tissues beyond an end of the box, the other parameters inside it; all anchors."
        sections.append(Section("Outside the box", figures=[Picture(extrapolation_figure(BEYOND, outside), words)]))
    rows = [
        [
            name,
            *(
                f"{100 * np.mean(of['maps'][key]):.3f} / {100 * np.max(of['maps'][key]):.3f}"
                for key in ("t1", "t2", "changed")
            ),
        ]
        for name, of in found.items()
    ]
    columns = ("Generator", "T1 RRMSE (%)", "T2 RRMSE (%)", "Voxels that changed atom (%)")
    sections.append(Section("Maps of the brain", tables=[Table(columns, rows, "Mean / largest over unseen sequences")]))
    rows = [
        [
            name,
            *(f"{of['gradient'][key]:.1e}" for key in ("flip_angle", "repetition_time")),
            *(f"{of['gradient'][key]:.2f}" for key in ("seconds", "simulator_seconds")),
        ]
        for name, of in found.items()
    ]
    columns = ("Generator", "Error, flip angles", "Error, repetition times", "Generator (s)", "Simulator (s)")
    words = "The mean inner product of neighbouring atoms, differentiated by the sequence; times of value and gradient."
    sections.append(Section("Derivatives", words, tables=[Table(columns, rows)]))
    sections.append(_cost_section(found, costs))
    sections.append(Section("Machine", facts=machine_facts()))
    write_report(
        path,
        title="Generators for any sequence, judged",
        summary=f"The least mean error on random unseen sequences is {least:.1e}, of {best}.",
        sections=sections,
    )


def _cost_section(found, costs):
    rows = [
        [f"{name}, {of['atoms']} atoms", *(f"{1e3 * wall:.0f} / {1e3 * core:.0f}" for wall, core in Cost(**of["cost"]))]
        for name, of in found.items()
    ]
    times = Table(("", *_COST_COLUMNS), rows, "One dictionary, from the sequence on: ms / core-ms")
    rows = [
        [f"{name}, {what}", *(f"{value(number):.3g}" for number in _NUMBERS)]
        for name, (making, generate, simulate) in costs.items()
        for what, value in (
            ("simulated", lambda n, each=simulate: n * each),
            ("generated", lambda n, first=making, each=generate: first + n * each),
        )
    ]
    even = Table(("Dictionaries", *map(str, _NUMBERS)), rows, "Core-seconds for so many dictionaries, full length")
    words = " ".join(f"{name}: {_break_even_words(of)}." for name, of in found.items())
    picture = Picture(
        break_even_figure(costs), "The dot is where making the generator has paid; none where it never does."
    )
    return Section("When does it pay?", words, figures=[picture], tables=[times, even])
