"""A prepared generator as one function of tissue: hidden layers, and a single matrix behind them.

Behind the hidden layers h of a trunk all that makes coefficients of a signal is linear: features, weights of anchors,
their signals, and the basis. Their product C is one matrix. With n(x) and what tissue x does until the echo time, f(x),
coefficients for M0 = 1 are ::

    s(x) @ basis  =  n(x)  sum over echo times j of  f_j(x)  (h(x), 1) @ C_j

where ``j`` is a single echo time, unless a sequence has several. The product is computed in float64, and kept in
float32: C has no large entries that would cancel, and what its rounding and that of the product with h change is some
1e-7 of a signal, thousands of times less than generators are off. Radial basis functions take the place of h likewise,
in float64: theirs do cancel.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.completion import columns
from ganmrf.anchors.echoes import echo_times, until_echo
from ganmrf.anchors.norms import NormPolynomial
from ganmrf.anchors.prepared import PreparedSequence
from ganmrf.anchors.radial import RadialFeatures
from ganmrf.anchors.trunk import Trunk
from ganmrf.dictionary.signal_sources import with_derivatives
from ganmrf.physics.tissue import TissueModel
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.pytrees import pytree

# Voxels of the compiled programs, on each device: products of full speed, and little idle when few are left.
_BATCH, _LAST_BATCH = 256, 64
_ECHO_ERROR = 1e-7  # of the factors until the echo, over the largest: the rounding of float32
_T2_TRIED = 32  # values of T2 at which that error is looked at: it is smooth


@pytree
@dataclasses.dataclass(frozen=True)
class CollapsedGenerator:
    """Coefficients of signals under one sequence as a function of tissue; by `collapse`.

    Attributes:
      box: the tissues that the generator was made for.
      norm: n as a function of coordinates in the box.
      features: the trunk, or the radial basis functions.
      matrix: C, behind the hidden layers and 1, or behind radial basis functions: (features, echo times, rank, parts),
        parts being 1 or, of complex signals, 2; float32, and float64 for radial basis functions.
      echo_times: from where signals are combined, s, (echo times,).
    """

    box: TissueBox
    norm: NormPolynomial
    features: Trunk | RadialFeatures
    matrix: np.ndarray
    echo_times: np.ndarray

    def __call__(self, tissue: TissueModel) -> jax.Array:
        """Coefficients for M0 = 1, (atoms, rank), of atoms in one dimension; traceable, and differentiable."""
        coordinates = self.box.coordinates(tissue)
        if isinstance(self.features, Trunk):
            parts = jnp.tensordot(self.features.hidden(coordinates), self.matrix[:-1], 1) + self.matrix[-1:]
        else:
            parts = jnp.tensordot(self.features(coordinates), self.matrix, 1)
        values = parts[..., 0] if parts.shape[-1] == 1 else jax.lax.complex(parts[..., 0], parts[..., 1])
        factors = until_echo(jnp, jnp.asarray(self.echo_times, coordinates.dtype), tissue)
        return jnp.sum(values * factors[..., None], axis=1) * self.norm(coordinates)[:, None]


def collapse(prepared: PreparedSequence) -> CollapsedGenerator:
    """The function of tissue that a prepared generator is.

    Raises:
      ValueError: a table, whose weights are no function of tissue.
    """
    generator, size = prepared.generator, prepared.n_anchors
    if not generator.model.any_tissue:
        raise ValueError("a table has weights for its own atoms alone: a fit between them takes a trunk")
    features = generator.model.features_for(size)
    weights = np.asarray(generator.model.matrices[size], float)[:, columns(size, prepared.added)]
    nodes, shares = _echo_nodes(np.asarray(echo_times(prepared.sequence, generator.anchors), float), generator.box)
    signals = prepared.signals.astype(np.result_type(prepared.signals, float))
    of_anchors = np.stack([(signals * share) @ prepared.basis for share in shares.T], axis=1)
    of_features = np.tensordot(weights, of_anchors, 1)
    parts = np.stack([of_features.real, of_features.imag][: 1 + np.iscomplexobj(of_features)], axis=-1)
    if isinstance(features, Trunk):
        parts = np.tensordot(np.asarray(features.kernel, float), parts, 1).astype(np.float32)
    return CollapsedGenerator(generator.box, generator.norm, features, parts, nodes)


@dataclasses.dataclass(frozen=True)
class GeneratedSignals:
    """A prepared generator as the source of signals of a fit: a `ganmrf.dictionary.signal_sources.SignalSource`.

    Attributes:
      collapsed: the generator.
      ranges: name -> ends of the range of each parameter that its tissues have; both are equal for one that has one
        value. A periodic axis goes on for a period beyond its ends.
      basis: that signals are coefficients in, (frames, rank).
      dtype: of the coefficients, before they are float64 or complex128.
    """

    collapsed: CollapsedGenerator
    ranges: dict[str, tuple[float, float]]
    basis: np.ndarray
    dtype: np.dtype

    @classmethod
    def of(cls, prepared: PreparedSequence) -> "GeneratedSignals":
        """The source of a prepared generator; raises `ValueError` as `collapse`."""
        collapsed, box = collapse(prepared), prepared.generator.box
        ranges = {
            name: (float(value.min()), float(value.max())) for name, value in _values(box.corner()).items()
        }  # of what has one value
        for name, low, high in zip(box.names, box.low, box.high, strict=True):
            more = (high - low) * (name in box.periodic)
            ranges[name] = float(low - more), float(high + more)
        with jax.enable_x64(_is_wide(collapsed)):
            collapsed = jax.tree.map(jnp.asarray, collapsed)  # on the device once
        return cls(collapsed, ranges, prepared.basis, prepared.signals.dtype)

    def signals(self, tissue: TissueModel, by: tuple[str, ...], mesh: jax.sharding.Mesh) -> np.ndarray:
        """As `SignalSource.signals` has it."""
        rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("atoms"))
        found, fields = [], {name: np.broadcast_to(value, tissue.shape) for name, value in _values(tissue).items()}
        with jax.enable_x64(_is_wide(self.collapsed) or jax.config.jax_enable_x64):
            for start, size in _batches(tissue.size, mesh.size):  # all under way before the first is waited for
                batch = {name: np.resize(value[start : start + size], size) for name, value in fields.items()}
                batch = {name: jax.device_put(value.astype(float), rows) for name, value in batch.items()}
                found.append(_signals_and_derivatives(self.collapsed, dataclasses.replace(tissue, **batch), by))
        signals = np.concatenate([np.asarray(each) for each in found])[: tissue.size]
        return signals.astype(np.result_type(signals, float))


def _batches(n_voxels, n_devices):
    """Starts and sizes of batches that hold all voxels."""
    start = 0
    while start < n_voxels:
        size = n_devices * (_BATCH if n_voxels - start > n_devices * (_BATCH - _LAST_BATCH) else _LAST_BATCH)
        yield start, size
        start += size


@functools.partial(jax.jit, static_argnums=2)
def _signals_and_derivatives(collapsed, tissue, by):
    """(voxels, 1 + params, rank)."""
    signals, derivatives = with_derivatives(collapsed, tissue, by)
    return jnp.concatenate([signals[:, None], jnp.moveaxis(derivatives, 0, 1)], axis=1)


def _is_wide(collapsed):
    """Whether the function needs float64."""
    return collapsed.matrix.dtype == np.float64


def _values(tissue):
    return {name: np.asarray(value) for name, value in vars(tissue).items() if value is not None}


def _echo_nodes(times, box):
    """Few echo times, (nodes,), s, and the share of each in the factor of each frame, (frames, nodes).

    Factors are smooth in the echo time, so that those of all frames are combinations of those at a few Chebyshev points
    between the shortest and the longest; of no more echo times than there are, each is a node.
    """
    distinct = np.unique(times)
    ranges = dict(zip(box.names, zip(box.low, box.high, strict=True), strict=True))
    t2 = np.geomspace(*ranges["t2"], _T2_TRIED)
    shifts = np.array([*ranges.get("off_resonance", ()), dict(box.fixed).get("off_resonance", 0.0)])
    rates = (-1 / t2[:, None] + 2j * np.pi * shifts[None]).ravel()
    exact = np.exp((distinct - distinct[0])[:, None] * rates[None])
    for number in range(1, distinct.size):
        middle, half = (distinct[0] + distinct[-1]) / 2, (distinct[-1] - distinct[0]) / 2
        nodes = middle + half * np.cos(np.pi * (np.arange(number) + 0.5) / number)
        made = _lagrange(nodes, distinct) @ np.exp((nodes - distinct[0])[:, None] * rates[None])
        if np.abs(made - exact).max() <= _ECHO_ERROR:
            return nodes, _lagrange(nodes, times)
    return distinct, (times[:, None] == distinct[None]).astype(float)


def _lagrange(nodes, at):
    """Lagrange polynomials of ``nodes``, (places, nodes)."""
    apart = nodes[:, None] - nodes[None] + np.eye(nodes.size)
    factors = (at[:, None, None] - nodes[None, None]) / apart[None]
    factors[:, range(nodes.size), range(nodes.size)] = 1
    return factors.prod(axis=2)
