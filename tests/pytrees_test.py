"""Frozen pytrees: transforms rebuild them without checks, static fields are structure, checks name the offender."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import array_nodes, arrays_and_structure, is_traced, pytree, require, tree_of


def test_rebuilding_skips_the_checks():
    """Transforms fill trees with placeholders, tangents and batches that the constructors would refuse."""
    tissue, sequence = Tissue(1.0, 0.1), Fisp([0.1, 0.2], 0.01, 0.001)
    assert jax.tree.map(lambda leaf: -leaf, tissue).t1 == -1
    assert jax.tree.map(lambda _: "placeholder", sequence).flip_angle == "placeholder"


def test_jit_builds_and_takes_them():
    @jax.jit
    def doubled(tissue):
        assert is_traced(tissue)
        assert is_traced(1.0, tissue)
        return dataclasses.replace(tissue, t1=2 * tissue.t1), Fisp(tissue.t1 * jnp.ones(3), 0.01, 0.001)

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
    tissue, sequence = Tissue([1.0, 2.0], 0.5, 1.5), Fisp([0.1, 0.2], 0.01, 0.001, 0.02)
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


def test_a_file_may_hold_a_class_by_its_former_name():
    arrays, structure = arrays_and_structure(Fisp([0.1, 0.2], 0.01, 0.001, 0.02))
    again = tree_of(arrays, structure | {"class": "Sequence"}, [Fisp])
    assert isinstance(again, Fisp)
    np.testing.assert_array_equal(again.flip_angle, np.float32([0.1, 0.2]))


def test_tuples_come_back_from_arrays_and_json():
    """Numbers as arrays under names of one's choice; what holds anything else, entry by entry, of the same types."""

    @dataclasses.dataclass(frozen=True)
    class Parts:
        parts: tuple
        turns: tuple = (1, 0, 2)
        flags: tuple = (True, False)
        words: tuple = ("a", None, 3)

    tree = Parts((Fisp([0.1, 0.2], 0.01, 0.001), None, Parts(())))
    arrays, structure = arrays_and_structure(tree, "_".join)
    assert arrays["turns"].dtype == int
    assert arrays["parts_2_flags"].dtype == bool
    assert arrays.keys() == {node["array"] for node in array_nodes(structure)}
    again = tree_of(arrays, json.loads(json.dumps(structure)), [Parts, Fisp])
    assert again.parts[1:] == tree.parts[1:]
    assert again.words == tree.words
    assert [type(each) for each in again.turns + again.flags] == [int] * 3 + [bool] * 2
    np.testing.assert_array_equal(again.parts[0].flip_angle, tree.parts[0].flip_angle)
