"""Maps of a semisolid pool from a dictionary of a million atoms on disk: errors of its fraction beside their bounds.

Example::

    ganmrf studies.semisolid_maps --output=semisolid_maps.json --figure=semisolid_maps.png
    ganmrf studies.semisolid_maps --n_t1=12 --n_t2=12 --n_fraction=6 --n_exchange_rate=3 --n_b1=5 --size=64

Atoms of T1, T2, fraction, exchange rate and B1 are simulated to a ``.zarr`` folder in a temporal basis. Signals of the
digital brain with a semisolid pool, with noise, are matched with them, with a map of B1 or without, and fitted between
them. T1 and line shape of the semisolid pool are those of the atoms, and so is the exchange rate unless it is fitted:
they differ from those of the tissues, as in any scan. Time and memory are those of this process.
"""

import functools
import pathlib
import tempfile
import time

import numpy as np

from experiments.evaluation.parameters import errors_of_parameters
from experiments.flags.command_line import command
from experiments.studies.errors import chosen
from experiments.studies.keeping import keep
from ganmrf.dictionary.grids import pool_grid
from ganmrf.dictionary.match import match
from ganmrf.dictionary.match_with_maps import match_with_maps
from ganmrf.dictionary.pool_defaults import DEFAULTS
from ganmrf.dictionary.refine import refine
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.dictionary.zarr_fill import begin_store, fill_store
from ganmrf.imaging.phantom import BRAIN_TISSUES, Brain, acquire, digital_brain
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.sequences.sequence_power import Power, with_power
from ganmrf.report.html import Table, peak_memory
from ganmrf.report.reconstruction_figures import reconstructions_figure
from ganmrf.settings import configuration, setting

_ALWAYS = "t1", "t2", "fraction"
_CASES = {  # whether B1 is known, and what is fitted
    "b1_mapped": (True, _ALWAYS),
    "b1_mapped_k_fitted": (True, (*_ALWAYS, "exchange_rate")),
    "b1_fitted": (False, (*_ALWAYS, "b1")),
}
_COSTS = "seconds", "core_seconds", "gigabytes"
_COLUMNS = (
    "Voxels of",
    "case",
    "true f",
    "matched: bias",
    "spread",
    "fitted: bias",
    "spread",
    "bound",
    "bound of T1 (%)",
)


@configuration
class Config:
    """The atoms, the scan and its noise."""

    n_t1: int = setting(30, "values of T1, 0.4 to 4 s", at_least=2)
    n_t2: int = setting(30, "values of T2, 20 to 600 ms", at_least=2)
    n_fraction: int = setting(16, "values of the fraction, 0 to 0.3", at_least=2)
    n_exchange_rate: int = setting(10, "values of the exchange rate, 7 to 28 / s", at_least=2)
    n_b1: int = setting(9, "values of B1, 0.8 to 1.2", at_least=2)
    frames: int = setting(1000, "of the published schedule", at_least=10, at_most=1000)
    rank: int = setting(60, "of the temporal basis", at_least=1)
    size: int = setting(128, "rows and columns of the brain", at_least=16)
    b1_variation: float = setting(0.15, "of B1 in the brain, from 1 in its middle to -1 at 100 mm", at_least=0, below=1)
    snr: float = setting(100.0, "M0 of CSF over the standard deviation of noise in each frame", above=0)
    pulse_duration_ms: float = setting(2.0, "duration of the excitations in ms", above=0)
    pulse_shape: float = setting(1.5, "mean of the squared waveform over the squared mean", at_least=1)
    case: tuple[str, ...] = setting(tuple(_CASES), "whether B1 is mapped, and what is fitted", choices=tuple(_CASES))
    seed: int = setting(0, "of the brain and of the noise", at_least=0)
    store: str | None = setting(None, ".zarr folder of the dictionary, kept; default: none", suffixes=(".zarr",))
    output: str | None = setting(None, "JSON file for the errors; default: none", suffixes=(".json",), kept=False)
    figure: str | None = setting(None, "PNG file of the maps; default: none", suffixes=(".png",), kept=False)


@command(Config)
def main(config: Config):
    """Prints the tables, and writes them and the maps."""
    rows, costs, maps, brain = measure(config)
    cells = [(row["stage"], *(f"{row[name]:.3g}" for name in _COSTS)) for row in costs]
    print(Table(("Stage", "seconds", "core-seconds", "peak memory so far (GB)"), cells, "").text())
    caption = "fraction of the semisolid pool, absolute, in voxels of one tissue; bounds are those of the median voxel"
    print(Table(_COLUMNS, list(_cells(rows)), caption).text())
    truth = brain.truths()["fraction"]
    keep(config, [*costs, *rows], lambda *_: reconstructions_figure(maps, truth, mask=brain.brain_mask, quantity="f"))


class _Clock:
    """What stages have taken."""

    def __init__(self):
        self.costs = []

    def __call__(self, stage, work):
        """The result of some work, whose cost is noted."""
        began, of_cores = time.perf_counter(), time.process_time()
        found = work()
        spent = time.perf_counter() - began, time.process_time() - of_cores, peak_memory() / 1e9
        self.costs.append({"stage": stage} | dict(zip(_COSTS, spent, strict=True)))
        return found


def measure(config: Config) -> tuple[list[dict], list[dict], dict[str, np.ndarray], Brain]:
    """Errors, what each stage cost, fitted maps of the fraction by case, and the brain that was scanned.

    A row of errors is one of `errors_of_parameters`, for each case, ``matched`` or ``fitted``, parameter and tissue.
    """
    clock, rows, found = _Clock(), [], {}
    sequence = with_power(mrf_fisp(config.frames), Power(1e-3 * config.pulse_duration_ms, config.pulse_shape))
    brain = digital_brain(size=config.size, b1_variation=config.b1_variation, seed=config.seed, kind="semisolid")
    mask, b1 = brain.brain_mask, np.broadcast_to(brain.tissue.b1, brain.brain_mask.shape)
    with tempfile.TemporaryDirectory() as folder:
        path, atoms = pathlib.Path(config.store or f"{folder}/atoms.zarr"), _atoms(config)
        fill = functools.partial(_filled, path, sequence, atoms, config.rank)
        dictionary = clock(f"simulating {atoms.size} atoms", fill)
        images = _scanned(dictionary, brain, config)
        ways = {
            True: functools.partial(match_with_maps, dictionary, images, b1_map=b1, mask=mask),
            False: functools.partial(match, dictionary, images, mask=mask),
        }
        matched = {}
        for case in config.case:
            mapped, fit = _CASES[case]
            if mapped not in matched:
                matched[mapped] = clock(f"matching, B1 {'mapped' if mapped else 'unknown'}", ways[mapped])
            known = {} if "exchange_rate" in fit else {"exchange_rate": DEFAULTS["semisolid"]["exchange_rate"]}
            known |= {"b1": b1} if mapped else {}
            how = {"mask": mask, "fit": fit, "known": known, "noise": 1 / config.snr, "force": True}
            work = functools.partial(refine, dictionary, images, matched[mapped], **how)
            fitted = clock(f"fitting {', '.join(fit)}", work)
            found[case] = fitted.fraction
            for kind, names, maps in (("matched", _ALWAYS, matched[mapped]), ("fitted", fit, fitted)):
                rows += [{"case": case, "maps": kind} | row for row in errors_of_parameters(names, maps, brain)]
    return rows, clock.costs, found, brain


def _filled(path, sequence, atoms, rank):
    """The dictionary on disk, of which what is there already is not simulated again."""
    fill_store(begin_store(path, sequence, atoms, rank=rank), progress=True)
    return open_dictionary(path)


def _atoms(config):
    return pool_grid(
        "semisolid",
        t1=np.geomspace(0.4, 4.0, config.n_t1),
        t2=np.geomspace(0.02, 0.6, config.n_t2),
        fraction=np.linspace(0, 0.3, config.n_fraction),
        exchange_rate=np.geomspace(7.0, 28.0, config.n_exchange_rate),
        b1=np.linspace(0.8, 1.2, config.n_b1),
    )


def _scanned(dictionary, brain, config):
    """Coefficients of the brain's signals with noise, (rank, y, x), complex; 0 outside the brain."""
    signals = acquire(brain, dictionary.sequence, mask=brain.brain_mask)
    inside = dictionary.basis.T @ signals
    noise = np.random.default_rng(config.seed).standard_normal((*inside.shape, 2)) @ [1, 1j]
    coefficients = np.zeros((len(inside), *brain.brain_mask.shape), complex)
    coefficients[:, brain.brain_mask] = inside + noise / config.snr  # of an orthonormal basis, as that of frames
    return coefficients


def _cells(rows):
    """Lines of the table, one for each tissue and case."""
    for tissue in BRAIN_TISSUES:
        for case in dict.fromkeys(row["case"] for row in rows):
            by_maps = {row["maps"]: row for row in chosen(rows, case=case, tissue=tissue, parameter="fraction")}
            if not by_maps:
                continue
            of_t1 = next(iter(chosen(rows, case=case, tissue=tissue, parameter="t1", maps="fitted")))
            errors = [(row["bias"], np.sqrt(max(row["rmse"] ** 2 - row["bias"] ** 2, 0))) for row in by_maps.values()]
            bounds = _bound(by_maps["fitted"]), _bound(of_t1, 100 / of_t1["true"])
            numbers = (
                f"{value:+z.3f}" if n == 0 else f"{value:.3f}" for pair in errors for n, value in enumerate(pair)
            )
            yield tissue, case, f"{by_maps['fitted']['true']:.3f}", *numbers, *bounds


def _bound(row, times=1.0):
    return "none" if row["bound"] is None else f"{times * row['bound']:.3g}"


if __name__ == "__main__":
    main.run()
