"""What a command is asked for is held against the memory that is there before any of it is taken."""

import types

import pytest

from tests.commands import run

TRAIN = ("train", "--workdir=o", "--frames=40", "--grid=coarse", "--steps=4")
ANCHORED = ("train_anchored", "--workdir=o", "--frames=40", "--anchors=16", "--sequences=2", "--steps=6")
DESIGN = ("design_sequence", "--workdir=o", "--frames=20", "--steps=4", "--starts=1")


@pytest.mark.parametrize(
    ("job", "flags", "named"),
    [
        ("simulate_dictionary", ("--output=o.npz", "--t1_ms=1:2e4:1e-8", "--t2_ms=1:10:1"), "--t1_ms"),
        ("simulate_dictionary", ("--output=o.npz", "--t1_ms=10000:20000:0.1", "--t2_ms=1:10000:1"), "--t1_ms"),
        ("simulate_dictionary", ("--output=o.npz", "--b1=0.1:1.1:1e-6", "--grid=fine"), "--b1"),
        (
            "simulate_dictionary",
            (
                "--output=o.npz",
                "--b1=0.5:1.5:1e-2",
            ),
            "--rank",
        ),
        (
            "map_brain",
            (
                "--output=o",
                "--size=20000",
            ),
            "size",
        ),
        ("simulate_acquisition", ("--output=o.h5", "--size=64", "--coils=10000"), "coils"),
        (TRAIN[0], (*TRAIN[1:], "--batch_size=1000000000"), "--batch_size"),
        (TRAIN[0], (*TRAIN[1:], "--width=1000000"), "--width"),
        (TRAIN[0], (*TRAIN[1:], "--depth=100000"), "--depth"),
        (TRAIN[0], (*TRAIN[1:], "--noise=1000000000"), "--noise"),
        (ANCHORED[0], (*ANCHORED[1:], "--candidates=1000000000"), "--candidates"),
        (ANCHORED[0], (*ANCHORED[1:], "--refit_tissues=1000000000"), "--refit_tissues"),
        (ANCHORED[0], (*ANCHORED[1:-2], "--sequences=1000000"), "--sequences"),
        (DESIGN[0], (*DESIGN[1:], "--draws=1000000000"), "--draws"),
        (DESIGN[0], (*DESIGN[1:], "--brain_size=20000"), "--brain_size"),
        (DESIGN[0], (*DESIGN[1:-1], "--starts=1000000"), "--starts"),
    ],
)
def test_more_than_the_memory_holds_is_refused_with_the_figure_and_the_flag(tmp_path, monkeypatch, job, flags, named):
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=2e9))
    monkeypatch.chdir(tmp_path)
    done = run(job, *flags)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "GB of memory, but 2.0 GB are there" in line
    assert named in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
