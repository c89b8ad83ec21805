"""Heart rhythms: errors of T1 and T2 by dictionaries of the nominal rhythm, and of the one that occurred.

Example::

    ganmrf studies.arrhythmia --generator=runs/cardiac/generator.npz --output=arrhythmia.json --report=arrhythmia.html

Myocardium and blood are scanned, with noise, by the published sequence of cardiac MRF, from a regular rhythm to atrial
fibrillation. The signals are matched with three dictionaries: that of the nominal rhythm, beats of equal length with
the same mean, which is there beforehand; that of the rhythm that occurred, simulated after the scan; and, with
``--generator``, the same generated. Told are bias and spread of T1 and T2, and the time until each dictionary is there,
once programs are compiled. Preparations are as ``--preparations_ms`` says, and inversions may have an efficiency.
"""

import time

import numpy as np

from experiments.flags.command_line import command
from experiments.flags.generators import anchored_for
from experiments.studies.errors import chosen
from experiments.studies.keeping import keep
from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.match import match
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.cardiac import CardiacFisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import Tissue
from ganmrf.report.anchored_figures import rhythm_figure
from ganmrf.report.html import Picture, Section, Table, write_report
from ganmrf.report.study_figures import bias_figure
from ganmrf.runs.preparation_config import PreparationConfig
from ganmrf.runs.sequences import SequenceConfig
from ganmrf.settings import configuration, group, setting

TISSUES = {"myocardium": (1.471, 0.047), "blood": (1.932, 0.275)}  # s, at 3 T: Stanisz 2005, doi:10.1002/mrm.20605
RHYTHMS = "regular", "breathing", "ectopic beats", "missed triggers", "atrial fibrillation"
# Of the mean interval: a breath of four beats; a beat that comes early, and the pause that makes up for it; and the
# standard deviation of intervals in atrial fibrillation, a fifth to a quarter of the mean.
_BREATH, _BREATH_BEATS, _EARLY, _FIBRILLATION = 0.1, 4, 0.35, 0.23
_SHORTEST = 0.45  # s, of a beat in atrial fibrillation: the train and the longest preparation take 340 ms
_T1_S, _T2_S = (0.8, 2.6), (0.025, 0.45)  # of the dictionaries


@configuration
class Config:
    """Rhythms, the scan, and the dictionaries."""

    generator: str | None = setting(
        None, "generator.npz of train_anchored for cardiac sequences; default: nothing is generated", reads=True
    )
    beats: int = setting(15, "heartbeats of the scan", at_least=5)
    interval_ms: float = setting(900.0, "mean time from beat to beat in ms", at_least=600, at_most=2000)
    rhythms: int = setting(3, "rhythms that are drawn of each kind", at_least=1)
    preparations_ms: tuple[str, ...] = setting(
        ("inversion:21:0.96", "none", "t2:30", "t2:50", "t2:100"), "as of cardiac_dictionary", repeats=True
    )
    b1: float = setting(1.0, "actual over nominal flip angle, which is known", above=0)
    step: float = setting(
        0.03, "between T1, and T2, of two atoms of the dictionaries, relative", at_least=5e-3, at_most=1
    )
    m0_over_noise: float = setting(50.0, "M0 over the standard deviation of the noise of a frame", above=0)
    voxels: int = setting(200, "of each tissue", at_least=2)
    slice_model: str = setting(
        "none", "the slice, without a generator", choices=("none", "full"), instead_of=("generator",)
    )
    preparation: PreparationConfig = group(PreparationConfig)
    seed: int = setting(0, "of rhythms and noise", at_least=0)
    output: str | None = setting(None, "JSON file for the errors; default: none", suffixes=(".json",), kept=False)
    figure: str | None = setting(None, "PNG file for their figure; default: none", suffixes=(".png",), kept=False)
    report: str | None = setting(None, "HTML report; default: none", suffixes=(".html",), kept=False)

    def __post_init__(self):
        SequenceConfig(sequence="cardiac", preparations_ms=self.preparations_ms)
        for name, value in vars(self.preparation).items():
            if value is not None and self.generator is None:
                raise ValueError(f"{name} goes with --generator")


@command(Config)
def main(config: Config):
    """Prints the table, and writes it, its figure and the report."""
    rows = measure(config)
    table, words = _table(rows), _words(rows)
    print(f"{table.text()}\n{words}")
    keep(config, rows, _figure)
    if config.report:
        rng = np.random.default_rng(config.seed)
        shown = [(kind, _scan(config, intervals_of(kind, config, rng))) for kind in RHYTHMS]
        errors = Picture(_figure(rows, config), "Error of T1 and T2: mean, and standard deviation of single voxels.")
        rhythms = [Picture(rhythm_figure(scan), f"A rhythm: {kind}.") for kind, scan in shown]
        sections = [Section("Errors", figures=[errors], tables=[table]), Section("Rhythms", figures=rhythms)]
        write_report(config.report, title="Rhythms of the heart", summary=words, sections=sections, settings=config)


def intervals_of(kind: str, config: Config, rng) -> np.ndarray:
    """Times from beat to beat of a rhythm that is drawn, s, (beats,), of the mean that the settings name."""
    shares = np.ones(config.beats)
    if kind == "breathing":
        shares += _BREATH * np.sin(2 * np.pi * (np.arange(config.beats) / _BREATH_BEATS + rng.random()))
    elif kind == "atrial fibrillation":
        shares = np.maximum(1 + _FIBRILLATION * rng.standard_normal(config.beats), 1e3 * _SHORTEST / config.interval_ms)
    elif kind != "regular":
        for beat in rng.choice(np.arange(0, config.beats - 1, 2), 2, replace=False):  # neither of them in the other
            shares[beat : beat + 2] = (1 - _EARLY, 1 + _EARLY) if kind == "ectopic beats" else (2, 1)
    return 1e-3 * config.interval_ms * shares


def measure(config: Config) -> list[dict]:
    """Bias and spread of T1 and T2, relative, a row for each rhythm, dictionary and tissue."""
    generator = None if config.generator is None else anchored_for(config.generator, tissue="one_pool")
    profile = FullSlice(windowed_sinc(8, "hann"), turns=4) if config.slice_model == "full" else None
    profile, rng = profile if generator is None else generator.slice_profile, np.random.default_rng(config.seed)
    grid, rows = _grid(config), []
    if generator is not None:
        generator.require_inside(grid)
    for kind, number in ((kind, number) for kind in RHYTHMS for number in range(config.rhythms)):
        intervals = intervals_of(kind, config, rng)
        scan, nominal = (_scan(config, each) for each in (intervals, np.full(config.beats, intervals.mean())))
        dictionaries = {"nominal rhythm": (_simulated(nominal, grid, profile)[0], 0.0)}
        dictionaries["simulated"] = _simulated(scan, grid, profile)
        if generator is not None:
            dictionaries["generated"] = _generated(config, generator, scan, grid)
        for tissue, (t1, t2) in TISSUES.items():
            truth = Tissue(np.array([t1]), np.array([t2]), config.b1)
            signal = np.asarray(simulate(scan, truth, slice_profile=profile, accuracy=1e-5))
            noise = rng.normal(size=(config.voxels, signal.shape[-1], 2)) @ np.array([1, 1j]) / config.m0_over_noise
            facts = {"rhythm": kind, "number": number, "tissue": tissue}
            for name, (dictionary, seconds) in dictionaries.items():
                maps = match(dictionary, signal + noise, axis=-1)
                errors = {"t1": maps.t1 / t1 - 1, "t2": maps.t2 / t2 - 1}
                found = {f"{each}_bias": float(error.mean()) for each, error in errors.items()}
                found |= {f"{each}_spread": float(error.std()) for each, error in errors.items()}
                rows.append(facts | {"dictionary": name, "seconds": seconds} | found)
    return rows


def _scan(config, intervals) -> CardiacFisp:
    kind = SequenceConfig(sequence="cardiac", rr_ms=tuple(1e3 * intervals), preparations_ms=config.preparations_ms)
    return kind.named()


def _grid(config) -> Tissue:
    axes = [np.exp(np.arange(*np.log(ends), config.step)) for ends in (_T1_S, _T2_S)]
    return Tissue(*(each.ravel() for each in np.meshgrid(*axes)), config.b1)


def _simulated(scan, grid, profile) -> tuple[Dictionary, float]:
    """The dictionary, and the seconds that it takes once its programs are compiled."""
    build_dictionary(scan, grid.rows(slice(256)), slice_profile=profile)
    clock = time.perf_counter()
    return build_dictionary(scan, grid, slice_profile=profile), time.perf_counter() - clock


def _generated(config, generator: AnchoredGenerator, scan, grid) -> tuple[Dictionary, float]:
    """As `_simulated`; the weights, which are the same for all rhythms, are there beforehand."""
    prepared = config.preparation.prepare(generator, scan)
    weights = generator.weights(grid, prepared.n_anchors)
    prepared.generate(weights)
    clock = time.perf_counter()
    dictionary = config.preparation.prepare(generator, scan, allow_error=np.inf).generate(weights)
    return dictionary, time.perf_counter() - clock


def _means(rows):
    """Rows of the rhythms of a kind as one: mean of bias, root mean square of spread."""
    found = []
    keys = dict.fromkeys((row["rhythm"], row["tissue"], row["dictionary"]) for row in rows)
    for rhythm, tissue, dictionary in keys:
        facts = {"rhythm": rhythm, "tissue": tissue, "dictionary": dictionary}
        own = chosen(rows, **facts)
        values = {f"{each}_bias": float(np.mean([row[f"{each}_bias"] for row in own])) for each in ("t1", "t2")}
        for name in ("t1_spread", "t2_spread"):
            values[name] = float(np.sqrt(np.mean([row[name] ** 2 for row in own])))
        found.append(facts | values | {"seconds": float(np.median([row["seconds"] for row in own]))})
    return found


def _table(rows):
    columns = "Rhythm, tissue, dictionary", "T1: bias (%)", "spread (%)", "T2: bias (%)", "spread (%)", "time (ms)"
    cells = []
    for row in _means(rows):
        values = [f"{100 * row[f'{each}_{what}']:.2f}" for each in ("t1", "t2") for what in ("bias", "spread")]
        ms = "beforehand" if row["dictionary"] == "nominal rhythm" else f"{1e3 * row['seconds']:.0f}"
        cells.append((f"{row['rhythm']}, {row['tissue']}, {row['dictionary']}", *values, ms))
    return Table(columns, cells, "root mean squares over rhythms of a kind; time until the dictionary is there")


def _words(rows):
    """What comes out, in sentences."""
    means = _means(rows)
    words = []
    for name in dict.fromkeys(row["dictionary"] for row in means):
        of = [row for row in means if row["dictionary"] == name and row["rhythm"] != "regular"]
        worst = [max(of, key=lambda row, each=each: row[f"{each}_bias"]) for each in ("t1", "t2")]
        told = " and ".join(
            f"{each.upper()} by {100 * row[f'{each}_bias']:.1f} % ({row['rhythm']}, {row['tissue']})"
            for each, row in zip(("t1", "t2"), worst, strict=True)
        )
        ms = 1e3 * np.median([row["seconds"] for row in of])
        which = (
            "of the nominal rhythm" if name == "nominal rhythm" else f"{name} for the true rhythm, after {ms:.0f} ms,"
        )
        words.append(f"At worst, the dictionary {which} errs in {told}.")
    return " ".join(words)


def _figure(rows, _):
    errors = {}
    for row in rows:
        cases = errors.setdefault(row["tissue"], {}).setdefault(row["dictionary"], {})
        found = cases.setdefault(row["rhythm"], {"T1": [], "T2": []})
        for each, own in found.items():
            own.append((row[f"{each.lower()}_bias"], row[f"{each.lower()}_spread"]))
    return bias_figure(errors)


if __name__ == "__main__":
    main.run()
