"""A dictionary of any sequence comes back from any file bit for bit; a damaged sequence is told in a line."""

import dataclasses
import json
import pathlib
import shutil
import tempfile

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import scipy.io

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.npz import fields_of, load_dictionary, save_dictionary
from ganmrf.dictionary.zarr import ChunkedStore, open_dictionary
from ganmrf.physics.sequences.blocks import Blocks, Delay, Train
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.cardiac import CardiacFisp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.kinds import KINDS
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.sequences.preparations import Inversion, Saturation, T2Preparation, hard_t2_preparation
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.physics.tissue import Tissue

SUFFIXES = (".npz", ".mat", ".zarr")
PREPARED = Blocks(
    (
        Inversion(0.02, 0.9),
        Train([0.5, 1.0, 1.5], 0.01, 0.002, rf_phase=[0.0, 2.0, 1.0], turns=(0, 1, 2), recorded=(True, False, True)),
        Delay(0.1, crushed=True),
    )
)


def times(low, high, shape=None):
    value = st.floats(low, high, width=32)
    return value if shape is None else st.lists(value, min_size=shape, max_size=shape).map(np.array)


def prepared():
    kinds = (
        st.builds(Inversion, times(0, 0.125), times(0, 1), st.one_of(st.just(1.0), times(0, 1))),
        st.builds(Saturation, times(0, 0.125), times(0, 1), st.one_of(st.just(1.0), times(0, 1))),
        st.builds(T2Preparation, times(0, 0.125), times(0, 0.125)),
        st.builds(hard_t2_preparation, times(0, 0.125), times(0, 0.125), st.sampled_from([None, 5e-4])),
    )
    return st.one_of(*kinds)


@st.composite
def phases(draw, n):
    """Of half turns, of NumPy's or JAX's numbers."""
    values = draw(times(-4, 4, n))
    return draw(st.sampled_from([np.pi * (np.rint(values) % 2), values, jax.device_put(values)]))


# What sequences say of the power of their pulses: the range, and whether it may be (frames,).
POWER = {
    "pulse_duration": (2.0**-11, 2.0**-7, True),
    "pulse_shape": (1, 4, True),
    "saturation_angle": (0, 3, True),
    "inversion_saturation": (0, 1, False),
}


@st.composite
def powers(draw, cls, n):
    """Keywords of some of those fields that a class has, none, or each one number or one for each frame."""
    if draw(st.booleans()):
        return {}
    found = {"pulse_duration": draw(times(*POWER["pulse_duration"][:2]))}
    for name, (low, high, of_frames) in POWER.items():
        if name in cls.__dataclass_fields__ and draw(st.booleans()):
            found[name] = draw(times(low, high, draw(st.sampled_from([None, n])) if of_frames else None))
    return found


@st.composite
def trains(draw):
    n = draw(st.sampled_from([1, 3]))
    turns = draw(st.sampled_from([0, 1, 2, tuple(range(n))]))
    recorded = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    receiver = draw(st.one_of(st.none(), phases(n)))
    times_ = draw(times(0.0078125, 0.25, n)), draw(times(0, 0.0078125))
    return Train(
        draw(times(-3, 3, n)), *times_, draw(phases(n)), receiver, turns, tuple(recorded), **draw(powers(Train, n))
    )


@st.composite
def sequences(draw, kind):
    n = draw(st.sampled_from([1, 3]))  # JAX compiles for every number anew
    flips, start = draw(times(-3, 3, n)), draw(st.one_of(st.none(), times(0, 2)))
    frames = draw(st.one_of(times(0.0078125, 0.25), times(0.0078125, 0.25, n))), draw(times(0, 0.0078125))
    power = draw(powers(KINDS[kind], None if kind in ("cardiac", "tse") else n))
    if kind == "fisp":
        return Fisp(flips, *frames, start, **power)
    if kind == "bssfp":
        options = start, None, draw(st.booleans())
        return Bssfp(flips, frames[0], draw(st.sampled_from([None, frames[1]])), *options, **power)
    if kind == "spgr":
        return SpoiledGradientEcho(flips, *frames, start, draw(st.floats(-4, 4)), **power)
    if kind == "tse":
        return MultiSpinEcho(flips, draw(times(0.0078125, 0.25)), draw(times(0, 2)), **power)
    if kind == "cardiac":
        preparations = draw(st.lists(st.one_of(st.none(), prepared()), min_size=n, max_size=n))
        angles = np.stack([flips, flips])
        echo, intervals = draw(times(0, 0.0078125)), draw(times(1, 2, n))
        return CardiacFisp(angles.T, 0.0078125, echo, preparations, intervals, **power)
    others = st.one_of(prepared(), st.builds(Delay, times(0, 0.125), st.booleans()))
    blocks = draw(st.lists(st.one_of(trains(), others), max_size=4))
    return Blocks((*blocks, Train(flips, *frames)))


def dictionary(sequence, *, off_resonance=None, rank=None, dtype=np.complex64, atoms=3):
    rng = np.random.default_rng(0)
    n = sequence.n_frames
    rows = (rng.standard_normal((atoms, rank or n)) + 1j * rng.standard_normal((atoms, rank or n))).astype(dtype)
    basis = np.linalg.qr(rng.standard_normal((n, rank)) + 1j * rng.standard_normal((n, rank)))[0] if rank else None
    norms = np.linalg.norm(rows, axis=1)
    tissue = Tissue(np.linspace(0.5, 2, atoms), np.full(atoms, 0.1), off_resonance=off_resonance)
    return Dictionary(tissue, rows / norms[:, None], norms, sequence, basis=basis)


def saved(folder, suffix, expected):
    path = pathlib.Path(folder) / f"atoms{suffix}"
    if suffix != ".zarr":
        save_dictionary(path, expected)
        return path
    fields = fields_of(expected)
    chunked = [fields.pop("dictionary"), fields.pop("norms")]
    fields["n_states"] = np.full(len(chunked[1]), 1)
    if expected.basis is not None:
        chunked.append(np.zeros(len(chunked[1])))
    ChunkedStore.create(path, {}, fields, columns=chunked[0].shape[1], chunk=2, dtype=chunked[0].dtype)
    store = ChunkedStore.open(path)
    for chunk in range(store.n_chunks):
        store.write(chunk, [array[store.rows(chunk)] for array in chunked])
    return path


def in_memory(found):
    return dataclasses.replace(found, fingerprints=found.fingerprints[:], norms=found.norms[:])


def assert_identical(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), (_, e) in zip(*map(jax.tree_util.tree_leaves_with_path, (actual, expected)), strict=True):
        a, e = np.asarray(a), np.asarray(e)
        assert (a.dtype, a.shape, a.tobytes()) == (e.dtype, e.shape, e.tobytes()), path


@pytest.mark.parametrize("kind", KINDS)
@hypothesis.settings(max_examples=6)
@hypothesis.given(data=st.data())
def test_any_sequence_comes_back(kind, data):
    expected = dictionary(data.draw(sequences(kind)))
    suffix = data.draw(st.sampled_from(SUFFIXES))
    with tempfile.TemporaryDirectory() as folder:
        found = open_dictionary(saved(folder, suffix, expected))
        assert type(found.sequence) is KINDS[kind]
        assert_identical(in_memory(found), expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("sequence", "options"),
    [
        (PREPARED, {"rank": 2}),
        (Bssfp([0.5, 0.6, 0.7], 0.01), {"off_resonance": np.array([-10.0, 0.0, 10.0])}),
        (Fisp([0.5, 0.6, 0.7], 0.01, 0.002), {"off_resonance": 20.0, "atoms": 1}),
        (Fisp([0.5, 0.6, 0.7], 0.01, 0.002), {"off_resonance": np.array([20.0]), "atoms": 1}),
    ],
    ids=["blocks", "bssfp", "one number", "of one atom"],
)
@pytest.mark.parametrize("x64", [False, True])
def test_off_resonance_basis_and_precision_come_back(tmp_path, suffix, sequence, options, x64):
    with jax.enable_x64(x64):
        again = jax.tree.map(lambda leaf: np.asarray(leaf, float if x64 else np.float32), sequence)
        sequence = dataclasses.replace(again)  # its constructor makes JAX arrays of them
        expected = dictionary(sequence, **options, dtype=np.complex128 if x64 else np.complex64)
        found = open_dictionary(saved(tmp_path, suffix, expected))
        assert_identical(in_memory(found), expected)


def test_a_class_that_files_do_not_know_is_kept_as_its_blocks(tmp_path):
    class Own(Fisp):
        pass

    own = Own([0.5, 0.6], 0.01, 0.002, 0.02)
    save_dictionary(tmp_path / "a.npz", dictionary(own))
    found = load_dictionary(tmp_path / "a.npz").sequence
    assert_identical(found, own.as_blocks())


def test_phases_in_numpy_do_not_become_half_turns(tmp_path):
    """Which would make the signals real; transforms put NumPy arrays in place of JAX's."""
    sequence = Bssfp([0.5, 0.6], 0.01, rf_phase=jax.numpy.zeros(2))
    save_dictionary(tmp_path / "a.npz", dictionary(jax.tree.map(np.asarray, sequence)))
    assert_identical(load_dictionary(tmp_path / "a.npz").sequence, sequence)


def test_files_from_before_there_were_kinds_are_read(tmp_path):
    """Arrays as versions wrote them that knew FISP alone."""
    flip_angle = np.float32([0.1, 0.2])
    arrays = {
        "dictionary": np.eye(2, dtype=np.float32),
        "norms": np.float32([1, 2]),
        "t1_s": np.float32([1, 2]),
        "t2_s": np.float32([0.1, 0.2]),
        "b1": np.float32(1),
        "flip_angle_rad": flip_angle,
        "repetition_time_s": np.float32([0.01, 0.012]),
        "echo_time_s": np.float32([0.002, 0.002]),
        "inversion_time_s": np.float32(0.02),
        "schema_version": 1,
        "b1_per_atom": False,
    }
    np.savez(tmp_path / "a.npz", **arrays)
    scipy.io.savemat(tmp_path / "a.mat", arrays, oned_as="column")
    for path in (tmp_path / "a.npz", tmp_path / "a.mat"):
        assert_identical(load_dictionary(path).sequence, Fisp(flip_angle, np.float32([0.01, 0.012]), 0.002, 0.02))
    path = saved(tmp_path, ".zarr", dictionary(Fisp(flip_angle, 0.01, 0.002)))
    changed(path / "zarr.json", lambda text: text.replace('"kind": "fisp",', ""))
    assert_identical(open_dictionary(path).sequence, Fisp(flip_angle, 0.01, 0.002))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("off_resonance", "changes", "words"),
    [
        (None, {"kind": "fisp"}, "has a structure of another kind"),
        (None, {"kind": None}, "has a structure of another kind"),
        (
            None,
            {"kind": "fisp", "structure": None},
            "rf_phase_half_turns is no variable of a sequence",
        ),
        (
            5.0,
            {"kind": None, "structure": None},
            "rf_phase_half_turns is no variable of a sequence",
        ),
        (None, {"kind": None, "structure": None, "rf_phase_half_turns": None}, "are not those of schema 2"),
        (5.0, {"kind": None, "structure": None, "rf_phase_half_turns": None}, "are not those of schema 2"),
    ],
)
def test_another_kind_is_not_read_as_fisp(tmp_path, suffix, off_resonance, changes, words):
    """Variables of FISP are among those of other kinds, and a file from before there were kinds has none."""
    sequence = Bssfp([0.5, 0.6, 0.7], 0.01)
    path = tampered(tmp_path, suffix, dictionary(sequence, off_resonance=off_resonance), **changes)
    with pytest.raises(ValueError, match=words) as error:
        open_dictionary(path)
    assert str(error.value).startswith(str(path))


def test_the_power_of_pulses_is_told_from_none(tmp_path):
    """One number for all frames stays one in MATLAB, too; and a file that says the power is none that says nothing."""
    plain, number, several = (
        dictionary(Fisp([0.5, 0.6, 0.7], 0.01, 0.002, **power))
        for power in ({}, {"pulse_duration": 2e-3, "pulse_shape": 1.5}, {"pulse_duration": np.full(3, 2e-3)})
    )
    for suffix in SUFFIXES:
        for place, expected in enumerate((plain, number, several)):
            path = tmp_path / str(place)
            path.mkdir(exist_ok=True)
            assert_identical(in_memory(open_dictionary(saved(path, suffix, expected))), expected)
    changes = {"structure": None, "schema_version": 1}
    with pytest.raises(ValueError, match=r"pulse_duration_s.* is no variable of a sequence"):
        load_dictionary(tampered(tmp_path, ".npz", number, **changes))
    with pytest.raises(ValueError, match="are not those of schema 2"):
        load_dictionary(tampered(tmp_path, ".npz", number, schema_version=2))


def test_versions_refuse_what_they_would_misread(tmp_path):
    """Those that know FISP alone read schema 1, in which it stays; those without pools, or power of pulses, up to 3."""
    fisp = Fisp([0.1, 0.2], 0.01, 0.002)
    powerful = (
        Fisp([0.1, 0.2], 0.01, 0.002, pulse_duration=1e-3),
        Fisp([0.1, 0.2], 0.01, 0.002, 0.02, pulse_duration=1e-3, inversion_saturation=0.5),
        Bssfp([0.1, 0.2], 0.01, pulse_duration=1e-3, saturation_angle=1.0),
        Blocks((Inversion(0.02, saturation=0.5), Train([0.1, 0.2], 0.01, 0.002))),
    )
    cases = (1, fisp, None), (2, fisp, 5.0), (2, Bssfp([0.1, 0.2], 0.01), None), *((4, each, None) for each in powerful)
    for schema, sequence, off_resonance in cases:
        save_dictionary(tmp_path / "a.npz", dictionary(sequence, off_resonance=off_resonance))
        with np.load(tmp_path / "a.npz") as file:
            assert file["schema_version"] == schema


def test_variables_in_matlab(tmp_path):
    """A schedule in plain arrays with units; what MATLAB saves again, whole numbers as integers, is read."""
    expected = dictionary(Bssfp([0.0, 1.0, 2.0], 1.0), off_resonance=np.array([1.0, 2.0, 3.0]))
    save_dictionary(tmp_path / "a.mat", expected)
    found = {name: value for name, value in scipy.io.loadmat(tmp_path / "a.mat").items() if not name.startswith("__")}
    assert found["kind"] == "bssfp"
    for name, values in {
        "flip_angle_rad": [0, 1, 2],
        "repetition_time_s": [1, 1, 1],
        "echo_time_s": [0.5, 0.5, 0.5],
        "rf_phase_half_turns": [0, 1, 0],
        "off_resonance_hz": [1, 2, 3],
    }.items():
        np.testing.assert_array_equal(found[name].ravel(), values)
    assert all(name.isidentifier() for name in found)
    rows = {name: value.T for name, value in found.items() if name.endswith(("_rad", "_s", "_turns"))}
    found |= rows | {"repetition_time_s": np.uint8([1, 1, 1]), "rf_phase_half_turns": np.array([0.0, 1.0, 0.0])}
    scipy.io.savemat(tmp_path / "a.mat", found)
    assert_identical(load_dictionary(tmp_path / "a.mat"), expected)


def changed(path, change):
    """Changes the text of a file."""
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def tampered(folder, suffix, whole=None, **changes):
    """The file of a dictionary, of `PREPARED` by default, with variables replaced, or removed where it is None."""
    path = saved(folder, suffix, dictionary(PREPARED) if whole is None else whole)
    if suffix != ".zarr":
        contents = dict(np.load(path)) if suffix == ".npz" else scipy.io.loadmat(path)
        contents = {name: value for name, value in (contents | changes).items() if value is not None}
        contents = {name: value for name, value in contents.items() if not name.startswith("__")}
        (np.savez if suffix == ".npz" else lambda path, **arrays: scipy.io.savemat(path, arrays))(path, **contents)
        return path
    group = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    for name, value in changes.items():
        if value is None and name not in group["attributes"]:
            shutil.rmtree(path / name)
        else:
            group["attributes"].pop(name)
            group["attributes"] |= {} if value is None else {name: value}
    (path / "zarr.json").write_text(json.dumps(group), encoding="utf-8")
    return path


STRUCTURE = str(fields_of(dictionary(PREPARED))["structure"])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "epi"}, "its sequence is of kind 'epi'; this version knows fisp, cardiac, .*: update ganmrf"),
        ({"kind": "cardiac"}, "structure of its sequence is damaged .*cardiac"),
        ({"kind": "fisp"}, "has a structure of another kind"),
        ({"kind": None}, "has a structure of another kind"),
        ({"structure": None}, "structure of its sequence is damaged"),
        ({"structure": STRUCTURE[:-1]}, "structure of its sequence is damaged"),
        ({"structure": "[" * 100_000}, "structure of its sequence is damaged"),
        ({"structure": STRUCTURE.replace("blocks_1_turns", "../x")}, "structure of its sequence is damaged"),
        ({"structure": STRUCTURE.replace("bool", "S1000000000")}, "structure of its sequence is damaged"),
        (
            {"structure": STRUCTURE.replace("Inversion", "Excursion")},
            "structure of its sequence is damaged .*Excursion",
        ),
        ({"structure": STRUCTURE.replace("crushed", "crashed")}, "structure of its sequence is damaged .*crashed"),
        ({"structure": STRUCTURE.replace("[3]", "[4]")}, "blocks_1_.* has .*3.* not .*4"),
        ({"structure": STRUCTURE.replace("blocks_1_turns", "t1_s")}, "t1_s has "),
        ({"blocks_1_flip_angle_rad": None}, "no blocks_1_flip_angle_rad: not a whole dictionary"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_damaged_sequence_is_told_in_a_line(tmp_path, suffix, changes, words):
    path = tampered(tmp_path, suffix, **changes)
    with pytest.raises(ValueError, match=words) as error:
        open_dictionary(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": np.ones(3)}, "kind must be text"),
        ({"kind": np.array(["blocks", "fisp"])}, "kind must be text"),
        ({"structure": np.array(" " * (2**24 + 1))}, "structure must be text, 16777216 characters at most"),
        ({"blocks_1_flip_angle_rad": np.float32([1, 7, 2])}, "Train.flip_angle must be within .*; got 7 at index 1"),
        ({"blocks_1_flip_angle_rad": np.float32([1, np.nan, 2])}, "blocks_1_flip_angle_rad .* not finite"),
        ({"blocks_1_turns": np.array([0, 1, -1])}, "Train.turns must be a whole number, 0 or more; got -1"),
        ({"blocks_1_turns": np.array([0, 1])}, "blocks_1_turns has "),
        ({"dictionary": np.eye(3, 5, dtype=np.complex64)}, "dictionary has 5 columns, but the sequence has 2 frames"),
        ({"off_resonance_hz": np.float32([1, np.inf, 0])}, "Tissue.off_resonance must be finite; got inf"),
        ({"off_resonance_hz": np.float32([1, 0])}, r"off_resonance_hz has shape \(2,\), but there are 3 atoms"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_array_of_a_sequence_is_named(tmp_path, changes, words):
    path = tampered(tmp_path, ".npz", **changes)
    with pytest.raises(ValueError, match=words) as error:
        load_dictionary(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
