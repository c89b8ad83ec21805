"""A trained generator, and dictionaries from it."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.gan.data import Data, Scaling
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.train import emit, hidden_layers
from ganmrf.parallel import one_blas_thread, run_chunks, workers
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import pytree

_CHUNKS = (2048, 4096)  # least and most atoms a call
_RIDGE = 3e-7  # of the least squares, relative to the largest singular value: fewer atoms than hidden units need it


@pytree
@dataclasses.dataclass(frozen=True)
class TrainedGenerator:
    """What generation needs, and what it was trained on.

    Attributes:
      params: of the network.
      scaling: that of the training set.
      norm_weights: hidden layers and 1 -> logarithm of the fingerprint's norm for M0 = 1, (depth * width + 1,).
      low: least T1 and T2 of the dictionary it was trained on, s, (2,).
      high: largest T1 and T2, s, (2,).
      b1: of that dictionary.
      sequence: the sequence that the fingerprints are of.
      slice_profile: the slice profile that they are of, or None.
      recipe: how it was trained.
    """

    params: Any
    scaling: Scaling
    norm_weights: jax.Array
    low: np.ndarray
    high: np.ndarray
    b1: np.ndarray
    sequence: Sequence
    slice_profile: SliceProfile | None
    recipe: Recipe = dataclasses.field(metadata={"static": True})

    def outside(self, tissue: Tissue) -> np.ndarray:
        """Which atoms lie outside the trained range of T1 or T2, (atoms,), bool."""
        times = np.stack([np.ravel(tissue.t1), np.ravel(tissue.t2)], axis=1)
        margin = 1e-6  # float32 rounding
        return ((times < self.low * (1 - margin)) | (times > self.high * (1 + margin))).any(axis=1)

    def require_inside(self, tissue: Tissue):
        """Raises `ValueError` where an atom lies outside the trained range."""
        if (outside := self.outside(tissue)).any():
            limits = zip(1e3 * self.low, 1e3 * self.high, strict=True)
            t1, t2 = (f"{low:g} to {high:g} ms" for low, high in limits)
            raise ValueError(
                f"{outside.sum()} of {outside.size} atoms lie outside the trained range, T1 {t1} and T2 {t2}; "
                "allow_extrapolation generates them all the same"
            )


def finish(recipe: Recipe, params, data: Data, dictionary: Dictionary) -> TrainedGenerator:
    """The generator that training has made: its output layer solved for, if the recipe says so, and its norms fitted.

    The output layer is linear in the hidden layers that it sees, and the logarithm of the norm, which unit fingerprints
    lack, is made linear in all of them: both are least squares over the training set, in float64.

    Args:
      recipe: how it was trained.
      params: ``TrainState.params`` at the end.
      data: what it was trained on.
      dictionary: what ``data`` was made from.
    """
    rows, train, scaling = data.rows["train"], data.sets["train"], data.scaling
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), (params, train.noise, train.condition))
        hidden = np.asarray(hidden_layers(recipe, wide[0], scaling, *wide[1:]))
    hidden = np.concatenate([hidden, np.ones((len(hidden), 1))], axis=1)
    if recipe.refit:
        fingerprints = np.asarray(dictionary.fingerprints)[rows].astype(float)
        seen = hidden if recipe.skip else hidden[:, -recipe.width - 1 :]
        weights = jnp.asarray(least_squares(seen, fingerprints @ scaling.basis / scaling.gain[None]), jnp.float32)
        layer = {"kernel": weights[:-1], "bias": weights[-1]}
        params = {"params": params["params"] | {"output": layer}}
    norms = np.log(np.asarray(dictionary.norms, float)[rows])
    times = np.stack([np.asarray(dictionary.tissue.t1), np.asarray(dictionary.tissue.t2)], axis=1)
    return TrainedGenerator(
        params=params,
        scaling=scaling,
        norm_weights=jnp.asarray(least_squares(hidden, norms), jnp.float32),
        low=times.min(axis=0),
        high=times.max(axis=0),
        b1=np.asarray(dictionary.tissue.b1),
        sequence=dictionary.sequence,
        slice_profile=dictionary.slice_profile,
        recipe=recipe,
    )


def least_squares(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Weights (features, ...) with features @ weights nearest to targets (atoms, ...), with a small ridge; float64."""
    left, values, right = np.linalg.svd(features, full_matrices=False)
    damped = values / (values**2 + (_RIDGE * values[0]) ** 2)
    return right.T @ (damped.reshape(-1, *[1] * (targets.ndim - 1)) * (left.T @ targets))


def fingerprints(generator: TrainedGenerator, t1: jax.Array, t2: jax.Array, noise: jax.Array, *, compressed=False):
    """Generated fingerprints and their norms: a pure function, for differentiating or calling inside your own.

    Args:
      generator: the generator.
      t1: s, (atoms,).
      t2: s, (atoms,).
      noise: z, (atoms, ``recipe.noise``).
      compressed: whether to return coefficients in ``generator.scaling.basis``.

    Returns:
      Fingerprints of unit norm (atoms, frames), or (atoms, rank), and the norms (atoms,) for M0 = 1.
    """
    recipe, scaling = generator.recipe, generator.scaling
    condition = scaling.condition(t1, t2)
    outputs = emit(recipe, generator.params, scaling, noise, condition)
    hidden = hidden_layers(recipe, generator.params, scaling, noise, condition)
    norms = jnp.exp(hidden @ generator.norm_weights[:-1] + generator.norm_weights[-1])
    outputs = outputs / jnp.linalg.norm(outputs, axis=1, keepdims=True)
    if scaling.basis is not None and not compressed:
        outputs = outputs @ jnp.asarray(scaling.basis.T, outputs.dtype)
    return outputs, norms


def generate(
    generator: TrainedGenerator,
    tissue: Tissue,
    *,
    compressed: bool = False,
    allow_extrapolation: bool = False,
    out: np.ndarray | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Dictionary:
    """Generates a dictionary, on every device present, chunk by chunk.

    Args:
      generator: the generator.
      tissue: the atoms, any shape; they are raveled.
      compressed: whether to emit coefficients in the generator's basis in place of all frames.
      allow_extrapolation: whether atoms may lie outside the trained range (`TrainedGenerator.outside`).
      out: where to put the fingerprints, (atoms, frames) float32, such as a `numpy.memmap`; a new array by default.
      seed: of z.
      progress: whether to show a progress bar.

    Returns:
      The dictionary, float32; norms are estimates too.

    Raises:
      ValueError: atoms outside the trained range, another B1 than the trained one, or a generator without a basis
        asked for coefficients.
    """
    recipe, scaling = generator.recipe, generator.scaling
    atoms = tissue.ravel()
    if compressed and scaling.basis is None:
        raise ValueError("a generator with head=tanh has no basis to be compressed in")
    if np.any(np.asarray(atoms.b1) != generator.b1):
        raise ValueError(f"the generator was trained at b1 = {generator.b1:g} alone")
    if not allow_extrapolation:
        generator.require_inside(atoms)
    basis = None if scaling.basis is None else np.ascontiguousarray(scaling.basis.T, np.float32)
    columns = generator.sequence.n_frames if basis is None or not compressed else len(basis)
    rows_out = np.empty((atoms.size, columns), np.float32) if out is None else out
    norms = np.empty(atoms.size, np.float32)
    noise = np.random.default_rng(seed).standard_normal((atoms.size, recipe.noise), np.float32)
    t1, t2 = np.asarray(atoms.t1, np.float32), np.asarray(atoms.t2, np.float32)

    size = 2 ** int(np.clip(np.ceil(np.log2(atoms.size / (4 * len(workers())))), *np.log2(_CHUNKS)))

    placed = {device: jax.device_put(generator, device) for device in set(workers())}

    def generate_rows(rows, device):
        inputs = [
            np.pad(x[rows], [(0, size - len(x[rows]))] + [(0, 0)] * (x.ndim - 1), mode="edge") for x in (t1, t2, noise)
        ]
        outputs, norms[rows] = (np.asarray(x)[: len(t1[rows])] for x in _generate(placed[device], *inputs))
        if columns == outputs.shape[1]:
            rows_out[rows] = outputs
        else:
            np.matmul(outputs, basis, out=rows_out[rows])

    chunks = [slice(start, start + size) for start in range(0, atoms.size, size)]
    sizes = [len(t1[rows]) for rows in chunks]
    with one_blas_thread():
        run_chunks(generate_rows, chunks, sizes=sizes, progress="generating" if progress else None)
    return Dictionary(
        atoms, rows_out, norms, generator.sequence, generator.slice_profile, scaling.basis if compressed else None
    )


_generate = jax.jit(functools.partial(fingerprints, compressed=True))
