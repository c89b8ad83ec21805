"""Designs from Python: searches find what is asked for, within every limit, and go on from their folder."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from ganmrf.anchors.generator_file import save_generator
from ganmrf.design.limits import violations
from ganmrf.physics.tissue import Tissue
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.runs.designing import DesignConfig, design_in_folder, kept_start
from ganmrf.runs.slices import SliceConfig
from ganmrf.runs.workdir import Workdir
from tests.design.lattices import lattice_generator
from tests.runs.design_starts import FRAMES, OF_START, START, TISSUE, ratios, written

pytestmark = pytest.mark.usefixtures("quick_compiler")
SEARCHED = DesignConfig(OF_START, starts=2, steps=100, gain_t2=1.5)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A search, and its folder."""
    folder = tmp_path_factory.mktemp("plain")
    return design_in_folder(folder, SEARCHED, progress=False), folder


def test_the_best_of_all_starts_is_better_than_the_start_within_every_limit(plain):
    found, _ = plain
    assert found.values.shape[1] == len(found.best) == len(found.basins) == 2
    np.testing.assert_allclose(found.best, found.values.min(axis=0), rtol=1e-6)
    assert found.sequence is found.basins[int(np.argmin(found.best))]
    assert (found.best < found.values[0]).all()
    assert found.values[0, 0] == pytest.approx(1.5, rel=0.04)  # the given sequence: 1.5 times what is wanted of T2
    for sequence in found.basins:
        assert not any(violations(sequence, found.limits).values())
    t1, t2 = ratios(found.sequence)
    assert np.max([t1, 1.5 * t2]) == pytest.approx(found.best.min(), rel=0.05)  # a smooth maximum, as above


def test_a_search_that_was_cut_off_ends_the_same_from_its_folder_alone(plain, tmp_path):
    found, folder = plain
    cut = shutil.copytree(folder, tmp_path / "cut")
    last = max(int(path.name) for path in (cut / "checkpoints").iterdir())
    shutil.rmtree(cut / "checkpoints" / str(last))
    again = design_in_folder(cut, progress=False)
    np.testing.assert_array_equal(again.values, found.values)
    for ours, theirs in zip(jax.tree.leaves(again.sequence), jax.tree.leaves(found.sequence), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (cut / "config.json").read_bytes() == (folder / "config.json").read_bytes()


def test_the_seed_is_that_of_the_starts_beside_the_given_one_and_the_rate_that_of_adam(plain, tmp_path):
    other = dataclasses.replace(SEARCHED, seed=1, learning_rate=1e-6)
    found = design_in_folder(tmp_path, other, progress=False)
    first, second = plain[0].values[0], found.values[0]
    assert second[0] == pytest.approx(first[0], rel=1e-5)  # float32
    assert abs(second[1] - first[1]) > 1e-3
    assert np.ptp(found.values, axis=0).max() < 1e-3  # parameters moved by 1e-4 at most, in 100 updates


def test_a_folder_keeps_to_its_settings(plain):
    _, folder = plain
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=r"gain_t2=3.0 conflicts with 1.5 in "):
        design_in_folder(folder, dataclasses.replace(SEARCHED, gain_t2=3.0))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def worst(sequence, b1):
    """The largest of all standard deviations times its gain, over tissues and B1 values; those of the start are 1."""
    return max(np.max([[1], [1.5]] * ratios(sequence, tissue=Tissue(TISSUE.t1, TISSUE.t2, each))) for each in b1)


def test_lbfgs_designs_for_the_worst_b1(plain, tmp_path):
    b1 = 0.8, 1.0, 1.2
    asked = {"design_b1": b1, "optimiser": "lbfgs", "starts": 1, "steps": 20}
    found = design_in_folder(tmp_path, dataclasses.replace(SEARCHED, **asked), progress=False)
    assert (np.diff(found.values[:, 0]) < 1e-4).all()  # a line search goes down, to rounding
    assert found.best[0] == pytest.approx(worst(found.sequence, b1), rel=0.05)  # a smooth maximum, as above
    assert worst(found.sequence, b1) < 0.95 * worst(plain[0].basins[0], b1)  # from the same start, for B1 = 1 alone


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """A file: quintic radial basis functions about 6 x 6 tissues between white and grey matter, and no training."""
    path = tmp_path_factory.mktemp("generator") / "radial.npz"
    box = TissueBox(("t1", "t2"), [0.6, 0.06], [1.6, 0.13])
    save_generator(path, lattice_generator(box, START, 6))
    return str(path)


def test_a_generator_designs_for_the_simulator(generator, tmp_path):
    tissue = Tissue(np.array([0.8, 1.3]), np.array([0.08, 0.11]))
    asked = {"tissues": ("white:800/80", "grey:1300/110"), "starts": 1, "steps": 40}
    found = design_in_folder(tmp_path, DesignConfig(OF_START, generator=generator, **asked), progress=False)
    t1, t2 = ratios(found.sequence, tissue=tissue)
    # Derivatives of 36 radial basis functions, and a smooth maximum, are worth a few per cent.
    assert float(found.best[0]) == pytest.approx(np.max([t1, 2 * t2]), rel=0.08)
    assert max(t1.max(), 2 * t2.max()) < 0.95 * 2  # the start has 2


def test_a_generator_must_cover_the_tissues(generator, tmp_path):
    with pytest.raises(ValueError, match=r"1 of 3 .*outside"):
        design_in_folder(tmp_path, DesignConfig(OF_START, generator=generator), progress=False)
    assert not list(tmp_path.iterdir())


def test_a_generator_must_be_for_the_slice(generator, tmp_path):
    simulation = dataclasses.replace(OF_START, slice=SliceConfig(slice_model="full"))
    asked = {"tissues": ("white:800/80", "grey:1300/110"), "generator": generator}
    with pytest.raises(ValueError, match=r"is for a uniform slice, the design for the full slice .* 4 turns"):
        design_in_folder(tmp_path, DesignConfig(simulation, **asked), progress=False)


def test_settings_are_read_back(tmp_path, plain):
    stored = json.loads((plain[1] / "config.json").read_text(encoding="utf-8"))
    assert stored["simulation"]["frames"] == FRAMES
    assert stored["tissues"][0] == "white matter:832/79.2"
    with pytest.raises(ValueError, match="holds no run"):
        design_in_folder(tmp_path, progress=False)


def test_a_design_goes_on_from_the_start_of_its_first_call(tmp_path):
    path = tmp_path / "schedule.csv"
    config = DesignConfig(written(path, "fa_deg,tr_ms,te_ms", "20,13,2"), starts=1, steps=1)
    with Workdir(tmp_path / "run", config) as workdir:
        first = kept_start(workdir, config)
        workdir.record({"step": 1})
        path.unlink()
        again = kept_start(workdir, config)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    assert again.inversion_time is None
    np.savez(tmp_path / "run" / "start.npz", images=np.zeros(3))
    with Workdir(tmp_path / "run", config) as workdir, pytest.raises(ValueError, match=r"start\.npz: not the start"):
        kept_start(workdir, config)
