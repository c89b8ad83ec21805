"""T1 and T2 of components between atoms: two atoms for one component become one, and one for noise is left out."""

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.component_fit import fit_components
from ganmrf.dictionary.compress import svd_basis
from ganmrf.dictionary.grids import grid_of
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_components_are_as_many_as_the_voxels_show():
    t1, t2 = np.geomspace(0.3, 4.8, 9), np.geomspace(0.02, 0.64, 11)
    dictionary = build_dictionary(mrf_fisp(200), grid_of(t1, t2))
    truth, rng, noise = Tissue(np.array([0.5, 1.4]), np.array([0.033, 0.1])), np.random.default_rng(0), 2e-3
    signals = rng.dirichlet(np.ones(2), 100) @ np.asarray(simulate(dictionary.sequence, truth), float)
    signals += noise * rng.standard_normal(signals.shape)
    starts = np.array([[t1[2], t2[1]], [t1[4], t2[4]], [t1[5], t2[5]], [t1[8], t2[8]]])  # the last explains nothing
    times = np.stack([dictionary.tissue.t1, dictionary.tissue.t2], axis=1)
    rows = np.array([np.argmin(np.abs(times / start - 1).sum(axis=1)) for start in starts])
    basis = svd_basis(np.asarray(dictionary.fingerprints), 24)
    found = fit_components(dictionary, rows, np.array([0.5, 0.3, 0.2, 0.01]), signals @ basis, basis, noise)
    order = np.argsort(found.t1)
    np.testing.assert_allclose(found.t1[order], truth.t1, rtol=0.02)  # noise
    np.testing.assert_allclose(found.t2[order], truth.t2, rtol=0.02)
