"""The generator's signal model against the simulator's, and its refusals."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.anchors.table import TableWeights
from ganmrf.design.bounds import precision_of
from ganmrf.design.cramer_rao_objective import CramerRaoObjective
from ganmrf.design.separation import Separation
from ganmrf.design.signal_models import generator_model, simulator_model
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.tissue import TISSUES, ExchangingPools, SemisolidPool, Tissue
from ganmrf.physics.tissue_box import TissueBox
from tests.design.lattices import lattice_generator, of_family
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES = 30
SEQUENCE = mrf_fisp(FRAMES)
TISSUE = Tissue(np.array([0.832, 1.331]), np.array([0.0792, 0.11]), np.array([0.95, 1.1]))


@pytest.fixture(scope="module")
def generator():
    """125 anchors in a small box."""
    return lattice_generator(TissueBox(("t1", "t2", "b1"), [0.6, 0.06, 0.9], [1.6, 0.13, 1.15]), SEQUENCE, 5)


@pytest.fixture(scope="module")
def two_parameters():
    return lattice_generator(TissueBox(("t1", "t2"), [0.6, 0.06], [1.6, 0.13]), SEQUENCE, 6)


def signals(model, tissue):
    """Signals and all derivatives of a signal model for `SEQUENCE`."""
    return quickly(lambda sequence: model(sequence, tissue))(SEQUENCE)


def assert_close(found, expected, signals, derivatives):
    """By norm, each tissue: signals and then derivatives."""
    for n, (one, other) in enumerate(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)):
        error = np.linalg.norm(one - other, axis=-1) / np.linalg.norm(other, axis=-1)
        assert one.shape == other.shape
        assert error.max() < (derivatives if n else signals)


def test_a_generator_gives_signals_and_derivatives_of_the_simulator(generator):
    found, expected = (signals(each, TISSUE) for each in (generator_model(generator, TISSUE), simulator_model()))
    assert_close(found, expected, 1e-3, 4e-2)  # anchors a quarter of the box apart; measured 4e-4 and 2e-2
    one, other = (precision_of(each, TISSUE) for each in (found, expected))
    for name in ("t1", "t2", "m0"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=0.02)  # measured 8e-3


def test_b1_that_is_no_axis_is_another_sequence(two_parameters):
    """To weights: anchors are simulated at each B1."""
    found, expected = (signals(each, TISSUE) for each in (generator_model(two_parameters, TISSUE), simulator_model()))
    assert_close(found, expected, 5e-4, 2e-2)  # measured 8e-5 and 7e-3


FIXED = {
    SemisolidPool: {"exchange_rate": 14.0, "t1_b": 0.34, "lineshape": 15e-6},
    ExchangingPools: {"exchange_rate": 10.0, "t1_b": 0.4, "t2_b": 0.015},
}


@pytest.mark.parametrize("kind", FIXED)
def test_a_fraction_is_a_parameter_like_others(kind):
    fixed, names = FIXED[kind], ("t1", "t2", "fraction")
    pulses = dataclasses.replace(SEQUENCE, pulse_duration=2e-3, pulse_shape=1.5)
    name = next(name for name, each in TISSUES.items() if each is kind)
    box = TissueBox(names, [0.8, 0.06, 0.0], [1.4, 0.1, 0.25], kind=name, fixed=fixed)
    tissue = kind(t1=np.array([0.9, 1.2]), t2=np.array([0.08, 0.07]), fraction=np.array([0.0, 0.15]), **fixed)
    models = (
        generator_model(lattice_generator(box, pulses, 5), tissue, parameters=names),
        simulator_model(parameters=names),
    )
    found, expected = (quickly(lambda sequence, m=m: m(sequence, tissue))(pulses) for m in models)
    assert found.by.keys() == {*names}
    assert_close(found, expected, 1e-3, 4e-2)  # as above, of as many anchors an axis


def test_derivatives_are_those_of_its_own_signals(generator):
    shares, h = {"t1": 1.0, "t2": -0.7}, 1e-4
    with jax.enable_x64(True):
        sequence = jax.tree.map(lambda leaf: np.asarray(leaf, float), SEQUENCE)
        values = {name: np.asarray(getattr(TISSUE, name), float) for name in shares}
        moved = [Tissue(**{n: values[n] * (1 + s * h * shares[n]) for n in shares}, b1=TISSUE.b1) for s in (1, -1)]
        high, low = (np.asarray(generator_model(generator, each)(sequence, each).signal) for each in moved)
        found = generator_model(generator, TISSUE)(sequence, TISSUE)
        along = sum(shares[n] * values[n][:, None] * np.asarray(getattr(found, f"d_{n}")) for n in shares)
    expected = (high - low) / (2 * h)
    # 1e-8 is left out; cancellation among weights leaves 1e-11 of signals, over steps of 1e-4
    np.testing.assert_allclose(along, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_at_an_anchor_itself_nothing_is_lost(generator):
    anchor = generator.anchors.rows(slice(60, 62))
    found, expected = (signals(each, anchor) for each in (generator_model(generator, anchor), simulator_model()))
    assert_close(found, expected, 1e-4, 8e-2)  # measured 5e-6 and 3e-2, at a face of the box


def test_objectives_have_nearly_the_same_gradient(two_parameters):
    tissue = Tissue(TISSUE.t1.reshape(2, 1), TISSUE.t2.reshape(1, 2))
    objective = CramerRaoObjective(tissue)
    signal_models = simulator_model(), generator_model(two_parameters, tissue)
    pairs = [quickly(jax.value_and_grad(lambda s, e=e: objective(s, e)))(SEQUENCE) for e in signal_models]
    values, gradients = zip(*pairs, strict=True)
    assert float(values[1]) == pytest.approx(float(values[0]), rel=0.02)  # as the bounds above
    for name in ("flip_angle", "repetition_time", "echo_time"):
        expected, found = (getattr(gradient, name) for gradient in gradients)
        assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected)  # of derivatives that are 2e-2 off


def test_requests_that_a_generator_cannot_serve_are_named(generator, two_parameters):
    with pytest.raises(ValueError, match="1 of 2 atoms lie outside the trained box; the farthest has t1 = 3"):
        generator_model(generator, Tissue(np.array([1.0, 3.0]), 0.1))
    with pytest.raises(ValueError, match="no axis for b1, which is unknown: its axes are t1, t2"):
        generator_model(two_parameters, TISSUE, parameters=("t1", "t2", "b1"))
    with pytest.raises(ValueError, match="tissue of the kind one_pool, --tissue=one_pool; got exchanging"):
        generator_model(two_parameters, ExchangingPools(1.0, 0.1, 0.1, 10.0, 0.4, 0.02))
    with pytest.raises(ValueError, match="learned from sequences of kind bssfp; got one of fisp"):
        generator_model(of_family(two_parameters, "bssfp"), TISSUE)(SEQUENCE, TISSUE)
    table = TableWeights(TISSUE, np.ones((2, 3)), {125: np.ones((3, 125))})
    with pytest.raises(ValueError, match="a table has no derivatives by tissue"):
        generator_model(dataclasses.replace(generator, model=table), TISSUE)
    known = Tissue(TISSUE.t1, TISSUE.t2)
    model = generator_model(two_parameters, known)
    with pytest.raises(ValueError, match="made for other tissue: t2 differs"):
        model(SEQUENCE, Tissue(known.t1, 1.1 * known.t2))
    with pytest.raises(ValueError, match="made for other tissue: b1 differs"):
        model(SEQUENCE, TISSUE)
    with pytest.raises(ValueError, match=r"made for tissue of shape \(2,\); got \(1,\)"):
        model(SEQUENCE, known.rows(slice(1)))


def test_separation_takes_a_model_made_for_the_tissues_it_compares(two_parameters):
    separation = Separation(Tissue(TISSUE.t1, TISSUE.t2))
    with pytest.raises(ValueError, match="made for tissue of shape"):
        separation(SEQUENCE, generator_model(two_parameters, separation.tissue))
    model = generator_model(two_parameters, separation.compared)
    products = quickly(lambda sequence: separation.products(sequence, model))(SEQUENCE)
    assert ((products > 0.9) & (products < 1)).all()
