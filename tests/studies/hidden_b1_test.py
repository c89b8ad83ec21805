"""The study of a hidden B1 as a user runs it: trained, evaluated, and told in a table and figures."""

import json

import pytest

from tests.commands import run

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_the_study_small(tmp_path):
    flags = ("--frames=20", "--grid=coarse", "--width=8", "--depth=1", "--steps=5", "--batch_size=16", "--draws=1")
    flags += (f"--workdir={tmp_path}", "--conditions=3", "--samples=20", "--seeds=0", "--variant=energy score")
    done = run("studies.hidden_b1", *flags)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    rows = {row["variant"]: row for row in json.loads((tmp_path / "hidden_b1.json").read_text(encoding="utf-8"))}
    assert set(rows) == {"energy score", "simulated again"}
    assert rows["simulated again"]["sliced_wasserstein"]["mean"] < rows["energy score"]["sliced_wasserstein"]["mean"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("data:image/png;base64") == 2
