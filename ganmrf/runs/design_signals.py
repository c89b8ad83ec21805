"""Where a search takes its signals from: the simulator, a generator's anchors, or anchors of its own."""

import contextlib
import dataclasses
import warnings

import jax
import numpy as np

from ganmrf.anchors.generator_file import load_anchored
from ganmrf.design.own_anchors import own_anchors
from ganmrf.design.parametrisations import Parametrisation
from ganmrf.design.signal_models import SignalModel, generator_model, simulator_model
from ganmrf.design.verification import exact_bounds, fewest_anchors
from ganmrf.dictionary.slice_fields import same_slice
from ganmrf.physics.n_states import n_states_of_boxes, sufficient_n_states
from ganmrf.physics.pools import slowest_t2
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.kinds import kind_of
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import TissueModel
from ganmrf.runs.design_config import DesignConfig
from ganmrf.runs.slices import slice_words

SPREAD = 1.5  # standard deviation of what is added to the parameters of sequences that are drawn around a start
STATED = 0.05  # share by which bounds by anchors may differ from the simulator's without a warning
_ACCURACY = 1e-3  # of signals while a design is under way; its result is evaluated with all states that matter
# In a full slice each position takes time: this is the error of the longest T2, of CSF, and others have a tenth of it.
# Anchors are few, and weights spread the error of those of longest T2 over all tissue: they keep the other one.
_SLICE_ACCURACY = 1e-2
_CLOSE = 0.01  # share by which bounds may differ where fewer anchors are to be enough
_USELESS = 0.5  # and where a search would go astray
_OWN = (8, 12, 16, 24, 32, 48, 64, 96, 128)  # numbers of anchors of its own that a search may take
_SEQUENCES = 12  # random sequences that the weights of own anchors are solved for on
_SCALES = (0.2, 1.3)  # of their flip angles: sides of a slice have less than its middle, and a B1 may be more than 1
_STREAM = 1  # of random numbers, beside those of the starts


def signal_model(
    start: Fisp, parametrisation: Parametrisation, config: DesignConfig, tissue: TissueModel
) -> SignalModel:
    """The signal model of a search from ``start`` for ``tissue``, as the configuration names it.

    Of anchors there are as few as give the simulator's bounds to 1 % for the start and a sequence drawn around it.

    Raises:
      ValueError: a generator that is not for the tissue, the slice, the sequences or what is unknown, or whose bounds
        are off by more than a half.

    Warns:
      UserWarning: bounds by all anchors that differ by more than 5 %.
    """
    slice_profile, names = config.simulation.slice_profile(), config.unknown
    form = {"slice_profile": slice_profile, "parameters": names}
    if config.generator is None and not config.own_anchors:
        n_states = _enough_states(start, tissue, slice_profile, _SLICE_ACCURACY)
        return simulator_model(n_states=n_states, **form)
    drawn = _drawn(parametrisation, config, 2 + _SEQUENCES)
    if config.own_anchors:
        scales = np.linspace(*_SCALES, _SEQUENCES)
        scaled = [_with_flips(each, scale) for each, scale in zip(drawn[2:], scales, strict=True)]
        own = own_anchors(scaled, [start, drawn[0]], tissue, n_anchors=_OWN[-1], seed=config.seed, **form)
        n_states = _enough_states(start, own.anchors, slice_profile, _ACCURACY)
        models = [own.model(size, n_states=n_states) for size in _OWN if size <= own.anchors.size]
    else:
        generator = read_generator(config, start, slice_profile)
        n_states = _enough_states(start, generator.anchors, slice_profile, _ACCURACY)
        shared = {"parameters": names, "n_states": n_states}
        with _naming(config.generator):
            models = [generator_model(generator, tissue, n_anchors=size, **shared) for size in generator.sizes]
    if config.objective == "separation":  # no bounds to go by
        return models[-1]
    tried = [(each, exact_bounds(each, tissue, names, slice_profile)) for each in (start, drawn[1])]
    model, found = fewest_anchors(models, tried, _CLOSE)
    _judge(config, model, max(found, key=lambda each: each.apart))
    return model


def read_generator(config: DesignConfig, start: Fisp, slice_profile):
    """The generator of a configuration; raises `ValueError` where it is for another slice or kind of sequence."""
    generator, path = load_anchored(config.generator), config.generator
    if not same_slice(generator.slice_profile, slice_profile):
        own, asked = map(slice_words, (generator.slice_profile, slice_profile))
        raise ValueError(f"generator: {path} is for {own}, the design for {asked}: name its --slice_model")
    if (kind := kind_of(start)) != generator.family:
        raise ValueError(f"generator: {path} has learned from sequences of kind {generator.family}; a design is {kind}")
    return generator


@contextlib.contextmanager
def _naming(path):
    """Puts the flag and the file in front of what a generator refuses."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"generator: {path}: {error}") from error


def _judge(config, model, found):
    """Refuses, or warns of, bounds by anchors that are not those of the simulator before a search begins."""
    name = "own_anchors" if config.own_anchors else "generator"
    words = f"bounds by its {model.anchors.size} anchors are off: {found.words(model.tissue)}"
    if found.apart > _USELESS:
        raise ValueError(f"{name}: {words}; a search would go astray: leave --{name} out")
    if found.apart > STATED:
        warnings.warn(f"{name}: {words}", stacklevel=2)


def _enough_states(start, tissue, slice_profile, in_slice):
    """States for the start while a search is under way, of the longest T2; ``in_slice`` is the error in a slice."""
    tissue = jax.tree.map(np.asarray, tissue.ravel())
    n_states = int(np.max(sufficient_n_states(start, slowest_t2(tissue), _ACCURACY, slice_profile)))
    if isinstance(slice_profile, FullSlice):
        needed = n_states_of_boxes(start, [tissue], accuracy=in_slice, slice_profile=slice_profile)[0]
        n_states = min(n_states, needed)
    return n_states


def _drawn(parametrisation, config, number):
    """Random sequences around the start, within its limits, every other one twice as far from it as further starts."""
    rng, first = np.random.default_rng((config.seed, _STREAM)), parametrisation.initial()
    to_sequence = jax.jit(parametrisation.to_sequence)

    def around(spread):
        return jax.tree.map(lambda leaf: leaf + spread * rng.standard_normal(np.shape(leaf)), first)

    return [jax.tree.map(np.asarray, to_sequence(around(SPREAD * (1 + n % 2)))) for n in range(number)]


def _with_flips(sequence, scale):
    return dataclasses.replace(sequence, flip_angle=scale * sequence.flip_angle)
