"""What a model of the slice costs: errors of T1 and T2 where the pulse and the spoiler are those that are played.

Example::

    ganmrf studies.slice_models --output=slice_models.json --figure=slice_models.png

Signals of some thousand isochromats across the slice of a windowed sinc, computed pulse by pulse without any form that
`simulate` has, are fitted by T1, T2 and M0 with each model of the slice: none; the small-tip profile; a phase graph at
each position, without and with the phases of the pulse; and the full slice.
"""

import importlib.resources
import itertools

import jax
import numpy as np

from experiments.flags.command_line import command
from experiments.studies.cardiac_preparations import TISSUES as CARDIAC_TISSUES
from experiments.studies.errors import chosen, errors_of, range_cells
from experiments.studies.fits import fit
from experiments.studies.keeping import keep
from ganmrf.imaging.phantom import TISSUES
from ganmrf.io.schedule import read_schedule
from ganmrf.physics.bloch import slice_signal
from ganmrf.physics.n_states import n_states_of_boxes
from ganmrf.physics.rf_pulse import WINDOWS, windowed_sinc
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import ECHO_TIME_S, mrf_fisp
from ganmrf.physics.slice_profile import MAX_TIME_BANDWIDTH, FullSlice, PartitionedSlice, small_tip
from ganmrf.physics.tissue import Tissue
from ganmrf.report.html import Table
from ganmrf.report.study_figures import errors_figure
from ganmrf.settings import configuration, setting

_TISSUES = {name: times[:2] for name, times in (TISSUES | CARDIAC_TISSUES).items()}  # T1, T2, s
_SCHEDULES = "jiang2015", "cao2019"  # of 1000 and of 500 frames
_NODES = 24  # of the small-tip profile, within 1e-4 of any more: errors are those of the model


@configuration
class Config:
    """Pulses, spoilers and schedules."""

    schedule: tuple[str, ...] = setting(_SCHEDULES, "published schedules", choices=_SCHEDULES)
    frames: int = setting(1000, "of the schedules at most, which have 1000 and 500", at_least=10, at_most=1000)
    time_bandwidth: tuple[float, ...] = setting(
        (2.0, 4.0, 8.0), "of the pulses: duration times bandwidth", above=0, at_most=MAX_TIME_BANDWIDTH
    )
    window: str = setting("hann", "of the pulses", choices=tuple(WINDOWS))
    turns: tuple[float, ...] = setting((1.0, 2.0, 4.0, 8.0, 16.0), "turns of the spoiler across a slice", above=0)
    # Within 1e-5 of the signal of CSF.
    positions: int = setting(512, "of isochromats for each turn of the strongest spoiler", at_least=16, at_most=4096)
    output: str | None = setting(None, "JSON file for the errors; default: none", suffixes=(".json",), kept=False)
    figure: str | None = setting(None, "PNG file for their figure; default: none", suffixes=(".png",), kept=False)


@command(Config)
def main(config: Config):
    """Prints the table, and writes it and its figure."""
    with jax.enable_x64(True):
        rows = measure(config)
    columns = "Schedule, time-bandwidth, model", "error of", *(f"{turns:g} turns (%)" for turns in config.turns)
    cells = []
    keys = dict.fromkeys((row["schedule"], row["time_bandwidth"], row["model"]) for row in rows)
    for schedule, time_bandwidth, model in keys:
        facts = {"schedule": schedule, "time_bandwidth": time_bandwidth, "model": model}
        cells += range_cells(rows, f"{schedule}, {time_bandwidth:g}, {model}", "turns", config.turns, **facts)
    caption = f"the least and the largest error of {', '.join(_TISSUES)}; {config.window} sinc"
    print(Table(columns, cells, caption).text())
    keep(config, rows, _figure)


def read_published(schedule: str, n_frames: int) -> Fisp:
    """A published schedule, by its name among the flags; ``n_frames`` of it at most."""
    if schedule == "jiang2015":
        return mrf_fisp(n_frames)
    path = importlib.resources.files("ganmrf") / "data" / "mrf_fisp_cao2019.csv"
    whole = read_schedule(path, echo_time=ECHO_TIME_S, inversion_time=20e-3)
    return jax.tree.map(lambda leaf: leaf[:n_frames] if leaf.ndim else leaf, whole)


def measure(config: Config) -> list[dict]:
    """Relative errors of T1 and T2, a row for each schedule, pulse, spoiler, model and tissue."""
    names, spoilers = (each.ravel() for each in np.meshgrid(list(_TISSUES), config.turns))
    truth, rows = Tissue(*np.array([_TISSUES[name] for name in names]).T), []
    n_positions = int(np.ceil(config.positions * max(config.turns)))
    for schedule, time_bandwidth in itertools.product(config.schedule, config.time_bandwidth):
        sequence, pulse = read_published(schedule, config.frames), windowed_sinc(time_bandwidth, config.window)
        signals = 1j * slice_signal(sequence, truth, pulse, spoilers, n_positions)
        for model, slices in _models(pulse, config.turns).items():
            errors = _errors(sequence, signals, truth, slices)
            for name, turns, t1_error, t2_error in zip(names, spoilers, *errors, strict=True):
                facts = {"schedule": schedule, "time_bandwidth": time_bandwidth, "turns": float(turns), "model": model}
                rows.append(facts | {"tissue": str(name), "t1_error": float(t1_error), "t2_error": float(t2_error)})
    return rows


def _models(pulse, spoilers):
    """Name of a model -> the model for all spoilers, or one for each."""
    return {
        "none": [None],
        "small tip": [small_tip(pulse, _NODES)],
        "partitioned, without phases": [PartitionedSlice(pulse, phases=False)],
        "partitioned": [PartitionedSlice(pulse)],
        "full": [FullSlice(pulse, turns) for turns in spoilers],
    }


def _errors(sequence, signals, truth, slices):
    """Relative errors of T1 and T2, each (voxels,): those of the first model come first, as many of every one."""
    found = []
    for slice_profile, rows in zip(slices, np.split(np.arange(truth.size), len(slices)), strict=True):
        part = truth.rows(rows)
        # As in a dictionary: fewer than some dozen voxels alone would get.
        n_states = n_states_of_boxes(sequence, [part], accuracy=1e-4, slice_profile=slice_profile)[0]
        fitted = fit(sequence, signals[rows], part, n_states, slice_profile)
        found.append((fitted.t1 / part.t1 - 1, fitted.t2 / part.t2 - 1))
    return np.concatenate(found, axis=1)


def _figure(rows, config):
    panels, tissue, schedule = {}, "white matter", rows[0]["schedule"]
    for time_bandwidth in config.time_bandwidth:
        curves = panels.setdefault(f"time-bandwidth {time_bandwidth:g}, {tissue}, {schedule}", {})
        found = chosen(rows, schedule=schedule, time_bandwidth=time_bandwidth, tissue=tissue)
        for model in dict.fromkeys(row["model"] for row in found):
            curves[model] = errors_of(chosen(found, model=model))
    return errors_figure(config.turns, "Turns of the spoiler across the slice", panels, linear_within=1.0)


if __name__ == "__main__":
    main.run()
