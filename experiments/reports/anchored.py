"""The report of `evaluate_anchored`: errors, maps, gradients and costs of generators for any sequence of a kind."""

import types
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.evaluation.anchored import BEYOND, Cost
from experiments.evaluation.break_even import GeneratorCost
from experiments.evaluation.example import Example
from experiments.reports.break_even import payment
from experiments.reports.example import bias_table, example_section
from ganmrf.report.anchored_figures import accuracy_figure, break_even_figure, extrapolation_figure
from ganmrf.report.html import Picture, Section, Table, write_report

_NUMBERS = (1, 10, 100, 1000, 10000)  # of dictionaries in the break-even table
_TANGENT_COLUMNS = ("Derivative by T1", "by T2", "Cramer-Rao bound of T1", "of T2")
_SUMMARY = "mean", "quantile_99", "worst"  # of errors
_COST_COLUMNS = ("Simulated", "Generated", "Generated, compressed")
_RECURRENT = "recurrent network, as Liu 2021"
_NOTHING = types.MappingProxyType({})


def print_evaluation(name: str, found: dict):
    """Prints the numbers of one generator, its results in ``evaluation.json`` of `evaluate_anchored`."""
    print(f"{name}: {found['kind']} over {', '.join(found['axes'])}, {found['slice']}")
    print(_error_table(name, found).text())
    for table in _certificate_tables(name, found):
        print(table.text())
    print(bias_table({name: found["bias_over_noise"]}).text())
    if found["maps"]:
        t1, t2, changed = map(_percent, found["maps"].values())
        print(
            f"  maps of {len(found['maps']['t1'])} sequences, mean / largest: T1 {t1} %, T2 {t2} %, changed {changed} %"
        )
    if found["tangents"]:
        named = zip(_TANGENT_COLUMNS, found["tangents"].values(), strict=True)
        print("  mean / largest error: " + ", ".join(f"{what} {_pair(values)}" for what, values in named))
    if gradient := found["gradient"]:
        errors = f"error {gradient['flip_angle']:.1e} by flip angles, {gradient['repetition_time']:.1e} by times"
        seconds = f"{gradient['seconds']:.2f} s, simulated {gradient['simulator_seconds']:.2f} s"
        print(f"  gradient: {errors}; {gradient['atoms']} atoms in {seconds}")
    times = zip(_COST_COLUMNS, Cost(**found["cost"]), strict=True)
    costs = ", ".join(f"{what.lower()} {1e3 * wall:.0f} ms ({1e3 * core:.0f} core-ms)" for what, (wall, core) in times)
    print(f"  {found['atoms']} atoms: {costs}")
    print(f"  {_break_even(found)}", flush=True)
    if found["recurrent"]:
        print(f"  {_recurrent(found)}", flush=True)


def write_anchored_report(path, settings, found: dict, examples: Mapping[str, Example]):
    """Writes an HTML file of ``found``, the results in ``evaluation.json``, and examples, by names of generators."""
    least = {name: min(each["mean"] for each in of["errors"]["random"].values()) for name, of in found.items()}
    best = min(least, key=least.get)
    shown = example_section(examples, "the first of the tables above")
    makers = (
        _error_section,
        lambda _: shown,
        _certificate_section,
        _outside_section,
        _map_section,
        _gradient_section,
        _cost_section,
    )
    write_report(
        path,
        title="Generators for any sequence of a kind, evaluated",
        summary=f"The least mean error on random unseen sequences is {least[best]:.1e}, of {best}.",
        sections=[section for make in makers if (section := make(found))],
        settings=settings,
    )


def table_by_anchors(errors: Mapping[str, Mapping], caption: str, more: Mapping[str, Sequence[Mapping]] = _NOTHING):
    """A table of errors: a row for each number of anchors, and a column for each of ``errors``.

    Args:
      errors: name of a column -> number of anchors -> `summary` of errors.
      caption: of the table, to which the order of the numbers is added.
      more: name of a further row -> `summary` of errors for each column.
    """
    by_row = {str(size): [by_size[size] for by_size in errors.values()] for size in next(iter(errors.values()))} | more
    rows = [[row, *(" / ".join(_short(of[key]) for key in _SUMMARY) for of in each)] for row, each in by_row.items()]
    return Table(("Anchors", *errors), rows, f"{caption}: mean / 99 % quantile / largest")


def _short(error):
    """Such as 1.2e-3 and 1.1e0: with another zero a table of four columns would not fit the page."""
    return f"{error:.1e}".replace("e-0", "e-").replace("e+0", "e")


def _error_table(name, found):
    more = {_RECURRENT: found["recurrent"]["errors"].values()} if found["recurrent"] else {}
    return table_by_anchors(found["errors"], name, more)


def _error_section(found):
    random = {name: {int(size): each for size, each in of["errors"]["random"].items()} for name, of in found.items()}
    caption = "Unit fingerprints of random sequences that were never learned from. Solid: mean; dotted: 99 % quantile."
    figure = Picture(accuracy_figure(random), caption)
    tables = [_error_table(*pair) for pair in found.items()]
    return Section("Errors on unseen sequences", figures=[figure], tables=tables)


def _certificate_tables(name, found):
    """Each family of sequences, without sentinels as anchors and with them: two tables, as one is wider than a page."""
    ratios, beyond = [], []
    for what, by_kind in found["certified"].items():
        for kind, each in by_kind.items():
            printed, true = (np.array([of[key] for of in each]) for key in ("printed", "true"))
            spans = (f"{of.mean():.2f} ({of.min():.2f} to {of.max():.2f})" for of in (true / printed).T)
            above = (f"{100 * np.mean([of[key] for of in each]):.2f}" for key in ("above", "above_own"))
            ratios.append([f"{kind}, {what}", str(len(each)), *spans])
            beyond.append([f"{kind}, {what}", *above, *map(_short, (np.median(true[:, 2]), true[:, 2].max()))])
    words = f"{name}: true over printed, on average (and from the least to the most)"
    yield Table(("Sequences", "Number", "Mean", "99 %", "Largest"), ratios, words)
    columns = "Sequences", "Above the largest (%)", "Above their own (%)", "Largest error, median", "Most"
    words = f"{name}: tissues above the printed largest, and above the bound of their own atom; true largest errors"
    yield Table(columns, beyond, words)


def _certificate_section(found):
    words = (
        "Sequences of families that nothing was learned from. What `prepare` prints of a sequence is compared with the "
        "errors of other tissues: means and quantiles of those drawn from the whole box, as `prepare` draws those that "
        "it checks, all else of these and of half as many on its faces. By the generator's own anchors, and completed "
        "by the sequence's worst sentinels."
    )
    tables = [table for pair in found.items() for table in _certificate_tables(*pair)]
    return Section("What the certificate is worth", words, tables=tables)


def _outside_section(found):
    outside = {name: of["outside"] for name, of in found.items() if of["outside"]}
    if not outside:
        return None
    words = "Mean error of tissues beyond an end of the box, the other parameters inside it; all anchors."
    return Section("Outside the box", figures=[Picture(extrapolation_figure(BEYOND, outside), words)])


def _map_section(found):
    columns = ("Generator", "T1 RRMSE (%)", "T2 RRMSE (%)", "Voxels that changed atom (%)")
    rows = [[name, *map(_percent, of["maps"].values())] for name, of in found.items() if of["maps"]]
    if not rows:
        return None
    words = (
        "The digital brain, scanned with unseen sequences and matched with the generated and with the simulated "
        "dictionary: differences of the maps."
    )
    return Section("Maps of the brain", words, tables=[Table(columns, rows, "Mean / largest over the sequences")])


def _percent(values):
    return f"{100 * np.mean(values):.3f} / {100 * np.max(values):.3f}"


def _gradient_section(found):
    columns = ("Generator", "Error, flip angles", "Error, repetition times", "Atoms", "Generator (s)", "Simulator (s)")
    forms = (".1e", ".1e", "d", ".2f", ".2f")  # of the fields of `GradientErrors`
    rows = [[name, *map(format, of["gradient"].values(), forms)] for name, of in found.items() if of["gradient"]]
    if not rows:
        return None
    words = "The mean inner product of neighbouring atoms, differentiated by the sequence; times of value and gradient."
    tables = [Table(columns, rows)]
    if tangents := {name: of["tangents"] for name, of in found.items() if of["tangents"]}:
        rows = [[name, *map(_pair, errors.values())] for name, errors in tangents.items()]
        caption = "By the tissue: mean / largest relative error for T1 above 200 and T2 above 20 ms, a random sequence."
        tables.append(Table(("Generator", *_TANGENT_COLUMNS), rows, caption))
    return Section("Derivatives", words, tables=tables)


def _pair(values):
    return " / ".join(f"{value:.1e}" for value in values)


def _cost_section(found):
    costs, rows, totals = {}, [], []
    for name, of in found.items():
        cost, making = Cost(**of["cost"]), of["core_seconds"]
        simulate, generate = cost.simulate[1], cost.generate[1]
        costs[name] = {"simulated": (0.0, simulate), "generator made, then generated": (making, generate)}
        rows.append([f"{name}, {of['atoms']} atoms", *(f"{1e3 * wall:.0f} / {1e3 * core:.0f}" for wall, core in cost)])
        if of["recurrent"]:
            wall, core = of["recurrent"]["generate"]
            rows.append([f"{name}: {_RECURRENT}", "", f"{1e3 * wall:.0f} / {1e3 * core:.0f}", ""])
        totals.append([f"{name}, simulated", *(f"{number * simulate:.3g}" for number in _NUMBERS)])
        totals.append([f"{name}, generated", *(f"{making + number * generate:.3g}" for number in _NUMBERS)])
    times = Table(("", *_COST_COLUMNS), rows, "One dictionary, from the sequence on: ms / core-ms")
    even = Table(("Dictionaries", *map(str, _NUMBERS)), totals, "Core-seconds for so many dictionaries, full length")
    words = " ".join(f"{name}: {_break_even(of)}." for name, of in found.items())
    words += "".join(f" {name}: {_recurrent(of)}." for name, of in found.items() if of["recurrent"])
    caption = "The ring is where making the generator has paid; there is none where it never does."
    figures = [Picture(break_even_figure(costs), caption)]
    return Section("When does it pay?", words, figures=figures, tables=[times, even])


def _break_even(found):
    cost, made = Cost(**found["cost"]), found["core_seconds"]
    error = list(found["errors"]["random"].values())[-1]["mean"]
    pays = payment(GeneratorCost(made, cost.generate[1], any_sequence=True, error=error), cost.simulate[1])
    return f"made in {made:.0f} core-seconds; pays {pays}"


def _recurrent(found):
    """What the recurrent network costs beside the generator, and the number of steps at which both cost the same."""
    recurrent, made = found["recurrent"], found["core_seconds"]
    wall, core = recurrent["generate"]
    equal = recurrent["steps"] * made / recurrent["core_seconds"]
    return (
        f"{_RECURRENT}, a baseline, made in {recurrent['core_seconds']:.0f} core-seconds by {recurrent['steps']} steps "
        f"(about {equal:.0f} steps would take the {made:.0f} of the generator); generates {found['atoms']} atoms in "
        f"{1e3 * wall:.0f} ms ({1e3 * core:.0f} core-ms)"
    )
