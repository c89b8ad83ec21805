"""The scanner in the loop: after each piece of a scan, the continuation that leaves the least expected variance.

What voxels may be are *atoms*, and what is known of a voxel are weights of atoms, which its data give. Beside them
stands what the data so far tell of the parameters near each atom, their Fisher information; that of a continuation is
added, and the inverse of the sum, averaged over the atoms by their weights, is the variance expected after it.

A few tissues are *carried*: their magnetisation is simulated along with the scan (`ganmrf.physics.continuation`), and
signals of atoms, and their derivatives, are linear combinations of theirs, the same for every sequence. So the signals
of a hundred continuations cost a hundred times a few tissues for the length of one piece::

    state, belief = start(carried.tissue, ...), no_data(carried, n_voxels)
    each piece:   weights, m0 = posterior(belief, noise)
                  signals = advance_each(state, continuations)
                  variances = expected_variances(belief, carried, signals, weights, m0 / noise)
                  data = what the scanner measures of the best continuation
                  signals, state = advance(state, the best continuation)
                  belief = observed(belief, carried, signals, data)
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.anchors.echoes import combined_at_echo
from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.physics.tissue import TissueModel
from ganmrf.pytrees import pytree, require_positive

# Of logarithms, between central differences. The error of the derivative is a sixth of its square, 4e-5, and what
# rounding of float32 signals makes of it is as large.
_STEP = 0.015
_ASIDE = 1e-9  # relative step off an atom: at an anchor the derivative of a radial basis function is 0 * infinity
_CONSIDERED = 32  # atoms of largest weight that a choice is made by


@pytree
@dataclasses.dataclass(frozen=True)
class Carried:
    """Tissues that are simulated along with a scan, and the combinations of their signals that atoms are.

    Attributes:
      tissue: simulated, (carried,).
      atoms: what voxels may be, (atoms,).
      combinations: of the signals of ``tissue``, to signals of the atoms and then to their derivatives by the logarithm
        of each unknown parameter, (1 + unknowns, atoms, carried).
      spread: standard deviation of the logarithm of each unknown over the atoms, (unknowns,): what is known beforehand.
      unknowns: names of the parameters, static.
    """

    tissue: TissueModel
    atoms: TissueModel
    combinations: jax.Array
    spread: jax.Array
    unknowns: tuple[str, ...] = dataclasses.field(metadata={"static": True})


class Belief(NamedTuple):
    """What data have told so far.

    Attributes:
      overlap: of each atom's signal with the data of each voxel, complex, (voxels, atoms).
      products: of each atom's signal and derivatives for M0 = 1, complex, (atoms, 1 + unknowns, 1 + unknowns).
    """

    overlap: jax.Array
    products: jax.Array


def carried_by_differences(atoms: TissueModel, unknowns: tuple[str, ...] = ("t1", "t2")) -> Carried:
    """Atoms that are themselves simulated, with derivatives by differences: two tissues more for each unknown.

    Args:
      atoms: what voxels may be, (atoms,).
      unknowns: names of parameters that are above 0.

    Raises:
      ValueError: an unknown that some atom has not, or has as 0 or less.
    """
    values = {name: jnp.broadcast_to(_above_0(atoms, name), atoms.shape) for name in unknowns}
    moved = [
        _replaced(atoms, **{name: values[name] * jnp.exp(sign * _STEP / 2)}) for name in unknowns for sign in (1, -1)
    ]
    whole = [jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, atoms.shape), each) for each in (atoms, *moved)]
    tissue = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *whole)
    own, blocks = np.eye(atoms.size), 1 + 2 * len(unknowns)
    rows = np.zeros((1 + len(unknowns), atoms.size, blocks, atoms.size))
    rows[0, :, 0] = own
    for n in range(len(unknowns)):
        rows[1 + n, :, 1 + 2 * n], rows[1 + n, :, 2 + 2 * n] = own / _STEP, -own / _STEP
    return _carried(tissue, atoms, rows.reshape(*rows.shape[:2], -1), unknowns)


def carried_by_generator(
    generator: AnchoredGenerator, atoms: TissueModel, echo_time: float, unknowns: tuple[str, ...] = ("t1", "t2")
) -> Carried:
    """Atoms that are combinations of the anchors of a generator: as many tissues as it has anchors, whatever the atoms.

    Args:
      generator: of kind trunk or radial. Scans must be such as its family, in its slice.
      atoms: what voxels may be, (atoms,), on resonance.
      echo_time: of every frame of the scan, s.
      unknowns: names of parameters that are above 0.

    Raises:
      ValueError: a table, atoms outside the generator's box or off resonance, or an unknown that some atom has not, or
        has as 0 or less.
    """
    if not generator.model.any_tissue:
        raise ValueError(
            "a table has no derivatives by tissue: adapting a scan needs a generator of kind trunk or radial"
        )
    if atoms.off_resonance is not None:
        raise ValueError("atoms must be on resonance, with off_resonance None")
    generator.require_inside(atoms)
    n_anchors = generator.sizes[-1]
    anchors = jax.tree.map(np.asarray, generator.anchors.rows(slice(n_anchors)))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.broadcast_to(np.asarray(leaf, float), atoms.shape), atoms)
        values = {name: _above_0(wide, name) for name in unknowns}

        @jax.jit
        def combination(logarithms):
            moved = {name: value * jnp.exp(logarithms[name]) for name, value in values.items()}
            shifted = _replaced(wide, **moved)
            weights, norms = generator.weights_at(shifted, n_anchors)
            found = norms[:, None] * weights / generator.anchor_norms[None, :n_anchors]
            if combined_at_echo(atoms):
                return found
            # Weights hold for signals right after each pulse.
            return found * jnp.exp(echo_time * (1 / anchors.t2[None] - 1 / shifted.t2[:, None]))

        here = dict.fromkeys(unknowns, jnp.float64(_ASIDE))
        rows = [combination(here)]
        for name in unknowns:
            direction = {other: jnp.float64(other == name) for other in unknowns}
            rows.append(jax.jvp(combination, (here,), (direction,))[1])
        rows = np.stack(rows)
    return _carried(anchors, atoms, rows, unknowns)


def _replaced(tissue, **fields):
    """A tissue with other values, unchecked: beside an atom of equal T1 and T2 one is of no tissue by a little."""
    own = [value for value in (vars(tissue) | fields).values() if value is not None]
    return jax.tree.unflatten(jax.tree.structure(tissue), own)


def _above_0(atoms, name):
    value = getattr(atoms, name, None)
    if value is None:
        raise ValueError(f"unknowns: {type(atoms).__name__} has no {name}")
    require_positive(f"atoms.{name}", value, "positive and finite to be an unknown")
    return value


def _carried(tissue, atoms, combinations, unknowns):
    logarithms = [np.log(np.broadcast_to(np.asarray(getattr(atoms, name), float), atoms.shape)) for name in unknowns]
    dtype = jnp.result_type(*jax.tree.leaves(atoms))
    spread = jnp.asarray(np.std(logarithms, axis=1), dtype)
    return Carried(jax.tree.map(jnp.asarray, tissue), atoms, jnp.asarray(combinations, dtype), spread, unknowns)


def no_data(carried: Carried, n_voxels: int = 1) -> Belief:
    """What is known of so many voxels before the scan: every atom is as likely."""
    n_rows, n_atoms, _ = carried.combinations.shape
    dtype = jnp.result_type(carried.combinations.dtype, jnp.complex64)
    return Belief(jnp.zeros((n_voxels, n_atoms), dtype), jnp.zeros((n_atoms, n_rows, n_rows), dtype))


@jax.jit
def observed(belief: Belief, carried: Carried, signals, data) -> Belief:
    """What is known after a piece of the scan.

    Args:
      belief: before it.
      carried: the tissues that are carried.
      signals: of the carried tissues in this piece, (carried, frames).
      data: of the voxels in this piece, complex, (voxels, frames).
    """
    rows = _of_atoms(carried.combinations, signals)
    overlap = jnp.matmul(data, jnp.conj(rows[0]).T, precision="highest")
    return Belief(belief.overlap + overlap, belief.products + _products(rows))


@jax.jit
def posterior(belief: Belief, noise) -> tuple[jax.Array, jax.Array]:
    """What is known of all voxels together: M0 of each may be any complex number, and no atom is preferred.

    Args:
      belief: after one piece of data at least.
      noise: standard deviation of the real, and of the imaginary, part of the data in a frame.

    Returns:
      Probabilities of the atoms, (atoms,), averaged over the voxels, and the size of M0 that goes with each, (atoms,).
    """
    energy = belief.products[:, 0, 0].real[None]
    # M0 is known to the noise over the root of the energy, in its real and in its imaginary part.
    explained = jnp.abs(belief.overlap) ** 2 / (2 * noise**2 * energy) - jnp.log(energy)
    of_voxels = jax.nn.softmax(explained, axis=1)
    weights = of_voxels.sum(0)
    squares = (of_voxels * jnp.abs(belief.overlap / energy) ** 2).sum(0)
    return weights / len(of_voxels), jnp.sqrt(squares / jnp.maximum(weights, jnp.finfo(weights.dtype).tiny))


@functools.partial(jax.jit, static_argnames="considered")
def expected_variances(
    belief: Belief, carried: Carried, signals, weights, m0_over_noise, considered: int = _CONSIDERED
) -> jax.Array:
    """Variance of the logarithm of each unknown that is expected after each of some continuations.

    Args:
      belief: what is known before them.
      carried: the tissues that are carried.
      signals: of the carried tissues in each continuation, (continuations, carried, frames), by `advance_each`.
      weights: of the atoms, (atoms,), by `posterior`; or, before any data, what is known beforehand.
      m0_over_noise: M0 over the noise for each atom, (atoms,).
      considered: how many atoms, those of largest weight, the average is over; static.

    Returns:
      (continuations, unknowns): Cramer-Rao bounds with what was known beforehand, averaged over the atoms.
    """
    weights, atoms = lax.top_k(weights, min(considered, weights.size))
    own = _products(_of_atoms(carried.combinations[:, atoms], signals))
    products, squares = belief.products[atoms][None] + own, m0_over_noise[atoms][None] ** 2
    return jnp.einsum("a,cap->cp", weights / weights.sum(), _variances(products, squares, carried.spread))


def _of_atoms(combinations, signals):
    """Signals and derivatives of atoms, (..., 1 + unknowns, atoms, frames), from (..., carried, frames)."""
    n_rows, n_atoms, n_carried = combinations.shape
    whole = jnp.matmul(combinations.reshape(-1, n_carried), signals, precision="highest")
    return whole.reshape(*signals.shape[:-2], n_rows, n_atoms, signals.shape[-1])


def _products(rows):
    """Inner products of (..., rows, atoms, frames): (..., atoms, rows, rows), complex."""
    n_rows = rows.shape[-3]
    entries = [
        [jnp.sum(jnp.conj(rows[..., i, :, :]) * rows[..., j, :, :], -1) for j in range(i, n_rows)]
        for i in range(n_rows)
    ]
    whole = [[entries[min(i, j)][abs(i - j)] for j in range(n_rows)] for i in range(n_rows)]
    found = jnp.stack(
        [
            jnp.stack([each if i <= j else jnp.conj(each) for j, each in enumerate(row)], -1)
            for i, row in enumerate(whole)
        ],
        -2,
    )
    return found.astype(jnp.result_type(found, jnp.complex64))


def _variances(products, squares, spread):
    """Diagonal of the inverse of the information of (..., atoms, rows, rows) and of what is known beforehand.

    ``squares`` are those of M0 over the noise, (..., atoms).
    """
    energy = products[..., 0, 0].real
    energy = jnp.where(energy > 0, energy, 1)[..., None, None]
    along = products[..., :1, 1:]  # what derivatives share with the signal is a change of M0
    information = (products[..., 1:, 1:] - jnp.conj(jnp.swapaxes(along, -1, -2)) * along / energy).real
    information = squares[..., None, None] * information
    rows = [
        [information[..., i, j] + (1 / spread[i] ** 2 if i == j else 0) for j in range(len(spread))]
        for i in range(len(spread))
    ]
    return jnp.stack(_inverse_diagonal(rows), -1)


def _inverse_diagonal(rows):
    """Diagonal of the inverse of positive matrices by sweeps: a few unknowns of many matrices at once."""
    size = len(rows)
    for k in range(size):
        pivot = 1 / rows[k][k]
        rows = [
            [
                (-pivot if i == j else rows[i][j] * pivot)
                if k in (i, j)
                else rows[i][j] - rows[i][k] * rows[k][j] * pivot
                for j in range(size)
            ]
            for i in range(size)
        ]
    return [-rows[n][n] for n in range(size)]
