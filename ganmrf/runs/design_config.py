"""What is wanted of a designed sequence, within which limits, and how it is looked for."""

import dataclasses

import jax
import numpy as np

from ganmrf.anchors.sentinels import joined
from ganmrf.design.bounds import scan_time
from ganmrf.design.limits import Limits
from ganmrf.design.parametrisations import FIELDS, Frames, Lobes, Parametrisation, Spline
from ganmrf.dictionary.grids import at_each_b1
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import TISSUES, TissueModel, parameters
from ganmrf.physics.tissue_box import box_of, ranges_of
from ganmrf.runs.design_tissues import default_tissues, form_of, read_tissues, tissue_of
from ganmrf.runs.simulation_config import FISP_ALONE, OF_OTHER_SEQUENCES, TISSUE_FIELDS, SimulationConfig
from ganmrf.runs.tissues import POOLS, SATURATED
from ganmrf.settings import configuration, group, naming_fields, setting

_INVERSION_MS = (18.0, 40.0)  # unless the user says otherwise: from the start's own to twice as long
# Of `Limits` -> of the configuration.
_LIMIT_FIELDS = {
    "flip_angle": "flip_angle_deg",
    "repetition_time": "repetition_time_ms",
    "inversion_time": "inversion_range_ms",
    "scan_time": "scan_time_s",
    "max_flip_change": "max_flip_change_deg",
    "rf_power": "rf_power",
    "saturation_angle": "saturation_pulses_deg",
}
_UNKNOWN = "t1", "t2", "fraction"  # what designs are for
# The duration of pulses is that of the Pulseq file: see `DesignConfig.played_for`.
_NOT_READ = (*(name for name in (*TISSUE_FIELDS, *OF_OTHER_SEQUENCES) if name != "tissue"), "pulse_duration_ms")
_OF_BOUND = ("objective=bound",)


@configuration
class DesignConfig:
    """What precision is wanted, within which limits, and how it is looked for.

    Attributes:
      simulation: the sequence that the search starts from, the slice profile and the kind of tissue; the grid is not
        read.
      tissues: once made, those of the kind unless others are named.

    Raises:
      ValueError: a field that breaks its rule.
    """

    simulation: SimulationConfig = group(SimulationConfig, without=_NOT_READ, **FISP_ALONE)
    tissues: tuple[str, ...] | None = setting(
        None,
        f"tissues to serve, {'; '.join(f'{name}: {form_of(kind)}' for name, kind in TISSUES.items())}; default: white "
        "and grey matter, and of one pool CSF",
    )
    population: int | None = setting(
        None,
        "so many tissues more to serve, spread evenly over the ranges that those of --tissues span; default: none",
        at_least=1,
    )
    design_b1: tuple[float, ...] = setting((1.0,), "B1 values that the design must serve, all tissues at each", above=0)
    flip_angle_deg: tuple[float, ...] = setting(
        (0.0, 85.0), "smallest and largest flip angle, degrees", at_least=0, at_most=360, repeats=True
    )
    repetition_time_ms: tuple[float, ...] = setting(
        (11.5, 16.0), "shortest and longest repetition time, ms", above=0, repeats=True
    )
    inversion_range_ms: tuple[float, ...] | None = setting(
        None, "shortest and longest inversion time, ms; default: 18,40", at_least=0, repeats=True
    )
    scan_time_s: float | None = setting(None, "scan time with the inversion time, s; default: the start's", above=0)
    scan_time_fixed: bool = setting(True, "the scan time must be that, not at most that")
    max_flip_change_deg: float | None = setting(None, "change from frame to frame, degrees; default: any", above=0)
    rf_power: float | None = setting(
        None, "sum of squared flip angles over the scan time, rad^2/s; default: any", above=0
    )
    saturation_pulses_deg: float | None = setting(
        None,
        "largest angle, degrees, of a saturation pulse in front of each frame, which becomes a further control; "
        "default: no such pulses",
        above=0,
        at_most=360,
        goes_with=(f"tissue={'|'.join(SATURATED)}",),
    )
    objective: str = setting(
        "bound",
        "gains of the Cramer-Rao bounds over the start's; joint: root of the sum of their squares, relative to the "
        "parameters, rms over tissues; or inner products",
        choices=("bound", "joint", "separation"),
    )
    reduce: str = setting(
        "worst",
        "over parameters and tissues",
        choices=("worst", "mean", "rms"),
        goes_with=("objective=bound|separation",),
    )
    gain_t1: float = setting(
        1.0, "wanted gain of the standard deviation of T1 over the start's", at_least=0, goes_with=_OF_BOUND
    )
    gain_t2: float = setting(2.0, "wanted gain of that of T2", at_least=0, goes_with=_OF_BOUND)
    gain_fraction: float = setting(
        2.0,
        "wanted gain of that of the fraction of pool b",
        at_least=0,
        goes_with=(f"tissue={'|'.join(POOLS)}", *_OF_BOUND),
    )
    shape: str = setting("spline", "of flip angles and repetition times", choices=("spline", "frames", "lobes"))
    knot_spacing: float = setting(
        10.0, "frames between two knots of splines", at_least=1, goes_with=("shape=spline|lobes",)
    )
    smoothness: float = setting(0.0, "weight of the mean squared second difference in the objective", at_least=0)
    optimise: tuple[str, ...] = setting(FIELDS, "fields that are free", choices=FIELDS)
    starts: int = setting(3, "number of starts: the given sequence, and random ones around it", at_least=1)
    seed: int = setting(0, "of the random starts and of the noise", at_least=0)
    optimiser: str = setting("adam", "of the search", choices=("adam", "lbfgs"))
    learning_rate: float = setting(0.1, "of Adam; it falls to 0", above=0, at_most=100, goes_with=("optimiser=adam",))
    steps: int = setting(800, "updates, at most", at_least=1)
    generator: str | None = setting(
        None, "anchored generator to take signals from in place of the simulator", reads=True
    )
    own_anchors: bool = setting(
        False,
        "take signals from anchors that are chosen for the tissues of the design, in place of the simulator: where "
        "tissues are many, or the slice is the full one, in a fraction of the time",
    )

    def __post_init__(self):
        if self.tissues is None:
            object.__setattr__(self, "tissues", default_tissues(self.kind))
        _ = self.named_tissues
        for name in ("flip_angle_deg", "repetition_time_ms", "inversion_range_ms"):
            if len(values := getattr(self, name) or (0,)) > 2:
                raise ValueError(f"{name} must be one number or two; got {','.join(map(str, values))}")
            if values[0] > values[-1] or (name == "flip_angle_deg" and not values[-1]):
                raise ValueError(f"{name} must rise to more than 0; got {','.join(map(str, values))}")
        if self.objective == "separation" and self.reduce == "rms":
            raise ValueError("reduce=rms goes with --objective=bound; that of separation is worst or mean")
        if not any(self.gains().values()):
            number = "all" if len(self.unknown) > 2 else "both"
            flags = " and --".join(f"gain_{name}" for name in self.unknown)
            raise ValueError(f"{flags} are {number} 0: nothing is wanted")
        if self.kind is not TISSUES["one_pool"] and self.objective == "separation":
            raise ValueError(f"objective=separation goes with --tissue=one_pool; got {self.simulation.pools.tissue}")
        if self.own_anchors and self.generator is not None:
            raise ValueError(
                f"generator={self.generator} does not go with --own_anchors: signals come from one of them"
            )
        if self.population is not None:
            self._population_box()

    @property
    def kind(self) -> type[TissueModel]:
        """The class of tissue."""
        return self.simulation.pools.kind

    @property
    def unknown(self) -> tuple[str, ...]:
        """Parameters that are estimated: T1, T2 and, of two pools, the fraction; what else there is is known."""
        return tuple(name for name in _UNKNOWN if name in parameters(self.kind))

    @property
    def named_tissues(self) -> dict[str, tuple[float, ...]]:
        """Name -> T1, T2, and further parameters, in the units of flags."""
        return read_tissues(self.kind, self.tissues)

    @property
    def tissue(self) -> TissueModel:
        """The tissues, B1 = 1, (tissues,)."""
        return tissue_of(self.kind, self.named_tissues)

    @property
    def served(self) -> TissueModel:
        """What the design must serve: `tissue`, then the population, each at every B1, (voxels,)."""
        tissue = self.tissue
        if self.population is not None:
            box = self._population_box()
            spread = box.spread(box.sobol(self.population, self.seed))
            tissue = joined(*(jax.tree.map(np.asarray, each) for each in (tissue, spread)))
        return at_each_b1(tissue, self.design_b1, b1_slowest=False)

    def _population_box(self):
        ranges, facts = ranges_of(self.tissue), parameters(self.kind)
        for name in ("t1", "t2"):
            if ranges[name][0] == ranges[name][1]:
                raise ValueError(
                    f"population must have ranges to spread over: all --tissues have one {facts[name].name}, "
                    f"{facts[name].per_shown * ranges[name][0]:g} {facts[name].shown}"
                )
        return box_of(self.tissue)

    def played_for(self, duration_ms: float) -> "DesignConfig":
        """The same with pulses of a duration, ms, where the tissue has a pool that their power saturates."""
        if not self.simulation.pools.saturated:
            return self
        powers = dataclasses.replace(self.simulation.powers, pulse_duration_ms=duration_ms)
        return dataclasses.replace(self, simulation=dataclasses.replace(self.simulation, powers=powers))

    def gains(self) -> dict[str, float]:
        """Wanted gain of each unknown parameter."""
        return {name: getattr(self, f"gain_{name}") for name in self.unknown}

    def limits(self, start: Fisp) -> Limits:
        """The limits of a search from ``start``; without a scan time, that of the start."""
        if start.inversion_time is None and self.inversion_range_ms is not None:
            raise ValueError("inversion_range_ms goes with a start that has an inversion; that of --schedule has none")
        inversion = self.inversion_range_ms or _INVERSION_MS
        change, saturation = self.max_flip_change_deg, self.saturation_pulses_deg
        with naming_fields(**_LIMIT_FIELDS):
            return Limits(
                flip_angle=tuple(np.deg2rad([self.flip_angle_deg[0], self.flip_angle_deg[-1]]).tolist()),
                repetition_time=(1e-3 * self.repetition_time_ms[0], 1e-3 * self.repetition_time_ms[-1]),
                echo_time=float(start.echo_time[0]),
                inversion_time=None if start.inversion_time is None else (1e-3 * inversion[0], 1e-3 * inversion[-1]),
                scan_time=float(scan_time(start)) if self.scan_time_s is None else self.scan_time_s,
                scan_time_fixed=self.scan_time_fixed,
                max_flip_change=None if change is None else float(np.deg2rad(change)),
                rf_power=self.rf_power,
                saturation_angle=None if saturation is None else float(np.deg2rad(saturation)),
            )

    def parametrisation(self, start: Fisp) -> Parametrisation:
        """The sequences that a search from ``start`` chooses from."""
        shapes = {
            "spline": Spline(self.knot_spacing),
            "frames": Frames(),
            "lobes": Lobes(knot_spacing=self.knot_spacing),
        }
        with naming_fields(**_LIMIT_FIELDS):
            return Parametrisation(start, self.limits(start), shapes[self.shape], self.optimise)
