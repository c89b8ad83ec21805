"""The report of `reproduce`: the GAN-MRF paper's figures and numbers, and ours beside them."""

import numpy as np

from experiments.evaluation.generator import REFIT
from experiments.reports.generator import error_section, fingerprint_section, map_section, training_picture
from ganmrf.report.figures import schedule_figure
from ganmrf.report.html import Picture, Section, Table, write_report

# Yang et al. 2020, arXiv:2004.02270: RRMSE (%) of T1 and T2 maps, Figs. 6, 7 and 8.
_PAPER_RRMSE = {"own": (0.55, 2.66), "coarse": (1.10, 3.51), "fine": (1.69, 6.37)}
_PAPER_HOURS = 8.0
_EXTRAPOLATE_FROM = 100_000  # steps: a shorter curve has not settled on a slope


def write_reproduction_report(path, settings, results, sweep: Section | None):
    """Writes the report of `reproduce.Results`, made with a `reproduce.Config`, as one HTML file."""
    own, coarse, fine = (results.evaluations[name] for name in ("own", "coarse", "fine"))
    schedule = Picture(schedule_figure(own.simulated.sequence), "Flip angle and repetition time of every frame.")
    sections = [
        Section("The paper's numbers beside ours", tables=[_numbers_table(results), _time_table(results)]),
        _worth_section(results),
        Section("Sequence (the paper's Fig. 2)", figures=[schedule]),
        *([sweep] if sweep else []),
        _training_section(results),
        fingerprint_section(results.run.generator()),
    ]
    n_own, n_coarse, n_fine = (evaluation.all_errors.size for evaluation in (own, coarse, fine))
    words = (f"{n_own} atoms", f"{n_coarse} atoms", f"trained on {n_coarse} atoms, generating {n_fine}")
    for number, evaluation, what in zip((6, 7, 8), (own, coarse, fine), words, strict=True):
        sections.append(error_section(evaluation, f"Errors of fingerprints, {what}"))
        sections.append(map_section(evaluation, results.scan, f"Maps, {what} (the paper's Fig. {number})"))
    write_report(path, title="GAN-MRF, reproduced", summary=_summary(results), sections=sections, settings=settings)


def _summary(results):
    own, coarse, fine = (results.evaluations[name] for name in ("own", "coarse", "fine"))
    snr = next(iter(own.maps))
    ours, of_fine = own.maps[snr][own.final], fine.maps[snr][fine.final]
    recipe, seconds = results.run.job.training.preset, results.run.rows[-1]["seconds"]
    return (
        f"A generator of MRF-FISP fingerprints was trained with the recipe {recipe!r} (lambda {results.chosen:g}) in "
        f"{seconds:.0f} s. Its mean relative error at the atoms {own.evaluated_as} is "
        f"{own.errors[own.final].mean():.1e}. Maps of a digital brain ({results.acquired}) at SNR {snr:g} by the "
        f"generated dictionary of {own.all_errors.size} atoms differ from those by the simulated one by "
        f"{100 * ours.t1:.3f} % (T1) and {100 * ours.t2:.3f} % (T2, RRMSE); trained on {coarse.all_errors.size} atoms "
        f"and generating {fine.all_errors.size}, by {100 * of_fine.t1:.3f} % and {100 * of_fine.t2:.3f} %. The paper's "
        "scan was in vivo, undersampled and of another brain: its numbers stand beside ours, not against them."
    )


def _numbers_table(results):
    rows, n_coarse = [], results.evaluations["coarse"].all_errors.size
    for name, evaluation in results.evaluations.items():
        label = f"{evaluation.all_errors.size} atoms"
        if name == "fine":
            label = f"trained on {n_coarse}, generating {evaluation.all_errors.size}"
        for i, quantity in enumerate(("T1", "T2")):
            ours = [f"{100 * methods[evaluation.final][i]:.3f}" for methods in evaluation.maps.values()]
            rows.append([f"RRMSE of {quantity} (%), {label}", f"{_PAPER_RRMSE[name][i]:.2f}", *ours])
        changed = [f"{100 * methods[evaluation.final].changed:.3f}" for methods in evaluation.maps.values()]
        rows.append([f"Voxels that changed atom (%), {label}", "-", *changed])
    snrs = [f"Ours, SNR {snr:g}" for snr in results.evaluations["own"].maps]
    return Table(("", "Paper", *snrs), rows, "Maps by the generated dictionary against those by the simulated one")


def _time_table(results):
    last = results.run.rows[-1]
    rows = [
        [f"Generating {cost.atoms} atoms (s)", "0.3" if cost.atoms == 5970 else "-", f"{cost.generate:.3f}"]
        for cost in results.cost
    ]
    rows += [
        ["Training (s)", f"{3600 * _PAPER_HOURS:.0f}", f"{last['seconds']:.1f}"],
        ["Training (core-s)", "-", f"{last['core_seconds']:.1f}"],
    ]
    return Table(("", "Paper", "Ours"), rows, "Time")


def _worth_section(results):
    """When a generator pays, and what the discriminator contributed, in words made from the numbers."""
    own, training = results.evaluations["own"], results.run.rows[-1]["seconds"]
    rows, verdicts = [], []
    for cost in results.cost:
        share = 100 * cost.rate / cost.product_rate
        rows.append([f"generated, {cost.atoms} atoms", f"{1e3 * cost.generate:.1f}", f"{share:.0f}", "-"])
        for nodes, seconds in cost.simulate.items():
            saved = seconds - cost.generate
            needed = f"{int(np.ceil(training / saved))}" if saved > 0 else "never"
            positions = f"{nodes} slice position{'' if nodes == 1 else 's'}"
            rows.append([f"simulated, {cost.atoms} atoms, {positions}", f"{1e3 * seconds:.1f}", "-", needed])
            number = needed if saved > 0 else "no number of"
            verdicts.append(f"{number} dictionaries of {cost.atoms} atoms with {positions}")
    means = {name: errors.mean() for name, errors in own.errors.items()}
    best = min(means, key=means.get)
    text = (
        f"A generator serves one sequence, and is worth its training once it has saved more time than that took: "
        f"after {', '.join(verdicts)}. A fixed sequence needs its dictionary once, so for one grid of T1 and T2 the "
        "simulator is the better buy; the generator pays where many grids of one sequence are wanted, or where the "
        "simulation is far dearer than this one."
    )
    if "regression only" in means:
        alone = "regression only" + REFIT * own.final.endswith(REFIT)
        text += (
            f"\n\nWhat the discriminator contributed: the mean error is {means[own.final]:.2e} with it, "
            f"{means[alone]:.2e} by regression alone, at {own.core_seconds[own.final]:.0f} and "
            f"{own.core_seconds[alone]:.0f} core-seconds of training."
        )
    text += f" The least mean error of all has {best} ({means[best]:.1e})."
    columns = ("", "Time (ms)", "Of a matrix product's speed (%)", "Dictionaries until training is paid back")
    return Section("When is the generator worth its training?", text, tables=[Table(columns, rows)])


def _training_section(results):
    pictures = [training_picture(results.run.rows, f"The generator, recipe {results.run.job.training.preset!r}")]
    text = ""
    if results.paper is not None:
        pictures.append(training_picture(results.paper.rows, "The paper's recipe beside it"))
        text = paper_sentence(results.paper.rows)
    elif results.run.job.training.preset == "paper":
        text = paper_sentence(results.run.rows)
    return Section("Training (the paper's Fig. 4b)", text, figures=pictures)


def paper_sentence(rows) -> str:
    """The last error of a run of the paper's recipe, and an extrapolation to the paper's 8 hours, in words."""
    last = rows[-1]
    # The first record holds the compilation.
    rate = (last["step"] - rows[0]["step"]) / (last["seconds"] - rows[0]["seconds"]) if len(rows) > 1 else 0
    text = f"The paper's recipe: error {last['train_error']:.2e} on its training set after {last['step']} steps"
    if last["step"] < _EXTRAPOLATE_FROM or not rate > 0:
        return f"{text}. The curve is too short to tell what the paper's {_PAPER_HOURS:g} hours would give."
    late = [row for row in rows if row["step"] >= last["step"] / 3]
    slope = np.polyfit(np.log([row["step"] for row in late]), np.log([row["train_error"] for row in late]), 1)[0]
    steps = 3600 * _PAPER_HOURS * rate
    error = last["train_error"] * (steps / last["step"]) ** slope
    return (
        f"{text}, at {rate:.0f} steps a second. An extrapolation, no measurement: over the last two thirds of the run "
        f"the error fell as steps to the power {slope:.2f}; were that to go on, the paper's {_PAPER_HOURS:g} hours "
        f"would be {steps:.1e} steps here and end at an error of {error:.1e}."
    )
