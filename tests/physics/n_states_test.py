"""The automatic number of states keeps what it promises, on every schedule and for every voxel."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ganmrf.physics.epg import exact_n_states
from ganmrf.physics.n_states import choose_n_states, sufficient_n_states
from ganmrf.physics.sequences.blocks import Blocks, Delay, Inversion, Saturation, T2Preparation, Train
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.cardiac import CardiacFisp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import sinc_slice_profile
from ganmrf.physics.tissue import Tissue
from tests.physics.simulate_test import random_case


def errors(sequence, tissue, n_states, slice_profile=None):
    """Relative L2 error of each voxel's signal."""
    exact = np.asarray(simulate(sequence, tissue, n_states=10**6, slice_profile=slice_profile), complex)
    signal = np.asarray(simulate(sequence, tissue, n_states=n_states, slice_profile=slice_profile), complex)
    norm = np.linalg.norm(exact, axis=-1)
    return np.linalg.norm(signal - exact, axis=-1) / np.where(norm > 0, norm, 1)


@hypothesis.given(seed=st.integers(0, 10**6), n_frames=st.sampled_from([2, 250]))
@hypothesis.settings(max_examples=8)
def test_the_choice_keeps_the_accuracy_on_random_schedules(seed, n_frames):
    schedule, tissue = random_case(seed, n_frames, voxels=150)
    sequence, tissue = Fisp(*schedule), Tissue(*tissue)
    for accuracy in (1e-3, 1e-4, 1e-5):
        assert errors(sequence, tissue, choose_n_states(sequence, tissue, accuracy=accuracy)).max() <= accuracy


def sequences():
    """Of each kind that dephases, with 80 turns or so."""
    rng = np.random.default_rng(0)
    angles, times = rng.uniform(0, 1.2, 80), rng.uniform(9e-3, 15e-3, 80)
    preparations = (Inversion(0.02), T2Preparation(0.03), Saturation(0.1, 0.9), None)
    beats = Train(angles[:20], 5e-3, 1e-3, turns=[0, 1] * 10), Delay(0.03), Train(angles, times, 1e-3, rf_phase=angles)
    return {
        "fisp": Fisp(angles, times, 1e-3, 0.02),
        "cardiac": CardiacFisp(angles.reshape(4, 20), 5e-3, 1e-3, preparations, np.full(4, 0.5)),
        "spoiled gradient echo": SpoiledGradientEcho(angles / 3, times, 1e-3),
        "spin echoes": MultiSpinEcho(angles[:40] + 1.5, 10e-3),
        "hybrid": Blocks((Inversion(0.1, 0.9), *beats, T2Preparation(0.05), *beats)),
    }


@pytest.mark.parametrize("name", sequences())
def test_the_choice_keeps_the_accuracy_of_every_kind_of_sequence(name):
    rng, sequence = np.random.default_rng(1), sequences()[name]
    t2 = rng.uniform(0.005, 0.05, 100)
    shifts = rng.uniform(-200, 200, 100) if name in ("fisp", "hybrid") else None
    tissue = Tissue(np.maximum(rng.uniform(0.1, 3, 100), t2), t2, rng.uniform(0.7, 1.3, 100), shifts)
    n_states = choose_n_states(sequence, tissue)
    assert errors(sequence, tissue, n_states).max() <= 1e-4
    assert n_states < sufficient_n_states(sequence, t2.max(), 1e-4)  # which is found without simulating


def test_the_choice_on_the_published_schedule_is_neither_wrong_nor_lavish():
    sequence = mrf_fisp()
    t1, t2 = np.meshgrid(np.linspace(0.5, 2.95, 20), [0.05, 0.1, 0.2, 0.5])
    tissue = Tissue(t1=t1, t2=t2)
    chosen = [choose_n_states(sequence, tissue, accuracy=accuracy) for accuracy in (1e-3, 1e-4, 1e-5)]
    # Between what the worst atom needs (40, 80, 112) and the next number tried but one.
    assert chosen == sorted(chosen)
    assert all(need <= n <= 1.6 * need for n, need in zip(chosen, (40, 80, 112), strict=True))
    for n, accuracy in zip(chosen, (1e-3, 1e-4, 1e-5), strict=True):
        assert errors(sequence, tissue, n).max() <= accuracy


def test_late_echoes_that_no_candidate_reaches_are_not_lost():
    # 90 degrees, a long pause, 180 degrees: one echo of order 60 and nothing before it.
    flip_angle = np.zeros(140)
    flip_angle[0], flip_angle[60] = np.pi / 2, np.pi
    sequence = Fisp(flip_angle, 0.005, 0.001)
    tissue = Tissue(t1=np.linspace(2, 5, 100), t2=np.full(100, 2.0))
    assert errors(sequence, tissue, choose_n_states(sequence, tissue)).max() <= 1e-4
    assert errors(sequence, tissue, 50).max() > 0.1


def test_the_choice_holds_with_a_slice_profile():
    sequence, profile = mrf_fisp(400), sinc_slice_profile(12)
    tissue = Tissue(t1=np.linspace(0.6, 2.9, 80), t2=np.linspace(0.04, 0.3, 80))
    n_states = choose_n_states(sequence, tissue, slice_profile=profile)
    assert n_states < exact_n_states(400)
    assert errors(sequence, tissue, n_states, profile).max() <= 1e-4


def test_an_isochromat_has_one_state():
    assert choose_n_states(Bssfp(np.full(50, 0.5), 5e-3), Tissue(t1=np.linspace(1, 2, 100), t2=0.1)) == 1


def test_few_voxels_keep_every_state():
    assert choose_n_states(mrf_fisp(100), Tissue(t1=1.0, t2=0.1)) == exact_n_states(100) == 51
    with pytest.raises(ValueError, match="accuracy must be positive; got -1"):
        choose_n_states(mrf_fisp(100), Tissue(t1=1.0, t2=0.1), accuracy=-1)
