"""A designed sequence evaluated, and the report of `design_sequence`."""

from typing import NamedTuple

import numpy as np

from experiments.evaluation.design import MonteCarlo, atoms, monte_carlo, noise_in_maps, over_b1, over_tissues
from ganmrf.design.bounds import Precision, precision, scan_time
from ganmrf.design.limits import activity
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.report.design_figures import activity_figure, descent_figure, design_figure
from ganmrf.report.figures import fingerprint_figure
from ganmrf.report.html import Picture, Section, Table, write_report
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
      brain: errors by noise in maps of the digital brain, name of a tissue -> (T1, T2).
      b1: bounds over B1, (2, tissues, values).
      others: tissues of a grid, and the factors by which their T1 and T2 became more precise.
      draws: noisy voxels of each tissue.
    """

    found: Design
    config: DesignConfig
    snr: float
    precision: dict[str, Precision]
    basins: list[Precision]
    monte_carlo: dict[str, MonteCarlo]
    brain: dict[str, dict]
    b1: dict[str, np.ndarray]
    others: tuple[Tissue, np.ndarray, np.ndarray]
    draws: int

    def gains(self) -> dict[str, tuple[float, float]]:
        """Tissue -> factors by which T1 and T2 are more precise than with the start."""
        before, after = (self.precision[name] for name in NAMES)
        ratios = np.stack([before.t1 / after.t1, before.t2 / after.t2], axis=1)
        return dict(zip(self.config.named_tissues, map(tuple, ratios.tolist()), strict=True))

    def numbers(self) -> dict:
        """All results as numbers, lists and dicts, for a JSON file."""
        found = self.found
        return {
            "gains": self.gains(),
            "bounds": {name: {"t1": p.t1.tolist(), "t2": p.t2.tolist()} for name, p in self.precision.items()},
            "scan_time_s": {name: float(scan_time(s)) for name, s in zip(NAMES, self.sequences(), strict=True)},
            "inversion_time_s": None if found.sequence.inversion_time is None else float(found.sequence.inversion_time),
            "objectives": found.best.tolist(),
            "updates": len(found.values),
            "seconds": found.seconds,
            "monte_carlo": {
                name: {kind: values.tolist() for kind, values in spread._asdict().items()}
                for name, spread in self.monte_carlo.items()
            },
            "brain": self.brain,
            "b1": {"values": _B1.tolist(), **{name: values.tolist() for name, values in self.b1.items()}},
            "other_tissues": {
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
    tissue, slice_profile = config.tissue, config.simulation.slice_profile()
    sequences = dict(zip(NAMES, (found.start, found.sequence), strict=True))
    scans = {name: (sequence, atoms(sequence, slice_profile)) for name, sequence in sequences.items()}

    def of_both(check, **keywords):
        return {name: check(*scan, snr=snr, seed=config.seed, **keywords) for name, scan in scans.items()}

    return Evaluation(
        found=found,
        config=config,
        snr=snr,
        precision={name: precision(each, tissue, slice_profile=slice_profile) for name, each in sequences.items()},
        basins=[precision(each, tissue, slice_profile=slice_profile) for each in found.basins],
        monte_carlo=of_both(monte_carlo, tissue=tissue, draws=draws),
        brain=of_both(noise_in_maps, size=brain_size),
        b1={name: over_b1(sequence, tissue, _B1, slice_profile) for name, sequence in sequences.items()},
        others=over_tissues(found.start, found.sequence, slice_profile),
        draws=draws,
    )


def write_design_report(path, settings, evaluated: Evaluation):
    """Writes the report of a design and its checks, with the settings of `design_sequence`, as one HTML file."""
    gains = evaluated.gains()
    words = ", ".join(f"{name} {t1:.2f} and {t2:.2f}" for name, (t1, t2) in gains.items())
    before, after = evaluated.sequences()
    makers = (sequence_section, _precision_section, _check_section, _robustness_section, _search_section)
    write_report(
        path,
        title="A designed MRF-FISP sequence",
        summary=(
            f"{after.n_frames} frames in {float(scan_time(after)):.2f} s, designed in {evaluated.found.seconds:.0f} s "
            f"from a start of {float(scan_time(before)):.2f} s. T1 and T2 are more precise than with the start by "
            f"factors of {words}. {_basins(evaluated)}"
        ),
        sections=[make(evaluated) for make in makers],
        settings=settings,
    )


def _basins(evaluated):
    best = evaluated.found.best
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
    names = list(evaluated.config.named_tissues)
    stds = {name: np.stack([p.t1, p.t2], axis=1) for name, p in evaluated.precision.items()}
    gains = [(name, f"{t1:.2f}", f"{t2:.2f}") for name, (t1, t2) in evaluated.gains().items()]
    return Section(
        "Precision",
        "Cramer-Rao bounds of T1 and T2, relative, for an M0 of 100 times the noise of a frame; M0 is unknown too.",
        figures=[Picture(precision_figure(stds, names), "Below the tissues: what the design gained.")],
        tables=[Table(("Tissue", "T1, times as precise", "T2, times as precise"), gains)],
    )


def _check_section(evaluated):
    names = list(evaluated.config.named_tissues)
    spreads = evaluated.monte_carlo.items()
    predicted, measured = ({name: getattr(found, kind) for name, found in spreads} for kind in MonteCarlo._fields)
    rows, (start, design) = [], (evaluated.brain[name] for name in NAMES)
    for name in start:
        pairs = list(zip(start[name], design[name], strict=True))  # of T1, of T2
        percent = [f"{100 * value:.2f}" for pair in pairs for value in pair]
        rows.append([name, *percent, *(f"{before / after:.2f}" for before, after in pairs)])
    columns = ("Tissue", "T1, start (%)", "T1, design (%)", "T2, start (%)", "T2, design (%)", "T1 gain", "T2 gain")
    figure = monte_carlo_figure(predicted, measured, names, draws=evaluated.draws)
    return Section(
        "Noisy voxels and a digital brain",
        f"{evaluated.draws} noisy voxels of each tissue, and every image of the digital brain with noise, at an M0 of "
        f"{evaluated.snr:g} times the noise of a frame: matched and refined.",
        figures=[Picture(figure, "Spread of the estimates over the bound; the band is 10 %.")],
        tables=[Table(columns, rows, "Root mean square of what noise changes in maps of the digital brain")],
    )


def _robustness_section(evaluated):
    grid, t1, t2 = evaluated.others
    marked = {name: (1e-3 * times[0], 1e-3 * times[1]) for name, times in evaluated.config.named_tissues.items()}
    after = evaluated.b1["design"]
    middle = len(_B1) // 2
    loss = 100 * (after / after[:, :, middle : middle + 1] - 1).max()
    worse = 100 * np.mean((t1 < 1) | (t2 < 1))
    by_b1 = robustness_figure(_B1, evaluated.b1, names=list(evaluated.config.named_tissues))
    by_tissue = tissue_ratio_figure(grid.t1, grid.t2, t1, t2, marked=marked)
    return Section(
        "Other B1, other tissues",
        f"Between B1 of {_B1[0]:g} and {_B1[-1]:g}, which is known, the design's standard deviations grow by at most "
        f"{max(loss, 0):.0f} % of those at B1 = 1. Of {grid.size} tissues, most of them not designed for, "
        f"{worse:.0f} % have a T1 or a T2 that is less precise than with the start; the least gains are "
        f"{t1.min():.2f} (T1) and {t2.min():.2f} (T2).",
        figures=[
            Picture(by_b1, "Bounds of T1 and T2 against B1."),
            Picture(by_tissue, "How many times as precise T1 and T2 of other tissues are as with the start."),
        ],
    )


def _search_section(evaluated):
    found = evaluated.found
    rows = [
        (
            f"{start}" + (" (the given one)" if start == 0 else ""),
            f"{best:.4f}",
            *(f"{100 * value:.1f}" for value in np.concatenate([std.t1, std.t2])),
        )
        for start, (best, std) in enumerate(zip(found.best, evaluated.basins, strict=True))
    ]
    meaning = "the inner product of neighbouring fingerprints"
    if evaluated.config.objective == "bound":
        meaning = f"1 where the wanted gains are reached, {evaluated.config.reduce} of T1, T2 and the tissues"
    columns = [f"{quantity}, {name} (%)" for quantity in ("T1", "T2") for name in evaluated.config.named_tissues]
    caption = f"Objective of every start against updates: {meaning}."
    ends = Table(("Start", "Objective", *columns), rows, "Where the starts ended: standard deviations at M0 = noise")
    figures = [Picture(descent_figure(found.values, found.best), caption)]
    return Section("Search", _basins(evaluated), figures=figures, tables=[ends])
