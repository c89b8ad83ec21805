"""Many voxels, each with as many states as it needs, get the signals that each would get alone with all states."""

import sys

import jax
import numpy as np
import pytest

from ganmrf.dictionary.grids import grid_of
from ganmrf.parallel import meshes
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate, simulate_in_chunks
from ganmrf.physics.simulate_many import batched_simulator, simulate_few, simulate_many
from ganmrf.physics.slice_profile import sinc_slice_profile
from ganmrf.physics.tissue import Tissue


def test_few_and_many_voxels_keep_the_accuracy_in_any_order():
    rng = np.random.default_rng(0)
    t1 = rng.uniform(0.2, 3, 101)  # no multiple of what is simulated together
    tissue = Tissue(t1, t1 * rng.uniform(0.01, 1, t1.size), rng.uniform(0.7, 1.3, t1.size))
    exact = np.asarray(simulate(mrf_fisp(150), tissue, n_states=76))
    for simulated in (simulate_few, simulate_many):
        signals = simulated(mrf_fisp(150), tissue, accuracy=1e-4)
        errors = np.linalg.norm(signals - exact, axis=1) / np.linalg.norm(exact, axis=1)
        assert errors.max() <= 1e-4


def test_fixed_states_are_used_as_they_are():
    sequence, tissue = mrf_fisp(100), Tissue(t1=np.full(5, 2.0), t2=np.linspace(0.1, 0.5, 5))
    expected = simulate(sequence, tissue, n_states=7)
    np.testing.assert_allclose(simulate_many(sequence, tissue, n_states=7), expected, atol=1e-6)  # float32
    assert np.abs(simulate_many(sequence, tissue) - expected).max() > 1e-3


def test_slice_profile_b1_and_precision():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        t1 = rng.uniform(0.3, 2, (7, 100))
        tissue = Tissue(t1=t1, t2=0.1 * t1, b1=rng.uniform(0.8, 1.2, 100))
        sequence, profile = mrf_fisp(40), sinc_slice_profile(2)
        signals = simulate_many(sequence, tissue, slice_profile=profile)
        assert signals.dtype == np.float64
        expected = np.asarray(simulate(sequence, tissue.ravel(), slice_profile=profile, n_states=21))
    error = np.linalg.norm(signals - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() <= 1e-4  # the accuracy asked for


def test_result_does_not_depend_on_company():
    sequence = mrf_fisp(50)
    t1 = np.linspace(0.2, 3, 2000)
    many = simulate_many(sequence, Tissue(t1=t1, t2=0.3 * t1), n_states=26)
    few = simulate_many(sequence, Tissue(t1=t1[700:703], t2=0.3 * t1[700:703]), n_states=26)
    np.testing.assert_array_equal(many[700:703], few)


@pytest.mark.parametrize("n_shifts", [13, 70])  # one batch for each T1, T2 and B1, and several
def test_a_grid_of_off_resonances_is_simulated_as_any_voxels_are(n_shifts):
    shifts = np.linspace(-150, 150, n_shifts)
    grid = grid_of([0.5, 1.5], [0.05, 0.1], [0.8, 1.1], shifts)
    sequence = Bssfp(np.linspace(0.1, 1, 30), np.linspace(8e-3, 12e-3, 30), inversion_time=0.02)
    expected = np.asarray(simulate(sequence, grid))
    signals = simulate_many(sequence, grid)
    assert signals.dtype == np.complex64
    np.testing.assert_allclose(signals, expected, atol=2e-6)  # float32, after a hundred turns
    # Some voxels, in any order, more than once: of a grid that is still one, and of one that is none any more.
    order = np.random.default_rng(0).integers(0, grid.size, 50)
    simulated = np.zeros((50, 30), complex)
    states = np.ones(grid.size, np.int32)
    for places, found in batched_simulator(simulate_in_chunks, sequence, grid, None, states)(order, meshes()[0]):
        simulated[places] = found
    np.testing.assert_array_equal(simulated, signals[order])
    np.testing.assert_allclose(simulate_many(sequence, grid.rows(order)), expected[order], atol=2e-6)
    profile = sinc_slice_profile(3)
    expected = simulate(sequence, grid.rows(slice(n_shifts)), slice_profile=profile)
    found = simulate_many(sequence, grid, slice_profile=profile)[:n_shifts]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_progress_counts_the_atoms(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    simulate_many(mrf_fisp(10), Tissue(t1=np.linspace(1, 2, 30), t2=0.1), progress=True)
    assert "30.0/30.0" in capsys.readouterr().err
