"""Pulses whose power saturates a semisolid pool: what must be said of them, and when it counts."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.physics.bloch import isochromat_signal
from ganmrf.physics.sequences.blocks import Blocks, Inversion, Saturation, Train
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.cardiac import CardiacFisp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.sequences.preparations import Played, hard_inversion
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.physics.simulate import simulate, simulate_reverse, simulate_with_tangents
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool

pytestmark = pytest.mark.usefixtures("quick_compiler")
TISSUE = SemisolidPool([1.8], 0.07, 0.2, 14.0, 0.34, 1.5e-5)
ANGLES = [0.3, 0.6]
WITHOUT = {
    "Fisp": Fisp(ANGLES, 0.01, 2e-3, 0.02),
    "Bssfp": Bssfp(ANGLES, 0.01),
    "SpoiledGradientEcho": SpoiledGradientEcho(ANGLES, 0.01, 2e-3),
    "CardiacFisp": CardiacFisp([ANGLES], 0.01, 2e-3, (None,), [0.5]),
    "MultiSpinEcho": MultiSpinEcho(ANGLES, 0.01),
    "Train": Blocks((Train(ANGLES, 0.01, 2e-3),)),
    "Played": Blocks((hard_inversion(0.02), Train(ANGLES, 0.01, 2e-3, pulse_duration=1e-3))),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_an_unknown_duration_is_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"^{name}\.pulse_duration must be given, s"):
        simulate(WITHOUT[name], TISSUE)


@pytest.mark.parametrize(
    "function", [simulate_many, simulate_reverse, simulate_with_tangents, build_dictionary, isochromat_signal]
)
def test_every_simulation_refuses_it(function):
    with pytest.raises(ValueError, match=r"^Fisp\.pulse_duration must be given, s"):
        function(WITHOUT["Fisp"], TISSUE)


@pytest.mark.parametrize("name", ["Fisp", "Train"])
def test_short_pulses_are_warned_of(name):
    """By one text, which Python shows once."""
    short = {"pulse_duration": 0.1e-3}
    train = Train(np.full(10, 0.3), 0.01, 2e-3, **short)
    sequence = Fisp(np.full(20, 0.3), 0.01, 2e-3, **short) if name == "Fisp" else Blocks((train, train))
    with pytest.warns(UserWarning, match=rf"^{name}\.pulse_duration is 0\.1 ms.*10\.1002/mrm\.29071") as warned:
        simulate(sequence, TISSUE)
    assert len({str(each.message) for each in warned}) == 1


def test_mobile_pools_do_not_feel_the_power():
    sequence, tissue = WITHOUT["Fisp"], ExchangingPools([1.1], 0.08, 0.15, 10.0, 0.4, 0.015)
    changed = dataclasses.replace(sequence, pulse_duration=0.1e-3, pulse_shape=2.0, saturation_angle=3.0)
    np.testing.assert_allclose(simulate(changed, tissue), simulate(sequence, tissue), rtol=1e-6)


def test_all_that_saturates_has_the_power_of_its_angle():
    """A pulse off resonance of 0.4 rad, and 0.3 rad of excitation, are 0.5 rad; twice as long is half the power."""
    weak = Fisp([0.3, 0.3], 0.01, 2e-3, pulse_duration=2e-3, pulse_shape=1.5, saturation_angle=0.4)
    stronger = dataclasses.replace(TISSUE, lineshape=TISSUE.lineshape * 25 / 9)
    plain = Fisp([0.3, 0.3], 0.01, 2e-3, pulse_duration=[2e-3, 2e-3], pulse_shape=1.5)
    longer = dataclasses.replace(plain, pulse_duration=4e-3, pulse_shape=3.0)
    signal, *same = (np.asarray(simulate(*case)) for case in ((weak, TISSUE), (plain, stronger), (longer, stronger)))
    for other in same:
        np.testing.assert_allclose(other, signal, rtol=1e-6)
    assert np.abs(simulate(plain, TISSUE) - signal).max() > 1e-4 * np.abs(signal).max()


def test_derivatives_by_the_power_are_central_differences():
    with jax.enable_x64(True):
        tissue = SemisolidPool(1.8, 0.07, 0.2, 14.0, 0.34, 1.5e-5)
        leaves = np.array([2e-3, 1.5, 0.8, 0.5])

        @jax.jit
        def last(leaves):
            duration, shape, inversion, angle = leaves
            facts = {"inversion_saturation": inversion, "saturation_angle": angle}
            sequence = Fisp([0.5, 0.9, 0.7], 0.01, 2e-3, 0.02, duration, shape, **facts)
            return simulate(sequence, tissue)[-1]

        gradient = jax.jit(jax.grad(last))(leaves)
        steps = 1e-5 * np.diag(leaves)
        expected = [(last(leaves + step) - last(leaves - step)) / (2 * step.max()) for step in steps]
        np.testing.assert_allclose(gradient, expected, rtol=1e-6)
        assert (np.abs(gradient) > 0).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: Fisp(ANGLES, 0.01, 2e-3, pulse_duration=0.0),
            r"Fisp\.pulse_duration must be positive and finite; got 0",
        ),
        (lambda: Fisp(ANGLES, 0.01, 2e-3, pulse_duration=2.0), r"Fisp\.pulse_duration must be in s, .*\(is it in ms"),
        (lambda: Fisp(ANGLES, 0.01, 2e-3, pulse_duration=[1e-3] * 3), r"Fisp\.pulse_duration must be .* 2 frames"),
        (
            lambda: Train(ANGLES, 0.01, 2e-3, pulse_duration=1e-3, pulse_shape=0.5),
            r"Train\.pulse_shape must be 1 or more",
        ),
        (
            lambda: Bssfp(ANGLES, 0.01, pulse_duration=1e-3, saturation_angle=np.inf),
            r"Bssfp\.saturation_angle must be fin",
        ),
        (
            lambda: Fisp(ANGLES, 0.01, 2e-3, 0.02, pulse_duration=1e-3, inversion_saturation=1.5),
            r"Fisp\.inversion_saturation must be 0 to 1; got 1\.5",
        ),
        (lambda: Inversion(0.02, saturation=-0.1), r"Inversion\.saturation must be 0 to 1; got -0\.1"),
        (lambda: Saturation(0.02, saturation=[0.1, 0.2]), r"Saturation\.saturation must be one number"),
        (lambda: Played(0.5, [0.0, 1.0], 0.0, pulse_duration=[1e-3] * 3), r"Played\.pulse_duration must be"),
    ],
)
def test_powers_that_no_pulse_has_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("duration", [12e-3, np.array([2e-3, 11e-3])])
def test_a_pulse_that_outlasts_its_frame_is_refused(duration):
    with pytest.raises(ValueError, match=r"Fisp\.pulse_duration must be no longer than the repetition time, 0\.01 s"):
        Fisp([0.1, 0.2], 10e-3, 2e-3, pulse_duration=duration)
