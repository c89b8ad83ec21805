"""Derivatives by every field of tissue of two pools are differences of isochromats, also where pools are empty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.bloch import isochromat_signal
from ganmrf.physics.simulate import simulate, simulate_reverse, simulate_with_tangents
from tests.physics.pools.cases import FRAMES, VOXELS, sequences, tissues

pytestmark = pytest.mark.usefixtures("quick_compiler")
WEIGHTS = np.random.default_rng(0).standard_normal((2, VOXELS, FRAMES))
STEPS = {"lineshape": 1e-10, "exchange_rate": 1e-3}  # others, s, Hz and numbers, are of order 0.01 to 100


def case(sequence, tissue):
    rng = np.random.default_rng(7)
    return jax.tree.map(lambda leaf: leaf.astype(float), (sequences(rng)[sequence], tissues(rng)[tissue]))


def differences(sequence, tissue) -> dict:
    """Of each field: the derivative of signals, (voxels, frames), and what rounding may make of it.

    Steps are central, and may leave the range of values, as no constructor checks them.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(tissue)
    found = {}
    for (moving,), _ in leaves:
        step = STEPS.get(moving.name, 1e-6)
        sides = []
        for side in (1, -1):
            moved = [leaf + side * step * (path[0] == moving) for path, leaf in leaves]
            sides.append(1j * isochromat_signal(sequence, jax.tree.unflatten(structure, moved)))
        expected = (sides[0] - sides[1]) / (2 * step)
        found[moving.name] = expected, 1e-6 * np.abs(expected).max() + 1e-13 / step
    return found


@pytest.mark.parametrize("tissue", ["exchanging, off resonance", "semisolid, off resonance"])
def test_gradients_by_the_adjoint(tissue):
    """Of real and imaginary parts of all signals, each with a weight of its own."""

    def loss(tissue, sequence, weights):
        signal = simulate_reverse(sequence, tissue)
        return jnp.sum(weights[0] * signal.real + weights[1] * signal.imag)

    with jax.enable_x64(True):
        sequence, tissue = case("fisp", tissue)
        gradient = jax.jit(jax.grad(loss))(tissue, sequence, WEIGHTS)
        for field, (expected, tolerance) in differences(sequence, tissue).items():
            expected = np.sum(WEIGHTS[0] * expected.real + WEIGHTS[1] * expected.imag, axis=-1)
            np.testing.assert_allclose(getattr(gradient, field), expected, rtol=0, atol=20 * tolerance, err_msg=field)


def test_forward_mode():
    with jax.enable_x64(True):
        sequence, tissue = case("bssfp", "exchanging")
        leaves, structure = jax.tree_util.tree_flatten_with_path(tissue)

        @jax.jit
        @jax.vmap
        def by(direction):
            return jax.jvp(lambda tissue: simulate(sequence, tissue), (tissue,), (direction,))[1]

        directions = [np.eye(len(leaves))[n][:, None] * np.ones(VOXELS) for n in range(len(leaves))]
        derivatives = by(jax.tree.unflatten(structure, directions))
        expected = differences(sequence, tissue)
        for ((path,), _), derivative in zip(leaves, derivatives, strict=True):
            difference, tolerance = expected[path.name]
            np.testing.assert_allclose(derivative, difference, rtol=0, atol=tolerance, err_msg=path.name)


def test_tangents():
    with jax.enable_x64(True):
        sequence, tissue = case("fisp", "semisolid")
        found = simulate_with_tangents(sequence, tissue, parameters=("fraction", "lineshape"))
        expected = differences(sequence, tissue)
        for field in ("fraction", "lineshape"):
            difference, tolerance = expected[field]
            np.testing.assert_allclose(found.by[field], difference, rtol=0, atol=tolerance, err_msg=field)
