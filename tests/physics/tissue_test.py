"""The constructor of `Tissue` refuses tissue that cannot be, and its voxels can be listed."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import unusual_values

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


def test_numbers_become_floating_point_of_the_precision_in_force():
    assert {leaf.dtype for leaf in jax.tree.leaves(Tissue(2, 1, 1))} == {jnp.dtype("float32")}
    assert Tissue(jnp.float16(2), 1).t1.dtype == jnp.float16
    with jax.enable_x64(True):
        tissue, sequence = Tissue(2, np.array(0.1)), Fisp(np.ones(3), 1, 0, 0)
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


def test_fields_cannot_be_assigned():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Tissue(1.0, 0.1).t1 = 2.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"t1": [0.9, 950.0], "t2": 0.04}, r"Tissue.t1 must be in s, .* in ms\?.*; got 950 at index 1"),
        ({"t1": 950.0, "t2": 40.0}, "Tissue.t1 must be in s"),
        ({"t1": 0.9, "t2": 0.04, "b1": 100.0}, r"Tissue.b1 must be .* in percent\?.*; got 100"),
        (
            {"t1": 0.9, "t2": 0.04, "off_resonance": [0.0, -1e9]},
            r"Tissue.off_resonance must be in Hz, 10000 at most .* in rad/s\?.*; got -1e\+09 at index 1",
        ),
    ],
)
def test_values_in_everyday_units_are_refused_unless_told_otherwise(values, words):
    with pytest.raises(ValueError, match=words):
        Tissue(**values)
    with unusual_values():
        Tissue(**values)
    with pytest.raises(ValueError, match=words):
        Tissue(**values)
