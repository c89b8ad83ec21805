"""Gridding, the normal operator and least squares against each other, dense algebra and the truth."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.sparse.linalg

from ganmrf.imaging.acquisition import sample_kspace
from ganmrf.imaging.coils import head_array
from ganmrf.imaging.phantom import TISSUES, digital_brain
from ganmrf.imaging.reconstruct import (
    conjugate_gradients,
    grid_coefficients,
    grid_frames,
    largest_eigenvalue,
    locally_low_rank,
    normal_operator,
)
from ganmrf.imaging.sensitivities import combine
from ganmrf.imaging.trajectory import density_compensation, design_spiral, rotated, rotation_angles
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

NUFFT = 2e-4  # of two transforms, each within 1e-4


def complex_normal(rng, *shape):
    return (rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]).copy()


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@dataclasses.dataclass
class Problem:
    """Coefficients and how they are sampled."""

    coefficients: np.ndarray
    basis: np.ndarray
    sensitivities: np.ndarray
    trajectory: np.ndarray
    voxel_size: tuple[float, float]

    def __post_init__(self):
        self.shape = self.coefficients.shape[1:]
        self.weights = density_compensation(self.trajectory, self.shape, self.voxel_size)
        self.normal = normal_operator(self.trajectory, self.weights, self.basis, self.sensitivities, self.voxel_size)
        self.kspace = self.sampled(self.coefficients)
        self.gridded = self.back(self.kspace)

    def sampled(self, coefficients):
        series = np.einsum("tr,ryx->tyx", self.basis, coefficients).astype(np.complex64)
        return sample_kspace(series, self.sensitivities, self.trajectory, self.voxel_size)

    def back(self, kspace):
        gridded = grid_coefficients(kspace, self.trajectory, self.weights, self.basis, self.shape, self.voxel_size)
        return np.asarray(combine(gridded, self.sensitivities))


def random_problem(shape=(30, 27), rotation="uniform"):
    """Noise in a rectangle of rectangular voxels, seen by 3 coils in 18 frames; nothing fits a patch of 8."""
    rng = np.random.default_rng(0)
    # 18 frames of 6 interleaves, out to the corner of k-space, hypot(100, 125) cycles/m.
    spiral = design_spiral(matrix=52, field_of_view=0.16, interleaves=6)
    sensitivities = complex_normal(rng, 3, 1, 1) + 0.5 * complex_normal(rng, 3, shape[0], 1) * np.ones((1, 1, shape[1]))
    return Problem(
        complex_normal(rng, 3, *shape),
        np.linalg.qr(np.vander(np.linspace(-1, 1, 18), 3))[0].astype(np.float32),
        (sensitivities / np.linalg.norm(sensitivities, axis=0)).astype(np.complex64),
        rotated(spiral.k, rotation_angles(18, rotation, interleaves=6)),
        (5e-3, 4e-3),
    )


@pytest.fixture(scope="module", params=["uniform", "golden"])
def either(request):
    return random_problem(rotation=request.param)


@pytest.fixture(scope="module")
def problem():
    return random_problem()


@pytest.fixture(scope="module")
def brain():
    """A head of 32 x 26 voxels, fully sampled out to the corners of k-space, by golden angle."""
    head = digital_brain(size=32, field_of_view=0.24, variation=0)
    crop = np.s_[..., 3:29]
    times = Tissue(*(np.array(column) for column in list(zip(*TISSUES.values(), strict=True))[:2]))
    signals = np.asarray(simulate(mrf_fisp(60), times))
    _, _, modes = np.linalg.svd(signals, full_matrices=False)
    basis = modes[:3].T
    images = (head.fractions * np.exp(1j * head.phase))[crop]
    sensitivities = head_array(6, 32, 0.24)[crop]
    spiral = design_spiral(matrix=46, field_of_view=0.24, interleaves=8)
    return Problem(
        np.einsum("nt,tr,nyx->ryx", signals, basis, images).astype(np.complex64),
        basis,
        (sensitivities / np.linalg.norm(sensitivities, axis=0)).astype(np.complex64),
        rotated(spiral.k, rotation_angles(60, "golden")),
        (0.0075, 0.0075),
    )


def test_frames_projected_on_the_basis_are_the_gridded_coefficients(either):
    frames = grid_frames(either.kspace, either.trajectory, either.weights, either.sensitivities, either.voxel_size)
    assert frames.dtype == np.complex64
    assert frames.shape == (18, 30, 27)
    assert relative(np.einsum("tr,tyx->ryx", either.basis, frames), either.gridded) < 1e-4


def test_a_complex_basis_is_conjugated(problem):
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(complex_normal(rng, 18, 2))[0]
    p = problem
    frames = grid_frames(p.kspace, p.trajectory, p.weights, p.sensitivities, p.voxel_size)
    gridded = grid_coefficients(p.kspace, p.trajectory, p.weights, basis, p.shape, p.voxel_size)
    expected = np.einsum("tr,tyx->ryx", basis.conj(), frames)
    assert relative(combine(gridded, p.sensitivities), expected) < 1e-4
    other = dataclasses.replace(p, basis=basis, coefficients=p.coefficients[:2])
    assert relative(other.normal(other.coefficients), other.gridded) < NUFFT


def test_the_normal_operator_is_sampling_and_gridding(either):
    found = either.normal(either.coefficients)
    assert relative(found, either.gridded) < NUFFT


def test_the_normal_operator_is_self_adjoint_and_positive(either):
    rng = np.random.default_rng(2)
    for _ in range(3):
        one, other = complex_normal(rng, 3, 30, 27), complex_normal(rng, 3, 30, 27)
        size = np.linalg.norm(one) * np.linalg.norm(other)
        assert abs(np.vdot(other, either.normal(one)) - np.vdot(either.normal(other), one)) / size < 1e-5  # float32
        energy = np.vdot(one, either.normal(one))
        assert energy.real > 0
        # The same by the samples: N times the weighted energy of those of all frames.
        samples = np.abs(either.sampled(one)) ** 2 * either.weights[:, None]
        assert energy.real == pytest.approx(18 * samples.sum(), rel=2 * NUFFT)


def test_a_fully_sampled_brain_without_noise_comes_back(brain):
    found, residuals = conjugate_gradients(brain.normal, brain.gridded, iterations=30)
    assert found.dtype == np.complex64
    assert residuals.shape == (30,)
    assert relative(found, brain.coefficients) < 1e-3
    assert residuals[4] < 0.1
    assert residuals[-1] < residuals[9] < residuals[4]


def test_least_squares_solves_its_normal_equations(problem):
    found, residuals = conjugate_gradients(problem.normal, problem.gridded, iterations=40)
    left = relative(problem.normal(found), problem.gridded)
    assert left == pytest.approx(residuals[-1], abs=1e-5)  # float32
    assert left < 1e-3


@pytest.mark.parametrize("scale", [1e-24, 1e24])
def test_least_squares_does_not_depend_on_the_unit_of_the_samples(problem, scale):
    usual, residuals = conjugate_gradients(problem.normal, problem.gridded, iterations=5)
    scaled, same = conjugate_gradients(problem.normal, np.float32(scale) * problem.gridded, iterations=5)
    assert relative(scaled / scale, usual) < 1e-4  # float32, through five iterations
    np.testing.assert_allclose(same, residuals, rtol=1e-4)


def test_least_squares_of_nothing_is_nothing_and_stays_where_it_has_arrived(problem):
    nothing, residuals = conjugate_gradients(problem.normal, np.zeros_like(problem.gridded), iterations=3)
    assert not nothing.any()
    assert not residuals.any()
    # The identity added: its condition is so good that nothing is left after some dozens of iterations.
    easy = jax.tree_util.Partial(lambda normal, coefficients: normal(coefficients) + coefficients, problem.normal)
    solved, _ = conjugate_gradients(easy, problem.gridded, iterations=60)
    further, residuals = conjugate_gradients(easy, problem.gridded, iterations=300)
    assert relative(further, solved) < 1e-4  # float32
    assert residuals[-1] < 1e-15  # where squares leave the range of float32


def test_the_largest_eigenvalue_is_that_of_the_matrix(problem):
    shape = problem.coefficients.shape

    def apply(vector):
        return np.asarray(problem.normal(vector.reshape(shape).astype(np.complex64)), complex).ravel()

    size = problem.coefficients.size
    matrix = scipy.sparse.linalg.LinearOperator((size, size), apply, dtype=complex)
    (expected,) = scipy.sparse.linalg.eigsh(matrix, k=1, which="LA", tol=1e-4, return_eigenvectors=False)
    assert 0.95 * expected < largest_eigenvalue(problem.normal, shape) < 1.05 * expected * (1 + 1e-3)


def nuclear_norms(coefficients, shift=(0, 0)):
    """Sum over the patches of 8 x 8 voxels, where the image is a whole number of them, moved by ``shift``."""
    moved = np.roll(coefficients, shift, (1, 2))
    rank, rows, columns = moved.shape
    patches = moved.reshape(rank, rows // 8, 8, columns // 8, 8).transpose(1, 3, 0, 2, 4).reshape(-1, rank, 64)
    return np.linalg.svd(patches, compute_uv=False)


@pytest.fixture(scope="module")
def noisy():
    """Undersampled: 10 golden-angle spirals, of which 8 are a full set for one coefficient; and noise."""
    rng = np.random.default_rng(3)
    y, x = np.meshgrid(np.arange(32) - 16, np.arange(24) - 12, indexing="ij")
    # Two tissues in an ellipse: every patch has two directions of coefficients at most.
    ellipse, inner = (y / 14) ** 2 + (x / 10) ** 2 < 1, (y / 8) ** 2 + ((x - 2) / 5) ** 2 < 1
    tissues = np.array([[1.0, 0.3, -0.2], [0.6, -0.4, 0.3]])
    coefficients = np.einsum("nr,nyx->ryx", tissues, [ellipse & ~inner, inner]).astype(np.complex64)
    head = head_array(4, 32, 0.24)[..., 4:28]
    spiral = design_spiral(matrix=32, field_of_view=0.24, interleaves=8, centre_density=1.0)
    made = Problem(
        coefficients,
        np.linalg.qr(np.vander(np.linspace(-1, 1, 10), 3, increasing=True))[0].astype(np.float32),
        (head / np.linalg.norm(head, axis=0)).astype(np.complex64),
        rotated(spiral.k, rotation_angles(10, "golden")),
        (0.0075, 0.0075),
    )
    spread = np.float32(0.1 * np.abs(made.kspace).std())
    made.gridded = made.back(made.kspace + spread * complex_normal(rng, *made.kspace.shape))
    return made


def test_low_rank_patches_lower_the_error_of_a_noisy_undersampled_scan(noisy):
    least, _ = conjugate_gradients(noisy.normal, noisy.gridded, iterations=20)
    few, _ = conjugate_gradients(noisy.normal, noisy.gridded, iterations=5)
    low = locally_low_rank(noisy.normal, noisy.gridded, few, threshold=0.02)
    errors = [relative(found, noisy.coefficients) for found in (least, few, low)]
    assert errors[2] < 0.9 * min(errors[:2])


def test_low_rank_patches_minimise_their_objective(noisy):
    start, _ = conjugate_gradients(noisy.normal, noisy.gridded, iterations=3)
    threshold = 0.02
    weight = threshold * nuclear_norms(start).max()

    def objective(c):
        """Of the patches of all shifts, on average, which random ones have in the mean."""
        fit = np.vdot(c, noisy.normal(c)).real / 2 - np.vdot(c, noisy.gridded).real
        shifts = [(row, column) for row in range(0, 8, 2) for column in range(0, 8, 2)]
        return fit + weight * np.mean([nuclear_norms(c, shift).sum() for shift in shifts])

    values = [objective(start)]
    for iterations in (3, 10, 30, 90):
        found = locally_low_rank(noisy.normal, noisy.gridded, start, threshold=threshold, iterations=iterations)
        values.append(objective(found))
    assert values[0] > values[1] > values[2] > values[3]
    gained = values[0] - min(values)
    assert abs(values[4] - values[3]) < 0.05 * gained  # converged, but for the shifts drawn last
    for step in (1.02, 0.98):
        assert objective(step * found) > values[4]


def test_the_threshold_takes_directions_away(noisy):
    start, _ = conjugate_gradients(noisy.normal, noisy.gridded, iterations=5)
    energies = []
    for threshold in (0.0, 0.02, 0.3):
        found = locally_low_rank(noisy.normal, noisy.gridded, start, threshold=threshold)
        singular = nuclear_norms(found)
        energies.append((singular[:, 1:] ** 2).sum() / (singular**2).sum())
    assert energies[0] > energies[1] > 3 * energies[2]
    assert not locally_low_rank(noisy.normal, noisy.gridded, start, threshold=10.0).any()


def test_no_threshold_is_least_squares(problem):
    start = np.zeros_like(problem.gridded)
    found = locally_low_rank(problem.normal, problem.gridded, problem.gridded, threshold=0.0, iterations=150)
    expected, _ = conjugate_gradients(problem.normal, problem.gridded, iterations=60)
    assert relative(found, expected) < 1e-2
    nothing = locally_low_rank(problem.normal, start, start, iterations=3)
    assert not nothing.any()


def test_shifts_of_the_patches_repeat(problem):
    first, again = (
        locally_low_rank(problem.normal, problem.gridded, problem.gridded, iterations=3, threshold=0.05)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == (3, 30, 27)
