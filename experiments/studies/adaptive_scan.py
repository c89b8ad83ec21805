"""The scanner in the loop: scans whose next piece is the best of 100 for what is known so far, against fixed designs.

Example::

    ganmrf studies.adaptive_scan --generator=runs/cardiac/generator.npz --output=adaptive.json --report=adaptive.html

One voxel with noise is scanned in pieces. Before each piece 100 continuations (ten preparations times ten trains of
flip angles) are simulated for the carried tissues, from their magnetisation on, and the one after which variance times
time is expected to be least is played. Carried are the anchors of ``--generator``, or without it the atoms themselves
and two tissues more for each derivative. Beside it stand as many frames of the published schedule, from its first; a
design of the same pieces that is made beforehand, for all tissues; and one that is made for the tissue itself, which
nobody can know: about what adapting could gain. Variance per second is told by the Cramer-Rao bound of the scans that
were played, and by fits of their data.
"""

import functools

import jax
import numpy as np

from experiments.flags.command_line import command
from experiments.flags.generators import anchored_for
from experiments.studies.adaptive_scan_runs import (
    ECHO_TIME,
    Scanner,
    adapted,
    designed,
    duration_of,
    for_one,
    hundred_continuations,
    sequence_of,
)
from experiments.studies.fits import fit
from experiments.studies.keeping import keep
from ganmrf.design.adaptive import carried_by_differences, carried_by_generator
from ganmrf.design.bounds import precision, scan_time
from ganmrf.imaging.brain_tissues import BRAIN_TISSUES, TISSUES
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import Tissue
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.progress import watched
from ganmrf.report.html import Picture, Section, Table, write_report
from ganmrf.report.study_figures import variance_figure
from ganmrf.settings import configuration, setting

# At 3 T: myocardium of Stanisz 2005, doi:10.1002/mrm.20605.
SCANNED = {name: TISSUES[name][:2] for name in BRAIN_TISSUES} | {"myocardium": (1.471, 0.047)}
_BOX = TissueBox(("t1", "t2"), low=[0.2, 0.02], high=[3.0, 0.5])  # s, of what a voxel may be beforehand
_N_STATES = 33  # of an accuracy of 1e-3 for a T2 of 300 ms
_STRATEGIES = "published", "beforehand", "adapted", "tissue known"


@configuration
class Config:
    """Scans, and what they are adapted by."""

    generator: str | None = setting(
        None, "generator.npz of train_anchored, kind trunk or radial; default: atoms are carried themselves", reads=True
    )
    slice_model: str = setting(
        "none", "the slice, without a generator", choices=("none", "full"), instead_of=("generator",)
    )
    pieces: int = setting(10, "of a scan", at_least=1)
    frames: int = setting(40, "of a piece", at_least=4, at_most=100)
    atoms: int = setting(64, "what a voxel may be, spread over T1 and T2", at_least=2)
    m0_over_noise: float = setting(40.0, "M0 over the standard deviation of the noise of a frame", above=0)
    repeats: int = setting(24, "scans of each tissue and kind, with noise", at_least=1)
    passes: int = setting(1, "in which each piece of a design is chosen again", at_least=0)
    seed: int = setting(0, "of the noise", at_least=0)
    output: str | None = setting(None, "JSON file for the rows; default: none", suffixes=(".json",), kept=False)
    figure: str | None = setting(None, "PNG file for their figure; default: none", suffixes=(".png",), kept=False)
    report: str | None = setting(None, "HTML report; default: none", suffixes=(".html",), kept=False)

    def __post_init__(self):
        if self.pieces * self.frames > 1000:
            scan = f"{self.pieces} x {self.frames}"
            raise ValueError(f"pieces times --frames must be at most the 1000 frames published; got {scan}")


@command(Config)
def main(config: Config):
    """Prints the table, and writes it, its figure and the report."""
    rows = measure(config)
    table = _table(rows)
    words = _words(rows, config)
    print(f"{table.text()}\n{words}")
    keep(config, rows, _figure)
    if config.report:
        figure = Picture(_figure(rows, config), "Variance times time, relative to that of the published schedule.")
        sections = [Section("Variance per second", figures=[figure], tables=[table])]
        unread = ("slice_model",) * (config.generator is not None)  # the slice is the generator's
        told = {"summary": words, "sections": sections, "settings": config, "unread": unread}
        write_report(config.report, title="Scans that are adapted", **told)


def scanner_of(config: Config) -> Scanner:
    """The scanner that the settings name."""
    atoms = jax.tree.map(np.asarray, _BOX.spread(_BOX.sobol(config.atoms, 0)))
    profile = FullSlice(windowed_sinc(8, "hann"), turns=4) if config.slice_model == "full" else None
    if config.generator is None:
        carried = carried_by_differences(atoms)
    else:
        generator = anchored_for(config.generator, families=("fisp", "cardiac"), tissue="one_pool")
        profile, carried = generator.slice_profile, carried_by_generator(generator, atoms, ECHO_TIME)
    form = {"n_states": _N_STATES, "slice_profile": profile}
    return Scanner(hundred_continuations(config.frames), carried, form, config.m0_over_noise, config.pieces)


def measure(config: Config) -> list[dict]:
    """Bounds, errors and times, a row for each tissue and kind of scan."""
    scanner, rng, rows = scanner_of(config), np.random.default_rng(config.seed), []
    published = mrf_fisp(config.pieces * config.frames)
    beforehand = designed(scanner, config.passes, "designing beforehand")
    for name, (t1, t2) in SCANNED.items():
        tissue = Tissue(np.array([t1]), np.array([t2]))
        known = designed(for_one(scanner, carried_by_differences(tissue)), config.passes, f"designing, {name}")
        judged = functools.partial(_judged, config, scanner, tissue, rng)
        fixed = {"beforehand": beforehand, "tissue known": known}
        found = {"published": judged(published, float(scan_time(published)))}
        found |= {
            kind: judged(_played(scanner, own), duration_of(scanner.continuations, own)) for kind, own in fixed.items()
        }
        found["adapted"] = _adapted(config, scanner, tissue, rng, name)
        rows += [{"tissue": name, "strategy": kind} | found[kind] for kind in _STRATEGIES]
    return rows


def _played(scanner, indices):
    return sequence_of(scanner.continuations, indices)


def _judged(config, scanner, tissue, rng, sequence, seconds):
    """Of a fixed scan: its time, bounds of T1 and T2, and errors of fits."""
    bounds = _bounds(scanner, sequence, tissue)
    with jax.enable_x64(True):
        wide = Tissue(*(np.full(config.repeats, value, float) for value in (tissue.t1[0], tissue.t2[0])))
        errors = _fitted(scanner, sequence, wide, _noisy(scanner, sequence, wide, rng))
    return _row(seconds, bounds**2, errors)


def _adapted(config, scanner, tissue, rng, name):
    times, squares, errors, choices = [], [], [], []
    for _ in watched(list(range(config.repeats)), f"adapting, {name}"):
        chosen, data, seconds = adapted(scanner, tissue, rng)
        sequence = _played(scanner, chosen)
        squares.append(_bounds(scanner, sequence, tissue) ** 2)
        with jax.enable_x64(True):
            wide = Tissue(np.asarray(tissue.t1, float), np.asarray(tissue.t2, float))
            errors.append(_fitted(scanner, sequence, wide, data[None]))
        times.append(duration_of(scanner.continuations, chosen))
        choices += seconds
    return _row(np.mean(times), np.mean(squares, axis=0), np.concatenate(errors)) | {
        "choice_ms": 1e3 * float(np.median(choices))
    }


def _bounds(scanner, sequence, tissue):
    """Cramer-Rao bounds of T1 and T2, relative, (2,)."""
    found = precision(sequence, tissue, **scanner.form)
    return np.array([found.t1[0], found.t2[0]]) / scanner.m0_over_noise


def _noisy(scanner, sequence, tissue, rng):
    signals = np.asarray(simulate(sequence, tissue, **scanner.form))
    return signals + rng.normal(size=(*signals.shape, 2)) @ np.array([1, 1j]) / scanner.m0_over_noise


def _fitted(scanner, sequence, tissue, data):
    """Relative errors of T1 and T2 by least squares, (voxels, 2)."""
    found = fit(sequence, data, tissue, scanner.form["n_states"], scanner.form["slice_profile"])
    return np.stack([np.asarray(found.t1 / tissue.t1), np.asarray(found.t2 / tissue.t2)], axis=1) - 1


def _row(seconds, squares, errors):
    found = (errors**2).mean(axis=0)
    return {
        "seconds": float(seconds),
        **{f"{name}_bound": float(np.sqrt(each)) for name, each in zip(("t1", "t2"), squares, strict=True)},
        **{f"{name}_error": float(np.sqrt(each)) for name, each in zip(("t1", "t2"), found, strict=True)},
    }


def _per_second(row, names):
    """Relative variances, summed, times time, s."""
    return sum(row[f"{name}_bound"] ** 2 for name in names) * row["seconds"]


def _ratios(rows):
    """Kind of scan -> tissue -> T1, T2, and both, what choices are made by -> `_per_second` over that as published."""
    of = {(row["strategy"], row["tissue"]): row for row in rows}
    quantities = {"T1": ("t1",), "T2": ("t2",), "both": ("t1", "t2")}
    return {
        kind: {
            tissue: {
                quantity: _per_second(of[kind, tissue], names) / _per_second(of["published", tissue], names)
                for quantity, names in quantities.items()
            }
            for tissue in SCANNED
        }
        for kind in _STRATEGIES
    }


def _table(rows):
    columns = "Tissue, scan", "time (s)", "T1 (%)", "T2 (%)", "of fits (%)", "variance x time, T1, T2, sum"
    ratios, cells = _ratios(rows), []
    for row in rows:
        bounds = [f"{100 * row[f'{name}_bound']:.2f}" for name in ("t1", "t2")]
        errors = ", ".join(f"{100 * row[f'{name}_error']:.2f}" for name in ("t1", "t2"))
        ratio = ratios[row["strategy"]][row["tissue"]]
        name = f"{row['tissue']}, {row['strategy']}"
        cells.append(
            (name, f"{row['seconds']:.2f}", *bounds, errors, ", ".join(f"{each:.2f}" for each in ratio.values()))
        )
    caption = "standard deviations: Cramer-Rao bounds, and errors of fits; variance times time relative to published"
    return Table(columns, cells, caption)


def _words(rows, config):
    """What comes out, in sentences."""
    ratios = _ratios(rows)

    def gains(kind, than):
        return [ratios[than][tissue]["both"] / ratios[kind][tissue]["both"] for tissue in SCANNED]

    def told(values):
        return f"{_mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    over_design, over_published = gains("adapted", "beforehand"), gains("adapted", "published")
    carried = "the atoms themselves" if config.generator is None else "the anchors"
    choice = np.median([row["choice_ms"] for row in rows if "choice_ms" in row])
    verdict = "pays" if _mean(over_design) > 1 else "does not pay"
    return (
        f"Adapting {verdict} over a design of the same pieces. The variances of T1 and T2, summed, times time, over "
        f"those of adapted scans: {told(over_design)} by the design made beforehand, {told(over_published)} by the "
        f"published schedule, in geometric mean over tissues (least to most). Scans designed for the tissue itself are "
        f"better than the design made beforehand by {told(gains('tissue known', 'beforehand'))}, which is about what "
        f"adapting could gain. A choice among 100 continuations by {carried} takes {choice:.0f} ms."
    )


def _mean(values):
    return float(np.exp(np.mean(np.log(values))))


def _figure(rows, _):
    return variance_figure(_ratios(rows), "Variance x time, over published")


if __name__ == "__main__":
    main.run()
