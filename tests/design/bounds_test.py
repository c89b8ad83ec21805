"""Precision of sequences against the whole Fisher information, and against more frames, unknowns and noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.design.bounds import precision, precision_of, scan_time
from ganmrf.design.signal_models import simulator_model
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate import simulate, simulate_with_tangents
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import SemisolidPool, Tissue
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES = 60
SLICE = SliceProfile(np.array([0.6, 1.0]), np.array([0.3, 0.7]))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def case():
    rng = np.random.default_rng(0)
    sequence = Fisp(rng.uniform(0, 1.2, FRAMES), rng.uniform(0.01, 0.03, FRAMES), 2e-3, 0.02)
    return sequence, Tissue(np.array([0.832, 1.331]), np.array([0.0792, 0.11]), np.array([1.0, 0.9]))


def stds(found):
    return np.stack([found.t1, found.t2, *([] if found.b1 is None else [found.b1]), found.m0])


def by_whole_fisher(sequence, tissue, names, slice_profile=None):
    """Relative bounds of parameters and abs(M0) = 1, from central differences and an inverse, (params + 1, voxels).

    The phase of M0 is a parameter of its own.
    """
    h = 1e-4  # leaves out 1e-8, rounds to 1e-11

    def signal(name, factor):
        moved = dataclasses.replace(tissue, **{name: getattr(tissue, name) * factor})
        return np.asarray(simulate(sequence, moved, n_states=FRAMES, slice_profile=slice_profile))

    centre = signal("t1", 1.0)
    by = [(signal(name, 1 + h) - signal(name, 1 - h)) / (2 * h) for name in names]
    found = []
    for rows in np.stack([*by, centre, 1j * centre], axis=1):
        jacobian = np.concatenate([rows.real, rows.imag], axis=1)
        found.append(np.sqrt(np.diag(np.linalg.inv(jacobian @ jacobian.T))[:-1]))
    return np.transpose(found)


@pytest.mark.parametrize(("with_b1", "slice_profile"), [(False, None), (True, None), (True, SLICE)])
def test_precision_is_that_of_the_whole_fisher_information(with_b1, slice_profile):
    sequence, tissue = case()
    form = {"with_b1": with_b1, "slice_profile": slice_profile}
    found = quickly(lambda sequence: precision(sequence, tissue, **form))(sequence)
    assert (found.b1 is None) != with_b1
    expected = by_whole_fisher(sequence, tissue, ("t1", "t2", "b1")[: 2 + with_b1], slice_profile)
    np.testing.assert_allclose(stds(found), expected, rtol=1e-6)  # 1e-8 x condition


def test_precision_of_off_resonance_is_in_hz():
    fisp, tissue = case()
    sequence = Bssfp(fisp.flip_angle, fisp.repetition_time / 2, inversion_time=0.02)
    tissue = dataclasses.replace(tissue, off_resonance=np.array([-7.0, 23.0]))
    found = quickly(lambda sequence: precision(sequence, tissue, with_off_resonance=True))(sequence)
    *rest, of_frequency, _ = by_whole_fisher(sequence, tissue, ("t1", "t2", "off_resonance"))
    np.testing.assert_allclose(found.off_resonance, of_frequency * np.abs(tissue.off_resonance), rtol=1e-6)
    np.testing.assert_allclose([found.t1, found.t2], rest, rtol=1e-6)
    known = quickly(lambda sequence: precision(sequence, tissue))(sequence)
    assert (known.t2 < found.t2).all()


def test_precision_of_a_fraction_is_relative_and_an_empty_pool_leaves_the_others_theirs():
    fisp, _ = case()
    sequence = dataclasses.replace(fisp, pulse_duration=2e-3, pulse_shape=1.5)
    filled = SemisolidPool(np.array([1.8, 1.5]), np.array([0.07, 0.09]), np.array([0.2, 0.1]), 14.0, 0.34, 15e-6)
    names = "t1", "t2", "fraction"
    bound = quickly(lambda tissue: precision(sequence, tissue, parameters=names, n_states=FRAMES))
    found, empty = bound(filled), bound(dataclasses.replace(filled, fraction=np.zeros(2)))
    expected = by_whole_fisher(sequence, filled, names)
    np.testing.assert_allclose(
        [*(found.stds[name] for name in names), found.m0], expected, rtol=1e-5
    )  # 1e-8 x condition
    assert np.isinf(empty.stds["fraction"]).all()
    assert np.isfinite([empty.t1, empty.t2, empty.m0]).all()


@pytest.mark.parametrize(
    ("names", "message"),
    [(("t1", "fraction"), "for Tissue; got 'fraction'"), (("off_resonance",), "Tissue.off_resonance must be given")],
)
def test_unknowns_that_tissue_does_not_have_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        precision(*case(), parameters=names)


def test_an_unknown_b1_never_helps():
    sequence, tissue = case()
    with_b1 = simulate_with_tangents(sequence, tissue, with_b1=True)
    without = dataclasses.replace(with_b1, by={name: with_b1.by[name] for name in ("t1", "t2")})
    known, unknown = (stds(precision_of(each, tissue)) for each in (without, with_b1))
    assert (unknown[[0, 1, 3]] > known).all()


def test_states_that_are_left_out_show():
    sequence, tissue = case()
    few, all_of_them = (
        stds(quickly(lambda sequence, n=n: precision(sequence, tissue, n_states=n))(sequence)) for n in (4, None)
    )
    assert np.abs(few / all_of_them - 1).max() > 1e-2


def test_twice_the_same_frames_are_better_by_the_root_of_two():
    sequence, tissue = case()
    tangents = simulate_with_tangents(sequence, tissue, with_b1=True)
    twice = jax.tree.map(lambda rows: jnp.concatenate([rows, rows], axis=-1), tangents)
    once, again = (stds(precision_of(each, tissue)) for each in (tangents, twice))
    np.testing.assert_allclose(again, once / np.sqrt(2), rtol=1e-9)  # rounding


def test_scan_time_holds_the_inversion():
    sequence, _ = case()
    total = float(np.sum(sequence.repetition_time))
    assert float(scan_time(sequence)) == pytest.approx(total + 0.02, rel=1e-12)
    assert float(scan_time(dataclasses.replace(sequence, inversion_time=None))) == pytest.approx(total, rel=1e-12)


def test_float32_gives_the_bounds_of_float64():
    sequence, tissue = case()
    exact = stds(precision(sequence, tissue, with_b1=True))
    with jax.enable_x64(False):
        found = precision(*jax.tree.map(np.float32, (sequence, tissue)), with_b1=True)
        assert found.t1.dtype == jnp.float32
    np.testing.assert_allclose(stds(found), exact, rtol=1e-3)  # float32 signals, derivatives 0.03 rad apart


def test_no_states_are_refused():
    with pytest.raises(ValueError, match="n_states must be at least 1; got 0"):
        simulator_model(n_states=0)(*case())
