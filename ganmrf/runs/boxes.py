"""The box of tissue of a generator: a range of each parameter that is an axis, a value of each that is none."""

import dataclasses

import numpy as np

from ganmrf.dictionary.pool_defaults import DEFAULTS
from ganmrf.physics.tissue import FACTS, ORDERED_TIMES, TISSUES, Parameter, parameters
from ganmrf.physics.tissue_box import TissueBox, box_of_ranges
from ganmrf.runs.tissues import TissueConfig, check_scale
from ganmrf.settings import configuration, setting

_USUAL_MS = {"t1": (10.0, 3000.0), "t2": (2.0, 500.0)}  # axes of every box
_ONE_PERIOD = 1e-6  # relative difference of a range and a period that are the same, but for rounding of flags


def range_flag(field: str, parameter: Parameter) -> str:
    """Name of a flag that takes the range of a parameter, in the unit of figures: ``t1_range_ms``."""
    unit = {"": "", "1/s": "_per_s", "Hz": "_hz"}.get(parameter.shown, f"_{parameter.shown}")
    return f"{field}_range{unit}"


def _settings():
    for field, parameter in FACTS.items():
        kinds = [name for name, kind in TISSUES.items() if field in parameters(kind)]
        unit = f" in {parameter.shown}" if parameter.shown else ""
        usual = _USUAL_MS.get(field)
        least = {"at_least": parameter.per_shown * parameter.least} if np.isfinite(parameter.least) else {}
        if least and not parameter.may_be_least:
            least = {"above": least["at_least"]}
        more = {"at_most": parameter.per_shown * parameter.most} if parameter.most < np.inf else {}
        goes_with = () if len(kinds) == len(TISSUES) else (f"tissue={'|'.join(kinds)}",)
        default = "default: 1 for all" if field == "b1" else "default: none"
        if any(field in DEFAULTS.get(kind, {}) for kind in kinds):
            default = "default: that of the grid, or its one value"
        words = "atoms have T2 <= T1" if field == "t2" else "" if usual else f"an axis; {default}"
        meaning = f"least and largest {parameter.meaning}{unit}{f'; {words}' if words else ''}"
        kept = tuple[float, ...] if usual else tuple[float, ...] | None
        yield range_flag(field, parameter), kept, setting(usual, meaning, goes_with=goes_with, **least, **more)


_Fields = dataclasses.make_dataclass("_Fields", list(_settings()), frozen=True)


@configuration
class BoxConfig(_Fields):
    """Ranges of the parameters that are axes; T1 and T2 always are. The flags follow from `tissue.parameters`.

    Raises:
      ValueError: a range that is not two numbers, the lower one first, or one of another unit by its size.
    """

    def __post_init__(self):
        for field, parameter in FACTS.items():
            if (values := getattr(self, flag := range_flag(field, parameter))) is None:
                continue
            if len(values) != 2 or not values[0] < values[1]:
                shown = ",".join(f"{value:g}" for value in values)
                raise ValueError(f"{flag} must be two different numbers, the lower one first; got {shown}")
            check_scale(flag, values, parameter)

    def box(self, pools: TissueConfig, period: float | None = None) -> TissueBox:
        """The box of the kind of tissue that ``pools`` names.

        A parameter of a second pool that has no range has the value that ``pools`` fixes, or that of a grid: where that
        is an axis, its ends are the range.

        Args:
          pools: kind of tissue, and values of what has no range.
          period: of the signals in off-resonance, Hz; None for none.

        Raises:
          ValueError: ranges or values that no tissue has, or a range of what the kind of tissue has not.
        """
        ranges = {}
        given = DEFAULTS.get(pools.tissue, {}) | pools.axes()
        facts = parameters(pools.kind)
        for field, parameter in FACTS.items():
            values = getattr(self, flag := range_flag(field, parameter))
            if values is not None and field not in facts:
                raise ValueError(f"{flag} would change nothing: --tissue={pools.tissue} has no {parameter.meaning}")
            if values is not None:
                values = np.array(values) / parameter.per_shown
            elif field in facts and field in given:
                values = np.unique(given[field])[[0, -1]]
            if values is not None:
                ranges[field] = tuple(map(float, values))
        names = [name for name, (low, high) in ranges.items() if low < high]
        for t1, t2 in ORDERED_TIMES:
            if {t1, t2} <= {*names} and ranges[t2][0] > ranges[t1][0]:
                raise ValueError(
                    f"{t2}_range_ms must not begin above {t1}_range_ms, since atoms have T2 <= T1; got "
                    f"{1e3 * ranges[t2][0]:g} and {1e3 * ranges[t1][0]:g}"
                )
        periodic = ()
        if period is not None and "off_resonance" in names:
            low, high = ranges["off_resonance"]
            if high - low > (1 + _ONE_PERIOD) * period:
                raise ValueError(
                    f"off_resonance_range_hz must be no longer than 1 / --repetition_time_ms, {period:g} Hz, after "
                    f"which signals repeat; got {high - low:g}"
                )
            periodic = ("off_resonance",) * bool(high - low > (1 - _ONE_PERIOD) * period)
        return box_of_ranges(pools.tissue, ranges, periodic=periodic)
