"""A second pool of spins as a user maps it: dictionaries, scans, maps with error bars, and what is not determined."""

import json

import nibabel
import numpy as np
import pytest

from ganmrf.dictionary.npz import load_dictionary
from ganmrf.imaging.brain_tissues import brain_values
from ganmrf.io.mrd import read_mrd
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import PowerConfig
from ganmrf.runs.tissues import TissueConfig
from tests.commands import UNIFORM, run

pytestmark = pytest.mark.usefixtures("quick_compiler")
FRAMES, NOISE = 200, 2e-3
SEQUENCE = (f"--frames={FRAMES}", UNIFORM)
PULSES = ("--pulse_duration_ms=2", "--pulse_shape=1.5")
POOLS = ("--tissue=semisolid", *PULSES, "--fix=exchange_rate:14,t1_b:0.34")
GRID = ("--t1_ms=1000:2600:400", "--t2_ms=50,80,110", "--fraction=0:0.3:0.1")


def succeed(job, *flags):
    done = run(job, *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stored(path):
    return nibabel.load(path).get_fdata()[..., 0].T


@pytest.mark.parametrize(
    ("flags", "kind", "field", "values"),
    [
        ((*PULSES, "--tissue=semisolid", "--fraction=0.1,0.2"), SemisolidPool, "fraction", [0.1, 0.2]),
        (
            ("--tissue=exchanging", "--fraction=0.1", "--exchange_rate_per_s=2,20"),
            ExchangingPools,
            "exchange_rate",
            [2, 20],
        ),
    ],
)
def test_a_dictionary_of_pools(tmp_path, flags, kind, field, values):
    path = tmp_path / "d.npz"
    succeed("simulate_dictionary", f"--output={path}", "--frames=12", UNIFORM, "--t1_ms=900", "--t2_ms=60", *flags)
    found = load_dictionary(path)
    assert isinstance(found.tissue, kind)
    np.testing.assert_allclose(getattr(found.tissue, field), values, rtol=1e-6)
    np.testing.assert_allclose(
        found.fingerprints * found.norms[:, None], simulate(found.sequence, found.tissue), atol=1e-6
    )


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A folder with noisy images of 24 voxels with a semisolid pool between the atoms, its tissue, and a dictionary."""
    folder, rng = tmp_path_factory.mktemp("series"), np.random.default_rng(0)
    bounds = {"t1": (1.4, 2.0), "t2": (0.06, 0.1), "fraction": (0.08, 0.25)}
    values = {name: rng.uniform(*ends, (4, 6)) for name, ends in bounds.items()}
    config = SimulationConfig(frames=FRAMES, pools=TissueConfig("semisolid"), powers=PowerConfig(2.0, 1.5))
    tissue = SemisolidPool(**values, exchange_rate=14.0, t1_b=0.34, lineshape=15.1e-6)
    images = np.moveaxis(np.asarray(simulate(config.sequence(), tissue)), -1, 0).astype(complex)
    images += NOISE * (rng.standard_normal((*images.shape, 2)) @ [1, 1j])
    np.savez(folder / "images.npz", images=images.astype(np.complex64))
    succeed("simulate_dictionary", f"--output={folder / 'd.npz'}", *SEQUENCE, *POOLS, *GRID)
    return folder, values


def test_the_fraction_is_mapped_with_its_error_bar(series, tmp_path):
    folder, values = series
    flags = (f"--input={folder / 'images.npz'}", f"--dictionary={folder / 'd.npz'}")
    said = succeed("reconstruct_maps", *flags, f"--output={tmp_path}", "--signal_threshold=0", "--also=npz")
    assert "f is not determined" not in said
    for name, field in (("T1map", "t1"), ("T2map", "t2"), ("fractionmap", "fraction")):
        found, std = stored(tmp_path / f"{name}.nii.gz"), stored(tmp_path / f"desc-std_{name}.nii.gz")
        wrong = (found - values[field]) / std
        # A sixth-part of a compressed basis is lost, and noise alone is left: 24 voxels, a spread of 1.
        assert 0.6 < np.sqrt(np.mean(wrong**2)) < 1.5
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["undetermined"] == {"t1": 0, "t2": 0, "fraction": 0}
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "T1, T2 and f maps of a scan" in report
    assert "f is the fraction of pool b" in report


def test_a_tissue_by_flags_is_that_of_a_dictionary(series, tmp_path):
    folder, _ = series
    maps = []
    for name, flags in (("d", (f"--dictionary={folder / 'd.npz'}",)), ("flags", (*SEQUENCE, *POOLS, *GRID))):
        succeed("reconstruct_maps", f"--input={folder / 'images.npz'}", f"--output={tmp_path / name}", *flags)
        maps.append(stored(tmp_path / name / "fractionmap.nii.gz"))
    np.testing.assert_array_equal(*maps)


def test_what_the_scan_does_not_determine_is_refused_or_shown_as_such(series, tmp_path):
    folder, _ = series
    flags = (f"--input={folder / 'images.npz'}", f"--dictionary={folder / 'd.npz'}", f"--output={tmp_path / 'w'}")
    flags += ("--fit=t1,t2,fraction,exchange_rate,t1_b",)
    done = run("reconstruct_maps", *flags)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in ("--fit=", "t1_b", "%", "--force_fit"))
    said = succeed("reconstruct_maps", *flags, "--force_fit")
    assert "is not determined by this sequence in" in said
    report = (tmp_path / "w" / "report.html").read_text(encoding="utf-8")
    assert "Not determined by this sequence are" in report
    shares = json.loads((tmp_path / "w" / "results.json").read_text())["undetermined"]
    assert max(shares["exchange_rate"], shares["t1_b"]) > 0.5
    np.testing.assert_array_equal(stored(tmp_path / "w" / "T1map.nii.gz") > 0, True)  # files keep the values


def test_raw_data_of_pools_are_mapped(tmp_path):
    scan = tmp_path / "scan.h5"
    flags = ("--tissue=semisolid", *PULSES, *SEQUENCE, "--coils=2", "--snr=0", "--variation=0")
    spirals = ("--size=24", "--field_of_view_mm=240", "--interleaves=1")
    succeed("simulate_acquisition", f"--output={scan}", f"--truth={tmp_path / 'truth'}", *flags, *spirals)
    truth = stored(tmp_path / "truth" / "fractionmap.nii.gz")
    assert np.isclose(truth, brain_values("semisolid")["white matter"]["fraction"], rtol=1e-6).any()
    assert read_mrd(scan).sequence.n_frames == FRAMES
    grid = ("--t1_ms=1000:2600:200", "--t2_ms=50:110:10,300", "--fraction=0:0.3:0.05", "--rank=12", "--norefine")
    succeed(
        "reconstruct_maps", f"--input={scan}", f"--output={tmp_path / 'maps'}", UNIFORM, *POOLS, *grid, "--also=mrd"
    )
    found = stored(tmp_path / "maps" / "fractionmap.nii.gz")
    white = (truth > 0.2) & (found > 0)
    assert white.sum() > 10
    # Steps of 0.05; voxels are large, and mixed to 5 %.
    assert abs(np.mean(found[white]) - 0.212) < 0.025


def test_a_brain_with_pools_is_mapped(tmp_path):
    """With a transmit field that is known."""
    flags = ("--tissue=semisolid", *PULSES, *SEQUENCE, "--size=24", "--snr=200", "--variation=0", "--refine")
    grid = ("--t1_ms=1000:2800:300", "--t2_ms=50:110:20,300", "--fraction=0:0.3:0.1", "--b1=0.9:1.1:0.1")
    said = succeed("map_brain", f"--output={tmp_path / 'w'}", *flags, *grid, "--b1_variation=0.1", "--b1_known")
    assert "fraction 0.212, bias" in said
    metrics = json.loads((tmp_path / "w" / "metrics.json").read_text(encoding="utf-8"))
    white = next(row for row in metrics["further_parameters"] if row["tissue"] == "white matter")
    assert white["parameter"] == "fraction"
    assert abs(white["bias"]) < 0.02  # exchange and T1 of the pool are those of white matter, to a few per cent
    assert 0 < white["bound"] < 0.02
    assert "f" in metrics["coverage_of_95_percent_intervals"][0]
    assert metrics["slice_models"] == {}
    report = (tmp_path / "w" / "report.html").read_text(encoding="utf-8")
    assert "T1, T2 and f maps of a digital brain" in report
    assert "Errors of the second pool" in report


@pytest.mark.parametrize(
    ("job", "flags", "told"),
    [
        ("simulate_dictionary", "--output=d.npz --tissue=semisolid --slice_model=none", "--pulse_duration_ms required"),
        ("simulate_dictionary", "--output=d.npz --fraction=0.1", "--fraction --tissue=exchanging|semisolid"),
        ("simulate_dictionary", "--output=d.npz --tissue=exchanging --lineshape_us=9", "--lineshape_us semisolid"),
        ("simulate_dictionary", "--output=d.npz --pulse_shape=2", "--pulse_shape --tissue=semisolid"),
        ("simulate_dictionary", "--output=d.npz --tissue=semisolid --fraction=0:2:1", "--fraction 0 to 1 2"),
        ("simulate_dictionary", "--output=d.npz --tissue=semisolid --fix=k:14", "--fix exchange_rate k:14"),
        ("simulate_dictionary", "--output=d.npz --fix=t1_b:1", "--fix --tissue"),
        ("reconstruct_maps", "--input=i.npz --output=w --dictionary=d.npz --tissue=semisolid", "--dictionary --tissue"),
        ("reconstruct_maps", "--input=i.npz --output=w --dictionary=d.npz --t1_b_ms=3", "--t1_b_ms --tissue"),
        ("reconstruct_maps", "--input=i.npz --output=w --norefine --fit=t1", "--fit --refine"),
        ("reconstruct_maps", "--input=i.npz --output=w --fit=k", "--fit exchange_rate k"),
        ("reconstruct_maps", "--input=i.npz --output=w --force_fit", "--force_fit --fit"),
        (
            "reconstruct_maps",
            "--input=i.npz --output=w --tissue=semisolid --fix=t1_b:0.3 --fit=t1,t1_b",
            "--fit=t1_b --fix",
        ),
        ("map_brain", "--output=w --undetermined=0.5", "--undetermined --refine"),
        ("map_brain", "--output=w --b1_known", "--b1_known --b1_variation"),
        ("simulate_acquisition", "--output=s.h5 --tissue=semisolid --fraction=0.1", "--fraction"),
    ],
)
def test_flags_that_would_change_nothing_are_refused(tmp_path, monkeypatch, job, flags, told):
    monkeypatch.chdir(tmp_path)
    for name in ("i.npz", "d.npz"):
        np.savez(tmp_path / name, images=np.ones((3, 2, 2)))
    done = run(job, *flags.split())
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in told.split()), done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"i.npz", "d.npz"}
