"""Precision of sequences against the whole Fisher information, and against more frames, unknowns and noise."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.design.bounds import per_root_second, precision, precision_of, scan_time
from ganmrf.design.signal_models import simulator_model
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.simulate import simulate, simulate_with_tangents
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue

FRAMES = 60
SLICE = SliceProfile(np.array([0.6, 1.0]), np.array([0.3, 0.7]))
# These programs run for microseconds: the compiler is what takes time.
quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def case():
    rng = np.random.default_rng(0)
    sequence = Sequence(rng.uniform(0, 1.2, FRAMES), rng.uniform(0.01, 0.03, FRAMES), 2e-3, 0.02)
    return sequence, Tissue(np.array([0.832, 1.331]), np.array([0.0792, 0.11]), np.array([1.0, 0.9]))


def stds(found):
    return np.stack([found.t1, found.t2, *([] if found.b1 is None else [found.b1]), found.m0])


def by_whole_fisher(sequence, tissue, *, with_b1, slice_profile=None, basis=None):
    """Relative bounds of T1, T2, (B1,) and abs(M0) = 1, from central differences and an inverse, (params + 1, voxels).

    The phase of M0 is a parameter of its own.
    """
    project = np.eye(FRAMES) if basis is None else basis
    values = [np.asarray(v) for v in (tissue.t1, tissue.t2, tissue.b1)]
    h = 1e-4  # leaves out 1e-8, rounds to 1e-11

    def signal(n, factor):
        moved = [value * factor if m == n else value for m, value in enumerate(values)]
        return np.asarray(simulate(sequence, Tissue(*moved), n_states=FRAMES, slice_profile=slice_profile)) @ project

    centre = signal(0, 1.0)
    by = [(signal(n, 1 + h) - signal(n, 1 - h)) / (2 * h) for n in range(3 if with_b1 else 2)]
    found = []
    for rows in np.stack([*by, centre, 1j * centre], axis=1):
        jacobian = np.concatenate([rows.real, rows.imag], axis=1)
        found.append(np.sqrt(np.diag(np.linalg.inv(jacobian @ jacobian.T))[:-1]))
    return np.transpose(found)


@pytest.mark.parametrize(
    ("with_b1", "slice_profile", "rank"),
    [(False, None, None), (False, None, 9), (True, None, None), (True, SLICE, None), (True, SLICE, 9)],
)
def test_precision_is_that_of_the_whole_fisher_information(with_b1, slice_profile, rank):
    sequence, tissue = case()
    basis = None if rank is None else np.linalg.qr(np.random.default_rng(1).standard_normal((FRAMES, rank)))[0]
    form = {"with_b1": with_b1, "slice_profile": slice_profile, "basis": basis}
    found = quickly(lambda sequence: precision(sequence, tissue, **form))(sequence)
    assert (found.b1 is None) != with_b1
    np.testing.assert_allclose(stds(found), by_whole_fisher(sequence, tissue, **form), rtol=1e-6)  # 1e-8 x condition


def test_b1_and_a_basis_never_help_and_a_full_basis_costs_nothing():
    sequence, tissue = case()
    with_b1 = simulate_with_tangents(sequence, tissue, with_b1=True)
    tangents = dataclasses.replace(with_b1, d_b1=None)
    known, unknown = (stds(precision_of(each, tissue)) for each in (tangents, with_b1))
    assert (unknown[[0, 1, 3]] > known).all()
    in_basis = quickly(lambda basis: precision_of(tangents, tissue, basis=basis))
    full = np.linalg.qr(np.random.default_rng(2).standard_normal((FRAMES, FRAMES)))[0]
    np.testing.assert_allclose(stds(in_basis(full)), known, rtol=1e-9)  # rounding
    last = known
    for rank in (40, 20, 5, 3):
        found = stds(in_basis(full[:, :rank]))
        assert (found > last).all()
        last = found
    assert np.isinf(stds(in_basis(full[:, :2]))).all()  # three unknowns


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


def test_noise_and_aliases():
    sequence, tissue = case()
    tangents = dataclasses.replace(simulate_with_tangents(sequence, tissue, with_b1=True), d_b1=None)
    once = stds(precision_of(tangents, tissue))
    np.testing.assert_allclose(stds(precision_of(tangents, tissue, noise=0.02)), 0.02 * once, rtol=1e-12)
    for basis in (None, np.eye(FRAMES)):
        white = precision_of(tangents, tissue, noise=0.3, aliases=jnp.full(FRAMES, 0.4**2), basis=basis)
        np.testing.assert_allclose(stds(white), 0.5 * once, rtol=1e-9)  # 0.3^2 + 0.4^2 = 0.5^2


def test_scan_time_and_precision_per_root_second():
    sequence, tissue = case()
    total = float(np.sum(sequence.repetition_time))
    assert float(scan_time(sequence)) == pytest.approx(total + 0.02, rel=1e-12)
    assert float(scan_time(dataclasses.replace(sequence, inversion_time=None))) == pytest.approx(total, rel=1e-12)
    found = precision(sequence, tissue)
    np.testing.assert_allclose(stds(per_root_second(found, sequence)), stds(found) * np.sqrt(total + 0.02), rtol=1e-12)


def test_float32_gives_the_bounds_of_float64():
    sequence, tissue = case()
    exact = stds(precision(sequence, tissue, with_b1=True))
    with jax.enable_x64(False):
        found = precision(*jax.tree.map(np.float32, (sequence, tissue)), with_b1=True)
        assert found.t1.dtype == jnp.float32
    np.testing.assert_allclose(stds(found), exact, rtol=1e-3)  # float32 signals, derivatives 0.03 rad apart


def test_bad_bases_are_refused():
    sequence, tissue = case()
    with pytest.raises(ValueError, match=r"basis must be \(60, rank\), as the sequence has 60 frames; got \(50, 3\)"):
        precision(sequence, tissue, basis=np.ones((50, 3)))
    with pytest.raises(ValueError, match="basis must be orthonormal; its inner products are 60 off"):
        precision(sequence, tissue, basis=np.ones((60, 2)))
    with pytest.raises(ValueError, match="n_states must be at least 1; got 0"):
        simulator_model(n_states=0)(sequence, tissue)
