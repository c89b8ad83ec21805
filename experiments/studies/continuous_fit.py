"""Maps without a grid: fits through a prepared generator beside the simulator's own, in accuracy and in core-seconds.

Example::

    ganmrf studies.continuous_fit --generator=runs/anchored/generator.npz --output=continuous_fit.json

Random tissues inside the generator's box, simulated in its slice under the published schedule, get noise, and all axes
of the box that are not ``--known`` are fitted: by the generator, and some of the voxels by the simulator from the same
atoms. Biases and spreads are those of the errors over the error bar that the fit tells, which is the Cramer-Rao bound:
an unbiased fit that reaches it has 0 and 1. Both engines end in the same valley where they differ by less than the
error bar in all that was fitted. Without noise, what is left is the error of the generator, and error bars are no unit
for it. Voxels at an end of a range have no error bar, and do not count. Times leave compilation out, and are those of
this process.
"""

import time

import numpy as np

from experiments.flags.command_line import command
from experiments.flags.generators import anchored_for
from experiments.studies.errors import chosen
from experiments.studies.keeping import keep
from ganmrf.anchors.collapsed import GeneratedSignals
from ganmrf.anchors.continuous import N_STARTS, find_starts
from ganmrf.anchors.prepared import PreparedSequence, prepare
from ganmrf.dictionary.refine import Refined, refine
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.sequences.sequence_power import Power, with_power
from ganmrf.physics.simulate_many import require_signal_memory, simulate_many
from ganmrf.physics.tissue import TISSUES, TissueModel, parameters
from ganmrf.report.html import Table
from ganmrf.settings import configuration, setting

_INSIDE = 0.1  # of every range that voxels keep away from its ends, where noise would lead them out
_NOISELESS = 1e-6  # of M0: below the errors of all generators, and above the rounding of signals
_WARMING = 8  # voxels of a fit that compiles what the others run


@configuration
class Config:
    """The generator, the voxels and their noise."""

    generator: str = setting(meaning="generator.npz of train_anchored, of sequences of the kind fisp", reads=True)
    frames: int = setting(400, "of the published schedule", at_least=10, at_most=1000)
    voxels: int = setting(2000, "fitted by the generator", at_least=2)
    simulated: int = setting(100, "of them, fitted by the simulator, too", at_least=2)
    known: tuple[str, ...] | None = setting(
        None, "axes of the box whose true values are known; default: none, all axes are fitted"
    )
    starts: int = setting(N_STARTS, "most atoms that a voxel is fitted from", at_least=1)
    snr: float = setting(100.0, "M0 over the standard deviation of the noise in a frame", above=0)
    pulse_duration_ms: float = setting(2.0, "of the excitations, ms, for a semisolid pool", above=0, at_most=100)
    pulse_shape: float = setting(1.5, "mean of their squared waveform over the squared mean, likewise", at_least=1)
    seed: int = setting(0, "of the voxels and the noise", at_least=0)
    output: str | None = setting(None, "JSON file for the results; default: none", suffixes=(".json",), kept=False)

    def __post_init__(self):
        if self.simulated > self.voxels:
            raise ValueError(f"simulated must be voxels, {self.voxels}, or fewer; got {self.simulated}")


@command(Config)
def main(config: Config):
    """Prints the tables, and writes the results."""
    rows = measure(config)
    cells = [
        (
            *(row[name] for name in ("parameter", "engine")),
            f"{100 * row['bound']:.2g}",
            *("-" if row[name] is None else f"{row[name]:+z.2f}" for name in ("bias", "spread")),
            *(f"{100 * row[name]:.2g}" for name in ("median", "at_end")),
        )
        for row in chosen(rows, row="parameter")
    ]
    columns = (
        "Parameter",
        "fitted by",
        "bound (%)",
        "bias / bound",
        "spread / bound",
        "median error (%)",
        "at an end (%)",
    )
    print(Table(columns, cells, f"{config.voxels} voxels, M0 / noise {config.snr:g}").text())
    print("-: without noise errors are those of the generator, of which a bound by noise says nothing")
    cells = [
        (row["engine"], *(f"{row[name]:.3g}" for name in ("core_seconds", "seconds")), f"{100 * row['settled']:.1f}")
        for row in chosen(rows, row="cost")
    ]
    print(Table(("10,000 voxels by", "core-seconds", "seconds", "converged (%)"), cells, "").text())
    (both,) = chosen(rows, row="both")
    print(f"{100 * both['same_valley']:.1f} % of {config.simulated} voxels end in the same valley by both engines")
    print(both["generator"])
    keep(config, rows)


def measure(config: Config) -> list[dict]:
    """Rows of errors of each parameter and engine, of costs, and of what both engines have in common.

    Bounds and errors are relative to true values, those of parameters that may be 0 to the largest of the box; biases
    and spreads are in units of the bound, and None without noise, where errors are those of the generator alone.
    """
    prepared, truth, signals = _scanned(config)
    rng, box = np.random.default_rng([config.seed, 1]), prepared.generator.box
    noise = rng.standard_normal((*signals.shape, 2)) @ [1, 1j]
    known = {name: np.asarray(getattr(truth, name), float) for name in config.known or ()}
    fit = [name for name in box.names if name not in known]
    few, rows, found = slice(config.simulated), [], {}
    noisy = signals + noise / config.snr
    for engine, part, images, sigma in (
        ("generator", slice(None), noisy, 1 / config.snr),
        ("simulator", few, noisy, 1 / config.snr),
        ("generator, no noise", slice(None), signals + _NOISELESS * noise, _NOISELESS),
    ):
        own = {name: each[part] for name, each in known.items()}
        arguments = prepared, images[part], own, sigma, config.starts, engine != "simulator"
        _fitted(*_few(arguments))
        began, of_cores = time.perf_counter(), time.process_time()
        found[engine] = maps = _fitted(*arguments)
        spent = time.process_time() - of_cores, time.perf_counter() - began
        per = 10_000 / len(images[part])
        cost = {"row": "cost", "engine": engine, "core_seconds": per * spent[0], "seconds": per * spent[1]}
        rows.append(cost | {"settled": float(maps.converged.mean())})
        scale = 1 / (config.snr * sigma)  # of error bars to those of the noise that was asked for
        untold = {"bias": None, "spread": None} if sigma == _NOISELESS else {}
        each = {"row": "parameter", "engine": engine}
        rows += [each | _errors(maps, truth, name, part, box, scale) | untold for name in fit]
    apart = [np.abs(getattr(found["generator"], name)[few] - getattr(found["simulator"], name)) for name in fit]
    bars = [getattr(found["simulator"], f"{name}_std") for name in fit]
    same = np.all([each < bar for each, bar in zip(apart, bars, strict=True)], axis=0)
    return [*rows, {"row": "both", "same_valley": float(same.mean()), "generator": prepared.summary()}]


def _scanned(config) -> tuple[PreparedSequence, TissueModel, np.ndarray]:
    """The generator for the sequence, voxels inside its box, and their signals, (voxels, frames)."""
    generator = anchored_for(config.generator, families=("fisp",))
    if unknown := [name for name in config.known or () if name not in generator.box.names]:
        raise ValueError(f"known must be axes of the generator, {', '.join(generator.box.names)}; got {unknown[0]}")
    if {*(config.known or ())} == {*generator.box.names}:
        raise ValueError("known names all axes of the generator: nothing is left to fit")
    require_signal_memory(4 * config.voxels, config.frames)
    sequence = mrf_fisp(config.frames)
    if "lineshape" in parameters(TISSUES[generator.box.kind]):
        sequence = with_power(sequence, Power(1e-3 * config.pulse_duration_ms, config.pulse_shape))
    prepared = prepare(generator, sequence)
    rng = np.random.default_rng([config.seed, 0])
    truth = generator.box.spread(_INSIDE + (1 - 2 * _INSIDE) * rng.random((config.voxels, len(generator.box.names))))
    signals = simulate_many(sequence, truth, slice_profile=prepared.slice_profile, accuracy=1e-5, progress=True)
    return prepared, truth, signals.astype(np.result_type(signals, float))


def _few(arguments):
    """The same arguments for some voxels, to compile what they run."""
    prepared, images, known, *others = arguments
    return prepared, images[:_WARMING], {name: each[:_WARMING] for name, each in known.items()}, *others


def _fitted(prepared, images, known, noise, n_starts, generated) -> Refined:
    """Fits of images, (voxels, frames), by the generator or by the simulator, from the same atoms."""
    dictionary, maps, others = find_starts(prepared, images, axis=-1, known=known, n_starts=n_starts)
    fit = [name for name in prepared.generator.box.names if name not in known]
    source = GeneratedSignals.of(prepared) if generated else None
    how = {"fit": fit, "known": known, "noise": noise, "force": True, "source": source, "starts": others}
    return refine(dictionary, images, maps, axis=-1, **how)


def _errors(maps: Refined, truth, name, part, box, scale):
    """Bound, bias, spread, and errors of a parameter."""
    true = np.asarray(getattr(truth, name), float)[part]
    error, bar = getattr(maps, name) - true, scale * getattr(maps, f"{name}_std")
    known = np.isfinite(bar)
    scaled, unit = error[known] / bar[known], true if box.low[box.names.index(name)] > 0 else true.max()
    return {
        "parameter": name,
        "bound": float(np.median((bar / unit)[known])),
        "bias": float(scaled.mean()),
        "spread": float(scaled.std()),
        "median": float(np.median(np.abs(error / unit))),
        "largest": float(np.quantile(np.abs(error / unit), 0.99)),
        "at_end": float(1 - known.mean()),
    }


if __name__ == "__main__":
    main.run()
