"""Generators for any sequence of a kind, made from Python in their folder, and made again from what is there."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.runs.anchoring import AnchoredConfig, make_in_folder
from ganmrf.runs.boxes import BoxConfig
from ganmrf.runs.sequences import SequenceConfig
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import SliceConfig

pytestmark = pytest.mark.usefixtures("quick_compiler")

SIMULATION = SimulationConfig(frames=50, t1_ms="200:1400:400", t2_ms="20:120:20")
BOX = {"ranges": BoxConfig(t1_range_ms=(100.0, 3000.0), t2_range_ms=(10.0, 500.0))}
TABLE = AnchoredConfig(SIMULATION, "table", **BOX, anchors=32, sequences=4, candidates=128)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_generator_is_made_again_from_what_its_folder_holds(tmp_path):
    made = make_in_folder(tmp_path, TABLE, progress=False)
    tissue = SIMULATION.tissue().ravel()
    same(made.generator.model.tissue, tissue)
    [block] = (tmp_path / "table").iterdir()
    written = block.stat().st_mtime_ns
    (tmp_path / "generator.npz").unlink()
    again = make_in_folder(tmp_path, progress=False)  # all settings from the folder
    assert again.config == TABLE
    assert block.stat().st_mtime_ns == written  # what was simulated is not simulated again
    assert (tmp_path / "generator.npz").exists()
    same(again.generator, made.generator)


def test_a_trunk_begins_with_that_of_another_box(tmp_path):
    small = {"anchors": 32, "sequences": 2, "candidates": 128, "tissues": 256, "refit_tissues": 256}
    shape = {"width": 32, "depth": 2, "batch_size": 64}
    plain = AnchoredConfig(SimulationConfig(frames=50), "trunk", **BOX, **small, **shape, steps=120)
    first = make_in_folder(tmp_path / "first", plain, progress=False)
    start = str(tmp_path / "first" / "generator.npz")
    narrower = BoxConfig(t1_range_ms=(200.0, 3000.0), t2_range_ms=(10.0, 400.0))
    warm = dataclasses.replace(plain, ranges=narrower, steps=12, start=start)
    rows = {
        name: make_in_folder(tmp_path / name, each, progress=False).rows
        for name, each in {"warm": warm, "cold": dataclasses.replace(warm, start=None)}.items()
    }
    assert rows["warm"][0]["validation_error"] < rows["cold"][-1]["validation_error"] / 3
    assert rows["warm"][-1]["validation_error"] < 2 * first.rows[-1]["validation_error"]
    assert AnchoredConfig(start=start).steps == AnchoredConfig().steps // 10
    with pytest.raises(ValueError, match=r"start: --width of .* must be 64, as of the generator to make; got 32"):
        make_in_folder(tmp_path / "wide", dataclasses.replace(warm, width=64), progress=False)
    b1 = dataclasses.replace(warm, ranges=BoxConfig(b1_range=(0.7, 1.3)))
    with pytest.raises(ValueError, match=r"start: the axes of .* must be t1,t2,b1, .* got t1,t2"):
        make_in_folder(tmp_path / "b1", b1, progress=False)


def test_what_does_not_go_together_is_refused(tmp_path):
    outside = dataclasses.replace(TABLE, ranges=BoxConfig(t1_range_ms=(100.0, 1000.0)))
    with pytest.raises(ValueError, match="t1 = 1400 ms"):
        make_in_folder(tmp_path / "outside", outside, progress=False)
    scheduled = dataclasses.replace(TABLE, simulation=SimulationConfig(schedule="mine.csv"))
    with pytest.raises(ValueError, match="schedule"):
        make_in_folder(tmp_path / "scheduled", scheduled, progress=False)
    with pytest.raises(ValueError, match=r"t1_range_ms .* got 1000,100"):
        BoxConfig(t1_range_ms=(1000.0, 100.0))


def test_the_kind_of_sequence_and_a_range_of_off_resonance(tmp_path):
    balanced = dataclasses.replace(SIMULATION, frames=20, kind=SequenceConfig(sequence="bssfp"))
    config = AnchoredConfig(balanced, "radial", **BOX, anchors=16, sequences=2, candidates=32)
    assert make_in_folder(tmp_path, config, progress=False).generator.family == "bssfp"
    wide = dataclasses.replace(
        config, anchors=None, candidates=512, ranges=BoxConfig(off_resonance_range_hz=(-5.0, 3.0))
    )
    assert wide.anchors == 512
    assert wide.box().names == ("t1", "t2", "off_resonance")
    np.testing.assert_array_equal(wide.box().low[2:], [-5])
    with pytest.raises(
        ValueError, match=r"off_resonance_range_hz must be two different numbers, the lower one first; got 5,-5"
    ):
        BoxConfig(off_resonance_range_hz=(5.0, -5.0))
    with pytest.raises(ValueError, match=r"off_resonance_range_hz must be in Hz, 10000 at most .*got -1e\+09"):
        BoxConfig(off_resonance_range_hz=(-1e9, 5.0))


def test_a_pulse_that_changed_under_its_name_is_refused(tmp_path):
    """Blocks of a table that are there are read, and would be those of the other pulse."""
    pulse = tmp_path / "pulse.npy"
    played = SliceConfig(slice_model="small_tip", rf_pulse=str(pulse))
    simulation = dataclasses.replace(SIMULATION, slice_nodes=2, time_bandwidth=2.0, slice=played)
    config = dataclasses.replace(TABLE, simulation=simulation)
    np.save(pulse, np.array([1.0, 2.0, 1.0]))
    make_in_folder(tmp_path / "table", config, progress=False)
    np.save(pulse, np.array([1.0, 3.0, 1.0]))
    with pytest.raises(ValueError, match="table was made with another sequence, slice or grid"):
        make_in_folder(tmp_path / "table", progress=False)
