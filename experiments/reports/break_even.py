"""After how many dictionaries generators pay, in words, a figure and tables, beside what the paper says of its own."""

from collections.abc import Mapping

from experiments.evaluation.break_even import CaseCosts, GeneratorCost
from ganmrf.report.anchored_figures import break_even_figure
from ganmrf.report.html import Picture, Section, Table, enumerated

_ANEW = "the same, made anew each time"
_COLUMNS = (
    "",
    "Making (core-s)",
    "Each dictionary (core-s)",
    "Mean error",
    "Pays after, of one sequence",
    "Pays after, of different ones",
)


def break_even_section(cases: Mapping[str, CaseCosts], paper: tuple[float, float, int], best: str) -> Section:
    """What dictionaries of all cases cost.

    Args:
      cases: what dictionaries are of -> their costs.
      paper: what the paper says of its network: hours of training, seconds of generating a dictionary, and its atoms.
      best: the generator of one sequence that is drawn as made anew for every sequence, too.
    """
    hours, seconds, n_atoms = paper
    panels, here = {name: _lines(costs, best) for name, costs in cases.items()}, _here(cases)
    of_paper = GeneratorCost(3600 * hours, seconds, any_sequence=False, error=float("nan"))
    for name, costs in cases.items():
        if costs.atoms == n_atoms and name.startswith("full"):
            panels[name][f"the paper's own: {hours:g} h, then {seconds:g} s"] = of_paper[:2]
            paid = of_paper.pays_after(costs.simulate)
            number = "no number of" if paid is None else f"{paid}"
            here = f"Beside the simulator here, {number} dictionaries of one sequence would. {here}"
    caption = (
        "Core-seconds of so many dictionaries. Rings, with the number of dictionaries: from there on a generator takes "
        "less than the simulator. Dashed: the generator of one sequence, where every dictionary is of another one. A "
        "line that begins below the simulator's pays from the first dictionary on; one without a ring that begins "
        "above it never pays."
    )
    text = (
        "Core-seconds, all measured in this run. Making is all that comes before the first dictionary, with the "
        "compilation of programs that no earlier generator had compiled: the training, and the simulation of what is "
        "learned from. Simulating and generating are medians of repeats, without compilation. Dictionaries are "
        "simulated at the simulator's default accuracy, and generated from the sequence on: anchors are simulated for "
        "each of them. Networks and interpolation serve the one sequence that they learned from, and must be made anew "
        "for another one; anchors serve any sequence. Of nine B1, networks learned from random tissues, as many as the "
        "grid of T1 and T2 has atoms. When a generator pays says nothing of its error, which stands beside."
    )
    hoped = (
        f"The paper says: generated in {seconds:g} s after {hours:g} hours of training, where the simulation of a "
        f"slice-corrected dictionary took hours. Were that one hour, {hours:g} dictionaries of one sequence would pay "
        f"for the training. {here}"
    )
    said = [verdict(name, costs) for name, costs in cases.items()]
    return Section(
        "When does a generator pay?",
        "\n\n".join([text, hoped, *said]),
        figures=[Picture(break_even_figure(panels), caption)],
        tables=[break_even_table(name, costs) for name, costs in cases.items()],
    )


def break_even_table(name: str, costs: CaseCosts) -> Table:
    """Costs of the generators of a case beside the simulator."""
    rows = [["simulated", "-", f"{costs.simulate:.3g}", "-", "-", "-"]]
    for generator, cost in costs.generators.items():
        paid = cost.pays_after(costs.simulate), cost.pays_for_new_sequences(costs.simulate)
        counts = ["never" if number is None else f"{number}" for number in paid]
        rows.append([generator, f"{cost.making:.1f}", f"{cost.each:.3g}", f"{cost.error:.1e}", *counts])
    return Table(_COLUMNS, rows, _first_upper(name))


def verdict(name: str, costs: CaseCosts) -> str:
    """When the generators of a case pay, in words."""
    said = "; ".join(_paid(each, cost, costs.simulate) for each, cost in costs.generators.items())
    return f"{_first_upper(name)}: simulated in {costs.simulate:.2g} core-seconds. What pays, and when: {said}."


def payment(cost: GeneratorCost, simulate: float) -> str:
    """When a generator pays, where a dictionary is simulated in so many core-seconds: "after 9 dictionaries"."""
    paid, of_others = cost.pays_after(simulate), cost.pays_for_new_sequences(simulate)
    if paid is None:
        return "never, as generating takes longer than simulating"
    after = "from the first dictionary on" if paid == 1 else f"after {paid} dictionaries"
    if cost.any_sequence:
        return f"{after}, of any sequences"
    return f"{after}, of one sequence, {'and also' if of_others else 'but never'} if made anew for each"


def _lines(costs, best):
    """Lines of `break_even_figure` for a case."""
    lines = {"simulated": (0.0, costs.simulate)}
    for name, cost in costs.generators.items():
        lines[name] = (cost.making, cost.each)
        if name == best:
            lines[_ANEW] = (0.0, cost.making + cost.each)
    return lines


def _paid(name, cost: GeneratorCost, simulate: float):
    """When one generator pays, and how good it is."""
    return f"{name} (mean error {cost.error:.1e}) {payment(cost, simulate)}"


def _here(cases):
    """How far the dictionaries of this run are from hours, and what pays at once."""
    dearest = max(cases, key=lambda name: cases[name].simulate)
    at_once = [
        f"{generator} ({name})"
        for name, costs in cases.items()
        for generator, cost in costs.generators.items()
        if cost.pays_for_new_sequences(costs.simulate) == 1
    ]
    found = enumerated(at_once) if at_once else "none of the generators"
    return (
        f"Here the dearest simulation ({dearest}) takes {cases[dearest].simulate:.2g} core-seconds. Whatever the "
        f"sequences are, these pay from the first dictionary on: {found}."
    )


def _first_upper(words):
    return words[:1].upper() + words[1:]
