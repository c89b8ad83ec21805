"""Interpolation gives back its nodes, and is what its name says between them."""

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.gan.baselines import linear_interpolation, radial_basis_functions
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.tissue import Tissue

BETWEEN = Tissue(t1=np.array([0.85, 1.3]), t2=np.array([0.055, 0.11]))


@pytest.mark.parametrize("fit", [radial_basis_functions, linear_interpolation])
def test_nodes_come_back(dictionary, fit):
    made = fit(dictionary.tissue, dictionary.fingerprints)(dictionary.tissue)
    assert made.dtype == np.float32
    # 60 frames hold all of 60 coefficients: what is left is float32 rounding.
    assert fingerprint_errors(made, dictionary.fingerprints).max() < 1e-5


def test_linear_interpolation_by_hand():
    """In the middle of an edge, in logarithms, lies the normalised mean of its ends; outside, the nearest corner."""
    tissue = Tissue(t1=np.array([0.4, 1.6, 0.4]), t2=np.array([0.1, 0.1, 0.2]))
    fingerprints = np.eye(3, dtype=np.float32)
    made = linear_interpolation(tissue, fingerprints)(Tissue(t1=np.array([0.8, 4.0]), t2=np.array([0.1, 0.1])))
    np.testing.assert_allclose(made, [[0.5**0.5, 0.5**0.5, 0], [0, 1, 0]], atol=1e-6)


def test_radial_basis_functions_are_smoother_than_lines(dictionary):
    truth = build_dictionary(dictionary.sequence, BETWEEN).fingerprints
    errors = [
        fingerprint_errors(fit(dictionary.tissue, dictionary.fingerprints)(BETWEEN), truth).max()
        for fit in (radial_basis_functions, linear_interpolation)
    ]
    assert errors[0] < 0.1 * errors[1] < 0.1 * 0.02


@pytest.mark.parametrize(("fit", "least"), [(radial_basis_functions, 6), (linear_interpolation, 3)])
def test_too_few_atoms(dictionary, fit, least):
    rows = slice(0, least - 1)
    few = Tissue(dictionary.tissue.t1[rows], dictionary.tissue.t2[rows])
    with pytest.raises(ValueError, match=f"{least} atoms at least; got {least - 1}"):
        fit(few, dictionary.fingerprints[rows])
