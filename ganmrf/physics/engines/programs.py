"""Compiled programs of batches of voxels: how many voxels go together, and in what form XLA gets them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from ganmrf.physics.engines import one_kernel
from ganmrf.physics.lowering import COMPLEX, ISOCHROMAT, SLICE, form_of
from ganmrf.physics.pools import n_pools
from ganmrf.physics.slice_positions import FullPositions

# ``max_states`` of compiled programs is a multiple of this, plus order 0: few programs, and few rows that stay empty.
_CAPACITY_STEP = 128
# The frames of so many isochromats fit the second-level cache. Signals are transposed to (lanes, frames), which is half
# as fast for a power of 2: its rows fall on few places of the cache.
ISOCHROMAT_LANES = 56
SLICE_LANES = 64  # in a full slice: their magnetisation at a block of positions fits the first-level cache


def lanes(sequence, tissue, slice_profile, n_states: int, max_states: int | None) -> int:
    """Voxels to simulate together: on a CPU so many that their states fit its first- or second-level cache."""
    if max_states is not None:
        return kernel_lanes(sequence, tissue, slice_profile)
    if isinstance(slice_profile, FullPositions):
        most = 8192 if jax.default_backend() == "cpu" else 2**20  # isochromats: as many numbers as of states below
        return max(most // len(slice_profile.weights), 8)
    if jax.default_backend() == "cpu":
        return min(max(10240 // n_states // 64 * 64, 64), 512)  # 40 kB for each of p, q and z in float32
    return 16384  # enough to fill a GPU


def kernel_lanes(sequence, tissue, slice_profile=None) -> int | None:
    """Voxels that a `compiled` function simulates together, whatever their number of states; else None."""
    if not one_kernel.works():
        return None
    form = form_of(sequence, tissue, slice_profile)
    if form == ISOCHROMAT:
        return ISOCHROMAT_LANES
    if form == SLICE:
        return getattr(slice_profile, "lanes", None) or SLICE_LANES
    # 256 bytes a state: p, q and z of about a hundred states, and their buffers, fit the second-level cache.
    real = jnp.result_type(*jax.tree.leaves((sequence, tissue))).itemsize
    return 256 // ((2 * real if form == COMPLEX else real) * n_pools(tissue)[0])


def compiled(function, *, n_states, mesh: jax.sharding.Mesh | None = None, n_shifts: int | None = None):
    """``function`` with ``n_states`` and ``max_states`` bound, jitted in the fastest form that this backend takes.

    For concrete arguments only: JAX takes compiler options for a whole program, not for a part of one. In the
    one-kernel form one program serves all numbers of states up to its ``max_states``.

    Args:
      function: a function of sequence, tissue, slice profile and further arguments, with the keywords ``n_states`` and
        ``max_states``.
      n_states: number of states; in the one-kernel form one number for all voxels, or one for each run of
        `kernel_lanes` voxels.
      n_shifts: in the one-kernel form, a further keyword of ``function``; None for none.
      mesh: divides the voxels, (voxels,), and ``n_states``, if it holds several, over its axis ``atoms``.
    """
    if mesh is not None and mesh.size == 1:
        mesh = None
    if not one_kernel.works():
        return _ordinary(function, n_states, mesh)
    max_states = max(-(-(np.max(n_states) - 1) // _CAPACITY_STEP), 1) * _CAPACITY_STEP + 1
    run = _one_kernel(function, int(max_states), mesh, n_shifts)
    return functools.partial(run, n_states=np.asarray(n_states, np.int32))


@functools.cache
def _ordinary(function, n_states, mesh):
    return jax.jit(_divided(functools.partial(function, n_states=n_states, max_states=None), mesh))


@functools.cache
def _one_kernel(function, max_states, mesh, n_shifts):
    static = {"max_states": max_states} | ({} if n_shifts is None else {"n_shifts": n_shifts})

    def in_one_kernel(*arguments, n_states):
        def run(n_states, *arguments):
            return function(*arguments, n_states=n_states, **static)

        return one_kernel.in_one_kernel(run)(n_states, *arguments)

    return jax.jit(_divided(in_one_kernel, mesh), compiler_options=one_kernel.OPTIONS)


def _divided(function, mesh):
    """``function`` with its tissue, and arrays among its keywords, divided over the mesh, and its results gathered."""
    if mesh is None:
        return function
    atoms, everywhere = PartitionSpec("atoms"), PartitionSpec()

    def run(sequence, tissue, slice_profile, **keywords):
        def each(sequence, tissue, slice_profile, keywords):
            return function(sequence, tissue, slice_profile, **keywords)

        shares = jax.tree.map(lambda leaf: atoms if leaf.ndim else everywhere, (tissue, keywords))
        specs = (everywhere, shares[0], everywhere, shares[1])
        divided = jax.shard_map(each, mesh=mesh, in_specs=specs, out_specs=atoms, check_vma=False)
        return divided(sequence, tissue, slice_profile, keywords)

    return run
