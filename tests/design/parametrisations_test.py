"""Parametrisations: within the limits whatever the parameters, differentiable, and able to say what they are given."""

import csv
import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.design.limits import Limits, violations
from ganmrf.design.parametrisations import EDGE, Frames, Lobes, Parametrisation, Spline
from ganmrf.io.schedule import read_schedule
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import mrf_fisp
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")

LIMITS = Limits(
    flip_angle=(0.05, 1.2),
    repetition_time=(11e-3, 14e-3),
    echo_time=2e-3,
    inversion_time=(10e-3, 40e-3),
    scan_time=0.52,
    scan_time_fixed=True,
    max_flip_change=0.2,
    rf_power=15.0,
)
N_FRAMES = 40
SHAPES = [Frames(), Spline(7.5), Lobes(3, 20)]
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: type(shape).__name__)


def start(n_frames=N_FRAMES):
    rng = np.random.default_rng(n_frames)
    return Fisp(rng.uniform(0.3, 0.8, n_frames), rng.uniform(12e-3, 13e-3, n_frames), 2e-3, 0.02)


def random_params(shape, n_frames, scale, seed=0):
    """Parameters for every field, each normal with the given standard deviation."""
    rng = np.random.default_rng(seed)

    def normal(*size):
        return np.asarray(scale * rng.normal(size=size), jnp.result_type(float))

    def curve(spacing):
        return normal(n_frames if spacing is None else 3 + max(1, round(n_frames / spacing)))

    spacing = getattr(shape, "knot_spacing", None)
    angles = curve(spacing)
    if isinstance(shape, Lobes):
        angles = {"peaks": normal(shape.n_lobes), "lengths": normal(shape.n_lobes), "floor": normal()}
    return {"flip_angle": angles, "repetition_time": curve(spacing), "inversion_time": normal()}


@st.composite
def limits_that_fit(draw, n_frames):
    """Any limits that a sequence of so many frames can meet, some of which it can just meet."""
    low, width = draw(st.just(0.0) | st.floats(0.01, 0.3)), draw(st.floats(0.01, 1.5))
    shortest, spread = draw(st.floats(5e-3, 12e-3)), draw(st.floats(1e-4, 8e-3))
    inversion = (draw(st.just(0.0) | st.floats(1e-3, 0.02)), draw(st.floats(0.021, 0.05)))
    slack = draw(st.sampled_from([0.0, 1.0]) | st.floats(0, 1))
    scan_time = n_frames * (shortest + slack * spread) + inversion[0] + slack * (inversion[1] - inversion[0])
    budget = draw(st.floats(0.02, 1)) * ((low + width) ** 2 - low**2)
    return Limits(
        flip_angle=(low, low + width),
        repetition_time=(shortest, shortest + spread),
        echo_time=draw(st.just(0.0) | st.floats(0.01, 1)) * shortest,
        inversion_time=inversion,
        scan_time=scan_time,
        scan_time_fixed=draw(st.booleans()),
        max_flip_change=draw(st.floats(1e-3, 1)),
        rf_power=n_frames * (low**2 + budget) / scan_time,
    )


@by_shape
@hypothesis.settings(max_examples=3, phases=[hypothesis.Phase.generate])  # each compiles: no time to shrink them
@hypothesis.given(data=st.data(), n_frames=st.sampled_from([1, 2, 33, 300]))
def test_every_limit_holds_whatever_the_parameters(shape, data, n_frames):
    limits = data.draw(limits_that_fit(n_frames))
    parametrisation = Parametrisation(start(n_frames), limits, shape)
    many = [random_params(shape, n_frames, scale) for scale in (0, 0.1, 1, 5, 30, 1e4)]  # the last: all or nothing
    many = [{name: params[name] for name in parametrisation.free} for params in many]
    found = quickly(jax.vmap(parametrisation.to_sequence))(jax.tree.map(lambda *leaves: np.stack(leaves), *many))
    found = jax.tree.map(np.asarray, found)
    for i in range(len(many)):
        sequence = jax.tree.map(lambda leaf, i=i: leaf[i], found)
        assert not any(violations(sequence, limits).values()), f"scale {i}: {violations(sequence, limits)}"


def test_the_limits_hold_in_a_file_of_six_decimals(tmp_path):
    sequence = quickly(Parametrisation(start(), LIMITS, Frames()).to_sequence)(random_params(Frames(), N_FRAMES, 3.0))
    columns = np.rad2deg(sequence.flip_angle), 1e3 * np.asarray(sequence.repetition_time)
    with open(tmp_path / "schedule.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["flip_angle_deg", "repetition_time_ms"])
        rows.writerows([f"{value:.6f}" for value in row] for row in zip(*columns, strict=True))
    read = read_schedule(tmp_path / "schedule.csv", echo_time=2e-3, inversion_time=sequence.inversion_time)
    assert not any(violations(read, LIMITS).values())


@by_shape
def test_derivatives_are_those_of_central_differences(shape):
    with jax.enable_x64(True):
        to_sequence = Parametrisation(start(), LIMITS, shape).to_sequence
        params, direction = random_params(shape, N_FRAMES, 1.0, seed=1), random_params(shape, N_FRAMES, 1.0, seed=2)
        weights = np.random.default_rng(3).normal(size=(2, N_FRAMES))

        def value(step):
            sequence = to_sequence(jax.tree.map(lambda x, d: x + step * d, params, direction))
            times = 100 * jnp.sum(weights[1] * sequence.repetition_time) + 30 * sequence.inversion_time
            return jnp.sum(weights[0] * sequence.flip_angle) + times

        step = 1e-6

        def both():
            before, after = jax.vmap(value)(jnp.array([-step, step]))
            return jax.grad(value)(0.0), (after - before) / (2 * step)

        found, expected = quickly(both)()
        # Rounding of values of order 10: 1e-15 / 1e-6; the third derivative adds the square of the step.
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert abs(expected) > 1e-2


@by_shape
def test_a_sequence_it_can_express_comes_back(shape):
    # Neither power nor changes are limited here: angles that these limits have lowered cannot be told from others.
    limits = dataclasses.replace(LIMITS, max_flip_change=None, rf_power=None)
    with jax.enable_x64(True):
        parametrisation = Parametrisation(start(), limits, shape)
        to_sequence = quickly(parametrisation.to_sequence)
        sequence = to_sequence(random_params(shape, N_FRAMES, 1.0))
        again = to_sequence(parametrisation.initial(sequence))
    # Least squares ends at 1e-8 of a cost; one projection onto margins lies between.
    np.testing.assert_allclose(again.flip_angle, sequence.flip_angle, atol=2e-4)
    np.testing.assert_allclose(again.repetition_time, sequence.repetition_time, rtol=1e-5)
    np.testing.assert_allclose(again.inversion_time, sequence.inversion_time, rtol=1e-5)


def test_lobes_find_those_of_the_published_schedule():
    limits = Limits((0.0, 1.3), (11e-3, 16e-3), 1.908e-3, 18e-3)
    published = mrf_fisp(828)  # four whole lobes; the fifth is cut short
    parametrisation = Parametrisation(published, limits, Lobes(4), ["flip_angle"])
    found = quickly(parametrisation.to_sequence)(parametrisation.initial())
    miss = np.rad2deg(np.asarray(found.flip_angle - published.flip_angle))
    # The 30 pauses of 0 degrees between the lobes lie 5 below the floor, which alone is 0.95 degrees.
    assert np.sqrt(np.mean(miss**2)) < 1.5
    np.testing.assert_allclose(np.rad2deg(found.flip_angle.max()), 70, atol=1)
    np.testing.assert_array_equal(found.repetition_time, published.repetition_time)


def test_a_start_outside_is_put_inside_with_room_to_move():
    limits = dataclasses.replace(LIMITS, max_flip_change=None, rf_power=None, scan_time=None, scan_time_fixed=False)
    parametrisation = Parametrisation(start(), limits, Frames())
    outside = Fisp(np.linspace(0, 2, N_FRAMES), np.linspace(5e-3, 20e-3, N_FRAMES), 1e-3, 1.0)
    found = quickly(parametrisation.to_sequence)(parametrisation.initial(outside))
    np.testing.assert_allclose(found.flip_angle, np.clip(outside.flip_angle, 0.05, 1.2), atol=1.15 * EDGE * 1.01)
    np.testing.assert_allclose(found.repetition_time, np.clip(outside.repetition_time, 11e-3, 14e-3), atol=3.1e-6)
    np.testing.assert_allclose(found.inversion_time, 0.04, atol=0.031e-3)


@pytest.mark.parametrize("free", ["flip_angle", "repetition_time", "inversion_time"])
def test_what_is_not_optimised_stays(free):
    limits = dataclasses.replace(LIMITS, scan_time=0.56, scan_time_fixed=False, max_flip_change=0.9, rf_power=60.0)
    parametrisation = Parametrisation(start(), limits, Frames(), [free])
    assert parametrisation.free == (free,)
    assert parametrisation.initial().keys() == {free}
    params = {free: random_params(Frames(), N_FRAMES, 2.0)[free]}
    found = quickly(parametrisation.to_sequence)(params)
    for name in ("flip_angle", "repetition_time", "inversion_time"):
        changed = bool((getattr(found, name) != getattr(start(), name)).any())
        assert changed == (name == free), name
    assert not any(violations(found, limits).values())


def test_power_of_angles_that_stay_lengthens_the_scan():
    energy = float(np.sum(np.asarray(start().flip_angle) ** 2))
    limits = dataclasses.replace(
        LIMITS, scan_time=None, scan_time_fixed=False, max_flip_change=None, rf_power=energy / 0.55
    )
    parametrisation = Parametrisation(start(), limits, Frames(), ["repetition_time"])
    found = quickly(parametrisation.to_sequence)({"repetition_time": jnp.full(N_FRAMES, -8.0)})
    np.testing.assert_allclose(found.repetition_time.sum() + found.inversion_time, 0.55, rtol=3e-6)
    np.testing.assert_array_equal(found.flip_angle, start().flip_angle)


def test_fields_with_one_allowed_value_have_no_parameters():
    limits = dataclasses.replace(LIMITS, repetition_time=(13e-3, 13e-3), inversion_time=None, scan_time=0.52)
    parametrisation = Parametrisation(dataclasses.replace(start(), inversion_time=None), limits, Frames())
    assert parametrisation.free == ("flip_angle",)
    found = quickly(parametrisation.to_sequence)({"flip_angle": jnp.zeros(N_FRAMES)})
    assert found.inversion_time is None
    np.testing.assert_allclose(found.repetition_time, 13e-3, rtol=1e-6)


def test_shapes_limit_what_can_change():
    """Fewer knots and fewer lobes are fewer parameters; a lobe has two, and all share a floor."""
    sizes = {}
    values = np.linspace(0.1, 0.9, N_FRAMES)
    for shape in (Spline(5), Spline(20), Lobes(2, 5), Lobes(4, 20)):
        params = shape.encode_angles(values)
        sizes[shape] = sum(leaf.size for leaf in jax.tree.leaves(params)), shape.encode_times(values).size
    assert list(sizes.values()) == [(11, 11), (5, 5), (5, 11), (9, 5)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimise": ["flip_angles"]}, "optimise must be some of flip_angle, .*; got flip_angles"),
        ({"optimise": []}, "optimise must be some of flip_angle, .*; got none"),
        ({"limits": dataclasses.replace(LIMITS, scan_time=0.4)}, "scan_time: 0.4 s is too short for 40 frames"),
        (
            {"limits": dataclasses.replace(LIMITS, repetition_time=(12.5e-3, 14e-3)), "optimise": ["flip_angle"]},
            "repetition_time is not optimised, but that of the start is beyond Limits: repetition_time by 0.0",
        ),
        (
            {"optimise": ["repetition_time"]},
            "flip_angle is not optimised.* max_flip_change by ",
        ),
        (
            {"limits": dataclasses.replace(LIMITS, max_flip_change=None), "optimise": ["repetition_time"]},
            "rf_power: 15 rad.* need at least .* in 0.52 s",
        ),
        (
            {"limits": dataclasses.replace(LIMITS, scan_time=0.55), "optimise": ["flip_angle", "inversion_time"]},
            "scan_time: 0.55 s cannot be filled by 40 frames",
        ),
        ({"limits": dataclasses.replace(LIMITS, inversion_time=None)}, "inversion_time must be None in both"),
    ],
)
def test_bad_requests_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Parametrisation(**{"start": start(), "limits": LIMITS, "shape": Frames(), **arguments})


def test_bad_shapes_and_lengths_are_named():
    with pytest.raises(ValueError, match=r"Spline\.knot_spacing must be positive and finite; got 0"):
        Spline(0)
    with pytest.raises(ValueError, match="knot_spacing must be positive"):
        Lobes(3, -1)
    with pytest.raises(ValueError, match=r"Lobes\.n_lobes must be a whole number, 1 or more; got 0"):
        Lobes(0)
    with pytest.raises(ValueError, match="40 frames of the start; it has 41"):
        Parametrisation(start(), LIMITS, Frames()).initial(start(41))
