"""Derivatives of a balanced sequence by every field of two pools are differences of isochromats, also of empty ones."""

import jax
import numpy as np
import pytest

from ganmrf.physics.bloch import isochromat_signal
from ganmrf.physics.simulate import simulate
from tests.physics.pools.cases import VOXELS, sequences, tissues

pytestmark = pytest.mark.usefixtures("quick_compiler")
STEPS = {"lineshape": 1e-10, "exchange_rate": 1e-3}  # others, s, Hz and numbers, are of order 0.01 to 100


@pytest.mark.parametrize("tissue", ["exchanging", "semisolid"])
def test_forward_mode(tissue):
    with jax.enable_x64(True):
        rng = np.random.default_rng(7)
        sequence, tissue = jax.tree.map(
            lambda leaf: leaf.astype(float), (sequences(rng)["bssfp"], tissues(rng)[tissue])
        )
        leaves, structure = jax.tree_util.tree_flatten_with_path(tissue)

        @jax.jit
        @jax.vmap
        def by(direction):
            return jax.jvp(lambda tissue: simulate(sequence, tissue), (tissue,), (direction,))[1]

        directions = [np.eye(len(leaves))[n][:, None] * np.ones(VOXELS) for n in range(len(leaves))]
        derivatives = by(jax.tree.unflatten(structure, directions))
        for (moving, _), derivative in zip(leaves, derivatives, strict=True):
            step, sides = STEPS.get(moving[0].name, 1e-6), []
            for side in (1, -1):  # which may leave the range of values, as no constructor checks them
                moved = [leaf + side * step * (path == moving) for path, leaf in leaves]
                sides.append(1j * isochromat_signal(sequence, jax.tree.unflatten(structure, moved)))
            expected = (sides[0] - sides[1]) / (2 * step)
            tolerance = 1e-6 * np.abs(expected).max() + 1e-13 / step  # of steps, and of rounding
            np.testing.assert_allclose(derivative, expected, rtol=0, atol=tolerance, err_msg=moving[0].name)
