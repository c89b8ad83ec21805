import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import is_traced, pytree, require

BAD_TISSUES = [
    ({"t1": 0.0}, r"^Tissue\.t1 must be positive and finite; got 0$"),
    ({"t1": [1.0, -1.0]}, r"^Tissue\.t1 must be positive and finite; got -1 at index 1$"),
    ({"t1": np.inf}, r"^Tissue\.t1 must be positive and finite; got inf$"),
    ({"t2": np.nan}, r"^Tissue\.t2 must be positive and finite; got nan$"),
    ({"t2": -0.1}, r"^Tissue\.t2 must be positive and finite; got -0\.1$"),
    ({"b1": 0.0}, r"^Tissue\.b1 must be positive and finite; got 0$"),
    ({"b1": [[1.0, 1.0], [np.inf, 1.0]]}, r"^Tissue\.b1 must be positive and finite; got inf at index 1, 0$"),
    ({"t2": [0.1, 1.5]}, r"^Tissue\.t2 must not exceed t1; got t2 = 1\.5 at index 1, t1 = 1 at index 1$"),
    (
        {"t1": [1.0, 2.0], "b1": [1.0, 1.0, 1.0]},
        r"^Tissue: the shapes of t1 \(2,\), t2 \(\), b1 \(3,\) do not broadcast",
    ),
    ({"t1": "slow"}, r"^t1 must be a number or an array of numbers; got 'slow'$"),
    ({"t1": None}, r"^t1 must be a number or an array of numbers; got None$"),
    ({"b1": 1j}, r"^b1 must hold real numbers; got dtype complex64$"),
    ({"b1": True}, r"^b1 must hold real numbers; got dtype bool$"),
]


@pytest.mark.parametrize(("change", "message"), BAD_TISSUES)
def test_bad_tissue_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Tissue(**{"t1": 1.0, "t2": 0.1} | change)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Tissue(1.0, 0.1), **change)


BAD_SEQUENCES = [
    ({"flip_angle": 0.5}, r"^Sequence\.flip_angle must be \(frames,\) with one frame at least; got \(\)$"),
    ({"flip_angle": []}, r"^Sequence\.flip_angle must be \(frames,\) with one frame at least; got \(0,\)$"),
    ({"flip_angle": [[0.5]]}, r"^Sequence\.flip_angle must be \(frames,\) with one frame at least; got \(1, 1\)$"),
    ({"flip_angle": [0.5, np.nan]}, r"^Sequence\.flip_angle must be within \+-2 pi rad; got nan at index 1$"),
    ({"flip_angle": [0.5, -70]}, r"^Sequence\.flip_angle must be within \+-2 pi rad; got -70 at index 1$"),
    ({"flip_angle": ["x", "y"]}, r"^flip_angle must be a number or an array of numbers"),
    ({"repetition_time": 0.0}, r"^Sequence\.repetition_time must be positive and finite; got 0 at index 0$"),
    (
        {"repetition_time": [0.01, np.inf]},
        r"^Sequence\.repetition_time must be positive and finite; got inf at index 1$",
    ),
    ({"repetition_time": [0.01] * 3}, r"^Sequence\.repetition_time has shape \(3,\), but flip_angle has 2 frames$"),
    ({"echo_time": [0.001]}, r"^Sequence\.echo_time has shape \(1,\), but flip_angle has 2 frames$"),
    ({"echo_time": -0.001}, r"^Sequence\.echo_time must be 0 or more, and finite; got -0\.001 at index 0$"),
    ({"echo_time": np.nan}, r"^Sequence\.echo_time must be 0 or more, and finite; got nan at index 0$"),
    (
        {"echo_time": [0.002, 0.02]},
        r"^Sequence\.echo_time must not exceed repetition_time; got echo_time = 0\.02 at index 1, "
        r"repetition_time = 0\.01 at index 1$",
    ),
    (
        {"inversion_time": -1.0},
        r"^Sequence\.inversion_time must be 0 or more, and finite \(None for no inversion\); got -1$",
    ),
    ({"inversion_time": np.inf}, r"^Sequence\.inversion_time must be 0 or more.*; got inf$"),
    ({"inversion_time": [0.02, 0.02]}, r"^Sequence\.inversion_time must be one number; got shape \(2,\)$"),
]


@pytest.mark.parametrize(("change", "message"), BAD_SEQUENCES)
def test_bad_sequence_is_refused(change, message):
    good = {"flip_angle": [0.5, 0.6], "repetition_time": 0.01, "echo_time": 0.002, "inversion_time": 0.02}
    with pytest.raises(ValueError, match=message):
        Sequence(**good | change)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Sequence(**good), **change)


@pytest.mark.parametrize("flip_angle", [2 * np.pi, -2 * np.pi, 0.0])
def test_a_full_turn_is_the_limit_and_allowed(flip_angle):
    sequence = Sequence([flip_angle], 0.01, 0.01, 0.0)
    assert sequence.flip_angle == jnp.float32(flip_angle)


def test_one_number_stands_for_all_frames():
    sequence = Sequence([0.1, 0.2, 0.3], 0.01, [0.001, 0.002, 0.003])
    assert sequence.n_frames == 3
    np.testing.assert_array_equal(sequence.repetition_time, np.full(3, 0.01, np.float32))
    np.testing.assert_array_equal(sequence.echo_time, np.array([0.001, 0.002, 0.003], np.float32))
    assert sequence.inversion_time is None


def test_numbers_become_floating_point_of_the_precision_in_force():
    assert {leaf.dtype for leaf in jax.tree.leaves(Tissue(2, 1, 1))} == {jnp.dtype("float32")}
    assert Tissue(jnp.float16(2), 1).t1.dtype == jnp.float16
    with jax.enable_x64(True):
        tissue, sequence = Tissue(2, np.array(0.1)), Sequence(np.ones(3), 1, 0, 0)
        assert {leaf.dtype for leaf in jax.tree.leaves((tissue, sequence))} == {jnp.dtype("float64")}


SHAPES = st.sampled_from([(), (1,), (3,), (2, 1), (2, 3)])


@hypothesis.given(st.tuples(SHAPES, SHAPES, SHAPES))
def test_ravel_lists_the_voxels_of_the_broadcast_tissue(shapes):
    random = np.random.default_rng(0)
    t1, t2, b1 = (random.uniform(low, 2 * low, shape) for low, shape in zip((1, 0.1, 0.9), shapes, strict=True))
    tissue = Tissue(t1, t2, b1)
    flat = tissue.ravel()
    assert tissue.shape == np.broadcast_shapes(*shapes)
    assert tissue.size == flat.size == np.prod(tissue.shape, dtype=int)
    assert flat.b1.shape == (() if np.ndim(b1) == 0 else flat.t1.shape)
    for name, given in [("t1", t1), ("t2", t2), ("b1", b1)]:
        listed = np.broadcast_to(getattr(flat, name), flat.t1.shape)
        np.testing.assert_array_equal(listed, np.broadcast_to(given, tissue.shape).ravel().astype(np.float32))


def test_fields_are_the_leaves_by_name():
    leaves = jax.tree_util.tree_leaves_with_path(Sequence([0.1], 0.01, 0.001, 0.02))
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    assert names == [".flip_angle", ".repetition_time", ".echo_time", ".inversion_time"]
    assert len(jax.tree.leaves(Sequence([0.1], 0.01, 0.001))) == 3  # no inversion: None is structure, not a leaf


def test_rebuilding_skips_the_checks():
    """Transforms fill trees with placeholders, tangents and batches that the constructors would refuse."""
    tissue, sequence = Tissue(1.0, 0.1), Sequence([0.1, 0.2], 0.01, 0.001)
    assert jax.tree.map(lambda leaf: -leaf, tissue).t1 == -1
    assert jax.tree.map(lambda _: "placeholder", sequence).flip_angle == "placeholder"


def test_fields_cannot_be_assigned():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Tissue(1.0, 0.1).t1 = 2.0


def test_jit_builds_and_takes_them():
    @jax.jit
    def doubled(tissue):
        assert is_traced(tissue)
        assert is_traced(1.0, tissue)
        return dataclasses.replace(tissue, t1=2 * tissue.t1), Sequence(tissue.t1 * jnp.ones(3), 0.01, 0.001)

    tissue, sequence = doubled(Tissue([1.0, 1.0, 3.0], 0.1))
    assert not is_traced(tissue, sequence)
    np.testing.assert_array_equal(tissue.t1, [2, 2, 6])
    np.testing.assert_array_equal(sequence.flip_angle, [1, 1, 3])


def test_vmap_takes_one_voxel_at_a_time():
    tissue = Tissue([1.0, 2.0], [0.1, 0.2], [1.0, 0.5])
    shapes = []
    product = jax.vmap(lambda voxel: shapes.append(voxel.shape) or voxel.t1 * voxel.b1)(tissue)
    assert shapes == [()]
    np.testing.assert_array_equal(product, [1, 1])


def test_grad_has_the_structure_of_its_argument():
    tissue, sequence = Tissue([1.0, 2.0], 0.5, 1.5), Sequence([0.1, 0.2], 0.01, 0.001, 0.02)
    slopes, changes = jax.grad(
        lambda tissue, sequence: jnp.sum(tissue.t1**2) * tissue.t2 + jnp.sum(sequence.flip_angle), argnums=(0, 1)
    )(tissue, sequence)
    # Powers of two: exact in single precision.
    np.testing.assert_array_equal(slopes.t1, [1, 2])
    assert slopes.t2 == 5
    assert slopes.b1 == 0
    np.testing.assert_array_equal(changes.flip_angle, [1, 1])
    np.testing.assert_array_equal(changes.repetition_time, [0, 0])


def test_static_fields_are_structure():
    @pytree
    @dataclasses.dataclass(frozen=True)
    class Scaled:
        value: jax.Array
        power: int = dataclasses.field(metadata={"static": True})

    assert jax.tree.leaves(Scaled(3.0, 2)) == [3.0]
    assert jax.jit(lambda scaled: scaled.value**scaled.power)(Scaled(3.0, 2)) == 9
    assert jax.tree.structure(Scaled(3.0, 2)) != jax.tree.structure(Scaled(3.0, 3))
    assert jax.tree.map(lambda leaf: leaf + 1, Scaled(3.0, 2)) == Scaled(4.0, 2)


def test_require_names_the_first_offender_and_lets_tracers_pass():
    with pytest.raises(ValueError, match=r"^x must be positive; got -2 at index 1, 0$"):
        require("x", np.array([[1, 1], [-2, -3]]), lambda x: x > 0, "positive")
    require("x", np.array([1, 2]), lambda x: x > 0, "positive")

    def check(x):
        require("x", x, lambda x: x > 0, "positive")
        return x

    assert jax.jit(check)(-1) == -1
