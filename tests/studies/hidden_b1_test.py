"""The study of a hidden B1 as a user runs it: trained, judged, and told in a table and figures."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_the_study_small(tmp_path):
    flags = ("--frames=40", "--grid=coarse", "--width=8", "--depth=1", "--steps=5", "--batch_size=16", "--draws=1")
    folder = tmp_path / "study"
    flags += (f"--workdir={folder}", "--conditions=3", "--samples=20", "--seeds=0", "--variant=energy score")
    command = [sys.executable, "-m", "experiments.studies.hidden_b1", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = {row["variant"]: row for row in json.loads((folder / "nuisance.json").read_text())}
    assert set(rows) == {"energy score", "simulated again"}
    assert rows["simulated again"]["sliced_wasserstein"]["mean"] < rows["energy score"]["sliced_wasserstein"]["mean"]
    assert (folder / "report.html").read_text().count("data:image/png;base64") == 2
