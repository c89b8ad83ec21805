"""Interpolation gives back its nodes, and is what its name says between them; polynomials are, where they can be."""

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.gan.baselines import (
    linear_interpolation,
    radial_basis_functions,
    rsvd_polynomials,
    spline_interpolation,
)
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")

BETWEEN = Tissue(t1=np.array([0.85, 1.3]), t2=np.array([0.055, 0.11]))


@pytest.fixture(scope="module")
def truth(dictionary):
    return build_dictionary(dictionary.sequence, BETWEEN).fingerprints


@pytest.mark.parametrize("fit", [radial_basis_functions, linear_interpolation, spline_interpolation])
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


@pytest.mark.parametrize("fit", [radial_basis_functions, spline_interpolation])
def test_smooth_functions_are_nearer_than_lines(dictionary, truth, fit):
    some = np.random.default_rng(0).random(dictionary.norms.size) < 0.7
    corner = np.logical_and(*(times == times.max() for times in (dictionary.tissue.t1, dictionary.tissue.t2)))
    for rows in (np.ones_like(some), some, ~corner):  # a grid, atoms that are on none, and no atom in a corner
        atoms = dictionary.tissue.rows(rows), dictionary.fingerprints[rows]
        errors = [fingerprint_errors(each(*atoms)(BETWEEN), truth).max() for each in (fit, linear_interpolation)]
        assert errors[0] < 0.1 * errors[1] < 0.1 * 0.02


@pytest.mark.parametrize("fit", [radial_basis_functions, spline_interpolation, rsvd_polynomials])
def test_a_slow_turn_is_a_polynomial_up_to_rounding(dictionary, fit):
    def turned(tissue):
        angle = 0.2 * np.log(tissue.t1) + 0.1 * np.log(tissue.t2)  # within 0.9 of each other
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    made = fit(dictionary.tissue, turned(dictionary.tissue))(BETWEEN)
    np.testing.assert_allclose(made, turned(BETWEEN), atol=2e-7)  # float32 rounding of fingerprints


LEAST = [(radial_basis_functions, 6), (linear_interpolation, 3), (spline_interpolation, 9), (rsvd_polynomials, 55)]


@pytest.mark.parametrize(("fit", "least"), LEAST)
def test_too_few_atoms(dictionary, fit, least):
    rows = slice(0, least - 1)
    few = Tissue(dictionary.tissue.t1[rows], dictionary.tissue.t2[rows])
    with pytest.raises(ValueError, match=f"{least} atoms at least; got {least - 1}"):
        fit(few, dictionary.fingerprints[rows])


@pytest.mark.parametrize("fit", [radial_basis_functions, spline_interpolation])
def test_atoms_on_one_curve(dictionary, fit):
    line = Tissue(np.linspace(0.5, 1, 20), np.full(20, 0.05))
    with pytest.raises(ValueError, match=r"on one curve|does not have full column rank"):
        fit(line, dictionary.fingerprints[:20])


def test_complex_fingerprints_are_those_of_their_parts_and_off_resonance_is_refused(dictionary):
    turned = dictionary.fingerprints * np.exp(1j * np.linspace(0, 3, 60)).astype(np.complex64)
    made, whole = (linear_interpolation(dictionary.tissue, each)(BETWEEN) for each in (dictionary.fingerprints, turned))
    assert whole.dtype == np.complex64
    np.testing.assert_allclose(whole, made * np.exp(1j * np.linspace(0, 3, 60)), atol=1e-5)
    with pytest.raises(ValueError, match="over T1 and T2 alone; the atoms have off_resonance"):
        linear_interpolation(Tissue(dictionary.tissue.t1, dictionary.tissue.t2, 1.0, 0.0), turned)
