"""The polynomial of norms is exact for what it can be, in one dimension and in three."""

import jax
import numpy as np
import pytest

from ganmrf.anchors.norms import fit_norms


@pytest.mark.parametrize("n_atoms", [100, 4096])  # at the larger number XLA has summed wrongly
@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_an_exponential_of_a_polynomial_is_found(n_axes, n_atoms):
    rng = np.random.default_rng(0)
    slopes, places = rng.standard_normal(n_axes), rng.random((600, n_axes))

    def truth(x):
        return np.exp(0.3 + x @ slopes - (x @ slopes) ** 2 + x[:, 0] ** 3)

    fitted, unseen = fit_norms(places, truth(places)), rng.random((n_atoms, n_axes)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(fitted.__call__)(unseen), truth(unseen.astype(float)), rtol=1e-5)
