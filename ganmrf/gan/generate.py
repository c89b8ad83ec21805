"""A trained generator, and dictionaries from it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.rows import RowsOnDemand
from ganmrf.gan.data import Data, Scaling
from ganmrf.gan.emission import emit, hidden_layers
from ganmrf.gan.least_squares import least_squares
from ganmrf.gan.real_columns import complex_basis, complex_frames, real_columns
from ganmrf.gan.recipes import Recipe
from ganmrf.parallel import one_blas_thread, run_chunks, workers
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.simulate_many import require_signal_memory
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import FACTS, TISSUES, TissueModel
from ganmrf.physics.tissue_box import WIDER_BOX, TissueBox, box_of
from ganmrf.pytrees import pytree

_BLOCK = 16384  # atoms of a stream that are made at once: 66 MB of 1000 frames
_CHUNKS = (2048, 4096)  # least and most atoms of one compiled call; a power of two, so that few programs are compiled
# Of the least squares. Generation computes the hidden layers in float32. Large weights would amplify their rounding,
# 6e-8; a ridge of a few times the rounding keeps weights small, also where there are fewer atoms than hidden units.
_RIDGE = 3e-7
_ROUNDING = 1e-6  # relative, of values to float32


@pytree
@dataclasses.dataclass(frozen=True)
class TrainedGenerator:
    """A generator of the fingerprints of one sequence, and the range of tissue that it was trained on.

    Attributes:
      params: of the network.
      scaling: that of the training set.
      norm_weights: hidden layers and 1 -> logarithm of the fingerprint's norm for M0 = 1, (depth * width + 1,).
      box: kind of tissue, ranges of what atoms differ in, and the one value of all else, in the dictionary that it was
        trained on.
      sequence: the sequence whose fingerprints it emits.
      slice_profile: the slice profile of that dictionary, or None for a uniform slice.
      recipe: how it was trained.
      b1: in files of earlier versions, whose box has no values that are fixed, B1 of all atoms of that dictionary.
      off_resonance: likewise, Hz, where all atoms have the same.
    """

    params: Any
    scaling: Scaling
    norm_weights: jax.Array
    box: TissueBox
    sequence: PulseSequence
    slice_profile: SliceModel | None
    recipe: Recipe = dataclasses.field(metadata={"static": True})
    b1: dataclasses.InitVar[np.ndarray | None] = None
    off_resonance: dataclasses.InitVar[np.ndarray | None] = None

    def __post_init__(self, b1, off_resonance):
        stored = {"b1": b1, "off_resonance": off_resonance}
        stored = {name: value for name, value in stored.items() if value is not None}
        if stored:
            object.__setattr__(self, "box", dataclasses.replace(self.box, fixed=stored))

    def require_known(self, tissue: TissueModel):
        """Raises `ValueError` for tissue of another kind, or another value of what had one alone in training."""
        if type(tissue) is TISSUES[self.box.kind]:
            for name, trained in self.box.fixed:
                given = getattr(tissue, name)
                if given is None or not np.allclose(given, trained, rtol=_ROUNDING, atol=0):
                    shown = f"{trained:g} {FACTS[name].unit}".rstrip()
                    raise ValueError(f"the generator was trained at {name} = {shown} alone")
        self.box.require_known(tissue)

    def require_inside(self, tissue: TissueModel, advice: str = WIDER_BOX):
        """Raises `ValueError` where an atom lies outside the trained range, as `TissueBox.require_inside`."""
        self.require_known(tissue)
        self.box.require_inside(tissue, advice)


def trained_box(dictionary: Dictionary) -> TissueBox:
    """The ranges of tissue in a dictionary, which are those of a generator that is trained on it."""
    return box_of(dictionary.tissue)


@one_blas_thread()
def finish(recipe: Recipe, params, data: Data, dictionary: Dictionary) -> TrainedGenerator:
    """The generator from trained parameters: its output layer solved for, if the recipe says so, and its norms fitted.

    Fingerprints are linear in the hidden layers that the output layer sees. Their norms, which unit fingerprints lack,
    get a model of their own: the logarithm of the norm, linear in all hidden layers. Both are solved for by least
    squares over the training set, in float64.

    Args:
      recipe: how it was trained.
      params: ``TrainState.params`` after the last step.
      data: the sets that it was trained on.
      dictionary: the dictionary that ``data`` was made from.
    """
    rows, train, scaling = data.rows["train"], data.sets["train"], data.scaling
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), (params, train.noise, train.condition))
        hidden = np.asarray(hidden_layers(recipe, wide[0], scaling, *wide[1:]))
    hidden = np.concatenate([hidden, np.ones((len(hidden), 1))], axis=1)
    if recipe.refit:
        fingerprints = real_columns(np.asarray(dictionary.fingerprints)[rows]).astype(float)
        seen = hidden if recipe.skip else hidden[:, -recipe.width - 1 :]
        targets = fingerprints @ scaling.basis / scaling.output_scale[None]
        weights = jnp.asarray(least_squares(seen, targets, _RIDGE), jnp.float32)
        layer = {"kernel": weights[:-1], "bias": weights[-1]}
        params = {"params": params["params"] | {"output": layer}}
    norms = np.log(np.asarray(dictionary.norms, float)[rows])
    return TrainedGenerator(
        params=params,
        scaling=scaling,
        norm_weights=jnp.asarray(least_squares(hidden, norms, _RIDGE), jnp.float32),
        box=trained_box(dictionary),
        sequence=dictionary.sequence,
        slice_profile=dictionary.slice_profile,
        recipe=recipe,
    )


def fingerprints(
    generator: TrainedGenerator,
    t1: jax.Array,
    t2: jax.Array,
    noise: jax.Array,
    *further: jax.Array,
    compressed=False,
):
    """Generated fingerprints and their norms as a pure function, to be differentiated or called under `jax.jit`.

    Args:
      generator: the generator.
      t1: s, (atoms,).
      t2: s, (atoms,).
      noise: z, (atoms, ``recipe.noise``).
      *further: values of the other axes of ``generator.box``, in the order of its names, SI, (atoms,) each.
      compressed: whether to return coefficients in the generator's basis.

    Returns:
      Fingerprints of unit norm (atoms, frames), or (atoms, rank), and the norms (atoms,) for M0 = 1.
    """
    scaling = generator.scaling
    outputs, norms = _columns(generator, noise, t1, t2, *further)
    if scaling.basis is not None and not compressed:
        outputs = outputs @ jnp.asarray(scaling.basis.T, outputs.dtype)
    return complex_frames(outputs) if scaling.complex_frames else outputs, norms


@jax.jit
def _columns(generator, noise, *axes):
    """Unit fingerprints as columns, or coefficients, if there is a basis, and norms."""
    recipe, scaling = generator.recipe, generator.scaling
    condition = scaling.condition(*axes)
    outputs = emit(recipe, generator.params, scaling, noise, condition)
    hidden = hidden_layers(recipe, generator.params, scaling, noise, condition)
    norms = jnp.exp(hidden @ generator.norm_weights[:-1] + generator.norm_weights[-1])
    return outputs / jnp.linalg.norm(outputs, axis=1, keepdims=True), norms


def generate(
    generator: TrainedGenerator,
    tissue: TissueModel,
    *,
    compressed: bool = False,
    allow_extrapolation: bool = False,
    seed: int = 0,
    noise: np.ndarray | None = None,
) -> Dictionary:
    """Generates a dictionary, on every device present, chunk by chunk.

    Args:
      generator: the generator.
      tissue: the atoms, any shape; they are raveled.
      compressed: whether to emit coefficients in the generator's basis in place of all frames.
      allow_extrapolation: whether atoms may lie outside the trained range.
      seed: of z.
      noise: z itself, (atoms, ``recipe.noise``), in place of what ``seed`` draws.

    Returns:
      The dictionary, float32 or complex64; its norms are generated too.

    Raises:
      ValueError: tissue of another kind, atoms outside the trained range, another value than the trained one of what
        has one alone, a generator without a basis asked for coefficients, or more atoms than the memory holds.
    """
    scaling, atoms = generator.scaling, tissue.ravel()
    if compressed and scaling.basis is None:
        raise ValueError("a generator with head=tanh has no basis to be compressed in")
    generator.require_known(atoms)
    if not allow_extrapolation:
        generator.require_inside(atoms, "allow_extrapolation generates them all the same")
    basis = None if scaling.basis is None else np.ascontiguousarray(scaling.basis.T, np.float32)
    dtype = np.dtype(np.complex64 if scaling.complex_frames else np.float32)
    columns = len(basis) * 4 // dtype.itemsize if basis is not None and compressed else generator.sequence.n_frames
    require_signal_memory(atoms.size, columns + generator.recipe.noise, dtype)
    rows_out, norms = np.empty((atoms.size, columns), dtype), np.empty(atoms.size, np.float32)
    noise = _draw(generator, atoms, seed) if noise is None else noise
    axes = [np.broadcast_to(np.asarray(getattr(atoms, name), np.float32), atoms.shape) for name in generator.box.names]

    size = 2 ** int(np.clip(np.ceil(np.log2(atoms.size / (4 * len(workers())))), *np.log2(_CHUNKS)))
    placed = {device: jax.device_put(generator, device) for device in set(workers())}

    def generate_rows(rows, device):
        inputs = [
            np.pad(x[rows], [(0, size - len(x[rows]))] + [(0, 0)] * (x.ndim - 1), mode="edge") for x in (noise, *axes)
        ]
        outputs, norms[rows] = (np.asarray(x)[: len(axes[0][rows])] for x in _columns(placed[device], *inputs))
        if basis is None or compressed:
            real_columns(rows_out[rows])[:] = outputs
        else:
            np.matmul(outputs, basis, out=real_columns(rows_out[rows]))

    # XLA solves many triangular systems in threads of its own: several draws from mixtures at once wait for each other.
    places = workers()[:1] if generator.recipe.reconstruction == "likelihood" else workers()
    with one_blas_thread():
        run_chunks(generate_rows, [slice(start, start + size) for start in range(0, atoms.size, size)], places=places)
    basis = scaling.basis if compressed else None
    basis = complex_basis(basis) if compressed and scaling.complex_frames else basis
    return Dictionary(atoms, rows_out, norms, generator.sequence, generator.slice_profile, basis)


def stream(generator: TrainedGenerator, tissue: TissueModel) -> Dictionary:
    """The dictionary of `generate`, whose fingerprints are made when they are asked for: `match` asks block by block.

    Atoms may lie outside the trained range. Fingerprints are `RowsOnDemand`; norms, and z of all atoms, are in memory.

    Raises:
      ValueError: tissue of another kind, or another value than the trained one of what has one alone.
    """
    atoms = tissue.ravel()
    noise = _draw(generator, atoms, seed=0)

    def made(rows):
        return generate(generator, atoms.rows(rows), allow_extrapolation=True, noise=noise[rows])

    dtype = np.dtype(np.complex64 if generator.scaling.complex_frames else np.float32)
    blocks = (slice(start, start + _BLOCK) for start in range(0, atoms.size, _BLOCK))
    norms = np.concatenate([made(rows).norms for rows in blocks])
    shape = atoms.size, generator.sequence.n_frames
    fingerprints = RowsOnDemand(lambda rows: made(rows).fingerprints, shape, dtype)
    return Dictionary(atoms, fingerprints, norms, generator.sequence, generator.slice_profile)


def _draw(generator, atoms, seed):
    return np.random.default_rng(seed).standard_normal((atoms.size, generator.recipe.noise), np.float32)
