"""Tissue in a slice is simulated in groups of one B1, with the same signals in the same order."""

import jax
import numpy as np
import pytest

from ganmrf.design.common_b1 import CommonB1
from ganmrf.design.signal_models import simulator_model
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate_with_tangents
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")
B1 = np.array([1.1, 0.9, 1.1, 1.0, 0.9, 1.1], np.float32)  # groups of three, two and one


def test_every_voxel_is_once_in_the_group_of_its_b1():
    tissue = Tissue(np.linspace(1, 2, 6), 0.1, B1)
    groups = CommonB1.of(tissue)
    np.testing.assert_array_equal(groups.values, np.unique(B1))
    np.testing.assert_array_equal(groups.rows.ravel()[groups.place], np.arange(6))
    np.testing.assert_array_equal(B1[groups.rows], np.repeat(groups.values[:, None], 3, axis=1))
    halved = groups.map(lambda voxels: voxels.t1 * voxels.b1, tissue)
    np.testing.assert_allclose(halved, np.linspace(1, 2, 6) * B1, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_signals_do_not_depend_on_the_groups(shape):
    sequence, profile = mrf_fisp(12), FullSlice(windowed_sinc(4, "hann", n_samples=30), 4.0)
    t1, t2 = np.linspace(0.8, 1.6, 6).reshape(shape), np.linspace(0.05, 0.1, 6).reshape(shape)
    for tissue, names in (
        (Tissue(t1, t2, B1.reshape(shape)), ("t1", "t2")),
        (Tissue(t1, t2, B1.reshape(shape)), ("t1", "b1")),
    ):
        form = {"n_states": 7, "slice_profile": profile, "parameters": names}
        found, expected = simulator_model(**form)(sequence, tissue), simulate_with_tangents(sequence, tissue, **form)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * np.abs(other).max())  # float32
