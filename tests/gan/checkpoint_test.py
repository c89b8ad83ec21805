"""A checkpoint is whole or not used: what was saved comes back bit for bit, damage falls back with a warning."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.gan.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("quick_compiler")


def state(step):
    return {"weights": jnp.arange(6.0).reshape(2, 3) + step, "step": jnp.asarray(step)}


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of steps 10, 20, 30 and 40, three of them kept."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (10, 20, 30, 40):
            checkpoints.save(step, state(step))
    return tmp_path / "checkpoints"


def restored(folder, like=None):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(state(0) if like is None else like)


def largest_file(folder) -> pathlib.Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def test_the_newest_comes_back_bit_for_bit(folder):
    step, found = restored(folder)
    assert step == 40
    for name, value in state(40).items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
    assert sorted(path.name for path in folder.iterdir() if path.name.isdigit()) == ["20", "30", "40"]


def test_no_checkpoint_yet(tmp_path):
    assert restored(tmp_path / "new") is None


def damage_truncated(newest):
    path = largest_file(newest / "state")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_bit(newest):
    path = largest_file(newest / "state")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def damage_missing(newest):
    shutil.rmtree(newest / "state")


def damage_facts(newest):
    path = newest / "facts" / "metadata"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["weights"]["shape"] = [10**6, 10**6]
    path.write_text(json.dumps(facts), encoding="utf-8")


def damage_fact(newest):
    (newest / "facts" / "metadata").write_text('{"weights": 5}', encoding="utf-8")


@pytest.mark.parametrize("damage", [damage_truncated, damage_bit, damage_missing, damage_facts, damage_fact])
def test_a_damaged_newest_falls_back(folder, damage):
    damage(folder / "40")
    with pytest.warns(UserWarning, match=r"40 is (damaged|of another) .*: using an earlier one"):
        step, found = restored(folder)
    assert step == 30
    np.testing.assert_array_equal(found["weights"], state(30)["weights"])
    with Checkpoints(folder) as checkpoints:  # and the run goes on over it
        checkpoints.save(40, state(41))
    assert int(restored(folder)[1]["step"]) == 41


def test_a_damaged_one_of_many_arrays_is_told_of_once(tmp_path):
    """Reads that are under way when the first of them fails end without a word."""
    arrays = {str(i): np.arange(3000.0) + i for i in range(60)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, arrays)
    for path in tmp_path.glob("1/state/*/d/*"):
        path.write_bytes(b"")
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(ValueError, match="1 is damaged"):
        checkpoints.restore(arrays)


def test_only_damaged_ones(folder):
    for step in (20, 30, 40):
        damage_missing(folder / str(step))
    with pytest.raises(ValueError, match=r"40 is damaged .*: remove .* to start again"):
        restored(folder)
    assert sorted(path.name for path in folder.iterdir() if path.name.isdigit()) == ["20", "30", "40"]


def test_another_architecture_is_named(folder):
    with pytest.raises(ValueError, match=r"of another architecture: weights is .*\[2, 3\].*expected .*\[2, 4\]"):
        restored(folder, state(0) | {"weights": jnp.zeros((2, 4))})


def test_a_checkpoint_without_a_record_of_its_step_is_not_used(folder):
    with Checkpoints(folder) as checkpoints, pytest.warns(UserWarning, match="40 is without a record"):
        assert checkpoints.restore(state(0), recorded={20, 30})[0] == 30
    with Checkpoints(folder) as checkpoints, pytest.raises(ValueError, match="30 is without a record"):
        checkpoints.restore(state(0), recorded=())
    assert restored(folder)[0] == 30


def test_a_reader_changes_nothing_while_checkpoints_come_and_go(folder):
    (folder / "50.orbax-checkpoint-tmp").mkdir()  # as if it were being written
    damage_truncated(folder / "40")
    before = sorted(folder.rglob("*"))
    with Checkpoints(folder, read_only=True) as reader:
        with pytest.warns(UserWarning, match="40 is damaged"):
            assert reader.restore(state(0))[0] == 30
        assert sorted(folder.rglob("*")) == before
        with Checkpoints(folder) as writer:
            for step in (60, 70, 80):
                writer.save(step, state(step))
        assert reader.restore(state(0))[0] == 80
    with Checkpoints(folder / "none", read_only=True) as reader:
        assert reader.restore(state(0)) is None
    assert not (folder / "none").exists()


def test_a_full_disk_leaves_the_last_good_one(folder):
    # In a process of its own: writes that were under way end later than the test, in an event loop that Orbax closed.
    code = f"""
import resource
import numpy as np
from ganmrf.gan.checkpoint import Checkpoints
large = {{"weights": np.random.default_rng(0).standard_normal((300, 300)), "step": np.asarray(50)}}
with Checkpoints({str(folder)!r}) as checkpoints:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))  # writes beyond it fail as on a full disk
    try:
        checkpoints.save(50, large)
    except ValueError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"cannot write checkpoint .*50: .*File too large.*\n", done.stdout)
    assert not done.stderr
    assert not [path for path in folder.iterdir() if "tmp" in path.name]
    assert restored(folder)[0] == 40
