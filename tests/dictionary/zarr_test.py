"""A dictionary on disk is that of memory, bit for bit, however it was interrupted; what is not whole is not read."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.grids import grid_of, tissue_grid
from ganmrf.dictionary.npz import save_dictionary
from ganmrf.dictionary.zarr import ChunkedStore, open_dictionary
from ganmrf.dictionary.zarr_fill import begin_store, fill_store
from ganmrf.physics.sequences.bssfp import ma_bssfp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.slice_profile import sinc_slice_profile
from ganmrf.physics.tissue import Tissue

SEQUENCE, GRID, CHUNK = mrf_fisp(50), tissue_grid("coarse"), 64  # 297 atoms: 5 chunks, the last of 41
RANK = 7


def stream(path, sequence=SEQUENCE, tissue=GRID, **settings):
    return fill_store(begin_store(path, sequence, tissue, **({"chunk_atoms": CHUNK} | settings)))


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def dictionary():
    return build_dictionary(SEQUENCE, GRID)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """A whole store, and a whole one of rank 7: not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    stream(folder / "full.zarr")
    stream(folder / "compressed.zarr", rank=RANK)
    return folder


@pytest.fixture
def stores(streamed, tmp_path):
    """Copies of them, to be damaged."""
    return shutil.copytree(streamed, tmp_path / "stores")


@pytest.mark.parametrize("chunk", [CHUNK, 100, 1000])
def test_rows_are_those_of_memory_whatever_the_chunks(dictionary, tmp_path, chunk):
    assert stream(tmp_path / "a.zarr", chunk_atoms=chunk) == -(-297 // chunk)
    stored = open_dictionary(tmp_path / "a.zarr")
    np.testing.assert_array_equal(stored.fingerprints, dictionary.fingerprints)
    np.testing.assert_array_equal(stored.norms, dictionary.norms)
    np.testing.assert_array_equal(stored.tissue.t1, GRID.t1)
    np.testing.assert_array_equal(stored.tissue.t2, GRID.t2)
    assert np.shape(stored.tissue.b1) == ()
    np.testing.assert_array_equal(stored.sequence.flip_angle, SEQUENCE.flip_angle)
    assert stored.basis is stored.slice_profile is None


def test_precision_slice_profile_and_b1_are_those_it_was_begun_with(tmp_path):
    with jax.enable_x64(True):
        tissue = Tissue(t1=np.full(20, 1.0), t2=np.linspace(0.02, 0.3, 20), b1=np.linspace(0.8, 1.2, 20))
        settings = {"n_states": 8, "slice_profile": sinc_slice_profile(2)}
        expected = build_dictionary(mrf_fisp(10), tissue, **settings)
        store = begin_store(tmp_path / "a.zarr", mrf_fisp(10), tissue, chunk_atoms=12, **settings)
    assert fill_store(store) == 2
    stored = open_dictionary(tmp_path / "a.zarr")
    assert stored.fingerprints.dtype == stored.norms.dtype == expected.fingerprints.dtype == np.float64
    np.testing.assert_array_equal(stored.fingerprints, expected.fingerprints)
    np.testing.assert_array_equal(store.fields["b1"], expected.tissue.b1)
    np.testing.assert_array_equal(stored.slice_profile.nodes, expected.slice_profile.nodes)


def test_coefficients_are_those_of_compress(dictionary, streamed):
    stored = open_dictionary(streamed / "compressed.zarr")
    expected, kept = compress(dictionary, RANK)  # 297 atoms are all in the sample that the basis is made from
    np.testing.assert_array_equal(stored.basis, expected.basis)
    # Products of other sizes may round otherwise in float64, which turns a float32 by its last bit at most.
    np.testing.assert_allclose(stored.fingerprints, expected.fingerprints, rtol=0, atol=1e-7)
    np.testing.assert_allclose(stored.norms, expected.norms, rtol=2e-7)
    left_out = ChunkedStore.open(streamed / "compressed.zarr").read("left_out", slice(None))
    np.testing.assert_allclose(left_out.mean(dtype=float), 1 - kept, rtol=1e-6)
    restored = stored.norms[:][:, None] * stored.fingerprints[:] @ stored.basis.T
    signals = dictionary.fingerprints * dictionary.norms[:, None]
    share = np.sum((restored - signals) ** 2, axis=1) / dictionary.norms**2
    np.testing.assert_allclose(left_out, share, rtol=1e-2, atol=1e-12)


@pytest.mark.parametrize(
    ("sequence", "tissue", "n_states"),
    [
        (mrf_fisp(20), grid_of(np.geomspace(0.1, 3, 160), np.geomspace(0.01, 0.1, 100)), 8),
        (ma_bssfp(20), grid_of(np.geomspace(0.3, 3, 12), np.geomspace(0.02, 0.2, 12), 1.0, np.arange(-75, 80, 1)), 1),
    ],
    ids=["fisp", "bssfp"],
)
def test_the_basis_of_a_sample_serves_all_atoms(tmp_path, sequence, tissue, n_states):
    """Of more atoms than the basis is made from, as many as four times."""
    stream(tmp_path / "a.zarr", sequence, tissue, n_states=n_states, rank=4, chunk_atoms=8192)
    left_out = ChunkedStore.open(tmp_path / "a.zarr").read("left_out", slice(None)).mean(dtype=float)
    least = 1 - compress(build_dictionary(sequence, tissue, n_states=n_states), 4)[1]
    assert least < left_out < 1.1 * least  # a fourth of a smooth manifold's points, all over it


@pytest.mark.parametrize("x64", [False, True])
def test_a_store_of_any_sequence_is_that_of_memory(tmp_path, x64):
    """Complex fingerprints and basis, real norms; phases of half turns and static fields as they were."""
    with jax.enable_x64(x64):
        sequence = ma_bssfp(30)
        tissue = grid_of([0.5, 1.0], [0.05, 0.1], 1.0, np.arange(-20, 25, 5.0))
        expected = compress(build_dictionary(sequence, tissue), 5)[0]
        path = tmp_path / "a.zarr"
        assert stream(path, sequence, tissue, rank=5, chunk_atoms=20) == 2
        shutil.rmtree(path / "dictionary/c/1")
        assert stream(path, sequence, tissue, rank=5, chunk_atoms=20) == 1
        stored = open_dictionary(path)
    assert jax.tree.structure(stored.sequence) == jax.tree.structure(sequence)
    np.testing.assert_array_equal(stored.tissue.off_resonance, tissue.off_resonance)
    np.testing.assert_array_equal(stored.basis, expected.basis)
    assert (stored.fingerprints.dtype, stored.norms.dtype) == (expected.fingerprints.dtype, expected.norms.dtype)
    # Products of other sizes may round otherwise in float64.
    tolerance = 1e-13 if x64 else 1e-7
    np.testing.assert_allclose(stored.fingerprints, expected.fingerprints, rtol=0, atol=tolerance)
    np.testing.assert_allclose(stored.norms, expected.norms, rtol=2 * tolerance)


def test_a_store_of_another_sequence_is_refused(tmp_path):
    tissue, begun = grid_of([0.5, 1.0], [0.05, 0.1], 1.0, 10.0), ma_bssfp(30)
    begin_store(tmp_path / "a.zarr", begun, tissue, chunk_atoms=CHUNK)
    unbalanced = Fisp(begun.flip_angle, begun.repetition_time, begun.echo_time, begun.inversion_time)
    for sequence, other, named in (
        (dataclasses.replace(begun, half_start=False), tissue, "half_start"),
        (dataclasses.replace(begun, rf_phase=np.zeros(30)), tissue, "rf_phase"),
        (begun.as_blocks(), tissue, r"kind \(bssfp, not blocks\)"),
        (unbalanced, tissue, r"kind \(bssfp, not fisp\)"),
        (begun, dataclasses.replace(tissue, off_resonance=11.0), "off_resonance_hz"),
        (begun, dataclasses.replace(tissue, off_resonance=None), "off_resonance_hz"),
    ):
        with pytest.raises(ValueError, match=rf"a.zarr holds another dictionary; these differ: {named}$"):
            stream(tmp_path / "a.zarr", sequence, other)


def test_the_files_are_plain_zarr(dictionary, streamed):
    """Read without TensorStore, as the Zarr v3 specification says."""
    folder = streamed / "full.zarr" / "dictionary"
    metadata = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    assert (metadata["zarr_format"], metadata["node_type"], metadata["data_type"]) == (3, "array", "float32")
    assert metadata["dimension_names"] == ["atoms", "columns"]
    assert [codec["name"] for codec in metadata["codecs"]] == ["bytes", "crc32c"]
    chunk = (folder / "c" / "1" / "0").read_bytes()[:-4]  # without the checksum
    np.testing.assert_array_equal(np.frombuffer(chunk, "<f4").reshape(CHUNK, 50), dictionary.fingerprints[64:128])
    group = json.loads((folder.parent / "zarr.json").read_text(encoding="utf-8"))
    assert (group["zarr_format"], group["node_type"]) == (3, "group")
    assert group["attributes"]["settings"]["accuracy"] == 1e-4


def test_rows_on_disk_are_indexed_as_an_array(dictionary, streamed):
    rows, expected = open_dictionary(streamed / "full.zarr").fingerprints, dictionary.fingerprints
    assert (rows.shape, rows.ndim, rows.dtype, len(rows)) == (expected.shape, 2, np.float32, 297)
    some = np.array([250, 3, 3, 70])
    for index in (slice(60, 70), slice(290, 400), slice(-5, None), slice(3, 200, 50), some):
        np.testing.assert_array_equal(rows[index], expected[index])
    assert np.asarray(rows, float).dtype == float
    with pytest.raises(ValueError, match="copy"):
        np.array(rows, copy=False)


def test_only_missing_chunks_are_simulated(stores, streamed):
    path = stores / "compressed.zarr"
    (path / "dictionary" / "c" / "1" / "0").unlink()
    (path / "norms" / "c" / "3").unlink()
    before = {file: file.stat().st_mtime_ns for file in path.rglob("c/[024]*") if file.is_file()}
    with pytest.raises(ValueError, match=r"compressed.zarr is not whole: 2 of its 5 chunks are missing \(1, 3\): run"):
        open_dictionary(path)
    assert stream(path, rank=RANK) == 2
    assert contents(path) == contents(streamed / "compressed.zarr")
    assert all(file.stat().st_mtime_ns == changed for file, changed in before.items())


def test_a_damaged_chunk_is_named_and_simulated_again(stores, streamed):
    path = stores / "full.zarr"
    chunk = path / "dictionary" / "c" / "2" / "0"
    data = chunk.read_bytes()
    chunk.write_bytes(data[:100] + b"x" + data[101:])
    rows = open_dictionary(path).fingerprints
    np.testing.assert_array_equal(rows[:128], open_dictionary(streamed / "full.zarr").fingerprints[:128])
    with pytest.raises(ValueError, match=rf"{re.escape(str(chunk))}.*: run simulate_dictionary") as error:
        np.asarray(rows)
    assert "\n" not in str(error.value)
    chunk.unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(str(chunk))}.* missing"):
        rows[128:130]
    chunk.write_bytes(b"")
    assert stream(path) == 1
    assert contents(path) == contents(streamed / "full.zarr")


def cut(folder):
    (folder / "dictionary/c/1/0").write_bytes((folder / "dictionary/c/1/0").read_bytes()[:-1])


def swap(folder):
    chunks = [folder / "dictionary/c/1/0", folder / "dictionary/c/3/0"]
    for chunk, data in zip(chunks, [chunk.read_bytes() for chunk in chunks[::-1]], strict=True):
        chunk.write_bytes(data)


def take_norms_from_another(folder):
    shutil.copy(folder.parent / "compressed.zarr/norms/c/1", folder / "norms/c/1")


@pytest.mark.parametrize("change", [cut, swap, take_norms_from_another])
def test_a_chunk_of_another_place_is_refused_and_simulated_again(stores, streamed, change):
    path = stores / "full.zarr"
    change(path)
    with pytest.raises(ValueError, match=r"full.zarr: chunk 1 .*: run simulate_dictionary"):
        open_dictionary(path)
    assert stream(path) == (2 if change is swap else 1)
    assert contents(path) == contents(streamed / "full.zarr")


def test_a_whole_folder_is_read_before_its_chunks_are_listed(stores, streamed):
    """As a run killed after its last chunk leaves it, and as earlier versions did."""
    path, metadata = stores / "full.zarr", stores / "full.zarr" / "zarr.json"
    group = json.loads(metadata.read_text(encoding="utf-8"))
    metadata.write_text(
        json.dumps(group | {"attributes": {**group["attributes"], "checksums": None}}), encoding="utf-8"
    )
    assert open_dictionary(path).fingerprints[:].shape == (297, 50)
    assert stream(path) == 0
    assert contents(path) == contents(streamed / "full.zarr")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("dictionary", "297", "1000000000000"),
        ("dictionary", "float32", "int64"),
        ("dictionary", "64,", "1000000000,"),
        ("norms", "297", "1000000000000"),
        ("norms", "297", "10"),
        ("norms", "64", "32"),
        ("t1_s", "297", "1000000000000"),
        ("n_states", "297", "10"),
        ("inversion_time_s", "[]", "[1000000000000]"),
    ],
)
def test_what_files_cannot_hold_is_refused(stores, name, old, new):
    metadata = stores / "full.zarr" / name / "zarr.json"
    text = json.dumps(json.loads(metadata.read_text(encoding="utf-8")))
    assert old in text
    metadata.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=r"full\.zarr"):
        open_dictionary(stores / "full.zarr")


_WORK = """
from ganmrf import mrf_fisp, tissue_grid
from ganmrf.dictionary.zarr_fill import begin_store, fill_store
fill_store(begin_store("{path}", mrf_fisp(50), tissue_grid("paper"), chunk_atoms=32, n_states=20, rank=5))
"""


def test_a_killed_run_is_gone_on_with(tmp_path):
    path, settings = tmp_path / "a.zarr", {"chunk_atoms": 32, "n_states": 20, "rank": 5}
    child = subprocess.Popen([sys.executable, "-c", _WORK.format(path=path)])
    # The first may lack what is written beside it.
    while child.poll() is None and len(list(path.glob("dictionary/c/*/0"))) < 10:
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL  # in the midst of its 187 chunks
    assert 0 < stream(path, tissue=tissue_grid("paper"), **settings) < 187
    stream(tmp_path / "b.zarr", tissue=tissue_grid("paper"), **settings)
    assert contents(path) == contents(tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"accuracy": 1e-3}, r"accuracy \(0.0001, not 0.001\)"),
        ({"rank": 5}, r"rank \(None, not 5\)"),
        ({"chunk_atoms": 32}, r"chunk_atoms \(64, not 32\)"),
        ({"sequence": dataclasses.replace(SEQUENCE, inversion_time=None)}, "inversion_time"),
        ({"sequence": mrf_fisp(51)}, "flip_angle, repetition_time, echo_time"),
        ({"tissue": dataclasses.replace(GRID, b1=1.1)}, "b1"),
        ({"slice_profile": sinc_slice_profile(2)}, "slice_nodes, slice_weights"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_another_dictionary_is_refused(streamed, changed, named):
    with pytest.raises(ValueError, match=rf"full.zarr holds another dictionary; these differ: {named}$"):
        stream(streamed / "full.zarr", **changed)


def test_a_full_disk_is_seen_before(monkeypatch, tmp_path, streamed):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    # 297 atoms of 50 samples, and a few numbers more
    with pytest.raises(ValueError, match=r"a.zarr needs 6.\d*e-05 GB more, but its disk has 1e-06 GB left"):
        stream(tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())
    assert stream(streamed / "full.zarr") == 0  # needs nothing more


def test_bad_requests(tmp_path):
    for settings, words in (
        ({"rank": 51}, "rank must be 1 to 50; got 51"),
        ({"chunk_atoms": 0}, "chunk_atoms must be at least 1; got 0"),
        ({"accuracy": 0.0}, "accuracy must be positive"),
        ({"n_states": 0}, "n_states must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            stream(tmp_path / "a.zarr", **settings)
    silent = Fisp(flip_angle=np.zeros(5), repetition_time=0.01, echo_time=0.002)
    with pytest.raises(ValueError, match=r"atom 0 \(T1 1 s, T2 0.1 s\) has no signal"):
        stream(tmp_path / "silent.zarr", silent, Tissue(t1=[1.0], t2=[0.1]))
    assert [path.name for path in tmp_path.iterdir()] == ["silent.zarr"]


def test_other_folders_are_refused(stores, dictionary):
    with pytest.raises(ValueError, match=r"cannot read .*none.zarr/zarr.json: No such file"):
        open_dictionary(stores / "none.zarr")
    metadata = stores / "full.zarr" / "zarr.json"
    group = json.loads(metadata.read_text(encoding="utf-8"))
    for attributes, words in (({}, "no dictionary of ganmrf"), ({"schema_version": 9}, "has schema 9; this version")):
        metadata.write_text(
            json.dumps(group | {"attributes": group["attributes"] | attributes if attributes else {}}), encoding="utf-8"
        )
        with pytest.raises(ValueError, match=rf"full.zarr.*{words}"):
            open_dictionary(stores / "full.zarr")
    shutil.rmtree(stores / "compressed.zarr" / "t1_s")
    with pytest.raises(ValueError, match=r"compressed.zarr: no t1_s: not a whole dictionary"):
        open_dictionary(stores / "compressed.zarr")
    save_dictionary(stores / "a.npz", dictionary)
    np.testing.assert_array_equal(open_dictionary(stores / "a.npz").norms, dictionary.norms)
