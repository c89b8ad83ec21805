"""The study of direct conditioning as a user runs it: trained, evaluated, and told in a table and a figure."""

import json

import pytest

from experiments.studies.sequence_input_report import result_rows, result_table, write_sequence_input_report
from experiments.studies.sequence_input_runs import GAN, LONGER, REGRESSION, steps_of_equal_time
from tests.commands import run

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = {"frames": 20, "steps": 4, "every": 2, "sequences": 2, "width": 8, "depth": 1, "rank": 4, "batch_size": 16}


def test_the_study_small(tmp_path):
    flags = [f"--{name}={value}" for name, value in SMALL.items()]
    # As many sequences to evaluate on as are drawn: one program.
    flags += [f"--workdir={tmp_path}", f"--variant={REGRESSION}", "--refit_draws=1", "--judged=2"]
    done = run("studies.sequence_input", *flags)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    [row] = json.loads((tmp_path / "sequence_input.json").read_text(encoding="utf-8"))
    assert row["variant"] == REGRESSION
    assert row["steps"] == 4
    assert len(row["runs"]["0"]["curve"]) == 2
    assert 0 < row["trained"]["mean"] < row["trained"]["quantile"]
    assert row["refit"]["core_seconds"] > row["trained"]["core_seconds"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("data:image/png;base64") == 1


def test_equal_time_needs_both_that_it_compares(tmp_path):
    done = run("studies.sequence_input", f"--workdir={tmp_path / 's'}", f"--variant={LONGER}")
    assert done.returncode == 2
    assert all(part in done.stderr for part in ("--variant", LONGER, REGRESSION, GAN))
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_equal_time_is_in_steps_of_the_dearer_training():
    regression = {"steps": 100, "seconds_per_step": 0.02}
    assert steps_of_equal_time(regression, {"steps": 100, "seconds_per_step": 0.05}) == 250


def test_means_over_the_seeds_are_told_in_words_too(tmp_path):
    def found(mean, discriminator_loss=None):
        stage = {"core_seconds": 10.0, "mean": mean, "quantile": 4 * mean}
        both = {"trained": stage, "refit": stage | {"mean": mean / 2}}
        return {"steps": 5, "curve": [[5.0, mean]], "discriminator_loss": discriminator_loss} | both

    by_run = {(GAN, 0): found(1e-3, 1.2), (GAN, 1): found(3e-3, 1.4)}
    by_run |= {(REGRESSION, seed): found(1e-3) for seed in (0, 1)}
    rows = result_rows(by_run, [REGRESSION, GAN], [0, 1])
    assert rows[1]["trained"]["mean"] == pytest.approx(2e-3)
    assert rows[1]["trained"]["worst_seed"] == 3e-3
    settings = {"seeds": [0, 1], "judged": 2, "steps": 5}
    table = result_table(rows, settings)
    assert table.rows[1] == [GAN, "5", "2.00e-03", "8.00e-03", "10", "1.00e-03", "8.00e-03", "10"]
    write_sequence_input_report(tmp_path / "report.html", rows, table, settings)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Given as many steps, regression has 5.00e-04 and the GAN 1.00e-03." in text
    assert "loss is 1.300 at the end; one that guesses has 1.386" in text
