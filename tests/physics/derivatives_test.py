"""The hand-written adjoint and tangents at the coefficients, for sequences other than FISP, against plain autodiff."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.sequences.blocks import Blocks, Delay, Inversion, Saturation, T2Preparation, Train
from ganmrf.physics.simulate import simulate, simulate_reverse, simulate_with_tangents
from ganmrf.physics.tissue import Tissue
from tests.quick import quickly

RNG = np.random.default_rng(5)
PARAMETERS = "t1", "t2", "b1", "off_resonance"


def prepared_trains(phases, turns=1):
    """Two trains with every preparation, the crushing ones too, and a gap; in all more than a block of frames."""
    times = RNG.uniform(8e-3, 30e-3, 10)
    train = functools.partial(Train, RNG.uniform(0, 1.4, 10), times, RNG.uniform(0, 1, 10) * times, turns=turns)
    first = Inversion(0.02, 0.9), train(rf_phase=phases, recorded=np.arange(10) % 3 > 0), Delay(0.05), train()
    return Blocks((*first, T2Preparation(0.05, 0.01), Saturation(0.1), train(), Delay(0.1, crushed=True), train()))


def voxels(off_resonance=None):
    return Tissue(np.array([0.9, 0.5]), np.array([0.04, 0.5]), np.array([0.8, 1.2]), off_resonance)


DF = np.array([30.0, -170.0])
CASES = {
    "real": (prepared_trains(np.pi * (np.arange(10) % 2)), voxels()),
    "complex": (prepared_trains(RNG.uniform(0, 6, 10)), voxels(DF)),
    "balanced": (prepared_trains(RNG.uniform(0, 6, 10), turns=0), voxels(DF)),
    "turns of 0 and 1": (prepared_trains(0.0, turns=np.arange(10) % 2), voxels(DF)),
}


def weighted(outputs):
    """One number in which each number of the outputs has its own weight and is squared."""
    parts = [part for leaf in jax.tree.leaves(outputs) for part in (leaf.real, leaf.imag)]
    scales = [jnp.cos(1.0 + n + jnp.arange(part.size)).reshape(part.shape) for n, part in enumerate(parts)]
    return sum(jnp.vdot(scale, part**2) for scale, part in zip(scales, parts, strict=True))


def with_tangents(sequence, tissue):
    named = {"with_b1": True, "with_off_resonance": tissue.off_resonance is not None}
    found = simulate_with_tangents(sequence, tissue, n_states=14, **named)
    return [found.signal, *(found.by[name] for name in PARAMETERS if name in found.by)]


def by_forward_mode(sequence, tissue):
    """What `with_tangents` returns, by `jax.jvp` of `simulate`."""
    found = [simulate(sequence, tissue, n_states=14)]
    for name in PARAMETERS:
        if (value := getattr(tissue, name)) is not None:

            def signal(value, name=name):
                return simulate(sequence, dataclasses.replace(tissue, **{name: value}), n_states=14)

            found.append(jax.jvp(signal, (value,), (jnp.ones_like(value),))[1])
    return found


def wide(case):
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), float), CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_tangents_are_those_of_forward_mode(case):
    with jax.enable_x64(True):
        for one, other in zip(*(quickly(f)(*wide(case)) for f in (with_tangents, by_forward_mode)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12 * np.abs(other).max())  # float64 rounding over the frames


@pytest.mark.parametrize("case", ["real", "complex"])
def test_gradients_of_signals_are_those_of_plain_reverse_mode(case):
    def gradient(simulator):
        return quickly(jax.grad(lambda tree: weighted(simulator(*tree, n_states=14))))(wide(case))

    with jax.enable_x64(True):
        for one, other in zip(*map(jax.tree.leaves, map(gradient, (simulate_reverse, simulate))), strict=True):
            # Gradients that vanish are held to 1e-11 of the objective, which is 1.
            assert np.linalg.norm(one - other) <= 1e-11 * max(np.linalg.norm(other), 1)


@pytest.mark.parametrize("case", ["real", "complex"])
def test_gradients_of_tangents_by_every_leaf_are_central_differences(case):
    with jax.enable_x64(True):
        leaves, structure = jax.tree.flatten(wide(case))
        first = quickly(with_tangents)(*wide(case))

        def total(leaves):
            """Each output divided by what it is where the differences are taken."""
            outputs = with_tangents(*jax.tree.unflatten(structure, leaves))
            return weighted([out / np.linalg.norm(at) for out, at in zip(outputs, first, strict=True)])

        gradient, total = quickly(jax.grad(total)), quickly(total)
        for n, found in enumerate(gradient(leaves)):
            way = np.random.default_rng(n).standard_normal(found.shape)
            step = 1e-6 * float(jnp.abs(leaves[n]).max())

            def at(side, n=n, change=step * way):
                return float(total([leaf + side * change if m == n else leaf for m, leaf in enumerate(leaves)]))

            # Truncation below 1e-7: the phase of off-resonance moves by 1e-3. Rounding 1e-16 / 1e-6.
            slope = (at(1) - at(-1)) / (2 * step)
            assert np.vdot(found, way) == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_derivatives_by_off_resonance_want_it_given():
    with pytest.raises(ValueError, match="off_resonance must be given"):
        simulate_with_tangents(CASES["real"][0], voxels(), with_off_resonance=True)
