"""Maps of every axis of a generator from an image series, and what is to be known of them."""

import dataclasses
import warnings

import numpy as np

from experiments.flags.generators import anchored_for
from ganmrf.anchors.collapsed import GeneratedSignals
from ganmrf.anchors.continuous import continuous_maps
from ganmrf.anchors.continuous_checks import at_ends, fit_quality, generator_bias
from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.anchors.prepared import PreparedSequence
from ganmrf.dictionary.induced_bias import BiasToNoise
from ganmrf.dictionary.match import Maps
from ganmrf.dictionary.refine import Refined
from ganmrf.dictionary.residuals import residual_fit
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.tissue import FACTS
from ganmrf.runs.tissues import SATURATED, TissueConfig
from ganmrf.scan_reading import Scan, read_scan
from ganmrf.scan_to_maps import Results, with_signal
from ganmrf.stages import Stages

OF_MAPS = {"b1_map": "b1", "b0_map": "off_resonance"}  # flag -> field of tissue that it gives
_DIRECTIONS = 6  # of signals that tell tissue from air: some tissue of a wide box has little of the first


@dataclasses.dataclass(frozen=True)
class Continuous:
    """Maps without a grid, and what is to be known of them.

    Attributes:
      prepared: the generator for the sequence that was played.
      results: the maps; its dictionary are the ends of the generator's ranges, or the one value that is known.
      ends: voxels in which a fitted parameter is at an end of its range, name -> bool, of the shape of the maps.
      bias: that errors of the generator induce, over the error bars, of some voxels.
    """

    prepared: PreparedSequence
    results: Results
    ends: dict[str, np.ndarray]
    bias: BiasToNoise

    @property
    def shares_at_ends(self) -> dict[str, float]:
        """The share of voxels in which each fitted parameter is at an end of its range."""
        count = np.count_nonzero(self.results.maps.index >= 0)
        return {name: np.count_nonzero(where) / count for name, where in self.ends.items()}

    @property
    def biases(self) -> dict[str, dict[str, float]]:
        """Field, and ``m0`` -> median and largest of its bias over its error bar; nothing where no voxel has one."""
        return {
            name: {"median": float(np.median(each)), "largest": float(each.max())}
            for name, each in self.bias.determined.items()
            if each.size
        }


def map_series(config, folder) -> Continuous:
    """Prepares the generator for the sequence, and fits the series by it, stage by stage.

    ``config`` is a `map_continuous.Config`, and the folder that of the stages.

    Raises:
      ValueError: a file that cannot be read or does not fit the others, a table, magnitudes, something known that is no
        axis of the generator, errors of the generator that are not allowed, or no voxel with any signal.
    """
    generator, stages = _generator(config), Stages(folder, [config.input, *config.files])
    scan, sequence = read_scan(config.input, config.reconstruction), _sequence(config, generator)
    _check_series(config, scan, sequence)
    profile = config.simulation.slice_or(generator.slice_profile)
    prepared = config.preparation.prepare(generator, sequence, slice_profile=profile)
    ends = generator.box.spread(np.array([[0.0], [1.0]]) * np.ones(len(generator.box.names)))
    dictionary = prepared.generate(ends, compressed=True)
    one_value = {name: np.full(2, value) for name, value in config.numbers.items() if name not in ("t1", "t2")}
    dictionary = dataclasses.replace(dictionary, tissue=dataclasses.replace(dictionary.tissue, **one_value))
    known, mask = _known(config, scan, prepared, _voxels(config, scan, dictionary))
    how = {"known": known, "noise": config.noise, "n_starts": config.starts}
    how |= {"force": config.reconstruction.estimate.force_fit, "progress": True}
    refined = Refined(**stages("fitting", lambda: _fitted(prepared, scan.images, mask=mask, **how).arrays()))
    quality = fit_quality(prepared, scan.images, refined, mask=mask)
    maps = Maps(**refined.parameters, m0=refined.m0, index=np.where(mask, 0, -1), quality=quality)
    bias = BiasToNoise(
        **stages("errors of the generator", lambda: generator_bias(prepared, refined, progress=True).arrays())
    )
    results = Results(
        dictionary=dictionary,
        coefficients=None,
        reconstruction={},
        trajectory=None,
        maps=maps,
        refined=refined,
        fit=residual_fit(dictionary, scan.images, maps, refined, source=GeneratedSignals.of(prepared)),
        affine=scan.affine,
        voxel_size=scan.voxel_size,
        magnitude=False,
        notes=(*scan.notes, *_assumed(config)),
        seconds=stages.seconds,
    )
    return Continuous(prepared, results, at_ends(prepared, refined, mask=mask), bias)


def _fitted(*arguments, **how) -> Refined:
    """`continuous_maps`; what `refine` says of its argument ``fit`` is said of what is known."""
    try:
        return continuous_maps(*arguments, **how)
    except ValueError as error:
        said = str(error).replace("--fit=", "").replace("name fewer", "give some of them by --known")
        raise ValueError(said) from error


def _generator(config) -> AnchoredGenerator:
    """The generator, which has to be a function of tissue, and to have the axes that are known."""
    generator = anchored_for(config.generator)
    names = generator.box.names
    given = {f"known={name}": name for name in config.numbers}
    given |= {flag: field for flag, field in OF_MAPS.items() if getattr(config.reconstruction, flag)}
    for flag, field in given.items():
        if field not in names:
            raise ValueError(f"{flag}: {field} is no axis of {config.generator}, whose axes are {', '.join(names)}")
    if {*given.values()} == {*names}:
        raise ValueError(f"known names all axes of {config.generator}, {', '.join(names)}: there is nothing to fit")
    return generator


def _sequence(config, generator) -> PulseSequence:
    """What was played, with the power of its pulses where the generator's tissue has a pool that they saturate."""
    kind, powers = generator.box.kind, config.powers
    for name, value in vars(powers).items():
        if value is not None and kind not in SATURATED:
            raise ValueError(f"{name} would change nothing: {config.generator} has no semisolid pool; got {value:g}")
    simulation = dataclasses.replace(config.simulation, pools=TissueConfig(tissue=kind), powers=powers)
    return simulation.sequence(generator.slice_profile)


def _check_series(config, scan: Scan, sequence: PulseSequence):
    if scan.magnitude and scan.images.any():
        raise ValueError(
            f"{config.input} is a series of magnitudes, by which fits go to wrong maps: give complex or signed images "
            "(--magnitude=no: these are signed)"
        )
    if scan.n_frames != sequence.n_frames:
        source = config.simulation.schedule or "the sequence"
        remedy = "(--schedule names what was played, --frames its first frames)"
        raise ValueError(f"{config.input} has {scan.n_frames} frames, but {source} has {sequence.n_frames} {remedy}")


def _voxels(config, scan: Scan, dictionary) -> np.ndarray:
    """The voxels with a signal, of the mask or by the threshold, bool, of the spatial shape."""
    mask, threshold = scan.mask, config.reconstruction.signal_threshold
    if mask is None and threshold:
        mask = with_signal(dictionary, scan.images, threshold, _DIRECTIONS)
    mask = scan.images.any(axis=0) & (True if mask is None else mask)
    if not mask.any():
        inside = "" if scan.mask is None else f" inside the mask {config.reconstruction.mask}"
        raise ValueError(f"{config.input}: no voxel with any signal{inside}")
    return mask


def _known(config, scan: Scan, prepared: PreparedSequence, mask) -> tuple[dict, np.ndarray]:
    """Name -> what is known of voxels; and the mask without those of which a map says what lies in no box."""
    known, ranges, kept = dict(config.numbers), GeneratedSignals.of(prepared).ranges, mask
    for flag, field in OF_MAPS.items():
        if (values := getattr(scan, flag)) is None:
            continue
        low, high = ranges[field]
        with np.errstate(invalid="ignore"):  # of values that are not finite
            inside = (values >= low) & (values <= high)
        known[field], kept = np.where(inside, values, low), kept & inside
        if lost := np.count_nonzero(mask & ~inside):
            unit = FACTS[field].unit
            box = f"{FACTS[field].name} of the generator, {low:.4g} to {high:.4g} {unit}".rstrip()
            words = f"{lost} of {np.count_nonzero(mask)} voxels are outside the {box}"
            if not kept.any():
                raise ValueError(f"{flag}: {words}: none is left; is --{flag.removesuffix('map')}scale right?")
            warnings.warn(f"{flag}: {words}: left out", stacklevel=2)
    return known, kept


def _assumed(config):
    """Sentences on what no file and no flag says."""
    if config.simulation.schedule is None and config.simulation.kind.sequence == "fisp":
        yield "no flag says the sequence: the paper's was taken (--schedule names another)"
