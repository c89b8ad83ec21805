"""What is fast in a kernel is as exact as what it takes the place of."""

import numpy as np

from ganmrf.physics.engines import one_kernel


def test_cosine_and_sine_of_many_angles():
    angle = np.linspace(-600, 600, 200_001, dtype=np.float32)  # a hundred turns each way
    cos, sin = one_kernel.cos_sin(angle, in_kernel=True)
    np.testing.assert_allclose(cos, np.cos(angle.astype(float)), atol=3e-7)  # some roundings of float32, 6e-8
    np.testing.assert_allclose(sin, np.sin(angle.astype(float)), atol=3e-7)
    small = np.float32([0, 1e-20, -3e-5])
    np.testing.assert_allclose(one_kernel.cos_sin(small, in_kernel=True)[1], small, rtol=1e-7)
