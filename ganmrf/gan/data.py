"""From a dictionary to the networks' inputs and targets: the split, the scaling, and stateless batches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.compress import svd_basis
from ganmrf.gan.real_columns import real_basis, real_columns
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.split import SPLIT, blocked_rows, split_rows
from ganmrf.parallel import one_blas_thread
from ganmrf.physics.lowering import trains_of
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.tissue import FACTS, TissueModel
from ganmrf.physics.tissue_box import log_time
from ganmrf.pytrees import pytree

_ALWAYS = "t1", "t2"  # axes, also where all atoms have the same
_HARMONICS = 2  # sines and cosines of the ``fourier`` encoding: half a period and a whole one over the trained range
# Most harmonics of off-resonance alone: a balanced sequence turns with it for as long as T2 lasts, in 200 ms and over
# 40 Hz by 8 periods, and two harmonics make one. More than a dictionary has values could not be told apart at them.
_HARMONICS_OFF_RESONANCE = 16


@pytree
@dataclasses.dataclass(frozen=True)
class Scaling:
    """How tissue and fingerprints are scaled for the networks, and back.

    The generator's outputs times ``output_scale`` are the fingerprints that discriminator and losses see; those times
    ``scale``, and times the transposed ``basis`` if there is one, are unit fingerprints. Columns are frames, or of
    complex fingerprints the real and imaginary part of each frame (`real_columns`).

    Attributes:
      low: least value of each axis, SI, in the set of atoms that the scaling was made from, (axes,): of T1, of T2, and
        of what else atoms differ in.
      high: largest ones, (axes,).
      offset: of `log_time` for T1 and T2, s: half the mean repetition time of the sequence. Others have that of their
        `Parameter`.
      constant: the sequence as an input: flip angles and repetition times, each over its largest value,
        (2 frames,); empty where the networks do not see the sequence.
      output_scale: with a basis the root mean square of each coefficient, (rank,), so that all of the generator's
        outputs have the same size; else 1, ().
      scale: fingerprints are divided by it before the networks see them: 1 for SVD coefficients, otherwise the largest
        absolute value of a fingerprint; or None where each is divided by its own largest absolute value.
      basis: None, or orthonormal columns (frames, rank), float64; for complex fingerprints (2 frames, 2 rank), the
        `real_basis` of complex ones.
      encoding: of what is logarithmic, such as T1 and T2, see `Recipe`; all else is linear.
      input_range: of encoded tissue, see `Recipe`.
      complex_frames: whether fingerprints are complex.
      harmonics: sines and cosines of off-resonance, where it is an axis.
      names: fields of tissue that are the axes, T1 and T2 first. Files of earlier versions, which do not say them, have
        as many of these as ``low`` has values.
    """

    low: np.ndarray
    high: np.ndarray
    offset: np.ndarray
    constant: np.ndarray
    output_scale: np.ndarray
    scale: np.ndarray | None
    basis: np.ndarray | None
    encoding: str = dataclasses.field(metadata={"static": True})
    input_range: str = dataclasses.field(default="symmetric", metadata={"static": True})
    complex_frames: bool = dataclasses.field(default=False, metadata={"static": True})
    harmonics: int = dataclasses.field(default=_HARMONICS, metadata={"static": True})
    names: tuple[str, ...] = dataclasses.field(default=(*_ALWAYS, "off_resonance"), metadata={"static": True})

    def condition(self, *axes: jax.Array) -> jax.Array:
        """Inputs of the networks, (atoms, features), for a range ``low`` to ``high``.

        ``axes`` are values of T1, of T2, and of the other axes in their order, SI, (atoms,) each.
        """
        low, high = jnp.asarray(self.low)[None], jnp.asarray(self.high)[None]
        names = self.names[: low.shape[1]]
        times, ends = jnp.stack(axes[:2], axis=1), (low[:, :2], high[:, :2])
        if self.encoding != "linear":
            times, *ends = (log_time(each, self.offset) for each in (times, *ends))
        columns = [_symmetric(times, *ends)]
        for place, name in enumerate(names[2:], 2):
            one = slice(place, place + 1)
            values = axes[place][:, None], low[:, one], high[:, one]
            if FACTS[name].logarithmic and self.encoding != "linear":
                values = (log_time(each, FACTS[name].offset) for each in values)
            columns.append(_symmetric(*values))
        x = jnp.concatenate(columns, axis=1)
        features = with_harmonics(x) if self.encoding == "fourier" else x
        if self.encoding == "fourier" and "off_resonance" in names:
            turns = x[:, names.index("off_resonance")][:, None]
            angles = jnp.pi / 2 * turns * jnp.arange(_HARMONICS + 1, self.harmonics + 1)[None]
            features = jnp.concatenate([features, jnp.sin(angles), jnp.cos(angles)], axis=1)
        return features if self.input_range == "symmetric" else (features + 1) / 2

    def encode(self, fingerprints: np.ndarray) -> np.ndarray:
        """Unit fingerprints (atoms, columns) in the units that the networks see, (atoms, outputs), float32."""
        outputs = fingerprints if self.basis is None else fingerprints.astype(float) @ self.basis
        scale = np.abs(outputs).max(axis=1, keepdims=True) if self.scale is None else self.scale
        return (outputs / scale).astype(np.float32)


@pytree
@dataclasses.dataclass(frozen=True)
class Examples:
    """One of the three sets, on the device.

    Attributes:
      condition: encoded tissue, an input of both networks, (atoms, features), float32.
      target: simulated fingerprints in the units that the networks see (`Scaling.encode`), (atoms, outputs), float32.
      fingerprints: simulated unit fingerprints, (atoms, columns), float32.
      noise: z with which errors of this set are evaluated, drawn once, (atoms, noise), float32.
    """

    condition: jax.Array
    target: jax.Array
    fingerprints: jax.Array
    noise: jax.Array


@dataclasses.dataclass(frozen=True)
class Data:
    """A dictionary, divided and scaled.

    Attributes:
      sets: ``train``, ``validation`` and ``test``; a set whose share is 0 is missing.
      rows: rows of the dictionary in each set.
      scaling: that of the training set, with which dictionaries are generated.
    """

    sets: dict[str, Examples]
    rows: dict[str, np.ndarray]
    scaling: Scaling


def with_harmonics(x: jax.Array) -> jax.Array:
    """Coordinates from -1 to 1, (atoms, axes), followed by their Fourier features, (atoms, features).

    The features are sines and cosines of each coordinate, and of sums and differences of each two coordinates.
    """
    one, other = np.triu_indices(x.shape[1], 1)
    lines = jnp.concatenate([x, x[:, one] + x[:, other], x[:, one] - x[:, other]], axis=1)
    angles = jnp.concatenate([jnp.pi / 2 * k * lines for k in range(1, _HARMONICS + 1)], axis=1)
    return jnp.concatenate([x, jnp.sin(angles), jnp.cos(angles)], axis=1)


@one_blas_thread()
def split_and_scale(
    dictionary: Dictionary, recipe: Recipe, *, split=SPLIT, split_kind: str = "random", seed: int = 0
) -> Data:
    """Splits a dictionary, and scales it.

    Args:
      dictionary: full length, of any sequence and tissue; what the networks see of tissue are the `axes_of` it.
      recipe: its ``head``, ``rank``, ``encoding``, ``input_range``, ``fingerprint_scaling``, ``sequence_input``,
        ``separate_scaling`` and ``noise`` are used.
      split: shares of training, validation and test set; they add up to 1.
      split_kind: ``random`` atoms (`split.split_rows`), or ``blocked``, bands of T1 and T2 (`split.blocked_rows`).
      seed: of the split and of the noise of evaluations.

    Raises:
      ValueError: a compressed dictionary, complex fingerprints for ``reconstruction=likelihood``, shares that do not
        add up to 1, or too few atoms for them or for the rank.
    """
    if dictionary.basis is not None:
        raise ValueError("training takes a dictionary of full length; this one is compressed")
    if recipe.reconstruction == "likelihood" and np.iscomplexobj(dictionary.fingerprints):
        raise ValueError("reconstruction=likelihood takes real fingerprints; those of this dictionary are complex")
    rng = np.random.default_rng(seed)
    if split_kind == "blocked":
        parts = blocked_rows(dictionary.tissue, split, rng)
    else:
        parts = split_rows(dictionary.norms.size, split, rng)
    rows = dict(zip(("train", "validation", "test"), parts, strict=True))
    rows = {name: part for name, part in rows.items() if part.size}
    scalings = {name: _scaling(dictionary, part, recipe) for name, part in rows.items()}
    # Of all atoms and then of a set's rows: programs of one shape for all sets.
    conditions = {
        name: np.asarray(scaling.condition(*axes_of(dictionary.tissue).values()))
        for name, scaling in scalings.items()
        if recipe.separate_scaling or name == "train"
    }
    sets = {}
    for name, part in rows.items():
        own = name if recipe.separate_scaling else "train"
        fingerprints = real_columns(np.asarray(dictionary.fingerprints)[part])
        noise = rng.standard_normal((part.size, recipe.noise), np.float32)
        arrays = conditions[own][part], scalings[own].encode(fingerprints), fingerprints, noise
        sets[name] = Examples(*map(jax.device_put, arrays))
    return Data(sets, rows, scalings["train"])


def batch(key: jax.Array, step: jax.Array, examples: Examples, size: int, noise: int):
    """The batch of one step: a function of the key and the step alone, so that a resumed run repeats it.

    Args:
      key: of the run.
      step: number of the step.
      examples: the training set.
      size: rows of a batch, drawn with replacement.
      noise: dimension of z.

    Returns:
      condition (size, features), target (size, outputs), and two draws of z (2, size, noise): the first for the
      discriminator's update, the second for the generator's.
    """
    which, what = jax.random.split(jax.random.fold_in(key, step))
    rows = jax.random.randint(which, (size,), 0, len(examples.target))
    return examples.condition[rows], examples.target[rows], jax.random.normal(what, (2, size, noise))


def shares(key: jax.Array, step: jax.Array, size: int) -> jax.Array:
    """How simulated and generated fingerprints of the `batch` of a step are mixed for `losses.slope_penalty`, (size,).

    Uniform from 0 to 1; a function of the key and the step alone, and independent of the batch.
    """
    return jax.random.uniform(jax.random.split(jax.random.fold_in(key, step), 3)[2], (size,))


def axes_of(tissue: TissueModel) -> dict[str, np.ndarray]:
    """Field -> values, (atoms,), of T1 and T2, and of all else that atoms of tissue in one dimension differ in."""
    fields = {name: np.asarray(values) for name, values in vars(tissue).items() if values is not None}
    return {name: each for name, each in fields.items() if name in _ALWAYS or (each.ndim and np.ptp(each))}


def sequence_input(sequence: PulseSequence) -> np.ndarray:
    """Flip angles and repetition times, each over its largest absolute value if that is not 0: (2 frames,), float32.

    Frames that are not recorded are among them.
    """
    patterns = np.stack([_of_frames(sequence, name) for name in ("flip_angle", "repetition_time")])
    largest = np.abs(patterns).max(axis=1, keepdims=True)
    largest[largest == 0] = 1  # flip angles that are all 0 stay 0
    return (patterns / largest).astype(np.float32).ravel()


def _scaling(dictionary, rows, recipe):
    axes = {name: values[rows] for name, values in axes_of(dictionary.tissue).items()}
    low, high = (np.stack([end(values) for values in axes.values()]) for end in (np.min, np.max))
    for name, least, largest in zip(axes, low, high, strict=True):
        if least == largest:
            shown = f"{least:.4g} {FACTS[name].unit}".rstrip()
            raise ValueError(f"a set of the dictionary holds one {FACTS[name].name} only, {shown}: too small to split")
    signals = np.asarray(dictionary.fingerprints)[rows]
    fingerprints = real_columns(signals)
    constant = np.zeros(0, np.float32) if recipe.sequence_input == "none" else sequence_input(dictionary.sequence)
    if recipe.head == "tanh":
        scale = np.abs(fingerprints).max() if recipe.fingerprint_scaling == "set" else None
        output_scale, basis = np.ones(()), None
    else:
        basis = svd_basis(signals, min(recipe.rank, *signals.shape))
        basis = real_basis(basis) if np.iscomplexobj(basis) else basis
        output_scale, scale = np.sqrt(np.mean((fingerprints.astype(float) @ basis) ** 2, axis=0)), np.ones(())
    offset = np.mean(_of_frames(dictionary.sequence, "repetition_time")) / 2
    offset, output_scale = (np.asarray(x, np.float32) for x in (offset, output_scale))
    scale = None if scale is None else np.asarray(scale, np.float32)
    n_values = np.unique(axes["off_resonance"]).size if "off_resonance" in axes else 0
    harmonics = max(min(n_values - 1, _HARMONICS_OFF_RESONANCE), _HARMONICS)
    kinds = recipe.encoding, recipe.input_range, np.iscomplexobj(signals), harmonics
    return Scaling(low, high, offset, constant, output_scale, scale, basis, *kinds, tuple(axes))


def _of_frames(sequence, name):
    return jnp.concatenate([getattr(train, name) for train in trains_of(sequence)])


def _symmetric(values, low, high):
    return 2 * (values - low) / (high - low) - 1
