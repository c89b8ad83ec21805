"""One call from a scan to maps: what the steps by hand give; stages are kept, calls that make no sense refused."""

import dataclasses

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.grids import grid_of
from ganmrf.dictionary.match import match
from ganmrf.dictionary.match_b1 import match_with_b1
from ganmrf.dictionary.npz import save_dictionary
from ganmrf.dictionary.zarr_fill import begin_store, fill_store
from ganmrf.imaging.acquisition import sample_kspace
from ganmrf.imaging.trajectory import design_spiral, rotated, rotation_angles
from ganmrf.io.mrd import RawData, read_mrd, write_mrd
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.scan_reading import read_scan
from ganmrf.scan_settings import RawConfig, ReconstructionConfig
from ganmrf.scan_to_maps import map_scan

SEQUENCE = mrf_fisp(40)
TISSUE = grid_of([0.5, 0.8, 1.4], [0.05, 0.1], [0.8, 1.0, 1.2])
SIZE, FIELD_OF_VIEW = 16, 0.22
AS_THEY_ARE = {"method": "frames", "refine": False, "signal_threshold": 0.0}


def assert_same_maps(found, expected):
    values = found.arrays()
    assert set(values) == set(expected.arrays())
    for name, each in expected.arrays().items():
        np.testing.assert_array_equal(values[name], each, err_msg=name)


@pytest.fixture(scope="module")
def dictionary():
    return build_dictionary(SEQUENCE, TISSUE, n_states=20)


@pytest.fixture(scope="module")
def folder(dictionary, tmp_path_factory):
    """A folder with the dictionary, in memory's and in disk's form, a noisy series of its atoms, and a map of B1."""
    folder = tmp_path_factory.mktemp("scan")
    rng = np.random.default_rng(0)
    index = rng.integers(len(dictionary.norms), size=(5, 4))
    m0 = rng.uniform(5e-3, 50, index.shape) * np.exp(2j * np.pi * rng.random(index.shape))
    m0[0, 0] = 0
    signals = dictionary.fingerprints[index] * (m0 * dictionary.norms[index])[..., None]
    noise = rng.standard_normal((*signals.shape, 2)) @ [1, 1j]
    images = np.moveaxis(signals + 1e-3 * (m0 != 0)[..., None] * noise, -1, 0).astype(np.complex64)
    np.savez(folder / "scan.npz", images=images)
    np.savez(folder / "b1.npz", b1=np.asarray(dictionary.tissue.b1)[index])
    save_dictionary(folder / "atoms.npz", dictionary)
    save_dictionary(folder / "compressed.npz", compress(dictionary, 5)[0])
    fill_store(begin_store(folder / "atoms.zarr", SEQUENCE, TISSUE, n_states=20, chunk_atoms=7))
    return folder


@pytest.fixture(scope="module")
def images(folder):
    with np.load(folder / "scan.npz") as archive:
        return archive["images"]


def test_a_series_is_matched_as_it_is(folder, dictionary, images):
    """Every voxel with any signal, however weak, with all frames: `match`, to the bit."""
    results = map_scan(
        folder / "scan.npz", config=ReconstructionConfig(dictionary=str(folder / "atoms.npz"), **AS_THEY_ARE)
    )
    expected = match(dictionary, images)
    assert_same_maps(results.maps, expected)
    assert np.count_nonzero(expected.index >= 0) == expected.index.size - 1
    assert results.refined is None
    assert results.coefficients is None


def test_a_dictionary_on_disk_stays_there(folder, dictionary, images):
    config = ReconstructionConfig(dictionary=str(folder / "atoms.zarr"), **AS_THEY_ARE)
    results = map_scan(folder / "scan.npz", config=config)
    assert_same_maps(results.maps, match(dictionary, images))
    assert not isinstance(results.dictionary.fingerprints, np.ndarray)


def test_frames_are_matched_with_a_compressed_dictionary(folder, dictionary, images):
    config = ReconstructionConfig(dictionary=str(folder / "compressed.npz"), **AS_THEY_ARE)
    assert_same_maps(map_scan(folder / "scan.npz", config=config).maps, match(compress(dictionary, 5)[0], images))


@pytest.mark.parametrize("name", ["generated.npz", "as_it_is"])
def test_a_generated_dictionary_matches_as_the_simulated_one(folder, images, tmp_path, name):
    """With ``exact`` the atoms are those of a simulation, in a second call, too, which reads the stages."""
    exact = build_dictionary(SEQUENCE, TISSUE)
    wrong = exact.fingerprints + 0.02 * np.sin(np.arange(18)[:, None] + np.arange(40) / 9)
    wrong = (wrong / np.linalg.norm(wrong, axis=1, keepdims=True)).astype(np.float32)
    errors = np.linalg.norm(wrong - exact.fingerprints, axis=1)
    generated = dataclasses.replace(exact, fingerprints=wrong, errors=errors)
    save_dictionary(tmp_path / "generated.npz", generated)
    given = {"dictionary": str(tmp_path / name)} if name.endswith("npz") else {}
    config, call = ReconstructionConfig(**given, **AS_THEY_ARE), {} if given else {"dictionary": generated}
    expected = match(exact, images).index
    assert (map_scan(folder / "scan.npz", config=config, **call).maps.index != expected).any()
    config = dataclasses.replace(config, exact=True)
    for _ in range(2):
        results = map_scan(folder / "scan.npz", tmp_path / "stages", config=config, **call)
        np.testing.assert_array_equal(results.maps.index, expected)
        assert any("of the 18 generated atoms were simulated" in note for note in results.notes)


@pytest.mark.parametrize(
    ("name", "words"), [("atoms.npz", "does not say the errors"), (None, "exact would change nothing")]
)
def test_nothing_to_decide_exactly_is_refused(folder, name, words):
    config = ReconstructionConfig(dictionary=name and str(folder / name), exact=True, **AS_THEY_ARE)
    with pytest.raises(ValueError, match=words):
        map_scan(folder / "scan.npz", config=config)


def test_a_b1_map_is_matched_with(folder, dictionary, images):
    config = ReconstructionConfig(
        dictionary=str(folder / "atoms.npz"), b1_map=str(folder / "b1.npz"), b1_scale=1 + 1e-6, **AS_THEY_ARE
    )
    with np.load(folder / "b1.npz") as archive:
        expected = match_with_b1(dictionary, images, archive["b1"])
    assert_same_maps(map_scan(folder / "scan.npz", config=config).maps, expected)


BALANCED = Bssfp(np.deg2rad(10 + 40 * np.sin(np.pi * np.arange(40) / 40)), np.linspace(9e-3, 12e-3, 40), None, 20e-3)
HZ = np.arange(-10, 31, 10.0)  # not even about 0, or the basis of the fingerprints would be real
OFF_RESONANT = grid_of([0.5, 0.8, 1.4], [0.05, 0.1, 0.2], 1.0, HZ)


def sampled(images, path, sequence=None, *, shots=2):
    """A file of the raw data of images, (frames, y, x), by 4 coils; so many shots, a frame each, sample all k-space."""
    spiral = design_spiral(matrix=SIZE, field_of_view=FIELD_OF_VIEW, interleaves=shots)
    trajectory = rotated(spiral.k, rotation_angles(len(images), interleaves=shots))
    y, x = np.meshgrid(*(np.arange(SIZE) - SIZE // 2,) * 2, indexing="ij")
    coils = np.exp(-((y - 6 * np.array([-1, 1, 0, 0])[:, None, None]) ** 2) / 200 + 0.1j * x)
    kspace = sample_kspace(images.astype(np.complex64), coils, trajectory, (FIELD_OF_VIEW / SIZE,) * 2)
    place = {"matrix": (SIZE, SIZE), "field_of_view": (FIELD_OF_VIEW,) * 2, "slice_thickness": 5e-3}
    write_mrd(path, RawData(kspace, trajectory, **place, sequence=sequence))
    return path


def disc(signal):
    """Images of a disc of one signal, (frames, y, x)."""
    y, x = np.meshgrid(*(np.arange(SIZE) - SIZE // 2,) * 2, indexing="ij")
    return np.asarray(signal)[:, None, None] * (np.hypot(y, x) < 6)


def test_magnitudes_give_off_resonance_of_an_arbitrary_sign(tmp_path):
    np.savez(tmp_path / "scan.npz", images=np.abs(disc(simulate(BALANCED, Tissue(0.8, 0.1, off_resonance=-10.0)))))
    with pytest.warns(UserWarning, match="the sign of off-resonance in the maps is arbitrary"):
        results = map_scan(tmp_path / "scan.npz", sequence=BALANCED, tissue=OFF_RESONANT, config=ReconstructionConfig())
    assert results.magnitude
    assert abs(results.maps.off_resonance[SIZE // 2, SIZE // 2]) == 10


@pytest.mark.parametrize("kind", ["series", "raw"])
def test_off_resonance_is_mapped_or_given(kind, tmp_path):
    """A series, or raw data, in the complex basis of balanced fingerprints."""
    images = disc(simulate(BALANCED, Tissue(0.9, 0.08, off_resonance=13.0)))
    path = tmp_path / "scan.npz"
    np.savez(path, images=images)
    if kind == "raw":
        path = sampled(images, tmp_path / "scan.h5", shots=1)
    call = {"sequence": BALANCED, "tissue": OFF_RESONANT}
    results, again = (map_scan(path, tmp_path / "stages", **call, config=ReconstructionConfig(rank=20)) for _ in "12")
    centre = (SIZE // 2,) * 2
    assert np.iscomplexobj(results.dictionary.basis)
    assert results.maps.off_resonance[centre] == 10
    found = [getattr(results.refined, name)[centre] for name in ("t1", "t2", "off_resonance")]
    assert found == pytest.approx([0.9, 0.08, 13], rel=1e-3)  # what the basis leaves out
    assert results.refined.off_resonance_std[centre] > 0
    assert_same_maps(again.maps, results.maps)
    assert_same_maps(again.refined, results.refined)
    np.savez(tmp_path / "b0.npz", b0=np.full((SIZE, SIZE), 26.0))
    given = {"b0_map": str(tmp_path / "b0.npz"), "b0_scale": 0.5}
    known = map_scan(path, **call, config=ReconstructionConfig(rank=20, **given))
    assert known.maps.off_resonance[centre] == 10
    assert known.refined.off_resonance[centre] == 13
    assert known.refined.off_resonance_std is None
    assert known.refined.t2[centre] == pytest.approx(0.08, rel=1e-3)
    with pytest.raises(ValueError, match=r"b0_map=.* wants atoms of several off-resonances"):
        map_scan(
            path, sequence=BALANCED, tissue=grid_of([0.8], [0.1, 0.2]), config=ReconstructionConfig(rank=2, **given)
        )


def test_the_threshold_leaves_out_what_is_weak(folder, dictionary, images):
    strength = np.linalg.norm(images, axis=0)
    half = map_scan(
        folder / "scan.npz", dictionary=dictionary, config=ReconstructionConfig(rank=5, signal_threshold=0.5)
    )
    matched = half.maps.index >= 0
    assert 0 < np.count_nonzero(matched) < matched.size - 1
    assert strength[matched].min() > 0.2 * strength.max()
    assert np.all(half.refined.t1_std[matched] > 0)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Raw data of a disc of one tissue, fully sampled by 4 coils, in a file that says its sequence."""
    signal = build_dictionary(SEQUENCE, grid_of([0.8], [0.1]), n_states=20)
    images = disc(signal.norms[0] * signal.fingerprints[0])
    return sampled(images, tmp_path_factory.mktemp("raw") / "scan.h5", SEQUENCE)


def test_raw_data_to_maps_and_stages_are_gone_on_with(raw, tmp_path, capsys):
    call = {"tissue": TISSUE.rows(slice(6, 12)), "config": ReconstructionConfig(rank=3, virtual_coils=3)}
    results = map_scan(raw, tmp_path, **call)
    centre = (SIZE // 2,) * 2
    # Sampled in two shots whose aliases the coils take out: the atom of the tissue, and the fit back on it.
    assert (results.maps.t1[centre], results.maps.t2[centre]) == pytest.approx((0.8, 0.1), rel=1e-6)
    assert (results.refined.t1[centre], results.refined.t2[centre]) == pytest.approx((0.8, 0.1), rel=0.03)
    assert results.maps.index[0, 0] == -1
    assert sum(str(raw) in note for note in results.notes) == 1  # which says where the sequence came from
    assert results.voxel_size == pytest.approx((5e-3, FIELD_OF_VIEW / SIZE, FIELD_OF_VIEW / SIZE))
    assert set(results.seconds) == {"sensitivities", "reconstruction", "matching", "refining", "residuals"}
    capsys.readouterr()
    (tmp_path / "refining.npz").unlink()
    again = map_scan(raw, tmp_path, **call)
    assert capsys.readouterr().out.startswith("refining: ")  # and nothing else
    assert_same_maps(again.refined, results.refined)
    with pytest.raises(ValueError, match=r"rank is 4, but 3 when .* was begun: use another folder"):
        map_scan(raw, tmp_path, **call | {"config": ReconstructionConfig(rank=4, virtual_coils=3)})
    with pytest.raises(ValueError, match=r"argument tissue is .* was begun: use another folder"):
        map_scan(raw, tmp_path, **call | {"tissue": TISSUE.rows(slice(6, 11))})
    silent = map_scan(raw, **call | {"config": ReconstructionConfig(rank=3, virtual_coils=3, refine=False)})
    assert_same_maps(silent.maps, results.maps)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sequence": mrf_fisp(41)}, "scan.npz has 40 frames, but the given sequence has 41"),
        ({}, "scan.npz has 40 frames, but the paper's sequence has 1000"),
        ({"sequence": SEQUENCE, "tissue": grid_of([0.8], [0.1]), "b1_map": "b1.npz"}, "b1_map=.* several B1"),
        ({"dictionary": "x.npz"}, r"x.npz"),
    ],
)
def test_what_does_not_fit_is_refused(folder, given, words):
    settings = {name: str(folder / given[name]) for name in ("b1_map", "dictionary") if name in given}
    arguments = {name: value for name, value in given.items() if name not in settings}
    with pytest.raises(ValueError, match=words):
        map_scan(folder / "scan.npz", **arguments, config=ReconstructionConfig(**settings, **AS_THEY_ARE))


def test_padding_is_no_signal(tmp_path):
    """Magnitudes with one negative number in the air around them."""
    images = np.random.default_rng(0).uniform(1, 2, (5, 3, 4)).astype(np.float32)
    images[:, 0] = -1024
    np.save(tmp_path / "scan.npy", images)
    scan = read_scan(tmp_path / "scan.npy", ReconstructionConfig())
    assert scan.magnitude
    assert any("4 voxels have the same negative value" in note for note in scan.notes)
    np.testing.assert_array_equal(scan.images, np.maximum(images, 0))


def test_too_few_frames_are_refused(tmp_path):
    np.save(tmp_path / "scan.npy", np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"scan\.npy has 2 frames: fewer than 3 do not tell T1, T2 and M0 apart"):
        read_scan(tmp_path / "scan.npy", ReconstructionConfig())


def test_sensitivities_may_have_any_scale(raw, tmp_path):
    shape = 4, SIZE, SIZE
    values = np.random.default_rng(0).standard_normal((2, *shape)).T @ [1, 1j]
    for scale in (1, 1e-60):
        np.save(tmp_path / "coils.npy", scale * values.T)
        scan = read_scan(raw, ReconstructionConfig(raw=RawConfig(sensitivities=str(tmp_path / "coils.npy"))))
        np.testing.assert_allclose(scan.sensitivities, values.T / np.abs(values).max(), rtol=1e-6)


def test_raw_data_without_signal_is_refused(raw, tmp_path):
    silent = read_mrd(raw)
    write_mrd(tmp_path / "scan.h5", dataclasses.replace(silent, kspace=0 * silent.kspace))
    with pytest.raises(ValueError, match=r"scan\.h5: k-space is 0 everywhere"):
        read_scan(tmp_path / "scan.h5", ReconstructionConfig())


def test_units_that_leave_k_space_empty_are_warned_of(raw):
    config = ReconstructionConfig(raw=RawConfig(trajectory_units="rad/voxel"))
    with pytest.warns(UserWarning, match=r"reaches 0\.\d+ of the edge of k-space: are its units right"):
        read_scan(raw, config)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"method": "wavelets"}, "method must be one of .*sense.*; got wavelets"),
        ({"rank": 1}, "rank must be at least 2; got 1"),
        ({"signal_threshold": -0.1}, "signal_threshold must be at least 0; got -0.1"),
        ({"b1_map": "b1.npz", "b1_scale": 0.0}, "b1_scale must be above 0; got 0.0"),
        ({"b1_scale": 0.01}, "b1_scale goes with a b1_map; got 0.01"),
    ],
)
def test_settings_that_no_scan_can_have(setting, words):
    with pytest.raises(ValueError, match=words):
        ReconstructionConfig(**setting)


def test_a_dictionary_of_another_kind_than_the_scan_is_refused(raw, dictionary, tmp_path):
    balanced = Bssfp(SEQUENCE.flip_angle, SEQUENCE.repetition_time)
    save_dictionary(tmp_path / "balanced.npz", dataclasses.replace(dictionary, sequence=balanced))
    config = ReconstructionConfig(dictionary=str(tmp_path / "balanced.npz"))
    with pytest.raises(ValueError, match=r"balanced.npz is a dictionary of bssfp, but the header of .*scan.h5 says"):
        map_scan(raw, config=config)


def test_stages_of_a_sequence_with_another_structure_are_not_gone_on_with(folder, dictionary, tmp_path):
    """Whether there is a half pulse in front is in no array."""
    config = ReconstructionConfig(**AS_THEY_ARE)
    with_half, without = (
        dataclasses.replace(dictionary, sequence=Bssfp(SEQUENCE.flip_angle, SEQUENCE.repetition_time, half_start=half))
        for half in (True, False)
    )
    map_scan(folder / "scan.npz", tmp_path, dictionary=with_half, config=config)
    with pytest.raises(ValueError, match=r"argument dictionary is .* was begun: use another folder"):
        map_scan(folder / "scan.npz", tmp_path, dictionary=without, config=config)


def test_two_dictionaries_are_one_too_many(folder, dictionary):
    config = ReconstructionConfig(dictionary=str(folder / "atoms.npz"))
    with pytest.raises(ValueError, match=r"dictionary=.*atoms.npz"):
        map_scan(folder / "scan.npz", dictionary=dictionary, config=config)
