"""Training from Python: the same folder, resumed, extended or read, as the command does with flags."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.gan.generate import generate
from ganmrf.gan.recipes import Recipe
from ganmrf.metrics import fingerprint_errors
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.training import errors_between_off_resonances, read_run, train_in_folder
from ganmrf.runs.training_config import TrainingConfig, TrainingJob

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = Recipe(width=8, depth=1, rank=8, batch_size=16, optimiser="adam", learning_rate_schedule="constant", steps=4)
SMALL = dataclasses.replace(SMALL, adversarial_weight=1.0)


def job(**recipe):
    training = TrainingConfig(recipe=dataclasses.replace(SMALL, **recipe), every=2)
    return TrainingJob(SimulationConfig(frames=20, grid="coarse"), training)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trained"
    return folder, train_in_folder(folder, job(steps=8), progress=False)


def test_a_finished_run_is_read_and_gone_on_with_as_it_is(trained):
    folder, run = trained
    assert [row["step"] for row in run.rows] == [2, 4, 6, 8]
    for again in (read_run(folder), train_in_folder(folder, progress=False)):
        assert again.job == run.job
        assert again.rows == run.rows
        same(again.state, run.state)


def test_a_longer_run_of_a_constant_learning_rate_begins_as_the_shorter_one(trained, tmp_path):
    _, longer = trained
    shorter = train_in_folder(tmp_path, job(steps=4), progress=False)
    assert shorter.state.step == 4
    extended = train_in_folder(tmp_path, job(steps=8), progress=False)
    same(extended.state, longer.state)
    same(read_run(tmp_path).generator().params, longer.generator().params)


def test_a_run_of_a_falling_learning_rate_is_not_extended(tmp_path):
    train_in_folder(tmp_path, job(steps=2, learning_rate_schedule="cosine"), progress=False)
    with pytest.raises(ValueError, match="steps=4 conflicts with 2"):
        train_in_folder(tmp_path, job(steps=4, learning_rate_schedule="cosine"), progress=False)


def test_a_schedule_that_changed_under_its_name_is_refused(tmp_path):
    schedule = tmp_path / "own.csv"

    def write(first):
        rows = [f"{angle},12" for angle in (first, *range(11, 30))]
        schedule.write_text("\n".join(["fa_deg,tr_ms", *rows]), encoding="utf-8")

    write(10)
    simulation = SimulationConfig(schedule=str(schedule), echo_time_ms=3.0, grid="coarse")
    own = dataclasses.replace(job(steps=2), simulation=simulation)
    train_in_folder(tmp_path / "run", own, progress=False)
    write(20)
    with pytest.raises(ValueError, match="another sequence, slice or grid"):
        train_in_folder(tmp_path / "run", progress=False)


def test_folders_without_a_run_or_a_checkpoint_are_refused(trained, tmp_path):
    folder, _ = trained
    with pytest.raises(ValueError, match="holds no run"):
        train_in_folder(tmp_path / "none", progress=False)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match="no checkpoint yet"):
        read_run(tmp_path / "begun")


def test_a_reader_changes_nothing_and_wants_whole_records(trained, tmp_path):
    folder, _ = trained
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "dictionary.json").unlink()

    def contents():
        return {path: path.is_file() and path.read_bytes() for path in (tmp_path / "run").rglob("*")}

    before = contents()
    assert read_run(tmp_path / "run").rows
    assert contents() == before
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"metrics\.jsonl has no record of step"):
        read_run(tmp_path / "run")


def test_errors_between_off_resonances_are_those_half_way(trained, tmp_path):
    assert errors_between_off_resonances(trained[1]) is None  # on resonance
    kind = dataclasses.replace(SimulationConfig().kind, sequence="bssfp")
    grid = {"t1_ms": "100:2900:400", "t2_ms": "20:320:60", "off_resonance_hz": "-20:20:5"}
    recipe = Recipe(width=64, depth=2, rank=24, optimiser="adam", steps=100)
    training = TrainingConfig(recipe=recipe, every=100)
    run = train_in_folder(
        tmp_path, TrainingJob(SimulationConfig(frames=20, kind=kind, **grid), training), progress=False
    )
    errors, (generator, tissue) = errors_between_off_resonances(run), (run.generator(), run.dictionary.tissue)
    below = tissue.rows(tissue.off_resonance < 17)  # a next value is there
    moved = dataclasses.replace(below, off_resonance=below.off_resonance + 2.5)
    found = fingerprint_errors(
        generate(generator, moved).fingerprints, build_dictionary(run.dictionary.sequence, moved).fingerprints
    )
    np.testing.assert_allclose(np.sort(errors), np.sort(found), rtol=1e-3)  # of all atoms: there are fewer than 1024
    at_values = fingerprint_errors(generate(generator, tissue).fingerprints, run.dictionary.fingerprints)
    assert errors.mean() > 2 * at_values.mean()
