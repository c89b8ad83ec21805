"""Derivatives of signals of two pools by every parameter, and gradients of bounds, where pools are empty or alike, too.

The first voxels are ordinary, then follow no exchange, an empty pool b, pools of equal size, and equal rates.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.dictionary.cramer_rao import cramer_rao
from ganmrf.physics.sequences.blocks import Blocks, Inversion, Saturation, Train
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate import simulate, simulate_with_tangents
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool, parameters
from tests.quick import quickly

RNG = np.random.default_rng(3)
STATES = 9
FRAMES = 16
T1, T2 = np.array([1.1, 1.4, 1.0, 0.8, 0.9, 0.6]), np.array([0.08, 0.05, 0.07, 0.06, 0.09, 0.05])
FRACTION, RATE = np.array([0.15, 0.21, 0.1, 0.0, 0.5, 0.3]), np.array([10.0, 40.0, 0.0, 14.0, 3000.0, 8.0])
T1_B, T2_B = np.array([0.4, 0.34, 0.3, 0.4, 0.5, 0.6]), np.array([0.015, 0.02, 0.02, 0.03, 0.01, 0.05])
B1, DF, SHIFT = RNG.uniform(0.8, 1.2, 6), RNG.uniform(-30, 30, 6), RNG.uniform(-20, 20, 6)
LINESHAPE = np.array([15e-6, 12e-6, 15e-6, 10e-6, 15e-6, 0.0])
# What parameters are in a body, where their value may be 0, too.
SIZES = {"t1": 1.0, "t2": 0.05, "fraction": 0.1, "exchange_rate": 10.0, "t1_b": 0.3, "t2_b": 0.02, "lineshape": 1e-5}
SIZES |= {"b1": 1.0, "shift": 10.0, "off_resonance": 10.0}


def fisp():
    times = RNG.uniform(8e-3, 30e-3, FRAMES)
    power = {"pulse_duration": 2e-3, "pulse_shape": 1.5, "inversion_saturation": 0.8}
    angles = RNG.uniform(0, 0.5, FRAMES)
    return Fisp(RNG.uniform(0, 1.3, FRAMES), times, 0.3 * times, 0.02, **power, saturation_angle=angles)


def prepared():
    """Trains of any phases, with a preparation between them."""
    times = RNG.uniform(8e-3, 30e-3, FRAMES // 2)
    power = {"pulse_duration": 1e-3, "pulse_shape": 1.2}
    first, second = (
        Train(RNG.uniform(0, 1.3, FRAMES // 2), times, 0.5 * times, rf_phase=RNG.uniform(0, 6, FRAMES // 2), **power)
        for _ in range(2)
    )
    return Blocks((Inversion(0.02, 0.9), first, Saturation(0.1), second))


CASES = {
    "exchanging": (fisp(), ExchangingPools(T1, T2, FRACTION, RATE, T1_B, T2_B, B1)),
    "exchanging, shift": (fisp(), ExchangingPools(T1, T2, FRACTION, RATE, T1_B, T2_B, B1, SHIFT, DF)),
    "semisolid": (fisp(), SemisolidPool(T1, T2, FRACTION, RATE, T1_B, LINESHAPE, B1)),
    "semisolid, prepared": (prepared(), SemisolidPool(T1, T2, FRACTION, RATE, T1_B, LINESHAPE, B1, DF)),
}


def wide(case):
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), float), CASES[case])


def along(tissue, name):
    """The direction in which one parameter grows by 1."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.full_like(leaf, path[0].name == name), tissue)


def stepped(tree, direction, step):
    return jax.tree.map(lambda value, way: value + step * way, tree, direction)


@pytest.mark.parametrize("case", CASES)
def test_derivatives_by_every_parameter_are_forward_mode_and_central_differences(case):
    with jax.enable_x64(True):
        sequence, tissue = wide(case)
        names = tuple(name for name in parameters(tissue) if getattr(tissue, name) is not None)

        def signal(tissue):
            return simulate(sequence, tissue, n_states=STATES)

        slope = quickly(lambda direction: jax.jvp(signal, (tissue,), (direction,)))
        found = quickly(lambda: simulate_with_tangents(sequence, tissue, parameters=names, n_states=STATES).by)()
        at = quickly(signal)
        for name in names:
            assert np.isfinite(found[name]).all()
            way, scaled = along(tissue, name), SIZES[name] * found[name]
            np.testing.assert_allclose(scaled, SIZES[name] * slope(way)[1], atol=1e-12)  # rounding
            step = 1e-5 * SIZES[name]  # leaves out 1e-10, rounds to 1e-11
            low, high = (at(stepped(tissue, way, h)) for h in (-step, step))
            np.testing.assert_allclose(scaled, (high - low) / 2e-5, atol=1e-8)


@pytest.mark.parametrize("case", ["exchanging", "semisolid"])
def test_gradients_of_a_bound_by_every_leaf_are_central_differences(case):
    names = "t1", "t2", "fraction"

    def bound(case):
        found = simulate_with_tangents(*case, parameters=names, n_states=STATES)
        stds, _ = cramer_rao(found.signal, [found.by[name] for name in names], 1.0, 1.0)
        known = jnp.max(stds, axis=0) < 1e4  # not the fraction without exchange, nor in a moment of it
        return jnp.sum(jnp.where(known, jnp.log(jnp.where(known, stds, 1.0)), 0.0))

    with jax.enable_x64(True):
        case, value = wide(case), quickly(bound)
        gradient = quickly(jax.grad(bound))(case)
        rng = np.random.default_rng(0)
        for n, leaf in enumerate(leaves := jax.tree.leaves(gradient)):
            assert np.isfinite(leaf).all()
            way = rng.standard_normal(leaf.shape)
            step = 1e-6 * float(jnp.abs(jax.tree.leaves(case)[n]).max())
            direction = jax.tree.unflatten(
                jax.tree.structure(case), [way if m == n else np.zeros(each.shape) for m, each in enumerate(leaves)]
            )
            low, high = (float(value(stepped(case, direction, h))) for h in (-step, step))
            # Truncation below 1e-7; rounding 1e-16 of 18 terms, over a step of 1e-6 of the leaf.
            slope, size = (high - low) / (2 * step), float(jnp.abs(jax.tree.leaves(case)[n]).max())
            assert np.vdot(leaf, way) * size == pytest.approx(slope * size, rel=1e-6, abs=1e-7)
