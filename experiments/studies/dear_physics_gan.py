"""The paper's GAN where simulation is dear: what an adversary is worth on a dictionary of seven axes.

Example::

    ganmrf studies.dear_physics_gan --workdir=runs/dear_physics
    ganmrf studies.dear_physics_gan --workdir=runs/dear_long --random_atoms=8192 --seconds=120 --seeds=0,1,2

Water that exchanges with a semisolid pool has seven parameters with B1, and its signals are those of a whole slice: a
grid would explode, so that random tissues are simulated, and networks learn to emit the fingerprints of all others.
Every variant, a preset of `train`, gets the same time of a core, and is judged on tissues that none of them has seen:
by the error of fingerprints, and by the bias of a fit of --parameters over its standard deviation by noise. Radial
basis functions of the same atoms, and with ``--generator`` the anchors of a generator for any sequence, stand beside.
``dear_physics.json`` and ``report.html`` hold the results. Called again with the same ``--workdir`` the command goes on
where it was cut off.
"""

from experiments.flags.command_line import command
from experiments.studies.dear_physics_report import result_rows, result_table, write_dear_physics_report
from experiments.studies.dear_physics_runs import (
    VARIANTS,
    generated_by,
    held_out,
    judge,
    load_fitting,
    methods_beside,
    noise_at,
    seconds_per_step,
    simulate_once,
    train_and_generate,
)
from experiments.studies.variants import run_folder, run_variants
from ganmrf.files import write_json
from ganmrf.physics.tissue import TISSUES, parameters
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.workdir import Workdir
from ganmrf.settings import configuration, group, setting, to_plain

_TISSUE = "semisolid"
_NAMES = tuple(parameters(TISSUES[_TISSUE]))
_DEAR = {  # ranges of white and grey matter, and of what lies around them; the steps of a range make no difference
    "tissue": _TISSUE,
    "slice_model": "full",
    "frames": 500,
    "random_atoms": 2048,
    "t1_ms": "300:3000:100",
    "t2_ms": "20:300:10",
    "b1": "0.7:1.3:0.1",
    "fraction": "0:0.3:0.1",
    "exchange_rate_per_s": "5:50:5",
    "t1_b_ms": "200:1000:100",
    "lineshape_us": "8:20:1",
}


@configuration
class Config:
    """The study.

    Raises:
      ValueError: a field that breaks its rule.
    """

    workdir: str = setting(meaning="folder of all runs", kept=False)
    seeds: tuple[int, ...] = setting((0,), "seeds that every variant is trained with", at_least=0)
    variant: tuple[str, ...] = setting(VARIANTS, "presets that are trained", choices=VARIANTS)
    seconds: float = setting(15.0, "of a core, that each run trains for, without compiling", above=0)
    reconstruction_weight: float | None = setting(
        None, "lambda of the presets with a discriminator; default: that of each", at_least=0
    )
    held_out: int = setting(256, "tissues that are simulated to judge with", at_least=1)
    biased: int = setting(64, "of them, those whose bias is computed", at_least=1)
    parameters: tuple[str, ...] = setting(
        ("t1", "t2", "fraction"), "that a fit estimates; the others are known to it", choices=_NAMES
    )
    snr: float = setting(20.0, "root mean square of the signals over the noise", above=0)
    generator: str | None = setting(
        None, "generator.npz of train_anchored for this tissue and slice, to stand beside", reads=True, kept=False
    )
    simulation: SimulationConfig = group(
        SimulationConfig,
        without=("grid", "off_resonance_hz"),
        defaults=_DEAR.items(),
        choices={"tissue": (_TISSUE,)},
    )

    def __post_init__(self):
        if self.biased > self.held_out:
            raise ValueError(f"biased must be held_out, {self.held_out}, or fewer; got {self.biased}")
        if self.simulation.random_atoms is None:
            raise ValueError("random_atoms must be a number: a grid of these axes explodes")
        names = self.simulation.box().names
        if missing := [name for name in self.parameters if name not in names]:
            raise ValueError(f"parameters={missing[0]} has one value alone, and is not estimated")


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Trains and judges all variants, and writes what came out."""
    generator = None if config.generator is None else load_fitting(config.generator, config.simulation)
    with Workdir(config.workdir, config, given) as workdir:
        path, config, simulation = workdir.path, workdir.config, workdir.config.simulation
        learned = simulate_once(path / "dictionary.zarr", simulation, simulation.tissue())
        truth = simulate_once(path / "held_out.zarr", simulation, held_out(simulation, config.held_out))
        found = _trained(path, config)
        folders = {run: run_folder(path, *run) for run in found}
        made = {
            (name, seed, stage): generated_by(folders[name, seed], truth, stage)
            for (name, seed), each in found.items()
            for stage in ("trained", "refit")[: 1 + each["refit"]]
        }
        beside = methods_beside(learned, truth, generator)
        noise = noise_at(truth, config.snr)
        judged = judge(
            truth, made | {name: each for name, (each, _) in beside.items()}, noise, config.parameters, config.biased
        )
        rows = result_rows(found, judged, {name: seconds for name, (_, seconds) in beside.items()})
        write_json(path / "dear_physics.json", [{key: row[key] for key in row if key != "key"} for row in rows])
        table = result_table(rows, config)
        errors = {row["method"]: judged[row["key"]]["errors"] for row in rows}
        write_dear_physics_report(path / "report.html", config, rows, table, found, errors)
    print(table.text())
    print(f"report: {path / 'report.html'}")


def _trained(path, config):
    """(variant, seed) -> what `train_and_generate` found, after as many steps as the time allows."""
    settings = to_plain(config) | {
        "dictionary": str(path / "dictionary.zarr"),
        "held_out": str(path / "held_out.zarr"),
    }
    of_one = {(name, 0): settings for name in config.variant}
    times = run_variants(seconds_per_step, path / "times", of_one)
    steps = {name: max(round(config.seconds / times[name, 0]["seconds"]), 2) for name in config.variant}
    runs = {(name, seed): settings | {"steps": steps[name]} for name in config.variant for seed in config.seeds}
    return run_variants(train_and_generate, path, runs)


if __name__ == "__main__":
    main.run()
