"""A designed sequence evaluated, and the report of `design_sequence`."""

from typing import NamedTuple

import numpy as np

from experiments.evaluation.design import (
    MonteCarlo,
    atoms,
    gains_of_served,
    monte_carlo,
    noise_in_maps,
    over_b1,
    over_tissues,
)
from experiments.reports.design_verification import verification_section
from ganmrf.design.bounds import Precision, precision, scan_time
from ganmrf.design.limits import activity
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue, parameters
from ganmrf.report.design_figures import activity_figure, descent_figure, design_figure
from ganmrf.report.figures import fingerprint_figure
from ganmrf.report.html import Picture, Section, Table, enumerated, write_report
from ganmrf.report.precision_figures import monte_carlo_figure, precision_figure, robustness_figure, tissue_ratio_figure
from ganmrf.runs.designing import Design, DesignConfig

_B1 = np.linspace(0.8, 1.2, 9)
NAMES = ("start", "design")


class Evaluation(NamedTuple):
    """A design and the results of all checks; dicts are by `NAMES`.

    Attributes:
      found: the design; its sequence is the one that was written.
      config: what the design was asked for.
      snr: M0 over the standard deviation of the noise, in the checks.
      precision: Cramer-Rao bounds, for noise as large as M0.
      basins: bounds of the best sequence of every start.
      monte_carlo: bound and spread of noisy voxels.
      brain: errors by noise in maps of the digital brain, name of a tissue -> (T1, T2); None for tissue of two pools.
      b1: bounds over B1, (parameters, tissues, values).
      others: tissues of a grid, and the factors by which their T1 and T2 became more precise; None likewise.
      served: factors by which parameters became more precise, (parameters, voxels), of all that a design for a
        population must serve; None without a population.
      draws: noisy voxels of each tissue.
    """

    found: Design
    config: DesignConfig
    snr: float
    precision: dict[str, Precision]
    basins: list[Precision]
    monte_carlo: dict[str, MonteCarlo]
    brain: dict[str, dict] | None
    b1: dict[str, np.ndarray]
    others: tuple[Tissue, np.ndarray, np.ndarray] | None
    served: np.ndarray | None
    draws: int

    @property
    def quantities(self) -> tuple[str, ...]:
        """What the parameters that are estimated are called."""
        return tuple(parameters(self.config.kind)[name].name for name in self.config.unknown)

    def stds(self, precision: Precision) -> np.ndarray:
        """Standard deviations of what is estimated, (tissues, parameters)."""
        return np.stack([precision.stds[name] for name in self.config.unknown], axis=1)

    def gains(self) -> dict[str, tuple[float, ...]]:
        """Tissue -> factors by which T1, T2 and, of two pools, the fraction are more precise than with the start."""
        before, after = (self.stds(self.precision[name]) for name in NAMES)
        return dict(zip(self.config.named_tissues, map(tuple, (before / after).tolist()), strict=True))

    def numbers(self) -> dict:
        """All results as numbers, lists and dicts, for a JSON file."""
        found = self.found
        return {
            "gains": self.gains(),
            "bounds": {
                name: {field: p.stds[field].tolist() for field in self.config.unknown}
                for name, p in self.precision.items()
            },
            "scan_time_s": {name: float(scan_time(s)) for name, s in zip(NAMES, self.sequences(), strict=True)},
            "inversion_time_s": None if found.sequence.inversion_time is None else float(found.sequence.inversion_time),
            "objectives": found.best.tolist(),
            "updates": len(found.values),
            "seconds": found.seconds,
            "core_seconds": found.core_seconds,
            "anchors": found.n_anchors,
            "bounds_by_anchors": found.verification
            and {
                name: {"least_excess": float(excess.min()), "largest_excess": float(excess.max())}
                for name, excess in found.verification.excess().items()
            },
            "served": self.served is not None
            and {
                name: {"least_gain": float(gains.min()), "median_gain": float(np.median(gains))}
                for name, gains in zip(self.config.unknown, self.served, strict=True)
            },
            "monte_carlo": {
                name: {kind: values.tolist() for kind, values in spread._asdict().items()}
                for name, spread in self.monte_carlo.items()
            },
            "brain": self.brain,
            "b1": {"values": _B1.tolist(), **{name: values.tolist() for name, values in self.b1.items()}},
            "other_tissues": self.others
            and {
                f"{quantity}_gain_{kind}": float(function(ratio))
                for quantity, ratio in zip(("t1", "t2"), self.others[1:], strict=True)
                for kind, function in (("least", np.min), ("median", np.median))
            },
        }

    def sequences(self):
        """The start and the design."""
        return self.found.start, self.found.sequence


def evaluate_design(found: Design, config: DesignConfig, *, snr: float, draws: int, brain_size: int) -> Evaluation:
    """Bounds of a design with every EPG state that matters, and all checks.

    ``snr`` is M0 over the standard deviation of a frame's noise in the checks, ``draws`` the number of noisy voxels of
    each tissue, ``brain_size`` the number of rows and columns of the digital brain.
    """
    tissue, slice_profile, kind = config.tissue, config.simulation.slice_profile(), config.simulation.pools.tissue
    sequences = dict(zip(NAMES, (found.start, found.sequence), strict=True))
    scans = {name: (sequence, atoms(sequence, slice_profile, kind)) for name, sequence in sequences.items()}
    form = {"parameters": config.unknown, "slice_profile": slice_profile}
    one_pool = isinstance(tissue, Tissue)

    def of_both(check, **keywords):
        return {name: check(*scan, snr=snr, seed=config.seed, **keywords) for name, scan in scans.items()}

    return Evaluation(
        found=found,
        config=config,
        snr=snr,
        precision={name: precision(each, tissue, **form) for name, each in sequences.items()},
        basins=[precision(each, tissue, **form) for each in found.basins],
        monte_carlo=of_both(monte_carlo, tissue=tissue, names=config.unknown, draws=draws),
        brain=of_both(noise_in_maps, size=brain_size) if one_pool else None,
        b1={name: over_b1(each, tissue, _B1, slice_profile, config.unknown) for name, each in sequences.items()},
        others=over_tissues(found.start, found.sequence, slice_profile) if one_pool else None,
        served=gains_of_served(found, config) if config.population else None,
        draws=draws,
    )


def write_design_report(path, settings, evaluated: Evaluation):
    """Writes the report of a design and its checks, with the settings of `design_sequence`, as one HTML file."""
    gains = evaluated.gains()
    words = ", ".join(f"{name} {enumerated([f'{gain:.2f}' for gain in each])}" for name, each in gains.items())
    before, after = evaluated.sequences()
    makers = (sequence_section, _precision_section, _check_section, _robustness_section, _search_section)
    sections = [make(evaluated) for make in makers]
    if evaluated.found.n_anchors is not None:
        sections.append(verification_section(evaluated.found, evaluated.config.served))
    write_report(
        path,
        title="A designed MRF-FISP sequence",
        summary=(
            f"{after.n_frames} frames in {float(scan_time(after)):.2f} s, designed in {evaluated.found.seconds:.0f} s "
            f"from a start of {float(scan_time(before)):.2f} s. {enumerated(evaluated.quantities)} are more precise "
            f"than with the start by factors of {words}. {_basins(evaluated)}"
        ),
        sections=sections,
        settings=settings,
    )


def _basins(evaluated):
    best = evaluated.found.best
    if best.size == 1:
        return "The search had one start: others may end lower."
    spread = 100 * (best.max() / best.min() - 1)
    if spread <= 5:
        return f"All {best.size} starts end within {spread:.1f} % of each other."
    return f"The starts end up to {spread:.0f} % apart: start {int(np.argmin(best))} found the best basin."


def sequence_section(evaluated: Evaluation) -> Section:
    """The start and the design, the signals that the design gives, and the limits it reaches."""
    before, after = evaluated.sequences()
    config, limits = evaluated.config, evaluated.found.limits
    profile = config.simulation.slice_profile()
    signals = np.asarray(simulate(after, config.tissue, accuracy=1e-4, slice_profile=profile))
    reached = activity(after, limits)
    figures = [
        Picture(design_figure(before, after, limits=limits), "The start and the design; limits are dashed."),
        Picture(fingerprint_figure(signals, list(config.named_tissues)), "Signals of the design for M0 = 1."),
    ]
    if any(value.ndim for value in reached.values()):
        figures.append(Picture(activity_figure(reached), "Frames at a limit, to a hundredth of its range."))
    return Section("Sequence", figures=figures)


def _precision_section(evaluated):
    names, quantities = list(evaluated.config.named_tissues), evaluated.quantities
    stds = {name: evaluated.stds(p) for name, p in evaluated.precision.items()}
    gains = [(name, *(f"{gain:.2f}" for gain in each)) for name, each in evaluated.gains().items()]
    figure = precision_figure(stds, names, quantities=quantities)
    return Section(
        "Precision",
        f"Cramer-Rao bounds of {enumerated(quantities)}, relative, for an M0 of 100 times the noise of a frame; M0 is "
        f"unknown too, and nothing else.{_served_words(evaluated)}",
        figures=[Picture(figure, "Below the tissues: what the design gained.")],
        tables=[Table(("Tissue", *(f"{quantity}, times as precise" for quantity in quantities)), gains)],
    )


def _served_words(evaluated):
    if evaluated.served is None:
        return ""
    reduced = evaluated.served.min(axis=1), np.median(evaluated.served, axis=1)
    least, median = (enumerated([f"{gain:.2f}" for gain in gains]) for gains in reduced)
    number = evaluated.served.shape[1]
    return f" Of all {number} voxels that the design must serve the least gains are {least}, the medians {median}."


def _check_section(evaluated):
    names = list(evaluated.config.named_tissues)
    spreads = evaluated.monte_carlo.items()
    predicted, measured = ({name: getattr(found, kind) for name, found in spreads} for kind in MonteCarlo._fields)
    figure = monte_carlo_figure(predicted, measured, names, draws=evaluated.draws, quantities=evaluated.quantities)
    figures = [Picture(figure, "Spread of the estimates over the bound; the band is 10 %.")]
    noise = f"at an M0 of {evaluated.snr:g} times the noise of a frame: matched and refined."
    if evaluated.brain is None:
        return Section("Noisy voxels", f"{evaluated.draws} noisy voxels of each tissue, {noise}", figures=figures)
    rows, (start, design) = [], (evaluated.brain[name] for name in NAMES)
    for name in start:
        pairs = list(zip(start[name], design[name], strict=True))  # of T1, of T2
        percent = [f"{100 * value:.2f}" for pair in pairs for value in pair]
        rows.append([name, *percent, *(f"{before / after:.2f}" for before, after in pairs)])
    columns = ("Tissue", "T1, start (%)", "T1, design (%)", "T2, start (%)", "T2, design (%)", "T1 gain", "T2 gain")
    return Section(
        "Noisy voxels and a digital brain",
        f"{evaluated.draws} noisy voxels of each tissue, and every image of the digital brain with noise, {noise}",
        figures=figures,
        tables=[Table(columns, rows, "Root mean square of what noise changes in maps of the digital brain")],
    )


def _robustness_section(evaluated):
    after, names = evaluated.b1["design"], list(evaluated.config.named_tissues)
    middle = len(_B1) // 2
    loss = 100 * (after / after[:, :, middle : middle + 1] - 1).max()
    losses = (
        f"Between B1 of {_B1[0]:g} and {_B1[-1]:g}, which is known, the design's standard deviations grow by at most "
        f"{max(loss, 0):.0f} % of those at B1 = 1."
    )
    by_b1 = robustness_figure(_B1, evaluated.b1, names=names, quantities=evaluated.quantities)
    figures = [Picture(by_b1, f"Bounds of {enumerated(evaluated.quantities)} against B1.")]
    if evaluated.others is None:
        return Section("Other B1", losses, figures=figures)
    grid, t1, t2 = evaluated.others
    marked = {name: (1e-3 * times[0], 1e-3 * times[1]) for name, times in evaluated.config.named_tissues.items()}
    worse = 100 * np.mean((t1 < 1) | (t2 < 1))
    by_tissue = tissue_ratio_figure(grid.t1, grid.t2, t1, t2, marked=marked)
    return Section(
        "Other B1, other tissues",
        f"{losses} Of {grid.size} tissues, most of them not designed for, "
        f"{worse:.0f} % have a T1 or a T2 that is less precise than with the start; the least gains are "
        f"{t1.min():.2f} (T1) and {t2.min():.2f} (T2).",
        figures=[
            *figures,
            Picture(by_tissue, "How many times as precise T1 and T2 of other tissues are as with the start."),
        ],
    )


def _search_section(evaluated):
    found = evaluated.found
    rows = [
        (
            f"{start}" + (" (the given one)" if start == 0 else ""),
            f"{best:.4f}",
            *(f"{100 * value:.1f}" for value in evaluated.stds(std).T.ravel()),
        )
        for start, (best, std) in enumerate(zip(found.best, evaluated.basins, strict=True))
    ]
    meaning = "the inner product of neighbouring fingerprints"
    if evaluated.config.objective == "bound":
        meaning = f"1 where the wanted gains are reached, {evaluated.config.reduce} of parameters and tissues"
    elif evaluated.config.objective == "joint":
        meaning = "root of the sum of squared relative standard deviations at M0 = noise, rms over the tissues"
    columns = [
        f"{quantity}, {name} (%)" for quantity in evaluated.quantities for name in evaluated.config.named_tissues
    ]
    caption = f"Objective of every start against updates: {meaning}."
    ends = Table(("Start", "Objective", *columns), rows, "Where the starts ended: standard deviations at M0 = noise")
    figures = [Picture(descent_figure(found.values, found.best), caption)]
    return Section("Search", _basins(evaluated), figures=figures, tables=[ends])
