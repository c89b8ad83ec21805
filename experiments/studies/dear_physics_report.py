"""The report of `studies.dear_physics_gan`: errors and biases at equal time, and what the adversary did."""

import numpy as np

from experiments.studies.dear_physics_runs import ADVERSARIES
from ganmrf.gan.recipes import PRESETS
from ganmrf.physics.tissue import FACTS
from ganmrf.report.drawing import COLOURS, legend_above, plain_axes
from ganmrf.report.html import Picture, Section, Table, write_report
from ganmrf.runs.slices import slice_words

_JUDGED = {"discriminator_loss": ".2f", "discriminator_accuracy": ".2f", "adversarial_share": ".1e"}
_ALIKE = 1.1  # errors nearer than this factor are called alike: seeds differ by as much


def result_rows(found: dict, judged: dict, beside: dict[str, float]) -> list[dict]:
    """One row for each variant before and after its output layer is solved for, and for each method beside them.

    Args:
      found: (variant, seed) -> what `train_and_generate` found.
      judged: (variant, seed, stage), or the name of a method beside -> what `judge` found.
      beside: name of a method -> its core-seconds.

    Returns:
      Rows with ``method``, ``variant`` and ``stage`` (None beside), ``key`` of its first seed in ``judged``, ``steps``,
      ``core_seconds``, ``error`` and ``bias`` of each parameter with their quantiles, and ``discriminator`` at the end.
    """
    rows = []
    for name in dict.fromkeys(variant for variant, _ in found):
        runs = {seed: each for (variant, seed), each in found.items() if variant == name}
        last = [each["rows"][-1] for each in runs.values()]
        facts = {"steps": last[0]["step"], "core_seconds": float(np.mean([row["core_seconds"] for row in last]))}
        played = {key: float(np.mean([row[key] for row in last])) for key in _JUDGED if key in last[0]}
        for stage in ("trained", "refit")[: 1 + next(iter(runs.values()))["refit"]]:
            keys = [(name, seed, stage) for seed in runs]
            method = name if stage == "trained" else f"{name}, output layer solved for"
            row = {"method": method, "variant": name, "stage": stage, "key": keys[0], **facts}
            rows.append(row | _summary_of([judged[key] for key in keys]) | {"discriminator": played})
    for name, seconds in beside.items():
        row = {"method": name, "variant": None, "stage": None, "key": name, "steps": None, "core_seconds": seconds}
        rows.append(row | _summary_of([judged[name]]) | {"discriminator": {}})
    return rows


def _summary_of(of_seeds):
    means = [float(each["errors"].mean()) for each in of_seeds]
    errors = np.concatenate([each["errors"] for each in of_seeds])
    error = {"mean": float(np.mean(means)), "seeds": means, "quantile": float(np.quantile(errors, 0.99))}
    biases = {name: np.concatenate([each["bias"][name] for each in of_seeds]) for name in of_seeds[0]["bias"]}
    return {"error": error, "bias": {name: _quantiles(values) for name, values in biases.items()}}


def _quantiles(values):
    """Median, 95 % quantile and share above 1 of the biases that the signals determine."""
    known = values[np.isfinite(values)]
    if not known.size:
        return {"median": None, "high": None, "above": None}
    return {
        "median": float(np.median(known)),
        "high": float(np.quantile(known, 0.95)),
        "above": float(np.mean(known > 1)),
    }


def result_table(rows: list[dict], config) -> Table:
    """The rows of `result_rows` as text."""
    biases = [f"{FACTS[name].name}, bias/noise" for name in config.parameters]
    columns = (
        "",
        "Steps",
        "Core-s",
        "Mean error",
        "99 % quantile",
        *biases,
        "Discriminator: loss",
        "accuracy",
        "share",
    )
    lines = []
    for row in rows:
        error = row["error"]
        spread = f" ({min(error['seeds']):.1e} to {max(error['seeds']):.1e})" if len(error["seeds"]) > 1 else ""
        cells = [row["method"], "-" if row["steps"] is None else str(row["steps"]), f"{row['core_seconds']:.0f}"]
        cells += [f"{error['mean']:.2e}{spread}", f"{error['quantile']:.1e}"]
        cells += [_bias_cell(row["bias"][name]) for name in config.parameters]
        played = row["discriminator"]
        lines.append([*cells, *(f"{played[key]:{form}}" if key in played else "-" for key, form in _JUDGED.items())])
    names = ", ".join(FACTS[name].name for name in config.parameters)
    caption = (
        f"Relative L2 error of unit fingerprints of {config.held_out} tissues that nothing was trained on; bias of "
        f"fits of {names} and M0 over their standard deviation at a signal-to-noise ratio of {config.snr:g}, for "
        f"{config.biased} of them, median and 95 % quantile; seeds {', '.join(map(str, config.seeds))}. Core-seconds "
        "are with compiling. The discriminator's share is how hard it pulls at the generated "
        "fingerprints, over how hard the simulated ones do."
    )
    return Table(columns, lines, caption)


def _bias_cell(found):
    return "-" if found["median"] is None else f"{found['median']:.2g}, {found['high']:.2g}"


def verdict(rows: list[dict]) -> str:
    """What the adversary was worth, in words: each variant that has one beside regression in the same time."""
    best = {}
    for row in rows:
        if row["variant"] is not None and row["error"]["mean"] < best.get(row["variant"], np.inf):
            best[row["variant"]] = row["error"]["mean"]
    adversaries = {name: best[name] for name in ADVERSARIES if name in best}
    if "regression" not in best or not adversaries:
        return ""
    alone, named = best["regression"], ", ".join(f"{name} {error:.1e}" for name, error in adversaries.items())
    least = min(adversaries, key=adversaries.get)
    ratio = adversaries[least] / alone
    if ratio > _ALIKE:
        words = f"The adversary loses: with the best of them, {least}, errors are {ratio:.2g} times as large"
    elif ratio < 1 / _ALIKE:
        words = f"The adversary wins: with {least} errors are {ratio:.2g} times as large"
    else:
        words = f"The adversary earns nothing: with the best of them, {least}, errors are {ratio:.2f} times as large"
    return f"In the same time regression alone has a mean error of {alone:.1e}; with an adversary: {named}. {words}."


def write_dear_physics_report(path, config, rows: list[dict], table: Table, found: dict, errors: dict):
    """Writes one HTML file.

    Args:
      path: of the file.
      config: settings of the study.
      rows: of `result_rows`.
      table: of `result_table`.
      found: (variant, seed) -> what `train_and_generate` found.
      errors: method -> errors of the fingerprints held out, of the first seed, (atoms,).
    """
    simulation = config.simulation
    axes = ", ".join(FACTS[name].name for name in simulation.box().names)
    least = min(rows, key=lambda row: row["error"]["mean"])
    lambdas = {
        name: PRESETS[name].reconstruction_weight
        if config.reconstruction_weight is None
        else config.reconstruction_weight
        for name in ADVERSARIES
    }
    lambdas = ", ".join(f"{name} {lambdas[name]:g}" for name in ADVERSARIES if name in config.variant)
    slice_model = slice_words(simulation.slice_profile())
    summary = (
        f"{simulation.random_atoms} random tissues with a semisolid pool ({axes}) in {slice_model}. {verdict(rows)} Of "
        f"all methods {least['method']} has the least mean error, {least['error']['mean']:.1e}."
    )
    caption = (
        "Left: relative error of the validation set against core-seconds, before any output layer is solved for, one "
        "line a seed. Right: share of the tissues held out whose error exceeds a value, of the first seed."
    )
    weights = f" Weights of the reconstruction (lambda): {lambdas}." if lambdas else ""
    section = Section("Errors", figures=[Picture(_figure(found, errors), caption + weights)], tables=[table])
    write_report(
        path, title="An adversary where simulation is dear", summary=summary, sections=[section], settings=config
    )


def _figure(found, errors):
    figure, (left, right) = plain_axes(4.6, 1, 2)
    colours = dict(zip(dict.fromkeys(name for name, _ in found), COLOURS, strict=False))
    for (name, _), each in found.items():
        curve = [(row["core_seconds"], row["validation_error"]) for row in each["rows"]]
        left.plot(*zip(*curve, strict=True), ".-", color=colours[name], linewidth=1.4)
    others = [colour for colour in COLOURS if colour not in colours.values()] or ["0.4"]
    for place, (method, values) in enumerate(errors.items()):
        name, solved = method.split(",")[0], "," in method
        colour = colours.get(name, others[place % len(others)])
        share = 1 - np.arange(values.size) / values.size
        style = {"linestyle": "--" if solved else "-", "linewidth": 1.4, "label": method}
        right.plot(np.sort(values), share, color=colour, **style)
    left.set(yscale="log", xlabel="Core-seconds", ylabel="Mean relative L2 error")
    right.set(xscale="log", yscale="log", xlabel="Relative L2 error of a fingerprint", ylabel="Share of tissues above")
    legend_above(right)
    return figure
