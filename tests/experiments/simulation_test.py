"""Simulation and maps of the brain as a user runs them: good flags give files, bad ones one line and exit code 2."""

import json
import os
import signal
import socket
import subprocess
import time

import nibabel
import numpy as np
import pytest

from ganmrf.dictionary.grids import tissue_grid
from ganmrf.dictionary.npz import load_dictionary
from ganmrf.dictionary.zarr_fill import begin_store, fill_store
from ganmrf.imaging.phantom import digital_brain
from ganmrf.physics.sequences.blocks import simulate_voxel
from ganmrf.physics.sequences.kinds import kind_of
from ganmrf.physics.sequences.published import mrf_fisp
from tests.commands import ROOT, UNIFORM, run, run_apart, words


def test_a_dictionary_of_ones_own(tmp_path):
    schedule = tmp_path / "own.csv"
    rows = "".join(f"{10 + n},{12 + n / 10}\n" for n in range(20))
    schedule.write_text(f"fa_deg,tr_ms\n{rows}", encoding="utf-8")
    path = tmp_path / "own.npz"
    done = run(
        "simulate_dictionary",
        f"--output={path}",
        f"--schedule={schedule}",
        "--echo_time_ms=3",
        "--frames=15",
        "--t1_ms=100:500:100",
        "--t2_ms=50,80",
        "--b1=0.9:1.1:0.1",
        "--slice_nodes=4",
        "--precision=float64",
    )
    assert done.returncode == 0, done.stderr
    assert "30 atoms of 15 frames" in done.stdout
    dictionary = load_dictionary(path)
    assert dictionary.fingerprints.shape == (30, 15)
    assert dictionary.fingerprints.dtype == np.float64
    np.testing.assert_array_equal(dictionary.tissue.b1, np.repeat(np.float32([0.9, 1.0, 1.1]), 10))
    assert dictionary.sequence.inversion_time is None
    np.testing.assert_allclose(dictionary.sequence.flip_angle, np.deg2rad(10 + np.arange(15)), rtol=1e-6)
    np.testing.assert_allclose(dictionary.sequence.echo_time, 0.003, rtol=1e-6)
    assert dictionary.slice_profile.nodes.shape == (4,)


KINDS = {
    "fisp": (("--frames=12", "--off_resonance_hz=-20:20:20"), 3 * 12),
    "cardiac": (("--rr_ms=400,500,450", "--frames_per_beat=6", "--preparations_ms=inversion:21,none,t2:40"), 18),
    "bssfp": (("--frames=12", "--off_resonance_hz=-20:20:20", "--rank=3"), 3 * 12),
    "spgr": (("--frames=12", "--flip_angle_deg=20"), 12),
    "tse": (("--frames=6", "--refocusing_angle_deg=120"), 6),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_dictionary_of_every_kind_of_sequence(tmp_path, kind):
    flags, size = KINDS[kind]
    path = tmp_path / "d.npz"
    done = run(
        "simulate_dictionary", f"--output={path}", f"--sequence={kind}", "--t1_ms=800", "--t2_ms=80", UNIFORM, *flags
    )
    assert done.returncode == 0, done.stderr
    dictionary = load_dictionary(path)
    assert kind_of(dictionary.sequence) == kind
    atoms, frames = len(dictionary.norms), dictionary.sequence.n_frames
    assert atoms * frames == size
    signals = np.array([simulate_voxel(dictionary.sequence, *row) for row in _rows(dictionary.tissue)])
    found = dictionary.fingerprints
    if dictionary.basis is not None:
        found = found @ dictionary.basis.conj().T
    # Three vectors hold three tissues whole; float32.
    np.testing.assert_allclose(found * dictionary.norms[:, None], signals, atol=3e-6)


def _rows(tissue):
    """T1, T2, B1 and off-resonance of each atom."""
    apart = 0.0 if tissue.off_resonance is None else tissue.off_resonance
    return np.stack(np.broadcast_arrays(tissue.t1, tissue.t2, tissue.b1, apart), axis=1)


def test_kept_programs_that_were_cut_short_are_compiled_again(tmp_path):
    flags = ("simulate_dictionary", "--t1_ms=300,800", "--t2_ms=40", "--frames=10", UNIFORM)
    first = run_apart(*flags, f"--output={tmp_path / 'first.npz'}", XDG_CACHE_HOME=str(tmp_path))
    assert first.returncode == 0, first.stderr
    kept = list((tmp_path / "ganmrf" / "compiled").iterdir())
    assert kept
    for program in kept:
        os.truncate(program, program.stat().st_size // 2)
    again = run_apart(*flags, f"--output={tmp_path / 'again.npz'}", XDG_CACHE_HOME=str(tmp_path))
    assert (again.returncode, again.stderr) == (0, "")
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


SHARED = ("--frames=30", "--chunk_atoms=64", "--rank=6", "--states=15", UNIFORM)  # 94 chunks


def begin(output, port, process, *flags):
    place = (f"--coordinator=localhost:{port}", "--processes=2", f"--process_id={process}")
    command = words("simulate_dictionary", f"--output={output}", *SHARED, *place, *flags)
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_processes_share_a_store_and_one_may_die(tmp_path):
    path, port = tmp_path / "shared.zarr", free_port()
    first, second = (begin(path, port, process) for process in (0, 1))
    while second.poll() is None and not any((path / "norms" / "c" / str(chunk)).exists() for chunk in range(1, 94, 2)):
        time.sleep(0.01)
    second.kill()
    second.communicate()
    assert second.returncode == -signal.SIGKILL
    again = begin(path, port, 1)
    said, error = again.communicate(timeout=120)
    assert again.returncode == 0, error
    assert "of 94 chunks are there already" in said
    said, error = first.communicate(timeout=120)
    assert first.returncode == 0, error
    assert f"{path} is whole: 5970 atoms of 30 frames" in said
    # Three devices, which do not divide the chunks evenly.
    devices = {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=3"}
    alone = run_apart("simulate_dictionary", f"--output={tmp_path / 'alone.zarr'}", *SHARED, **devices)
    assert alone.returncode == 0, alone.stderr
    assert contents(path) == contents(tmp_path / "alone.zarr")


def test_a_coordinator_that_is_not_there(tmp_path):
    port = free_port()
    process = begin(tmp_path / "a.zarr", port, 1, "--coordinator_timeout_s=1")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert error.startswith(f"error: --coordinator=localhost:{port}: it was not reached, or some process did not come")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_not_whole_is_not_matched_with(tmp_path):
    fill_store(begin_store(tmp_path / "a.zarr", mrf_fisp(20), tissue_grid("coarse"), chunk_atoms=50))
    (tmp_path / "a.zarr" / "norms" / "c" / "4").unlink()
    np.savez(tmp_path / "scan.npz", images=np.ones((20, 2, 2)))
    files = {"dictionary": "a.zarr", "input": "scan.npz", "output": "maps"}
    flags = (f"--{flag}={tmp_path / name}" for flag, name in files.items())
    done = run("reconstruct_maps", *flags, "--method=frames", "--norefine")
    assert done.returncode == 2
    assert "a.zarr is not whole: 1 of its 6 chunks are missing (4): run simulate_dictionary --output=" in done.stderr
    assert done.stderr.count("\n") == 1


OF_STORES = ("--coordinator=localhost:1", "--processes=2", "--process_id=0")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--output=a.txt",), ("--output", ".npz", ".mat", ".zarr", "a.txt")),
        (("--output=/nowhere/a.npz",), ("--output", "the folder /nowhere does not exist")),
        (("--output=a.npz", "--grid=medium"), ("--grid", "paper|coarse|fine|ma", "medium")),
        (("--output=a.npz", "--chunk_atoms=9"), ("--chunk_atoms", "--output=NAME.zarr")),
        (("--output=a.npz", *OF_STORES), ("--coordinator", "--output=NAME.zarr")),
        (("--output=a.zarr", OF_STORES[0]), ("--coordinator, --processes and --process_id go together",)),
        (("--output=a.zarr", "--coordinator=localhost", *OF_STORES[1:]), ("--coordinator", "host:port", "localhost")),
        (("--output=a.zarr", *OF_STORES[:2], "--process_id=2"), ("--process_id", "0 to 1", "2")),
        (("--output=a.npz", "--t1_ms=100"), ("--t1_ms and --t2_ms go together",)),
        (("--output=a.npz", "--schedule=none.csv"), ("none.csv",)),
        (("--output=a.npz", "--accuracy=0", "--frames=5", "--grid=coarse"), ("--accuracy", "above 0", "0.0")),
    ],
)
def test_bad_flags_are_one_line(flags, message):
    done = run("simulate_dictionary", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert all(part in done.stderr for part in message)
    assert done.stderr.count("\n") == 1
    assert not list(ROOT.glob("a.*"))


def test_main_job_on_a_small_brain(tmp_path):
    flags = ("--size=48", "--frames=120", "--grid=coarse", "--snr=50", "--rank=12", "--slice_nodes=2", "--refine")
    done = run("map_brain", f"--output={tmp_path / 'brain'}", *flags)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "brain"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    # The coarse grid steps T1 by 100 ms and T2 by 10 ms, half a step of 832 and 79 ms is 6 %; noise and mixture add.
    assert metrics["tissues"]["white matter"]["voxels"] > 20
    assert metrics["tissues"]["white matter"]["t1_rrmse"] < 0.12
    assert metrics["tissues"]["white matter"]["t2_rrmse"] < 0.12
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["size"], config["simulation"]["frames"]) == (48, 120)
    image = nibabel.load(folder / "T1map.nii.gz")
    brain = digital_brain(size=48)
    np.testing.assert_allclose(image.affine, brain.affine)
    t1 = image.get_fdata()[..., 0].T
    np.testing.assert_array_equal(t1 > 0, brain.mask)
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert report.count("data:image/png;base64") == 8
    assert metrics["refined_rrmse_t1"] < metrics["rrmse_t1"]
    intervals = metrics["coverage_of_95_percent_intervals"]
    assert all(0 <= row[name] <= 1 for row in intervals for name in ("t1", "t2"))
    assert {row["tissue"] for row in intervals} >= {"white matter"}
    assert "Energy the basis leaves out" in report
    assert (folder / "maps.png").stat().st_size > 10_000


def test_b0_of_a_brain_is_mapped_with_balanced_frames(tmp_path):
    flags = ("--sequence=bssfp", "--size=32", "--frames=200", "--snr=0", "--b0_variation_hz=10", "--refine", UNIFORM)
    grid = ("--t1_ms=300:2800:250", "--t2_ms=30:330:50", "--off_resonance_hz=-16:16:2", "--rank=30")
    done = run("map_brain", f"--output={tmp_path / 'brain'}", *flags, *grid)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "brain"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    # Atoms are 2 Hz apart: half a step at most, uniformly spread, is 0.58 Hz; a wrong T2 pulls along.
    assert metrics["rms_error_off_resonance_hz"] < 1
    # Between the atoms; mixed voxels, of which one tissue fills 95 %, are a little off.
    assert metrics["refined_rms_error_off_resonance_hz"] < 0.1
    b0 = nibabel.load(folder / "fieldmap.nii.gz").get_fdata()[..., 0].T
    brain = digital_brain(size=32, b0_variation=10.0)
    assert np.abs(b0 - brain.off_resonance)[brain.brain_mask].max() < 6
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "B0" in report
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["b0_variation_hz"] == 10


def test_a_brain_of_balanced_frames_has_an_axis_of_off_resonance_by_itself(tmp_path):
    done = run("map_brain", f"--output={tmp_path / 'w'}", "--sequence=bssfp", "--size=24", "--frames=110", UNIFORM)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "w" / "config.json").read_text(encoding="utf-8"))
    simulation, rank = config["simulation"], config["rank"]
    assert rank == 100  # with fewer columns `refine` takes one noise for all voxels, mixed ones too
    assert (simulation["grid"], simulation["off_resonance_hz"]) == ("coarse", "-30:30:1")


def test_the_table_of_slice_profiles(tmp_path):
    path = tmp_path / "table.json"
    done = run("studies.slice_profile_accuracy", "--nodes=16,32", f"--output={path}")
    assert done.returncode == 0, done.stderr
    errors = {row["nodes"]: row["gauss"] for row in json.loads(path.read_text(encoding="utf-8"))["errors"]}
    assert errors[16] <= 1e-3
    assert errors[32] <= 1e-4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--size=8",), ("--size", "at least 16", "8")),
        (("--rank=11", "--frames=10"), ("--rank", "1 to 10", "11")),
        (("--snr=nan",), ("--snr", "finite", "nan")),
    ],
)
def test_the_brain_is_not_mapped_with_what_cannot_be_right(tmp_path, flags, message):
    done = run("map_brain", f"--output={tmp_path}", *flags)
    assert done.returncode == 2
    assert all(part in done.stderr for part in message)
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_maps_of_a_brain_leave_the_folder_of_another_run_as_it_is(tmp_path):
    (tmp_path / "config.json").write_text('{"training": {"seed": 3}}', encoding="utf-8")
    done = run("map_brain", f"--output={tmp_path}", "--size=48", "--frames=10", "--grid=coarse")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "config.json is of another kind of run" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
