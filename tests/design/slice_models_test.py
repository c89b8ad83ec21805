"""Designs see the slice that is played: its bounds, their gradients, and a design that improves on its start."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganmrf.design.bounds import precision
from ganmrf.design.cramer_rao_objective import CramerRaoObjective
from ganmrf.design.signal_models import simulator_model
from ganmrf.physics.bloch import slice_signal
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import Tissue
from tests.quick import quickly

FRAMES = 24
PULSE, TURNS = windowed_sinc(4, "hann", n_samples=30), 4.0
SLICE = FullSlice(PULSE, TURNS)
STATES = FRAMES // 2 + 1  # all


pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def tissues():
    return Tissue(np.array([0.9, 1.4]), np.array([0.05, 0.09]), np.array([1.0, 0.9]))


def start():
    angles = np.deg2rad(10 + 50 * np.sin(np.pi * np.arange(FRAMES) / FRAMES) ** 2)
    return Fisp(angles, np.full(FRAMES, 40e-3), 2e-3, 20e-3)  # long times, so that few frames see T1


def test_bounds_are_those_of_finite_differences():
    """Of isochromats that every hard pulse turns, with B1 unknown too: three columns of the Fisher information more."""
    h = 1e-4
    sequence, tissue = start(), tissues()
    found = precision(sequence, tissue, n_states=STATES, slice_profile=SLICE, with_b1=True)
    for voxel, values in enumerate(np.transpose([tissue.t1, tissue.t2, tissue.b1])):
        steps = np.concatenate([[np.zeros(3)], np.eye(3), -np.eye(3)])
        moved = values * (1 + h * steps)
        signals = 1j * slice_signal(sequence, Tissue(*moved.T), PULSE, TURNS, 512)  # 24 frames of 12 turns are 288
        derivatives = (signals[1:4] - signals[4:]) / (2 * h)  # relative
        columns = np.concatenate([derivatives, signals[:1], 1j * signals[:1]])
        jacobian = np.concatenate([columns.real, columns.imag], axis=1)
        expected = np.sqrt(np.diag(np.linalg.inv(jacobian @ jacobian.T)))[:4]
        bounds = [float(each[voxel]) for each in (found.t1, found.t2, found.b1, found.m0)]
        np.testing.assert_allclose(bounds, expected, rtol=1e-4)  # few positions outside of what both resolve


@pytest.fixture(scope="module")
def objective():
    """The mean bound, and its gradient by a sequence."""
    model = simulator_model(n_states=STATES, slice_profile=SLICE)
    return quickly(jax.value_and_grad(lambda sequence: CramerRaoObjective(tissues())(sequence, model)))


@pytest.mark.parametrize("name", ["flip_angle", "repetition_time"])
def test_gradients_are_those_of_finite_differences(objective, name):
    sequence = start()
    values = np.asarray(getattr(sequence, name))
    direction = values * np.random.default_rng(0).standard_normal(FRAMES)
    h = 1e-5

    def at(step):
        return objective(dataclasses.replace(sequence, **{name: values + step * direction}))

    slope = float(jnp.vdot(getattr(at(0.0)[1], name), direction))
    assert slope == pytest.approx(float(at(h)[0] - at(-h)[0]) / (2 * h), rel=1e-5)


def test_a_design_improves_the_bound_in_the_slice(objective):
    designed, adam = start(), optax.adam(0.05)
    state = adam.init(designed.flip_angle)
    for _ in range(15):
        updates, state = adam.update(objective(designed)[1].flip_angle, state)
        designed = dataclasses.replace(designed, flip_angle=optax.apply_updates(designed.flip_angle, updates))
    before, after = (precision(each, tissues(), n_states=STATES, slice_profile=SLICE) for each in (start(), designed))
    assert (np.asarray(after.t2) < 0.9 * np.asarray(before.t2)).all()
    assert (np.asarray(after.t1) < np.asarray(before.t1)).all()
