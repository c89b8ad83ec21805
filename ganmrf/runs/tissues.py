"""The kind of tissue that a command assumes, and the axes of its parameters beyond those of one pool of spins."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ganmrf.dictionary.grids import ranges_in, values_in_ranges
from ganmrf.dictionary.pool_defaults import DEFAULTS
from ganmrf.physics.sequences.blocks import PulseSequence, Train
from ganmrf.physics.tissue import TISSUES, Parameter, TissueModel, flag_name, kind_of_tissue, parameters
from ganmrf.pytrees import require, require_scale
from ganmrf.settings import configuration, setting

OF_ONE_POOL = parameters(TISSUES["one_pool"])
_OF_UNKNOWN_POWER = "hard_", "mlev4_"  # of preparations
_IN_WORDS = {"exchanging": "a mobile", "semisolid": "a semisolid"}
SATURATED = tuple(name for name, kind in TISSUES.items() if "lineshape" in parameters(kind))  # by the power of pulses
POOLS = tuple(name for name in TISSUES if name != "one_pool")


def _axes() -> dict[str, tuple[str, Parameter, tuple[str, ...]]]:
    """Flag -> field, what is true of it, and the kinds of tissue that have it, of every further parameter."""
    found = {}
    for name, kind in TISSUES.items():
        for field, parameter in parameters(kind).items():
            if field not in OF_ONE_POOL:
                flag = flag_name(field, parameter)
                found[flag] = field, parameter, (*found.get(flag, (None, None, ()))[2], name)
    return found


_AXES = _axes()


def _settings():
    meaning = "kind of tissue: one pool of spins; two that exchange; or one that exchanges with a semisolid pool"
    yield "tissue", str, setting("one_pool", meaning, choices=tuple(TISSUES))
    for flag, (field, parameter, kinds) in _AXES.items():
        unit = f" in {parameter.shown}" if parameter.shown else ""
        defaults = {kind: _default(DEFAULTS[kind].get(field), parameter) for kind in kinds}
        default = " or ".join(f"{kind} {text}" for kind, text in defaults.items())
        default = default if len({*defaults.values()}) > 1 else defaults[kinds[0]]
        meaning = f"{'|'.join(kinds)}: {parameter.meaning}{unit}, an axis of the grid or one number; default: {default}"
        yield flag, str | None, setting(None, meaning, goes_with=(f"tissue={'|'.join(kinds)}",))
    meaning = "parameters with one value, which is not fitted, in SI units, such as exchange_rate:14,t1_b:0.34"
    yield "fix", tuple[str, ...] | None, setting(None, meaning, goes_with=(f"tissue={'|'.join(POOLS)}",))


def _default(values, parameter):
    """What a grid takes where no flag says more, as a flag would."""
    if values is None:
        return "none"
    shown = parameter.per_shown * np.atleast_1d(values)
    return f"{shown[0]:g}" if shown.size == 1 else f"{shown[0]:g}:{shown[-1]:g}:{shown[1] - shown[0]:g}"


_Fields = dataclasses.make_dataclass("_Fields", list(_settings()), frozen=True)


def check_axis(flag: str, text: str, parameter: Parameter):
    """Raises `ValueError`, with the name of the flag, for values of an axis that its parameter cannot have."""
    ends = [end for *ends, _ in ranges_in(text, flag, signed=_from_zero(parameter)) for end in ends]
    require(flag, np.array(ends) / parameter.per_shown, parameter.allows, parameter.rule)
    check_scale(flag, ends, parameter)


def check_scale(flag: str, shown, parameter: Parameter):
    """Raises `ValueError`, with the name of the flag, for values in its unit that are larger than any of a body."""
    most, unit, other = parameter.scale
    instead = other if parameter.per_shown == 1 else None  # of what is shown in another unit, others are unlikely
    require_scale(flag, max(shown, key=abs), parameter.per_shown * most, parameter.shown or unit, instead)


def axis(flag: str, text: str, parameter: Parameter) -> np.ndarray:
    """Values of an axis, SI, (values,); one number, and no axis, of a single one."""
    return values_in_ranges(text, flag, signed=_from_zero(parameter)).squeeze() * (1 / parameter.per_shown)


def _from_zero(parameter):
    """Whether 0 is a value, so that ranges have to be read as those of signed numbers."""
    return parameter.signed or parameter.may_be_least


@configuration
class TissueConfig(_Fields):
    """Kind of tissue, and the axes of its parameters beside --t1_ms, --t2_ms, --b1 and --off_resonance_hz.

    The flag of each further parameter follows from `ganmrf.physics.tissue.parameters`.

    Raises:
      ValueError: a field that breaks its rule, or that the kind of tissue does not have.
    """

    def __post_init__(self):
        for flag, (_, parameter, kinds) in _AXES.items():
            if (text := getattr(self, flag)) is None:
                continue
            if self.tissue not in kinds:
                raise ValueError(f"{flag} would change nothing: it goes with --tissue={'|'.join(kinds)}; got {text}")
            check_axis(flag, text, parameter)
        if self.fix and self.tissue not in POOLS:
            of = "|".join(POOLS)
            raise ValueError(f"fix would change nothing: it goes with --tissue={of}; got {','.join(self.fix)}")
        axes = {field for flag, (field, *_) in _AXES.items() if getattr(self, flag) is not None}
        for field in self.fixed:
            if field in axes:
                raise ValueError(f"fix={field} stands in place of --{self._flag(field)}: give one of them")

    @property
    def kind(self) -> type[TissueModel]:
        """The class of tissue."""
        return TISSUES[self.tissue]

    @property
    def saturated(self) -> bool:
        """Whether the tissue has a pool that pulses saturate by their power."""
        return self.tissue in SATURATED

    @property
    def fixed(self) -> dict[str, float]:
        """Parameters that have one value, SI, by field.

        Raises:
          ValueError: a name or a value that ``fix`` may not have.
        """
        known = {field: parameter for field, parameter in parameters(self.kind).items() if field not in OF_ONE_POOL}
        return named_values("fix", self.fix or (), known)

    def axes(self) -> dict[str, np.ndarray]:
        """Values, SI, of further parameters by field: those of flags, and the fixed ones, one number each."""
        found = {}
        for flag, (field, parameter, _) in _AXES.items():
            if (text := getattr(self, flag)) is not None:
                found[field] = axis(flag, text, parameter)
        return found | {field: np.array(value) for field, value in self.fixed.items()}

    def _flag(self, field):
        return flag_name(field, parameters(self.kind)[field])


def named_values(flag: str, texts: Sequence[str], known: Mapping[str, Parameter]) -> dict[str, float]:
    """Values by field from texts, ``name:value`` in SI units each.

    Raises:
      ValueError: a text of another form, a name that is none of those ``known``, a value that the parameter cannot
        have, or a name that stands twice.
    """
    found = {}
    for text in texts:
        field, _, number = text.partition(":")
        try:
            value = float(number)
        except ValueError:
            field = ""
        if field not in known:
            names = ", ".join(known)
            raise ValueError(f"{flag} must be name:value in SI units, separated by commas, of {names}; got {text}")
        require(f"{flag}={field}", value, known[field].allows, known[field].rule)
        require_scale(f"{flag}={field}", value, *known[field].scale)
        if field in found:
            raise ValueError(f"{flag} names {field} twice; got {','.join(texts)}")
        found[field] = value
    return found


def check_axes(config):
    """Raises `ValueError` for values that parameters of one pool cannot have; fields of ``config`` are the flags."""
    for flag, text, _, parameter in _of_one_pool(config):
        check_axis(flag, text, parameter)


def axes_of(config) -> dict[str, np.ndarray]:
    """Values, SI, of the parameters of one pool that the fields of ``config`` give, by field of tissue."""
    return {field: axis(flag, text, parameter) for flag, text, field, parameter in _of_one_pool(config)}


def _of_one_pool(config):
    for field, parameter in OF_ONE_POOL.items():
        if (text := getattr(config, flag := flag_name(field, parameter))) is not None:
            yield flag, text, field, parameter


def pool_words(tissue: TissueModel, sequence: PulseSequence) -> str:
    """The second pool of a grid in words, and the pulses that saturate it, as reports and commands tell them.

    There are none of one pool.
    """
    kind, told = kind_of_tissue(tissue), []
    for field, parameter in parameters(tissue).items():
        if field in OF_ONE_POOL or (value := getattr(tissue, field)) is None:
            continue
        shown = parameter.per_shown * np.unique(np.asarray(value, float))
        values = f"{shown[0]:.3g}" if shown.size == 1 else f"{shown[0]:.3g} to {shown[-1]:.3g} ({shown.size} values)"
        told.append(f"{parameter.name} {values} {parameter.shown}".rstrip())
    return f"{_IN_WORDS[kind]} second pool of {', '.join(told)}{pulse_words(kind, sequence)}" if told else ""


def pulse_words(kind: str, sequence: PulseSequence) -> str:
    """The pulses that saturate tissue of a kind, behind words on it; empty where none do."""
    if kind not in SATURATED:
        return ""
    trains = [block for block in sequence.as_blocks().blocks if isinstance(block, Train)]
    values = {name: [getattr(train, name) for train in trains] for name in ("pulse_duration", "pulse_shape")}
    values["pulse_shape"] = [1.0 if each is None else each for each in values["pulse_shape"]]
    durations, shapes = (np.unique(np.concatenate([np.ravel(each) for each in own])) for own in values.values())
    durations, shapes = (
        " to ".join(f"{each:.3g}" for each in (*own[:1], *own[1:][-1:])) for own in (1e3 * durations, shapes)
    )
    return f", saturated by pulses of {durations} ms and shape {shapes}"


def check_preparations(preparations_ms, pools: TissueConfig):
    """Raises `ValueError` for preparations whose hard pulses saturate nobody knows how long."""
    for text in preparations_ms or ():
        if pools.saturated and text.startswith(_OF_UNKNOWN_POWER):
            raise ValueError(
                f"preparations_ms does not go with --tissue={pools.tissue}, which pulses saturate by their power: how "
                f"long the hard pulses of {text} last is not known; inversion, saturation, t2 and hyperbolic_secant are"
            )


def check_fit(estimate, pools: TissueConfig):
    """Raises `ValueError` for a ``fit`` of `FitConfig` that names what the tissue has not, or ``fix`` gives a value."""
    for name in estimate.fit or ():
        if name not in (known := parameters(pools.kind)):
            raise ValueError(f"fit={name} is none of {', '.join(known)}, which --tissue={pools.tissue} has")
        if name in pools.fixed:
            raise ValueError(f"fit={name} is fixed by --fix={','.join(pools.fix)}: leave it out of one of them")


FURTHER_FIELDS = tuple(field.name for field in dataclasses.fields(TissueConfig))
