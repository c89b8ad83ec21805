"""Configuration of spirals: what its fields mean in SI units."""

import numpy as np
import pytest

from ganmrf.runs.spiral_config import SpiralConfig

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_spirals_in_si_units():
    config = SpiralConfig(16, field_of_view_mm=200.0, interleaves=4)
    assert config.field_of_view == pytest.approx(0.2)
    trajectory = config.trajectory(3)
    assert trajectory.shape[::2] == (3, 2)
    # Half the matrix over the field of view, 1/m, is the edge of k-space.
    assert np.linalg.norm(trajectory, axis=-1).max() == pytest.approx(40.0, rel=0.05)
