"""The constructor of `Tissue` refuses tissue that cannot be, and its voxels can be listed."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import (
    TISSUES,
    ExchangingPools,
    SemisolidPool,
    Tissue,
    flag_name,
    parameters,
    variable_name,
)
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


WHITE_MATTER = {
    Tissue: {"t1": 1.0, "t2": 0.07},
    ExchangingPools: {"t1": 1.1, "t2": 0.08, "fraction": 0.15, "exchange_rate": 10.0, "t1_b": 0.4, "t2_b": 0.015},
    SemisolidPool: {"t1": 1.84, "t2": 0.07, "fraction": 0.21, "exchange_rate": 14.0, "t1_b": 0.34, "lineshape": 1.5e-5},
}


@pytest.mark.parametrize("kind", TISSUES.values())
def test_what_is_true_of_a_parameter_is_what_a_tissue_takes(kind):
    """Its smallest and largest value, if allowed, and values beyond; each array and each flag has a name of its own."""
    facts = parameters(kind)
    assert list(facts) == [field.name for field in dataclasses.fields(kind)]
    assert parameters(kind(**WHITE_MATTER[kind])) == facts
    for name in (variable_name, flag_name):
        assert len({name(field, parameter) for field, parameter in facts.items()}) == len(facts)
    slow = dict.fromkeys({"t1", "t1_b"} & facts.keys(), 2.0)
    for field, parameter in facts.items():
        for value in (parameter.least, parameter.most, -0.1, 0.0, 1.5, np.nan, np.inf):
            values = WHITE_MATTER[kind] | slow | {field: value}
            if parameter.allows(value):
                with unusual_values():
                    assert getattr(kind(**values), field) == np.float32(value)
            else:
                with pytest.raises(ValueError, match=rf"^{kind.__name__}\.{field} must be {parameter.rule}; got "):
                    kind(**values)


BAD_POOLS = [
    ({"fraction": 1.2}, r"fraction must be 0 to 1; got 1\.2$"),
    ({"fraction": [0.1, -0.1]}, r"fraction must be 0 to 1; got -0\.1 at index 1$"),
    ({"fraction": 15.0}, r"fraction must be 0 to 1; got 15$"),
    ({"exchange_rate": -1.0}, "exchange_rate must be 0 or more, and finite; got -1$"),
    ({"exchange_rate": 1e7}, r"exchange_rate must be in 1/s, .*1/min"),
    ({"t2": 2.0}, r"t2 must not exceed t1; got t2 = 2, t1 = 1\.\d+$"),
    ({"t1_b": 0.0}, "t1_b must be positive and finite; got 0$"),
    ({"t1_b": 340.0}, r"t1_b must be in s, 20 at most \(is it in ms"),
    ({"fraction": None}, "fraction must be a number or an array of numbers; got None$"),
    ({"t1": [1.0, 2.0], "fraction": [0.1, 0.2, 0.3]}, "do not broadcast"),
]
OF_ONE_KIND = [
    (ExchangingPools, {"t2_b": 0.5}, r"t2_b must not exceed t1_b; got t2_b = 0\.5, t1_b = 0\.4$"),
    (ExchangingPools, {"t2_b": [0.01, np.inf]}, "t2_b must be positive and finite; got inf at index 1$"),
    (ExchangingPools, {"shift": np.nan}, "shift must be finite; got nan$"),
    (ExchangingPools, {"shift": 2e4}, r"shift must be in Hz, .*rad/s"),
    (SemisolidPool, {"lineshape": -1e-6}, "lineshape must be 0 or more, and finite; got -1e-06$"),
    (SemisolidPool, {"lineshape": 15.1}, r"lineshape must be in s, 0\.01 at most \(is it in us"),
]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [*((kind, *bad) for kind in (ExchangingPools, SemisolidPool) for bad in BAD_POOLS), *OF_ONE_KIND],
)
def test_bad_pools_are_refused(kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(**WHITE_MATTER[kind] | change)


def test_pools_of_swapped_names_are_warned_of():
    swapped = {"t1": 0.4, "t2": 0.015, "fraction": [0.1, 0.85], "exchange_rate": 10.0, "t1_b": 1.1, "t2_b": 0.08}
    with pytest.warns(UserWarning, match=r"by convention pool b is the smaller one .* fraction = 0\.85 at index 1"):
        ExchangingPools(**swapped)
    ExchangingPools(**swapped | {"fraction": 0.5})
    ExchangingPools(**WHITE_MATTER[ExchangingPools] | {"fraction": 0.85})
    SemisolidPool(**WHITE_MATTER[SemisolidPool] | {"fraction": 0.85})  # one that can be no other pool


@pytest.mark.parametrize("kind", TISSUES.values())
def test_voxels_of_every_kind_are_listed_and_chosen(kind):
    tissue = kind(**WHITE_MATTER[kind] | {"t1": np.linspace(1, 2, 6).reshape(2, 3), "b1": np.array([0.9, 1.0, 1.1])})
    flat = tissue.ravel()
    assert (tissue.shape, tissue.size, flat.shape) == ((2, 3), 6, (6,))
    np.testing.assert_array_equal(flat.b1, np.float32([0.9, 1.0, 1.1] * 2))
    some = flat.rows(np.array([4, 1]))
    assert some.shape == (2,)
    for name, value in vars(some).items():
        if value is not None:
            expected = np.broadcast_to(getattr(tissue, name), (2, 3)).ravel()[[4, 1]]
            np.testing.assert_array_equal(np.broadcast_to(value, 2), expected)
