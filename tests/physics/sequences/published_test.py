"""The published MRF-FISP schedule: the ranges of the paper, the published flip angles, and its prefixes."""

import importlib.resources

import jax
import numpy as np
import pytest

from ganmrf.physics.sequences.published import mrf_fisp


@pytest.fixture(autouse=True, scope="module")
def _double_precision():
    with jax.enable_x64(True):
        yield


def test_mrf_fisp_is_the_sequence_of_the_paper():
    sequence = mrf_fisp()
    assert sequence.n_frames == 1000
    repetition_time_ms = 1e3 * sequence.repetition_time
    # The paper gives hundredths of a millisecond.
    assert float(repetition_time_ms.min()) == pytest.approx(12.07, abs=0.005)
    assert float(repetition_time_ms.max()) == pytest.approx(14.73, abs=0.005)
    flip_angle_deg = np.rad2deg(sequence.flip_angle)
    assert np.count_nonzero(flip_angle_deg == 0) == 40
    assert flip_angle_deg.max() == pytest.approx(70, abs=1e-9)
    assert flip_angle_deg[flip_angle_deg > 0].min() == pytest.approx(5, abs=1e-9)
    np.testing.assert_allclose(sequence.echo_time, 1.908e-3, rtol=1e-15)
    np.testing.assert_allclose(sequence.inversion_time, 18e-3, rtol=1e-15)


def test_flip_angles_in_closed_form_are_the_published_ones():
    file = importlib.resources.files("ganmrf.data") / "mrf_fisp_jiang2015.csv"
    published = np.loadtxt(file.read_text(encoding="utf-8").splitlines(), delimiter=",", skiprows=1)
    # Published to two decimals of a degree.
    np.testing.assert_allclose(np.rad2deg(mrf_fisp().flip_angle), published[:, 1], rtol=0, atol=0.005 + 1e-9)


@pytest.mark.parametrize("n_frames", [1, 7, 480, 1000])
def test_n_frames_is_a_prefix(n_frames):
    whole, prefix = mrf_fisp(), mrf_fisp(n_frames)
    assert prefix.n_frames == n_frames
    for name in ("flip_angle", "repetition_time", "echo_time"):
        np.testing.assert_array_equal(getattr(prefix, name), getattr(whole, name)[:n_frames])


@pytest.mark.parametrize("n_frames", [0, -1, 1001])
def test_n_frames_outside_the_schedule_is_refused(n_frames):
    with pytest.raises(ValueError, match=rf"^n_frames must be 1 to 1000, .*; got {n_frames}$"):
        mrf_fisp(n_frames)
