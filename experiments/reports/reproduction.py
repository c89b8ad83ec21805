"""The report of `reproduce`: the GAN-MRF paper's figures and numbers and ours beside them, then better generators."""

import numpy as np

from experiments.evaluation.generator import REFIT
from experiments.evaluation.reproduction_runs import best_name
from experiments.reports.break_even import break_even_section, verdict
from experiments.reports.generator import (
    error_section,
    fingerprint_picture,
    fingerprint_section,
    map_section,
    map_table,
    reference_tissue,
    training_picture,
)
from experiments.reports.sweep import best_weight, sweep_section
from ganmrf.gan.generate import generate
from ganmrf.report.html import Picture, Section, Table, write_report
from ganmrf.report.sequence_figures import schedule_figure
from ganmrf.report.training_figures import long_training_figure
from ganmrf.runs.slices import slice_words

# Yang et al. 2020, arXiv:2004.02270: RRMSE (%) of T1 and T2 maps, Figs. 6, 7 and 8.
_PAPER_RRMSE = {"own": (0.55, 2.66), "coarse": (1.10, 3.51), "fine": (1.69, 6.37)}
_PAPER_HOURS, _PAPER_SECONDS, _PAPER_ATOMS = 8.0, 0.3, 5970  # of training, of generating, and how many
_EXTRAPOLATE_FROM = 100_000  # steps: a shorter curve has not settled on a slope
_FIGURES = {"own": 6, "coarse": 7, "fine": 8}
_PRIOR_ART = (
    "Interpolation of dictionaries: B-splines (van Valenberg et al. 2018, ISMRM #4268), and polynomials of the "
    "coefficients of a randomised SVD (Yang et al. 2018, doi:10.1002/mrm.26867), the predecessor of the paper."
)


def write_reproduction_report(path, settings, results):
    """Writes the report of `reproduce.Results`, made with a `reproduce.Config`, as one HTML file."""
    own = results.paper["own"]
    schedule = Picture(schedule_figure(own.reference.simulated.sequence), "Flip angle and repetition time by frame.")
    sections = [
        Section("The paper's numbers beside ours", _conditions(settings), tables=[_numbers_table(results)]),
        Section("Sequence (the paper's Fig. 2)", figures=[schedule]),
        *([_sweep(results)] if results.sweep else []),
        _training_section(results),
        fingerprint_section(results.runs["paper"].generator()),
        *(
            map_section(evaluation, results.scan, f"Maps, {_words(results, name)} (the paper's Fig. {_FIGURES[name]})")
            for name, evaluation in results.paper.items()
        ),
        *(
            error_section(evaluation, f"Errors of the paper's network, {_words(results, name)}")
            for name, evaluation in results.paper.items()
        ),
        _better_section(results),
        error_section(results.better["own"], f"Better generators, {_words(results, 'own')}"),
        error_section(results.better["fine"], f"Better generators, {_words(results, 'fine')}"),
        *_of_full_physics(results),
        *([] if results.break_even else [_worth_section(results)]),
    ]
    write_report(
        path, title="GAN-MRF, reproduced", summary=_summary(settings, results), sections=sections, settings=settings
    )


def _words(results, name):
    own, coarse, fine = (len(each.reference.outside) for each in results.paper.values())
    learned = {"own": f"{own} atoms", "coarse": f"{coarse} atoms"}
    return learned.get(name, f"trained on {coarse} atoms, generating {fine}")


def _maps(evaluation):
    """Map errors of the method that is shown, at the first signal-to-noise ratio."""
    return next(iter(evaluation.maps.values()))[evaluation.shown]


def _per_cent(errors):
    return f"{100 * errors.t1:.2f} / {100 * errors.t2:.2f}"


def _summary(settings, results):
    own, last = results.better["own"], results.runs["paper"].rows[-1]
    rrmse = "; ".join(
        f"{_words(results, name)}: {_per_cent(_maps(evaluation))} % (paper, in vivo: {_paper(name)} %)"
        for name, evaluation in results.paper.items()
    )
    better = next(iter(own.maps.values()))[own.shown]
    of_own = {name: each for name, each in results.break_even.items() if each.atoms == len(own.reference.outside)}
    return (
        f"The paper's network and recipe, trained for {last['step']} steps ({last['core_seconds']:.0f} core-seconds of "
        f"the paper's {_PAPER_HOURS:g} hours), on dictionaries of {_slice(settings)}. Maps of a digital brain "
        f"({results.acquired}, SNR {settings.snr[0]:g}) by its dictionary differ from those by the simulated one by "
        f"these RRMSE of T1 / T2: {rrmse}. The paper's scan was in vivo, undersampled and of another brain: its "
        f"numbers stand beside ours, not against them. Of {_words(results, 'own')}, {own.shown}, gives "
        f"{_per_cent(better)} %, after {results.runs['generator'].rows[-1]['core_seconds']:.0f} core-seconds."
        + "".join(f"\n\n{verdict(name, costs)}" for name, costs in of_own.items())
    )


def _slice(settings):
    return slice_words(settings.job.simulation.slice_profile())


def _paper(name):
    return " / ".join(f"{value:.2f}" for value in _PAPER_RRMSE[name])


def _conditions(settings):
    noise = (
        "SNR is the root mean square of the signal over brain and frames, divided by the standard deviation of the "
        "real, and of the imaginary, part of the white noise"
        if settings.acquisition == "image"
        else "SNR is that of an image whose k-space is sampled once on the Cartesian grid with the noise of the samples"
    )
    return (
        f"RRMSE, here: the root of the sum over the voxels of the brain of the squared differences of two maps, over "
        f"that of the squares of the map by the simulated dictionary; the paper does not define it. {noise}. The "
        f"dictionaries are of {_slice(settings)}."
    )


def _numbers_table(results):
    steps, snrs = results.runs["paper"].rows[-1]["step"], list(results.scan.signals)
    ours = [f"The paper's network, {steps} steps ({results.acquired}, SNR {snr:g})" for snr in snrs]
    rows = []
    for name, evaluation in results.paper.items():
        maps = evaluation.maps
        found = [_per_cent(maps[snr][evaluation.shown]) if snr in maps else "-" for snr in snrs]
        rows.append([f"T1 / T2 RRMSE (%), {_words(results, name)}", _paper(name), *found])
    first, last = results.cost["paper"], results.runs["paper"].rows[-1]
    blank = ["-"] * (len(snrs) - 1)
    paper_time = f"{_PAPER_SECONDS:g}" if first.atoms == _PAPER_ATOMS else "-"
    rows.append([f"Generating {first.atoms} atoms (s)", paper_time, f"{first.generate:.3f}", *blank])
    rows.append(["Training (core-s)", f"{3600 * _PAPER_HOURS:.0f}", f"{last['core_seconds']:.0f}", *blank])
    columns = "", "Paper (in vivo, R = 48, spirals of 20 coils)", *ours
    return Table(columns, rows, "Maps by the generated dictionary against those by the simulated one")


def _of_full_physics(results):
    """The paper's figures and numbers by better generators, and when these pay; nothing of the plain physics."""
    if not results.break_even:
        return []
    run, best = results.runs["generator"], best_name(results.runs["generator"])
    generator, tissue = run.generator(), reference_tissue()
    pictures = [fingerprint_picture(generate(generator, tissue, allow_extrapolation=True), generator.box, best)]
    for name, each in results.anchored.items():
        made = each.prepared.generate(tissue, allow_extrapolation=True)
        pictures.append(fingerprint_picture(made, each.prepared.generator.box, name))
    names = best, *results.anchored
    own = results.better["own"]
    paper = _PAPER_HOURS, _PAPER_SECONDS, _PAPER_ATOMS
    return [
        Section(
            "The same figures by better generators",
            "What the paper's network shows in its Figs. 6 to 8, by generators that are not the paper's.",
            tables=[_better_numbers(results, names)],
        ),
        Section("Fingerprints by better generators", figures=pictures),
        *(map_section(own.of((name,), name), results.scan, f"Maps by {name}") for name in names),
        break_even_section(results.break_even, paper, best),
    ]


def _better_numbers(results, names):
    """Errors of maps by the paper's network and by better generators, at the first signal-to-noise ratio."""
    rows = []
    for name, evaluation in results.paper.items():
        snr = next(iter(evaluation.maps))
        maps = evaluation.maps[snr] | results.better[name].maps[snr]
        found = [_per_cent(maps[each]) for each in (evaluation.shown, *names)]
        rows.append([f"T1 / T2 RRMSE (%), {_words(results, name)}, SNR {snr:g}", _paper(name), *found])
    columns = "", "Paper (in vivo)", results.paper["own"].shown, *names
    return Table(columns, rows, "Maps by the generated dictionary against those by the simulated one")


def _sweep(results):
    section, chosen = sweep_section(results.sweep), best_weight(results.sweep)
    return Section(
        section.heading,
        f"The paper's network with each weight, after {results.sweep[0]['step']} steps. The paper saw the least errors "
        "from 1 to 100 and took 100, as the paper's network has in all that follows; the least validation error here "
        f"has {chosen:g}.",
        figures=section.figures,
        tables=section.tables,
    )


def _training_section(results):
    run, coarse = results.runs["paper"], results.runs["paper_297"]
    pictures = [
        training_picture(run.rows, f"The paper's network, {_words(results, 'own')}"),
        training_picture(coarse.rows, f"The paper's network, {_words(results, 'coarse')}"),
    ]
    text = paper_sentence(run.rows)
    if results.long_run is not None:
        curves = {"this run": run.rows, "the long run": results.long_run.rows}
        shown = {
            name: ([row["step"] for row in rows], [row["train_error"] for row in rows]) for name, rows in curves.items()
        }
        pictures.append(
            Picture(long_training_figure(shown), "Mean relative error of the training set of this and a longer run.")
        )
        text = f"{text}\n\nThe long run: {paper_sentence(results.long_run.rows)}"
        if results.long_run.slice_profile:
            text += f" It learned from dictionaries of {results.long_run.slice_profile}, not of this run's slice."
    else:
        text += "\n\nThe longer run that is shipped learned from another dictionary, and is not shown."
    return Section("Training (the paper's Fig. 4b)", text, figures=pictures)


def paper_sentence(rows) -> str:
    """The last error of a run of the paper's recipe, and an extrapolation to the paper's 8 hours, in words."""
    last = rows[-1]
    # The first record holds the compilation.
    rate = (last["step"] - rows[0]["step"]) / (last["seconds"] - rows[0]["seconds"]) if len(rows) > 1 else 0
    text = (
        f"The paper's recipe: after {last['step']} steps, fingerprints of its training set are off by "
        f"{last['train_error']:.2e} of their norm"
    )
    if last["step"] < _EXTRAPOLATE_FROM or not rate > 0:
        return f"{text}. The curve is too short to tell what the paper's {_PAPER_HOURS:g} hours would give."
    late = [row for row in rows if row["step"] >= last["step"] / 3]
    steps, errors = np.log([[row["step"], row["train_error"]] for row in late]).T
    slope, offset = np.polyfit(steps, errors, 1)  # of a line: single records of a constant learning rate scatter
    steps = 3600 * _PAPER_HOURS * rate
    error = np.exp(offset + slope * np.log(steps))
    return (
        f"{text}, at {rate:.0f} steps a second. An extrapolation, no measurement: over the last two thirds of the run "
        f"the error fell as steps to the power {slope:.2f}; were that to go on, the paper's {_PAPER_HOURS:g} hours "
        f"would be {steps:.1e} steps here and end at an error of {error:.1e}."
    )


def _better_section(results):
    """What a user should take, and what the discriminator contributed, in words made from the numbers."""
    own = results.better["own"]
    means = {name: own.counted(name).mean() for name in own.errors}
    best = min(means, key=means.get)
    text = (
        f"The same {_words(results, 'own')} by other generators and by interpolation of the training set. The least "
        f"mean error has {best} ({means[best]:.1e}); the paper's network has "
        f"{results.paper['own'].counted(results.paper['own'].shown).mean():.1e}. {_PRIOR_ART}"
    )
    pairs = [(f"regression{refit}", f"regression with an adversary{refit}") for refit in ("", REFIT)]
    found = [
        f"{means[alone]:.1e} by regression alone and {means[both]:.1e} with the adversary{' after the refit' * bool(i)}"
        for i, (alone, both) in enumerate(pairs)
        if alone in means and both in means
    ]
    if found:
        both = results.runs["generator"], results.runs["other"]
        adversary = next(run for run in both if run.recipe.adversarial_weight)
        text += f"\n\nWhat the adversary contributed: a mean error of {', '.join(found)}. {_game(adversary)}"
    return Section("Better generators", text, tables=[map_table(own)])


def _game(run):
    """How the discriminator did at the end, in words."""
    last = run.rows[-1]
    return (
        f"The discriminator ended at a loss of {last['discriminator_loss']:.3f} (2 ln 2 = 1.386 is a guess), judged "
        f"{100 * last['discriminator_accuracy']:.0f} % of fingerprints rightly, and its part of the generator's "
        f"gradient was {last['adversarial_share']:.1e} of the reconstruction's."
    )


def _worth_section(results):
    """When a generator pays, in words made from the numbers."""
    training = results.runs["generator"].rows[-1]["seconds"]
    cost = results.cost["generator"]
    share = 100 * cost.rate / cost.product_rate
    rows, verdicts = [[f"generated, {cost.atoms} atoms", f"{1e3 * cost.generate:.1f}", f"{share:.0f}", "-"]], []
    for name, seconds in cost.simulate.items():
        saved = seconds - cost.generate
        needed = f"{int(np.ceil(training / saved))}" if saved > 0 else "never"
        rows.append([f"simulated, {cost.atoms} atoms of {name}", f"{1e3 * seconds:.1f}", "-", needed])
        verdicts.append(f"{needed if saved > 0 else 'no number of'} dictionaries of {name}")
    text = (
        f"A generator serves one sequence, and is worth its training once it has saved more time than that took: "
        f"after {' or '.join(verdicts)} of {cost.atoms} atoms. A fixed sequence needs its dictionary once, so for one "
        "grid of T1 and T2 the simulator is the better buy; the generator pays where many grids of one sequence are "
        "wanted, or where the simulation is far dearer than this one. Anchors serve every sequence after they are "
        "learned once."
    )
    columns = ("", "Time (ms)", "Of a matrix product's speed (%)", "Dictionaries until training is paid back")
    return Section("When is a generator worth its training?", text, tables=[Table(columns, rows)])
