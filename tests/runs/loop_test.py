"""The loop of long runs, on a sum: cut off after any chunk it ends as if it had not been."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from ganmrf.gan.train import DivergedError
from ganmrf.pytrees import pytree
from ganmrf.runs.loop import advance
from ganmrf.runs.workdir import Workdir, read_records
from ganmrf.settings import configuration

pytestmark = pytest.mark.usefixtures("quick_compiler")

STEPS, CHUNK = 12, 3


@configuration
class Run:
    """No settings."""


@pytree
@dataclasses.dataclass(frozen=True)
class Sum:
    """1 / 1 + 1 / 2 + ... up to 1 / step, in float32."""

    step: np.ndarray = dataclasses.field(default_factory=lambda: np.int32(0))
    total: np.ndarray = dataclasses.field(default_factory=lambda: np.float32(0))


def chunks(state):
    while state.step < STEPS:
        for _ in range(CHUNK):
            step = np.int32(state.step + 1)
            state = Sum(step, np.float32(state.total + np.float32(1) / np.float32(step)))
        yield state, {"step": state.step, "total": state.total}


def run(folder, chunks=chunks, **options):
    with Workdir(folder, Run()) as workdir:
        return advance(chunks, Sum(), workdir, STEPS, progress=False, **options)


def totals(rows):
    return [(row["step"], row["total"]) for row in rows]


@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_a_run_goes_on_from_its_newest_checkpoint(tmp_path, capsys, done):
    state, rows = run(tmp_path / "whole")
    assert [row["step"] for row in rows] == [3, 6, 9, 12]
    run(tmp_path / "cut", lambda state: itertools.islice(chunks(state), done))
    again, all_rows = run(tmp_path / "cut")
    assert f"going on from step {3 * done}" in capsys.readouterr().out
    assert (int(again.step), float(again.total)) == (int(state.step), float(state.total))
    assert totals(all_rows) == totals(rows) == totals(read_records(tmp_path / "cut"))
    seconds = [row["seconds"] for row in all_rows]
    assert seconds == sorted(seconds)  # they count over both calls


def test_a_record_without_its_checkpoint_is_made_again(tmp_path):
    run(tmp_path, lambda state: itertools.islice(chunks(state), 2))
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:  # killed between the record and the save
        file.write(json.dumps({"step": 9, "total": -1.0, "seconds": 0.0, "core_seconds": 0.0}) + "\n")
    _, rows = run(tmp_path)  # without a warning: a kill is nothing that one has to know of
    _, expected = run(tmp_path / "whole")
    assert totals(read_records(tmp_path)) == totals(rows) == totals(expected)


def test_a_run_that_diverges_names_its_last_good_checkpoint(tmp_path):
    def diverging(state):
        yield from itertools.islice(chunks(state), 2)
        raise DivergedError("training diverged before step 9")

    with pytest.raises(ValueError, match="diverged before step 9; the last good checkpoint is that of step 6"):
        run(tmp_path, diverging)
    state, _ = run(tmp_path)
    assert state.step == STEPS


def test_a_run_may_end_before_its_last_step(tmp_path):
    def ended(rows):
        return bool(rows) and rows[-1]["total"] > 2

    run(tmp_path, lambda state: itertools.islice(chunks(state), 2))  # 1 + 1 / 2 + ... + 1 / 6 = 2.45
    state, rows = run(tmp_path, ended=ended)
    assert (int(state.step), rows[-1]["step"]) == (6, 6)


def test_the_newest_checkpoints_are_kept_and_preparations_count(tmp_path):
    _, rows = run(tmp_path, core_seconds=100.0)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"6", "9", "12"}
    assert rows[0]["core_seconds"] >= 100
