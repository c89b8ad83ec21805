"""The automatic number of states keeps what it promises, on every schedule and for every voxel."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ganmrf.physics.epg import exact_n_states
from ganmrf.physics.n_states import choose_n_states
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import sinc_slice_profile
from ganmrf.physics.tissue import Tissue
from tests.physics.simulate_test import random_case


def errors(sequence, tissue, n_states, slice_profile=None):
    """Relative L2 error of each voxel's signal."""
    exact = np.asarray(simulate(sequence, tissue, n_states=10**6, slice_profile=slice_profile), float)
    signal = np.asarray(simulate(sequence, tissue, n_states=n_states, slice_profile=slice_profile), float)
    norm = np.linalg.norm(exact, axis=-1)
    return np.linalg.norm(signal - exact, axis=-1) / np.where(norm > 0, norm, 1)


@hypothesis.given(seed=st.integers(0, 10**6), n_frames=st.sampled_from([2, 250]))
@hypothesis.settings(max_examples=8)
def test_the_choice_keeps_the_accuracy_on_random_schedules(seed, n_frames):
    schedule, tissue = random_case(seed, n_frames, voxels=150)
    sequence, tissue = Fisp(*schedule), Tissue(*tissue)
    for accuracy in (1e-3, 1e-4, 1e-5):
        assert errors(sequence, tissue, choose_n_states(sequence, tissue, accuracy=accuracy)).max() <= accuracy


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


def test_few_voxels_keep_every_state():
    assert choose_n_states(mrf_fisp(100), Tissue(t1=1.0, t2=0.1)) == exact_n_states(100) == 51
    with pytest.raises(ValueError, match="accuracy must be positive; got -1"):
        choose_n_states(mrf_fisp(100), Tissue(t1=1.0, t2=0.1), accuracy=-1)
