"""A dictionary comes back from disk bit for bit; a file that is not one is refused in one line that names it."""

import dataclasses
import zipfile

import h5py
import jax
import numpy as np
import pytest
import scipy.io

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.npz import load_dictionary, save_dictionary, save_dictionary_in_blocks
from ganmrf.files import read_arrays
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue

FORMATS = (".npz", ".mat")


def dictionary(
    *, atoms=5, frames=7, rank=None, b1=1.0, inversion_time=0.018, profile=False, dtype=np.float32, errors=None
):
    rng = np.random.default_rng(0)
    columns = frames if rank is None else rank
    rows = rng.standard_normal((atoms, columns))
    if np.issubdtype(dtype, np.complexfloating):
        rows = rows + 1j * rng.standard_normal(rows.shape)
    real = np.zeros(0, dtype).real.dtype
    t1 = rng.uniform(0.5, 2, atoms).astype(real)
    return Dictionary(
        tissue=Tissue(t1, t1 / 10, np.asarray(b1, real)),
        fingerprints=(rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype),
        norms=rng.uniform(1, 2, atoms).astype(real),
        sequence=Fisp(
            rng.uniform(0, 1, frames).astype(real),
            rng.uniform(0.012, 0.015, frames).astype(real),
            np.asarray(0.002, real),
            None if inversion_time is None else np.asarray(inversion_time, real),
        ),
        slice_profile=SliceProfile(np.array([0.3, 0.9]), np.array([0.25, 0.75])) if profile else None,
        basis=None if rank is None else np.linalg.qr(rng.standard_normal((frames, rank)))[0],
        errors=None if errors is None else np.full(atoms, errors, real),
    )


def assert_identical(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), (_, e) in zip(*map(jax.tree_util.tree_leaves_with_path, (actual, expected)), strict=True):
        a, e = np.asarray(a), np.asarray(e)
        assert (a.dtype, a.shape) == (e.dtype, e.shape), path
        assert a.tobytes() == e.tobytes(), path


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"inversion_time": None, "b1": [0.8, 0.9, 1.0, 1.1, 1.2]},
        {"rank": 3, "profile": True},
        {"rank": 2, "errors": 1e-3},
        {"errors": 0.0},
        {"rank": 1, "dtype": np.complex64},
        {"atoms": 1},
        {"atoms": 1, "b1": [0.9], "frames": 1},
        {"b1": 1, "inversion_time": 1},  # whole numbers
    ],
    ids=str,
)
def test_round_trip_is_exact(tmp_path, suffix, options):
    expected = dictionary(**options)
    save_dictionary(tmp_path / f"atoms{suffix}", expected)
    assert_identical(load_dictionary(tmp_path / f"atoms{suffix}"), expected)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_round_trip_keeps_double_precision(tmp_path, suffix, dtype):
    with jax.enable_x64(True):
        expected = dictionary(dtype=dtype)
        save_dictionary(tmp_path / f"atoms{suffix}", expected)
        assert_identical(load_dictionary(tmp_path / f"atoms{suffix}"), expected)


def test_names_and_axes_in_matlab(tmp_path):
    expected = dictionary(b1=[0.8, 0.9, 1.0, 1.1, 1.2])
    save_dictionary(tmp_path / "atoms.mat", expected)
    shapes = {name: shape for name, shape, _ in scipy.io.whosmat(tmp_path / "atoms.mat")}
    vectors = {"norms": 5, "t1_s": 5, "t2_s": 5, "b1": 5}
    vectors |= {"flip_angle_rad": 7, "repetition_time_s": 7, "echo_time_s": 7}
    vectors |= {"inversion_time_s": 1, "schema_version": 1, "b1_per_atom": 1}
    assert shapes == {"dictionary": (5, 7), "kind": (1,)} | {name: (size, 1) for name, size in vectors.items()}


def test_what_matlab_saves_again_is_read(tmp_path):
    """MATLAB stores whole numbers of class double as integers, and users turn columns into rows."""
    expected = dictionary(b1=1.0)
    save_dictionary(tmp_path / "atoms.mat", expected)
    contents = scipy.io.loadmat(tmp_path / "atoms.mat")
    variables = {name: value for name, value in contents.items() if not name.startswith("__")}
    variables |= {"b1": np.uint8([[1]]), "norms": contents["norms"].T, "schema_version": 1.0}
    scipy.io.savemat(tmp_path / "atoms.mat", variables)
    assert_identical(load_dictionary(tmp_path / "atoms.mat"), expected)


def save_v73(path, variables):
    """Writes numbers as MATLAB does with -v7.3: HDF5 after 512 bytes, axes reversed, complex in two parts."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            array = np.atleast_2d(np.asarray(value))
            array = array.T if np.ndim(value) == 1 else array  # vectors as columns, like savemat below
            kinds = {"float64": "double", "float32": "single", "complex128": "double", "complex64": "single"}
            kind = "logical" if array.dtype == bool else kinds.get(array.dtype.name, array.dtype.name)
            if array.dtype.kind == "U":
                kind, array = "char", np.frombuffer(array.item().encode("utf-16-le"), np.uint16)[None]
            if not array.size:
                item = file.create_dataset(name, data=np.array(array.shape, np.uint64))
                item.attrs["MATLAB_empty"] = np.uint8(1)
            elif np.iscomplexobj(array):
                parts = np.empty(array.T.shape, [("real", array.real.dtype), ("imag", array.real.dtype)])
                parts["real"], parts["imag"] = array.T.real, array.T.imag
                item = file.create_dataset(name, data=parts, compression="gzip")
            else:
                item = file.create_dataset(name, data=array.T.astype(np.uint8) if kind == "logical" else array.T)
            item.attrs["MATLAB_class"] = np.bytes_(kind)
    put_matlab_header(path)


def put_matlab_header(path):
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(116) + bytes(8) + b"\x00\x02IM")


def test_v73_is_read_as_v7(tmp_path):
    rng = np.random.default_rng(0)
    variables = {
        "series": rng.standard_normal((2, 3, 4)) + 1j * rng.standard_normal((2, 3, 4)),
        "single": (rng.standard_normal((3, 2)) + 1j * rng.standard_normal((3, 2))).astype(np.complex64),
        "infinite": np.array([[complex(np.inf, 1), complex(0, np.nan)]]),
        "volume": rng.standard_normal((4, 3, 2, 5)).astype(np.float32),
        "row": np.arange(3.0)[None],
        "column": np.arange(3.0),
        "number": 7.5,
        "mask": rng.random((2, 3)) > 0.5,
        "label": np.arange(6, dtype=np.int16).reshape(2, 3),
        "empty": np.zeros((0, 3)),
    }
    scipy.io.savemat(tmp_path / "v7.mat", variables, oned_as="column")
    save_v73(tmp_path / "v73.mat", variables)
    expected, actual = read_arrays(tmp_path / "v7.mat"), read_arrays(tmp_path / "v73.mat")
    assert set(actual) == set(variables) == set(expected)
    for name, array in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(actual[name], array, err_msg=name)
    assert set(read_arrays(tmp_path / "v73.mat", ["mask", "other"])) == {"mask"}


def test_dictionary_in_v73(tmp_path):
    expected = dictionary(rank=3, profile=True, dtype=np.complex64)
    save_dictionary(tmp_path / "v7.mat", expected)
    contents = scipy.io.loadmat(tmp_path / "v7.mat")
    save_v73(tmp_path / "v73.mat", {name: value for name, value in contents.items() if not name.startswith("__")})
    assert_identical(load_dictionary(tmp_path / "v73.mat"), expected)


def test_whatever_else_a_v73_file_holds_is_passed_over(tmp_path):
    """Text, cells, sparse matrices, objects, links and data of other files: neither read nor followed."""
    path = tmp_path / "v73.mat"
    save_v73(tmp_path / "other.mat", {"secret": np.ones((2, 2))})
    save_v73(path, {"images": np.ones((2, 3))})
    with h5py.File(path, "r+") as file:
        referred = file.create_dataset("#refs#/a", data=np.ones((2, 2)))
        cell = file.create_dataset("cell", data=np.array([[referred.ref]], h5py.ref_dtype))
        text = file.create_dataset("text", data=np.frombuffer(b"in vivo", np.uint8).astype(np.uint16)[:, None])
        handle = file.create_dataset("handle", data=np.ones((1, 6), np.uint32))
        structure = file.create_group("structure")
        structure["field"] = np.ones((2, 2))
        sparse = file.create_group("sparse")
        sparse.attrs["MATLAB_sparse"] = np.uint64(3)
        sparse["data"] = np.ones(3)
        for item, kind in ((cell, "cell"), (text, "char"), (handle, "function_handle"), (structure, "struct")):
            item.attrs["MATLAB_class"] = np.bytes_(kind)
        file["elsewhere"] = h5py.ExternalLink(str(tmp_path / "other.mat"), "secret")
        file["nowhere"] = h5py.SoftLink("/missing")
        outside = [(str(tmp_path / "other.mat"), 0, 48)]
        file.create_dataset("outside", (2, 3), np.float64, external=outside).attrs["MATLAB_class"] = np.bytes_("double")
        layout = h5py.VirtualLayout((2, 2), np.float64)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.mat"), "secret", (2, 2))
        file.create_virtual_dataset("virtual", layout).attrs["MATLAB_class"] = np.bytes_("double")
    assert set(read_arrays(path)) == {"images", "structure.field"}
    assert read_arrays(path, ["cell", "elsewhere", "sparse"]) == {}


def test_damaged_v73_files_are_refused_in_one_line(tmp_path, capfd):
    path = tmp_path / "v73.mat"
    save_v73(path, {"images": np.ones((20, 30))})
    whole = path.read_bytes()
    for damaged in (whole[:512], whole[:520], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"v73.mat: not a whole .mat file of plain arrays \(.+\)") as error:
            read_arrays(path)
        assert one_line(error)
    assert capfd.readouterr() == ("", "")


def tampered(path, expected, **changes):
    """The file of a good dictionary with variables replaced, or removed where the change is None."""
    save_dictionary(path, expected)
    with np.load(path) as archive:
        contents = dict(archive) | changes
    np.savez(path, **{name: value for name, value in contents.items() if value is not None})


def one_line(error):
    return "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 5}, "has schema 5; this version reads up to 4: update ganmrf"),
        ({"schema_version": 0}, "has schema 0; this version reads up to 4"),
        ({"schema_version": None}, "no schema_version: not a dictionary of ganmrf"),
        ({"schema_version": "one"}, "no schema_version: not a dictionary of ganmrf"),
        ({"t2_s": None, "echo_time_s": None}, "no t2_s, echo_time_s"),
        ({"t1_s": np.ones((5, 2), np.float32)}, r"t1_s must be \(atoms\), not empty; got shape \(5, 2\)"),
        ({"norms": np.ones(4, np.float32)}, r"norms has shape \(4,\), but there are 5 atoms"),
        ({"echo_time_s": np.ones(6, np.float32)}, r"Fisp.echo_time has shape \(6,\), but flip_angle has 7 frames"),
        ({"basis": np.eye(6, 7)}, r"basis has shape \(6, 7\), but there are 7 frames"),
        ({"dictionary": np.full((5, 6), 6**-0.5)}, "dictionary has 6 columns, but the sequence has 7 frames"),
        ({"dictionary": np.zeros((0, 7))}, r"dictionary must be \(atoms, columns\), not empty"),
        ({"dictionary": np.ones((5, 7))}, "squared norm of a row of dictionary must be 1; got 7 at index 0"),
        ({"dictionary": np.full((5, 7), np.nan)}, "squared norm of a row of dictionary must be 1; got nan"),
        ({"dictionary": np.ones((5, 7), int)}, "dictionary has dtype int64; allowed: float32, float64, complex64"),
        ({"t1_s": np.ones(5, complex)}, "t1_s has dtype complex128; allowed: float32, float64$"),
        ({"t1_s": np.array([None] * 5)}, "plain arrays .*Object arrays cannot be loaded"),
        ({"t1_s": np.full(5, 1e-3, np.float32)}, "Tissue.t2 must not exceed t1"),
        ({"norms": np.full(5, -1, np.float32)}, "norms must be positive and finite; got -1"),
        ({"basis": np.ones((7, 7))}, "basis must be orthonormal.*got 7 at index 0, 0"),
        ({"slice_nodes": np.ones(2)}, "slice_nodes and slice_weights must come together"),
        ({"errors": np.full(5, -1e-3, np.float32)}, "errors must be 0 to 2; got -0.001"),
        ({"errors": np.full(4, 1e-3, np.float32)}, r"errors has shape \(4,\), but there are 5 atoms"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(tmp_path, changes, words):
    path = tmp_path / "atoms.npz"
    tampered(path, dictionary(), **changes)
    with pytest.raises(ValueError, match=words) as error:
        load_dictionary(path)
    assert str(path) in str(error.value)
    assert one_line(error)


@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files_are_refused_in_one_line(tmp_path, suffix):
    """Cut short, overwritten, empty, or something else altogether: a ValueError, whatever the reader trips over."""
    path = tmp_path / f"atoms{suffix}"
    save_dictionary(path, dictionary())
    whole = path.read_bytes()
    noise = np.random.default_rng(0)
    cuts = [whole[: int(share * len(whole))] for share in (0, 0.01, 0.1, 0.5, 0.9)] + [whole[:-1]]
    scrambled = [noise.bytes(300) + whole[300:], noise.bytes(len(whole))]
    for damaged in [*cuts, *scrambled, b"T1,T2\n1000,100\n" * 50]:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"plain arrays|no schema|not a whole") as error:
            load_dictionary(path)
        assert str(path) in str(error.value)
        assert one_line(error)


def test_one_flipped_bit_is_caught(tmp_path):
    path = tmp_path / "atoms.npz"
    save_dictionary(path, dictionary())
    damaged = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        damaged[archive.getinfo("norms.npy").header_offset + 180] ^= 1  # past the headers, within the numbers
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="CRC"):
        load_dictionary(path)


def test_other_files(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*atoms.npz: No such file"):
        load_dictionary(tmp_path / "atoms.npz")
    for attempt in (load_dictionary, lambda path: save_dictionary(path, dictionary())):
        with pytest.raises(ValueError, match=r"suffix '.h5' is not one of .npz, .mat"):
            attempt(tmp_path / "atoms.h5")
    np.savez(tmp_path / "other.npz", images=np.ones(3))
    with pytest.raises(ValueError, match="not a dictionary of ganmrf"):
        load_dictionary(tmp_path / "other.npz")


def test_a_variable_beyond_the_limit_of_matlab_v5(tmp_path):
    huge = dataclasses.replace(dictionary(), fingerprints=np.broadcast_to(np.float32(1), (2**20, 512)))  # 2 GiB
    with pytest.raises(ValueError, match=r"dictionary takes 2.0 GiB; .* below 2: use .npz"):
        save_dictionary(tmp_path / "atoms.mat", huge)


def test_a_dictionary_that_does_not_fit_together_is_not_written(tmp_path):
    wrong = dataclasses.replace(dictionary(), norms=np.ones(3, np.float32))
    with pytest.raises(ValueError, match="norms has shape"):
        save_dictionary(tmp_path / "atoms.npz", wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "module", "function"), [(".npz", np, "savez"), (".mat", scipy.io, "savemat")])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, suffix, module, function):
    path = tmp_path / f"atoms{suffix}"
    save_dictionary(path, dictionary())

    def interrupted(file, *_, **__):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, function, interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_dictionary(path, dictionary(atoms=2))
    assert_identical(load_dictionary(path), dictionary())
    assert list(tmp_path.iterdir()) == [path]


def blocks_of(whole, size):
    for start in range(0, whole.norms.size, size):
        yield whole.rows(slice(start, start + size))


@pytest.mark.parametrize("rank", [None, 3])
def test_blocks_make_the_file_of_the_whole(tmp_path, rank):
    whole = dictionary(atoms=11, rank=rank, profile=True, errors=1e-3)
    save_dictionary(tmp_path / "whole.npz", whole)
    save_dictionary_in_blocks(tmp_path / "blocks.npz", blocks_of(whole, 4), 11)
    with np.load(tmp_path / "whole.npz") as one, np.load(tmp_path / "blocks.npz") as other:
        assert set(one.files) == set(other.files)
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])
            assert one[name].dtype == other[name].dtype
    assert load_dictionary(tmp_path / "blocks.npz").norms.size == 11


def test_blocks_that_make_no_whole_leave_no_file(tmp_path):
    whole = dictionary(atoms=11)
    with pytest.raises(ValueError, match="the blocks hold 11 atoms, not 12"):
        save_dictionary_in_blocks(tmp_path / "a.npz", blocks_of(whole, 4), 12)
    mixed = [dictionary(), dictionary(dtype=np.float64)]
    with pytest.raises(ValueError, match="a block has 7 columns of float64"):
        save_dictionary_in_blocks(tmp_path / "a.npz", mixed, 10)
    with pytest.raises(ValueError, match=r"to \.npz alone"):
        save_dictionary_in_blocks(tmp_path / "a.mat", blocks_of(whole, 4), 11)
    assert not list(tmp_path.iterdir())
