"""Maps without a grid as a user makes them: of all axes of a generator, or some of them; what is refused, and how."""

import json
import re

import nibabel
import numpy as np
import pytest

from experiments.evaluation.continuous import Continuous
from experiments.reports.continuous import bias_words
from ganmrf.anchors.anchor_set import build_anchor_set
from ganmrf.anchors.generator import radial_generator, table_generator
from ganmrf.anchors.generator_file import save_generator
from ganmrf.dictionary.induced_bias import BiasToNoise
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import Tissue
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import PowerConfig, SliceConfig
from ganmrf.runs.tissues import TissueConfig
from tests.commands import run

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES, NOISE, AFFINE = 60, 0.2, np.diag([1.0, 2.0, 3.0, 1.0])
BOX = TissueBox(("t1", "t2", "b1"), [0.3, 0.03, 0.8], [2.5, 0.25, 1.2])
SHAPE = (2, 4, 5)  # z, y, x
AIR = np.arange(40).reshape(SHAPE) % 8 == 0


@pytest.fixture(scope="module")
def anchor_set():
    return build_anchor_set(BOX, None, n_anchors=64, n_sequences=2, n_frames=FRAMES, n_candidates=128)


@pytest.fixture(scope="module")
def folder(anchor_set, tmp_path_factory):
    """A folder with a generator, by radial functions, and a noisy series of 40 voxels, some of air; their tissue."""
    folder = tmp_path_factory.mktemp("continuous")
    save_generator(folder / "generator.npz", radial_generator(anchor_set))
    rng = np.random.default_rng(1)
    values = {
        name: rng.uniform(*ends, SHAPE) for name, ends in (("t1", (0.5, 2)), ("t2", (0.05, 0.2)), ("b1", (0.9, 1.1)))
    }
    images = 50 * np.exp(1j) * np.moveaxis(np.asarray(simulate(mrf_fisp(FRAMES), Tissue(**values))), -1, 0)
    images = np.where(AIR, 0, images) + NOISE * (rng.standard_normal((FRAMES, *SHAPE, 2)) @ [1, 1j])
    nibabel.save(nibabel.Nifti1Image(images.T.astype(np.complex64), AFFINE), folder / "images.nii.gz")
    return folder, values


def words(folder, *flags):
    inputs = {"input": "images.nii.gz", "generator": "generator.npz"}
    return (
        *(f"--{name}={folder / file}" for name, file in inputs.items()),
        f"--frames={FRAMES}",
        "--allow_error=1",
        *flags,
    )


def mapped(folder, *flags):
    done = run("map_continuous", *words(folder, *flags))
    assert done.returncode == 0, done.stderr
    return done


def stored(path):
    return nibabel.load(path).get_fdata().T


def scores(output, values, names=(("T1map", "t1", 1), ("T2map", "t2", 1), ("TB1map", "b1", 100))):
    """Errors of the maps over their error bars, in the voxels that are no air, (maps, voxels)."""
    for name, field, scale in names:
        found, bar = (stored(output / f"{kind}{name}.nii.gz") for kind in ("", "desc-std_"))
        assert not found[AIR].any()
        yield (found - scale * values[field])[~AIR] / bar[~AIR]


@pytest.fixture(scope="module")
def maps(folder, tmp_path_factory):
    """The folder of maps of all axes, and what the command said."""
    output = tmp_path_factory.mktemp("maps")
    return output, mapped(folder[0], f"--output={output}", "--also=npz,dicom")


def test_all_axes_are_mapped_with_error_bars(folder, maps):
    """35 voxels, three parameters: a root mean square is known to a tenth."""
    output, done = maps
    assert "warning" not in done.stderr.lower()
    found = np.array([*scores(output, folder[1])])
    assert np.sqrt(np.mean(found[np.isfinite(found)] ** 2)) == pytest.approx(1, abs=0.3)
    assert np.isfinite(found).mean() > 0.95
    assert np.median(np.abs(stored(output / "M0map.nii.gz")[~AIR] / 50 - 1)) < 0.03  # that of B1 is 0.03 off
    np.testing.assert_allclose(nibabel.load(output / "T1map.nii.gz").affine, AFFINE, atol=1e-5)
    with np.load(output / "maps.npz") as archive:
        np.testing.assert_allclose(archive["t1_s"][~AIR], stored(output / "T1map.nii.gz")[~AIR], rtol=1e-5)
    assert (output / "dicom" / "TB1map" / "0002.dcm").exists()


def test_the_report_and_the_results_say_what_error_bars_do_not(maps):
    output, done = maps
    said = json.loads((output / "results.json").read_text("utf-8"))
    assert said["voxels"] == np.count_nonzero(~AIR)
    assert 0 < said["largest_error"] < 0.1
    assert f"largest with sentinels {said['largest_error']:.1e}" in done.stdout
    for name in ("t1", "t2", "b1", "m0"):
        assert 0 < said["bias_over_error_bar"][name]["median"] <= said["bias_over_error_bar"][name]["largest"]
    assert said["median_residual_over_noise"] == pytest.approx(1, abs=0.15)
    page = (output / "report.html").read_text("utf-8")
    assert page.count("<img") == 6  # maps and error bars of two slices, residuals, sequence
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_same_call_goes_on_from_what_was_fitted(folder, maps):
    output, first = maps
    before = stored(output / "T2map.nii.gz")
    (output / "T2map.nii.gz").unlink()
    again = mapped(folder[0], f"--output={output}")
    assert "fitting" in first.stdout
    assert "fitting" not in again.stdout
    np.testing.assert_array_equal(stored(output / "T2map.nii.gz"), before)
    done = run("map_continuous", *words(folder[0], f"--output={output}", "--known=b1:1"))
    assert done.returncode == 2
    assert "known=b1:1 conflicts" in done.stderr


def test_what_is_known_is_not_fitted(folder, tmp_path):
    """A map of B1 in percent, whose values are missing in one voxel, and outside the box in another."""
    folder, values = folder
    b1, lost = 100 * values["b1"], np.zeros(SHAPE, bool)
    lost[0, 1, 1], lost[1, 0, 1] = True, True
    b1[0, 1, 1], b1[1, 0, 1] = np.nan, 130
    np.savez(tmp_path / "b1.npz", b1=b1)
    flags = f"--b1_map={tmp_path / 'b1.npz'}", "--b1_scale=0.01"
    done = mapped(folder, f"--output={tmp_path / 'map'}", *flags, f"--noise={NOISE}")
    assert re.search(r"warning: b1_map: 2 of 35 voxels .* 0.8 to 1.2", done.stderr)
    np.testing.assert_allclose(stored(tmp_path / "map" / "TB1map.nii.gz"), np.where(AIR | lost, 0, b1), rtol=1e-6)
    assert not (tmp_path / "map" / "desc-std_TB1map.nii.gz").exists()
    with np.errstate(divide="ignore"):  # there is no error bar where nothing was fitted
        found = np.array([*scores(tmp_path / "map", values, (("T1map", "t1", 1), ("T2map", "t2", 1)))])[:, ~lost[~AIR]]
    assert np.sqrt(np.mean(found**2)) == pytest.approx(1, abs=0.3)


def test_voxels_at_an_end_of_a_range_are_counted(folder, tmp_path):
    """Of a T1 beyond the box, with one B1 for all, in the voxels of a mask."""
    images = np.moveaxis(np.asarray(simulate(mrf_fisp(FRAMES), Tissue(np.full((4, 4), 3.5), 0.1, 0.95))), -1, 0)
    noise, mask = 1e-3 * np.random.default_rng(2).standard_normal(images.shape), np.eye(4)
    np.save(tmp_path / "long.npy", images + noise)
    np.save(tmp_path / "mask.npy", mask)
    inputs = f"--input={tmp_path / 'long.npy'}", f"--mask={tmp_path / 'mask.npy'}"
    output = tmp_path / "out"
    done = mapped(folder[0], *inputs, f"--output={output}", "--known=b1:0.95", "--force_fit")
    assert "T1 is at an end of the generator's range in 100 % of the voxels" in done.stdout
    said = json.loads((output / "results.json").read_text("utf-8"))
    assert said["at_an_end"]["t1"] == 1
    assert said["bias_over_error_bar"] == {}  # no voxel has error bars
    np.testing.assert_allclose(stored(output / "TB1map.nii.gz")[0], 95 * mask, rtol=1e-6)


def test_biases_above_the_error_bars_are_warned_of():
    for scale, names in ((1, ["T1"]), (0.1, [])):
        bias = BiasToNoise(
            parameters={"t1": scale * np.array([2.0, np.nan, 4.0]), "t2": np.full(3, 0.5)}, m0=np.ones(3)
        )
        said = bias_words(Continuous(None, None, {}, bias))
        assert [name for name in ("T1", "T2", "M0") if name in said] == names
        assert ("3 times" in said) == bool(names)


def test_pulses_of_a_generators_slice_saturate_where_nothing_says_other_ones():
    pools, pulse = TissueConfig(tissue="semisolid"), windowed_sinc(6, "hann")
    own = SimulationConfig(frames=FRAMES, pools=pools).sequence(FullSlice(pulse, 8.0))
    flags = SimulationConfig(frames=FRAMES, pools=pools, time_bandwidth=6.0, slice=SliceConfig(slice_model="full"))
    for name in ("pulse_duration", "pulse_shape"):
        np.testing.assert_allclose(getattr(own, name), getattr(flags.sequence(), name), rtol=1e-6)
    given = SimulationConfig(frames=FRAMES, pools=pools, powers=PowerConfig(3.0, 1.5)).sequence(FullSlice(pulse, 8.0))
    np.testing.assert_allclose([given.pulse_duration, given.pulse_shape], [3e-3, 1.5], rtol=1e-6)
    with pytest.raises(ValueError, match="pulse_duration_ms is required"):
        SimulationConfig(frames=FRAMES, pools=pools).sequence()


def test_bad_input_is_one_line(folder, anchor_set, tmp_path):
    folder, _ = folder
    grid = BOX.spread(np.random.default_rng(0).random((64, 3)))
    save_generator(tmp_path / "table.npz", table_generator(anchor_set, grid, anchor_set.features_of(grid)))
    images = nibabel.load(folder / "images.nii.gz").get_fdata(dtype=np.complex64).T
    for name, array in {
        "sizes": np.abs(images),
        "nothing": 0 * images.real,
        "noise": np.random.default_rng(3).standard_normal(images.shape),
        "small": np.ones((2, 4)),
        "much": 9 * np.ones(SHAPE),
    }.items():
        np.save(tmp_path / f"{name}.npy", array)
    of = {name: f"--input={tmp_path / f'{name}.npy'}" for name in ("sizes", "nothing", "noise")}
    assert run("export_pulseq", f"--output={tmp_path / 'played.seq'}", f"--frames={FRAMES}").returncode == 0
    cases = {
        (f"--generator={tmp_path / 'table.npz'}",): "--generator must be a trunk .* table",
        (of["sizes"],): "magnitudes.*complex or signed",
        (of["nothing"],): "no voxel with any signal",
        (of["noise"],): "does not determine t1,t2,b1.* by --known.*--force_fit",
        ("--frames=50",): "60 frames, but the sequence has 50",
        ("--input=scan.h5",): "cannot read|scan.h5",
        ("--known=fraction:0.1",): "fraction is no axis of .* t1, t2, b1",
        ("--known=b1",): "known must be name:value",
        ("--known=t1:1,t2:0.1,b1:1",): "nothing to fit",
        ("--known=b1:1.4",): "known b1 .* 0.8 to 1.2",
        ("--known=b1:1", f"--b1_map={tmp_path / 'much.npy'}"): "b1_map stands in place of --known=b1",
        (f"--b1_map={tmp_path / 'small.npy'}",): "B1 map has shape",
        (f"--b1_map={tmp_path / 'much.npy'}",): "b1_map: 35 of 35 voxels are outside .* --b1_scale",
        (f"--b0_map={tmp_path / 'much.npy'}",): "b0_map: off_resonance is no axis",
        ("--allow_error=1e-7",): "largest error .* above allow_error",
        (f"--schedule={tmp_path / 'played.seq'}", "--allow_error=1e-7"): "made for another slice",
        ("--pulse_duration_ms=2",): "pulse_duration_ms would change nothing: .* no semisolid pool",
        ("--starts=0",): "starts must be at least 1",
        ("--t1_ms=100:200:10",): "t1_ms is not a flag of map_continuous",
    }
    for flags, expected in cases.items():
        done = run("map_continuous", *words(folder, f"--output={tmp_path / 'refused'}", *flags))
        assert done.returncode == 2, (flags, done.stderr)
        (line,) = [line for line in done.stderr.strip().splitlines() if not line.startswith("warning: ")]
        assert line.startswith("error: ")
        assert re.search(expected, line), line
    assert not (tmp_path / "refused").exists()  # as before, whatever it was that was refused
