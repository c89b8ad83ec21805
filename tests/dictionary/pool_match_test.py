"""Dictionaries of tissue with a second pool are simulated, compressed, kept on disk and matched as others are."""

import dataclasses

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.grids import pool_grid
from ganmrf.dictionary.match import match
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.dictionary.zarr_fill import begin_store, fill_store
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import TISSUES, parameters

SEQUENCE = dataclasses.replace(mrf_fisp(80), pulse_duration=2e-3, pulse_shape=1.5)
AXES = {"t1": [0.8, 1.4, 2.2], "t2": [0.04, 0.08, 0.15], "fraction": [0.0, 0.1, 0.2], "b1": [0.9, 1.1]}
POOLS = [kind for kind in TISSUES if kind != "one_pool"]


@pytest.fixture(scope="module", params=POOLS)
def dictionary(request):
    return build_dictionary(SEQUENCE, pool_grid(request.param, **AXES))


def test_every_parameter_of_the_atom_is_found(dictionary):
    """Signals of atoms, from another program and times an amplitude, are theirs, and so are all of their parameters."""
    tissue, m0 = dictionary.tissue, 2.0 - 1.0j
    images = m0 * np.asarray(simulate(SEQUENCE, tissue)).T
    for atoms in (dictionary, compress(dictionary, 12)[0]):
        maps = match(atoms, images)
        np.testing.assert_array_equal(maps.index, np.arange(tissue.size))
        np.testing.assert_allclose(maps.m0, m0, rtol=1e-3)  # accuracy of the states, 1e-4 of a signal
        held = {name for name in parameters(tissue) if getattr(tissue, name) is not None}
        assert set(maps.parameters) == held
        for name in held:
            np.testing.assert_array_equal(maps.parameters[name], np.broadcast_to(getattr(tissue, name), tissue.shape))
        np.testing.assert_array_equal(maps.fraction, tissue.fraction)


def test_an_empty_pool_leaves_one_signal(dictionary):
    tissue = dictionary.tissue
    empty = np.asarray(tissue.fraction) == 0
    one = build_dictionary(SEQUENCE, pool_grid("one_pool", t1=AXES["t1"], t2=AXES["t2"], b1=AXES["b1"]))
    np.testing.assert_allclose(dictionary.fingerprints[empty], one.fingerprints, atol=2e-5)  # float32, 1e-4 of states
    np.testing.assert_allclose(dictionary.norms[empty], one.norms, rtol=1e-4)


def test_on_disk_are_the_atoms_of_memory(dictionary, tmp_path):
    store = begin_store(tmp_path / "a.zarr", SEQUENCE, dictionary.tissue, chunk_atoms=16)
    assert fill_store(store) == store.n_chunks
    found = open_dictionary(tmp_path / "a.zarr")
    # Rounding of float32: programs of other widths.
    np.testing.assert_allclose(found.fingerprints, dictionary.fingerprints, atol=1e-6)
    np.testing.assert_allclose(found.norms, dictionary.norms, rtol=1e-6)
    begun = begin_store(tmp_path / "b.zarr", SEQUENCE, dictionary.tissue, chunk_atoms=16, rank=12)
    fill_store(begun)
    signals = dictionary.fingerprints * dictionary.norms[:, None]
    compressed = match(open_dictionary(tmp_path / "b.zarr"), signals, axis=1)
    np.testing.assert_array_equal(compressed.index, np.arange(dictionary.tissue.size))
    other = dataclasses.replace(dictionary.tissue, exchange_rate=25.0)
    with pytest.raises(ValueError, match="another dictionary; these differ: exchange_rate_per_s"):
        begin_store(tmp_path / "a.zarr", SEQUENCE, other, chunk_atoms=16)
    with pytest.raises(ValueError, match=r"these differ: .*tissue"):
        begin_store(tmp_path / "a.zarr", SEQUENCE, pool_grid("one_pool", t1=AXES["t1"], t2=AXES["t2"]), chunk_atoms=16)
