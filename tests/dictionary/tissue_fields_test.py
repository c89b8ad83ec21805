"""A dictionary of any tissue comes back from any file bit for bit; another kind of tissue is never read as one pool."""

import json
import tempfile
import warnings

import hypothesis
import jax
import numpy as np
import pytest
import scipy.io
from hypothesis import strategies as st

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.npz import load_dictionary, save_dictionary, save_dictionary_in_blocks
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import TISSUES, ExchangingPools, SemisolidPool, parameters
from tests.dictionary.sequence_fields_test import SUFFIXES, assert_identical, in_memory, saved, tampered

EXCHANGING = ExchangingPools(np.float32([1.0, 1.5]), np.float32([0.1, 0.2]), 0.2, 10.0, 0.4, 0.015, 0.9)
SEMISOLID = SemisolidPool(np.float32([1.0, 1.5]), np.float32([0.1, 0.2]), np.float32([0, 0.2]), 14.0, 0.34, 1.5e-5)


def dictionary(tissue):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((tissue.size, 3)).astype(np.float32)
    norms = np.linalg.norm(rows, axis=1)
    return Dictionary(tissue, rows / norms[:, None], norms, Fisp([0.5, 0.6, 0.7], 0.01, 0.002, pulse_duration=2e-3))


@st.composite
def tissues(draw, kind):
    """Tissue of random values: each parameter but T1 and T2 is one number, one for each atom, or None if allowed."""
    atoms, values = draw(st.sampled_from([1, 3])), {}
    for field, facts in parameters(TISSUES[kind]).items():
        least = -200.0 if facts.signed else 0.0 if facts.may_be_least else 2.0**-20
        most = min(facts.most, 2.0**-8 if facts.unit == "s" and field == "lineshape" else 10.0)
        number = st.floats(least, most, width=32)
        several = st.lists(number, min_size=atoms, max_size=atoms).map(np.float32)
        values[field] = several if field in ("t1", "t2") else number | several
        if TISSUES[kind].__dataclass_fields__[field].default is None:
            values[field] |= st.none()
    found = draw(st.fixed_dictionaries(values))
    for t1, t2 in (("t1", "t2"), ("t1_b", "t2_b")):
        if t2 in found:
            found[t2] = np.minimum(found[t1], found[t2]).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that pools are named the other way round
        return TISSUES[kind](**found).ravel()


@pytest.mark.filterwarnings("ignore:ExchangingPools. by convention")
@pytest.mark.parametrize("kind", TISSUES)
@hypothesis.settings(max_examples=8)
@hypothesis.given(data=st.data())
def test_any_tissue_comes_back(kind, data):
    expected = dictionary(data.draw(tissues(kind)))
    suffix = data.draw(st.sampled_from(SUFFIXES))
    with tempfile.TemporaryDirectory() as folder:
        found = open_dictionary(saved(folder, suffix, expected))
        assert type(found.tissue) is TISSUES[kind]
        assert_identical(in_memory(found), expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_double_precision_comes_back(tmp_path, suffix):
    with jax.enable_x64(True):
        expected = dictionary(SemisolidPool(*np.random.default_rng(0).uniform([1, 0.1], [2, 0.2]), 0.1, 9.0, 0.3, 1e-5))
        expected = dictionary(expected.tissue.ravel())
        assert_identical(in_memory(open_dictionary(saved(tmp_path, suffix, expected))), expected)


def test_names_in_matlab(tmp_path):
    save_dictionary(tmp_path / "a.mat", dictionary(EXCHANGING))
    found = {name: shape for name, shape, _ in scipy.io.whosmat(tmp_path / "a.mat")}
    assert scipy.io.loadmat(tmp_path / "a.mat")["tissue"] == "exchanging"
    for name, size in {"t1_s": 2, "t2_s": 2, "b1": 1, "fraction": 1, "exchange_rate_per_s": 1, "t2_b_s": 1}.items():
        assert found[name] == (size, 1)
    assert {"fraction_per_atom", "exchange_rate_per_s_per_atom"} <= found.keys()
    assert not {"shift_hz", "off_resonance_hz"} & found.keys()


def test_blocks_of_atoms_make_the_same_file(tmp_path):
    whole = dictionary(SEMISOLID)
    parts = [
        Dictionary(whole.tissue.rows(rows), whole.fingerprints[rows], whole.norms[rows], whole.sequence)
        for rows in (slice(1), slice(1, 2))
    ]
    save_dictionary_in_blocks(tmp_path / "a.npz", parts, 2)
    assert_identical(load_dictionary(tmp_path / "a.npz"), whole)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tissue": "three_pools"}, "of kind 'three_pools'; this version knows one_pool, .*: update ganmrf"),
        ({"tissue": None}, "lineshape_s.* is no variable of .* tissue of its kind: damaged"),
        ({"tissue": "exchanging"}, "lineshape_s.* is no variable of .* tissue of its kind: damaged"),
        ({"fraction": None}, "no fraction: not a whole dictionary"),
    ],
)
def test_a_kind_is_not_taken_for_another(tmp_path, suffix, changes, words):
    path = tampered(tmp_path, suffix, dictionary(SEMISOLID), **changes)
    with pytest.raises(ValueError, match=words) as error:
        open_dictionary(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_older_versions_refuse_pools(tmp_path):
    """They read schema 3 at most, and would lose the second pool."""
    save_dictionary(tmp_path / "a.npz", dictionary(SEMISOLID))
    with np.load(tmp_path / "a.npz") as file:
        assert (file["schema_version"], file["tissue"]) == (4, "semisolid")
    path = saved(tmp_path, ".zarr", dictionary(EXCHANGING))
    attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    assert (attributes["schema_version"], attributes["tissue"]) == (4, "exchanging")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fraction": np.float32([0, 1.5])}, r"SemisolidPool\.fraction must be 0 to 1; got 1\.5 at index 1"),
        ({"fraction": np.float32([0, 0.1, 0.2])}, r"fraction has shape \(3,\), but there are 2 atoms"),
        ({"fraction": np.array([0, 1])}, "fraction has dtype int64; allowed: float32, float64"),
        ({"tissue": np.ones(3)}, "tissue must be text"),
    ],
)
def test_a_wrong_array_of_tissue_is_named(tmp_path, changes, words):
    path = tampered(tmp_path, ".npz", dictionary(SEMISOLID), **changes)
    with pytest.raises(ValueError, match=words) as error:
        load_dictionary(path)
    assert str(error.value).startswith(str(path))
