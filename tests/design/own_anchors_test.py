"""Anchors that are chosen for a design: bounds and gradients are the simulator's, in a slice, of pools, at any B1."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.design.bounds import precision_of
from ganmrf.design.cramer_rao_objective import CramerRaoObjective
from ganmrf.design.own_anchors import own_anchors
from ganmrf.design.signal_models import simulator_model
from ganmrf.design.verification import exact_bounds, fewest_anchors, verified
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool, Tissue
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")
FRAMES, STATES = 24, 9
SLICE = FullSlice(windowed_sinc(4, "hann", n_samples=30), 4.0)
RNG = np.random.default_rng(3)
T1, T2 = RNG.uniform(0.8, 1.6, 10), RNG.uniform(0.05, 0.12, 10)
FRACTION = RNG.uniform(0.05, 0.25, 10)
TISSUES = {
    "one pool at two B1": (Tissue(T1[:, None], T2[:, None], [0.9, 1.1]), ("t1", "t2"), SLICE),
    "semisolid": (SemisolidPool(T1, T2, FRACTION, 14.0, 0.34, 15e-6), ("t1", "t2", "fraction"), None),
    "exchanging": (ExchangingPools(T1, T2, FRACTION, 10.0, 0.4, 0.015), ("t2", "fraction"), None),
}


def sequence(seed, scale=1.0):
    """Waves of flip angles, and times long enough for few frames to see T1."""
    rng, share = np.random.default_rng(seed), np.linspace(0, 1, FRAMES)
    angles = scale * np.deg2rad(35 + 25 * np.sin(2 * np.pi * rng.uniform(0.5, 3) * share + rng.uniform(0, 6)))
    times = rng.uniform(30e-3, 50e-3, FRAMES)
    return Fisp(angles, times, 2e-3, rng.uniform(0.02, 0.05), pulse_duration=2e-3, pulse_shape=1.5)


@pytest.fixture(scope="module", params=list(TISSUES))
def case(request):
    """A tissue, what is unknown of it, a slice, and the anchors."""
    tissue, names, slice_profile = TISSUES[request.param]
    some = [sequence(n, scale) for n, scale in enumerate(np.linspace(0.3, 1.2, 6))]
    form = {"parameters": names, "slice_profile": slice_profile}
    with jax.enable_x64(False):
        return tissue, names, slice_profile, own_anchors(some, [sequence(20)], tissue, n_anchors=48, **form)


def test_bounds_and_gradients_are_those_of_the_simulator(case):
    tissue, names, slice_profile, own = case
    unseen, objective = sequence(30), CramerRaoObjective(tissue, dict.fromkeys(names, 1.0), "rms")
    models = (
        own.model(48, n_states=STATES),
        simulator_model(n_states=STATES, slice_profile=slice_profile, parameters=names),
    )
    evaluated = [quickly(jax.value_and_grad(lambda s, m=m: objective(s, m)))(unseen) for m in models]
    (value, gradient), (expected, exact) = evaluated
    assert float(value) == pytest.approx(float(expected), rel=2e-3)
    for name in ("flip_angle", "repetition_time", "echo_time", "inversion_time"):
        found, truth = np.asarray(getattr(gradient, name)), np.asarray(getattr(exact, name))
        assert np.linalg.norm(found - truth) < 1e-2 * np.linalg.norm(truth), name


def test_more_anchors_are_taken_where_they_are_needed(case):
    tissue, names, slice_profile, own = case
    unseen = sequence(31)
    exact = exact_bounds(unseen, tissue, names, slice_profile)
    models = [own.model(size) for size in (4, 48)]
    errors = [verified(unseen, model, exact, tissue).apart for model in models]
    assert errors[1] < 5e-3 < errors[0]
    for share, expected in ((1.1 * errors[0], 4), (1.1 * errors[1], 48), (0.0, 48)):
        model, found = fewest_anchors(models, [(unseen, exact)], share)
        assert model.anchors.size == expected
        assert found[0].apart == pytest.approx(errors[expected > 4], rel=0.1, abs=1e-4)  # float32


def test_derivatives_are_by_si_values(case):
    """A step of the tissue itself, by the simulator."""
    tissue, names, slice_profile, own = case
    unseen, model, h = sequence(32), own.model(48, n_states=STATES), 1e-2
    found = model(unseen, tissue)
    for name in names:
        low, high = (
            dataclasses.replace(tissue, **{name: s * np.asarray(getattr(tissue, name))}) for s in (1 - h, 1 + h)
        )
        signals = [
            np.asarray(simulator_model(n_states=STATES, slice_profile=slice_profile)(unseen, each).signal)
            for each in (low, high)
        ]
        steps = np.broadcast_to(2 * h * np.asarray(getattr(tissue, name)), tissue.shape)[..., None]
        expected = (signals[1] - signals[0]) / steps
        error = np.linalg.norm(found.by[name] - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
        assert error.max() < 5e-3, name  # of float32 signals, over steps of 2 %, to second order in them


def test_what_own_anchors_cannot_do_is_named(case):
    tissue, _, _, own = case
    with pytest.raises(ValueError, match="n_anchors must be 1 to 48; got 49"):
        own.model(49)
    with pytest.raises(ValueError, match="B1, which must be known"):
        own_anchors([sequence(0)], [sequence(1)], tissue, n_anchors=16, parameters=("t1", "b1"))
    others = dataclasses.replace(tissue, t2=0.9 * np.asarray(tissue.t2))
    with pytest.raises(ValueError, match="made for other tissue: t2 differs"):
        own.model(8)(sequence(0), others)


def test_bounds_that_no_signal_shows_are_no_difference():
    """A fraction of 0 has no relative bound, by anchors or by the simulator."""
    tissue = SemisolidPool(T1[:4], T2[:4], [0.0, 0.1, 0.2, 0.3], 14.0, 0.34, 15e-6)
    names = ("t1", "t2", "fraction")
    some = [sequence(n) for n in range(4)]
    model = own_anchors(some, [sequence(20)], tissue, n_anchors=32, parameters=names).model(32)
    exact = exact_bounds(some[0], tissue, names, None)
    assert np.isinf(exact.stds["fraction"][0])
    found = verified(some[0], model, exact, tissue)
    assert np.isinf(precision_of(model(some[0], tissue), tissue).stds["fraction"][0])
    assert found.excess()["fraction"].shape == (3,)
    assert 0 < found.apart < 2e-2
