"""The report of `map_brain`: sequence and fingerprints, the maps, and their errors against the truth."""

import dataclasses

import numpy as np

from experiments.evaluation.parameters import further_parameters
from experiments.evaluation.slices import errors_by_model
from experiments.reports.generator import REFERENCE_NAMES, reference_tissue
from ganmrf import simulate
from ganmrf.imaging.brain_tissues import BRAIN_TISSUES, brain_values
from ganmrf.metrics import TISSUE_COLUMNS, format_tissues
from ganmrf.physics.sequences.kinds import kind_of
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import TISSUES, kind_of_tissue, parameters
from ganmrf.report.determined import undetermined
from ganmrf.report.drawing import FACTS, label_of
from ganmrf.report.figures import (
    agreement_figure,
    comparison_figure,
    fingerprint_figure,
    map_figure,
    off_resonance_figure,
    profile_figure,
)
from ganmrf.report.html import Picture, Section, Table, enumerated, write_report
from ganmrf.report.reconstruction_figures import reconstructions_figure, uncertainty_figure
from ganmrf.report.sequence_figures import pulse_figure, schedule_caption, schedule_figure
from ganmrf.runs.slices import slice_words
from ganmrf.runs.tissues import pool_words

_SHOWN_HZ = 0.0, 10.0, 30.0  # off-resonance of the fingerprints that show what it does
_KINDS = {  # in the report's first sentence
    "fisp": "MRF-FISP",
    "cardiac": "cardiac MRF-FISP",
    "bssfp": "MRF by balanced SSFP",
    "spgr": "an RF-spoiled gradient echo",
    "tse": "multi-spin-echo",
    "blocks": "a Pulseq file",
}


def write_brain_report(path, config, results):
    """Writes the report of `map_brain.Results`, made with a `map_brain.Config`, as one HTML file."""
    metrics, kept, sequence = results.metrics, results.kept_energy, results.dictionary.sequence
    noise = f"SNR {config.snr:g}" if config.snr else "no noise"
    energy = {} if kept is None else {"Energy the basis leaves out": f"{1 - kept:.1e}"}
    b0 = ""
    if results.maps.off_resonance is not None:
        b0 = f" The root-mean-square error of off-resonance is {metrics['rms_error_off_resonance_hz']:.2f} Hz."
    write_report(
        path,
        title=f"{_title(results)} maps of a digital brain",
        summary=(
            f"A digital brain was scanned with {sequence.n_frames} frames of {_KINDS[kind_of(sequence)]} ({noise}) and "
            f"matched with {len(results.dictionary.norms)} atoms, both of "
            f"{slice_words(results.dictionary.slice_profile)}{_pools(results)}. "
            "In the voxels of the brain that hold one tissue, the relative root-mean-square error (RRMSE) is "
            f"{100 * metrics['rrmse_t1']:.2f} % for T1 and "
            f"{100 * metrics['rrmse_t2']:.2f} % for T2; {100 * metrics['same_atom_as_without_noise']:.1f} % of them "
            f"were matched to the atom that they match without noise.{b0}{''.join(_further_words(results))}"
        ),
        sections=[
            _sequence_section(results),
            _maps_section(results),
            _error_section(results),
            *([_slice_section(results)] if results.by_model else []),
            *([_refined_section(config, results)] if results.refined else []),
        ],
        settings=config,
        # Compilation is part of the times where no compiled program was kept.
        facts=energy | {f"Time for {name}": f"{value:.2f} s" for name, value in results.seconds.items()},
    )


def _pools(results):
    pools = pool_words(results.dictionary.tissue, results.dictionary.sequence)
    return f", the atoms with {pools}" if pools else ""


def _title(results):
    names = ["T1", "T2", *(FACTS[name].name for name in _further(results))]
    return enumerated(names + ["B0"] * (results.maps.off_resonance is not None))


def _further(results):
    return further_parameters(results.maps, results.refined, results.dictionary.tissue)


def _further_words(results):
    """Errors of a second pool's parameters, a sentence each."""
    for row in results.metrics["further_parameters"]:
        parameter = FACTS[row["parameter"]]
        true, bias, rmse, bound = (
            "" if row[name] is None else f"{parameter.per_shown * row[name]:.2g} {parameter.shown}".rstrip()
            for name in ("true", "bias", "rmse", "bound")
        )
        beside = f", beside a bound of {bound}" if bound else ""
        yield f" The {parameter.meaning} of {row['tissue']}, {true}, has a bias of {bias}, an error of {rmse}{beside}."


def maps_figure(results):
    """The maps side by side: with a second pool the fitted ones, where there are any, else the matched ones."""
    if results.refined is None or not _further(results):
        return _matched_figure(results)
    refined = results.refined
    return map_figure(_shown(results, refined), refined.m0, mask=results.brain.brain_mask)


def _matched_figure(results):
    maps, mask = results.maps, results.brain.mask
    return map_figure(_shown(results, maps), maps.m0, mask=mask, quality=maps.quality)


def _shown(results, maps):
    """The maps of parameters that were estimated, by field."""
    names = "t1", "t2", *_further(results), "off_resonance"
    return {name: maps.parameters[name] for name in names if name in maps.parameters}


def _sequence_section(results):
    dictionary = results.dictionary
    sequence, profile = dictionary.sequence, dictionary.slice_profile
    tissue, names = (
        (reference_tissue(), REFERENCE_NAMES)
        if kind_of_tissue(dictionary.tissue) == "one_pool"
        else _brain_tissue(results)
    )
    apart = dictionary.tissue.off_resonance is not None
    if apart:  # complex signals, of which the magnitude is shown: balanced ones change their sign from frame to frame
        tissue = dataclasses.replace(tissue, off_resonance=0.0)
    signals = np.asarray(simulate(sequence, tissue, slice_profile=profile))
    words = "Fingerprints of white matter, grey matter and CSF (T1/T2), for M0 = 1."
    pictures = [
        Picture(schedule_figure(sequence), schedule_caption(sequence)),
        Picture(fingerprint_figure(signals, names), words),
    ]
    if apart:
        white = dataclasses.replace(tissue.rows(np.zeros(3, int)), off_resonance=np.array(_SHOWN_HZ))
        signals = np.asarray(simulate(sequence, white, slice_profile=profile))
        figure = fingerprint_figure(signals, [f"{shift:g} Hz" for shift in _SHOWN_HZ])
        pictures.append(Picture(figure, "Fingerprints of white matter by off-resonance."))
    if isinstance(profile, SliceProfile):
        figure = profile_figure(profile.nodes, profile.weights)
        pictures.append(Picture(figure, "Flip angles across the slice, and their weights."))
    elif profile is not None:
        words = "Flip angle across the slice over that in the middle: small ones, and half and all of the largest."
        pictures.append(Picture(pulse_figure(profile.pulse, sequence), words))
    return Section("Sequence and fingerprints", figures=pictures)


def _maps_section(results):
    words = "Each voxel got the atom whose fingerprint has the largest normalised inner product with its signal."
    names = ["T1", "T2", *(FACTS[name].name for name in _further(results)), "M0"]
    names += ["B0"] * (results.maps.off_resonance is not None)
    caption = f"Matched {enumerated(names)}, and the match quality. The patient's right is on the left."
    return Section("Maps", words, figures=[Picture(_matched_figure(results), caption)])


def _error_section(results):
    maps, brain = results.maps, results.brain
    t1, t2 = brain.truth()
    true = np.isfinite(t1)
    pictures = [
        Picture(
            comparison_figure(truth, matched, mask=true, quantity=quantity),
            f"{quantity} where it has a truth: true, matched, and their difference, with ten times the contrast and "
            "relative to the truth.",
        )
        for quantity, truth, matched in (("T1", t1, maps.t1), ("T2", t2, maps.t2))
    ]
    if maps.off_resonance is not None:
        figure = off_resonance_figure(
            brain.off_resonance, maps.off_resonance, mask=brain.mask, names=("true", "matched")
        )
        pictures.append(Picture(figure, "Off-resonance: true, matched, and their difference."))
    pictures += _further_pictures(results)
    names = {label: name for label, name in enumerate(brain.tissue_names) if name not in ("skull", "scalp")}
    figure = agreement_figure(t1, maps.t1, t2, maps.t2, labels=brain.labels, names=names)
    pictures.append(Picture(figure, "Matched against true values, voxel by voxel, and their relative errors."))
    same = maps.index == results.noise_free.index
    exact = [
        (name, f"{np.sum(here)}", f"{100 * np.mean(same[here]):.1f}")
        for label, name in enumerate(brain.tissue_names)
        if (here := brain.labels == label).any()
    ]
    tissues = Table(TISSUE_COLUMNS, format_tissues(results.tissues), "Errors tissue by tissue")
    columns, caption = ("Tissue", "Voxels", "Same atom (%)"), "Voxels matched to the atom of their noise-free signal"
    return Section(
        "Errors",
        "Truth exists where one tissue fills at least 95 % of a voxel: a mixed voxel has no single T1 or T2. The rest "
        "is black below. The skull gives so little signal that up to 5 % of other tissue spoil its T1 and T2.",
        figures=pictures,
        tables=[tissues, *_further_tables(results), Table(columns, exact, caption)],
    )


def _further_pictures(results):
    brain, best = results.brain, results.refined or results.maps
    for name in _further(results):
        truth = brain.truths()[name]
        mask = np.isfinite(truth) & brain.brain_mask
        how = "matched" if results.refined is None else "fitted"
        figure = comparison_figure(truth, best.parameters[name], mask=mask, quantity=FACTS[name].name)
        yield Picture(figure, f"{FACTS[name].name}, the {FACTS[name].meaning}: true, {how}, and their difference.")


def _further_tables(results):
    rows = []
    for row in results.metrics["further_parameters"]:
        parameter = FACTS[row["parameter"]]
        values = [row[name] for name in ("true", "bias", "rmse", "bound")]
        cells = ["-" if value is None else f"{parameter.per_shown * value:.3g}" for value in values]
        rows.append((f"{row['tissue']}, {label_of(parameter)}", f"{row['voxels']}", *cells))
    if rows:
        columns = "Tissue, parameter", "Voxels", "True", "Bias", "RMSE", "Bound"
        caption = "Errors of the second pool; the bound is the median standard deviation that noise alone causes"
        yield Table(columns, rows, caption)


def _slice_section(results):
    """The scan, which is of the full slice, mapped with dictionaries of every model of it."""
    brain = results.brain
    errors = errors_by_model(results.by_model, brain)
    rows = [
        (f"{of_model[i].name}, {model}", *(f"{100 * value:{form}}" for value, form in _of_slice(of_model[i])))
        for i in range(len(next(iter(errors.values()))))
        for model, of_model in errors.items()
        if of_model[i].voxels
    ]
    pictures = []
    for quantity, truth in zip(("T1", "T2"), brain.truth(), strict=True):
        maps = {model: getattr(maps, quantity.lower()) for model, maps in results.by_model.items()}
        words = f"{quantity} by dictionaries of each model of the slice, and its error where there is a truth."
        figure = reconstructions_figure(maps, truth, mask=brain.brain_mask, quantity=quantity)
        pictures.append(Picture(figure, words))
    return Section(
        "Models of the slice",
        "The scan is of the full slice: isochromats, as the pulse turns them and the spoiler dephases them. "
        "A partitioned slice has the same rotations, but takes every thin part of the slice for spoiled completely; a "
        "small-tip profile is scaled by the flip angle. Dictionaries of either are simulated for the same pulse.",
        figures=pictures,
        tables=[
            Table(
                ("Tissue, model", "T1 bias (%)", "T1 RRMSE (%)", "T2 bias (%)", "T2 RRMSE (%)"),
                rows,
                "Errors against the truth by model of the slice",
            )
        ],
    )


def _of_slice(row):
    return zip((row.t1_bias, row.t1_rrmse, row.t2_bias, row.t2_rrmse), ("+z.2f", ".2f", "+z.2f", ".2f"), strict=True)


def covered_names(row) -> dict[str, str]:
    """Key of a parameter in a row of coverages -> its name in figures."""
    names = {parameter.name.lower(): parameter.name for parameter in FACTS.values()}
    return {key: names[key] for key in row if key in names}


def _assumed(results):
    """What the dictionary has of each parameter of which it has one value, where a tissue of the brain has another."""
    tissue = results.dictionary.tissue
    kind = kind_of_tissue(tissue)
    for name, parameter in parameters(tissue).items():
        value = getattr(tissue, name)
        if name in ("b1", *results.refined.stds) or value is None or np.ptp(value):
            continue
        own, per, unit = float(np.ravel(value)[0]), parameter.per_shown, f" {parameter.shown}".rstrip()
        true = {each: brain_values(kind)[each] for each in BRAIN_TISSUES}
        others = [
            f"{per * of_tissue[name]:.4g}{unit} of {each}"
            for each, of_tissue in true.items()
            if of_tissue["fraction"] and not np.isclose(of_tissue[name], own, rtol=1e-3)
        ]
        if others:
            yield f"{parameter.name} is {per * own:.4g} instead of {enumerated(others)}"


def _brain_tissue(results):
    """White matter, grey matter and CSF of the brain with a second pool, and what figures call them."""
    kind = kind_of_tissue(results.dictionary.tissue)
    values = {name: brain_values(kind)[name] for name in BRAIN_TISSUES}
    fields = {field: [of_tissue[field] for of_tissue in values.values()] for field in values[BRAIN_TISSUES[0]]}
    names = [f"{name} {1e3 * each['t1']:.0f}/{1e3 * each['t2']:.0f} ms" for name, each in values.items()]
    return TISSUES[kind](**fields), names


def _refined_section(config, results):
    refined, metrics = results.refined, results.metrics
    covered = metrics["coverage_of_95_percent_intervals"]
    names = covered_names(covered[0]) if covered else {}
    rows = [
        (
            row["tissue"],
            f"{100 * row['filled']:g} %",
            f"{row['voxels']}",
            *(f"{100 * row[name]:.1f}" for name in names),
        )
        for row in covered
    ]
    inside = results.brain.brain_mask
    pooled = np.unique(refined.noise[inside & (refined.noise > 0)]).size == 1
    words = " With few columns, noise is one of all voxels: mixed ones raise it and widen all bars." if pooled else ""
    b0 = ""
    if (error := metrics.get("refined_rms_error_off_resonance_hz")) is not None:
        b0 = f" The root-mean-square error of off-resonance is {error:.2f} Hz."
    names_fitted = [FACTS[name].name for name in refined.stds]
    if _further(results):
        words += (
            " So do parameters of the second pool that the dictionary has one value of, and another one than the "
            f"tissue: {enumerated(list(_assumed(results)))}."
        )
    figure = uncertainty_figure(refined.parameters, refined.stds, mask=inside)
    pictures = [Picture(figure, f"Error bars of {enumerated(names_fitted)}.")]
    if _further(results):
        unknown = undetermined(refined, results.dictionary.tissue, config.estimate.undetermined)
        figure = map_figure(_shown(results, refined), refined.m0, mask=inside, undetermined=unknown)
        shares = [f"{FACTS[name].name} in {100 * np.mean(where[inside]):.3g} %" for name, where in unknown.items()]
        told = f"Fitted maps. Not determined by this sequence are {enumerated(shares)} of the voxels, which are grey."
        pictures = [Picture(figure, told), *pictures]
    return Section(
        "Between the atoms",
        f"{', '.join(names_fitted)} and M0 fitted to each voxel of the brain by least squares, from its matched atom "
        "on: the RRMSE is "
        f"{100 * metrics['refined_rrmse_t1']:.2f} % (T1) and {100 * metrics['refined_rrmse_t2']:.2f} % (T2).{b0} Error "
        "bars that are right hold the truth in 95 % of the voxels that one tissue fills wholly; where a voxel is "
        f"mixed, the mixture shifts T1 and T2 beyond them.{words}",
        figures=pictures,
        tables=[
            Table(
                ("Tissue", "Fills at least", "Voxels", *(f"{name} within (%)" for name in names.values())),
                rows,
                "Voxels whose 95 % interval holds the truth",
            )
        ],
    )
