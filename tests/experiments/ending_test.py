"""How a command ends: one line on stderr, the exit code of its kind, and nothing lost or left behind."""

import io
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time
import warnings

import pytest

from experiments.flags.command_line import command
from ganmrf.files import read_json, write_json
from ganmrf.settings import configuration, setting
from tests.commands import ROOT, UNIFORM, run_apart, words

SMALL = ("--frames=20", "--grid=coarse", UNIFORM)


@pytest.mark.parametrize(("variable", "value"), [("JAX_PLATFORMS", "cuda"), ("XLA_FLAGS", "--no_such_flag=1")])
def test_a_missing_device_or_a_wrong_flag_of_jax_is_one_line(tmp_path, variable, value):
    done = run_apart("simulate_dictionary", f"--output={tmp_path / 'd.npz'}", *SMALL, **{variable: value})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{variable}={value}" in done.stderr
    assert not list(tmp_path.iterdir())


@configuration
class Config:
    """Copies a file."""

    source: str = setting(meaning="file to read", reads=True)
    output: str = setting(meaning="file to write", suffixes=(".json",))


@pytest.fixture
def copying(monkeypatch, tmp_path):
    """Runs, in an empty folder, a command that does ``work`` before it copies a file; gives exit code and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(capsys, work, *flags):
        @command(Config)
        def main(config):
            work()
            write_json(config.output, read_json(config.source))

        try:
            main.run(flags)
        except SystemExit as end:
            return end.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def test_too_little_memory_is_one_line(copying, capsys):
    pathlib.Path("a.json").write_text("1", encoding="utf-8")

    def work():
        raise MemoryError("Unable to allocate\n7 TiB")

    code, err = copying(capsys, work, "--source=a.json", "--output=b.json")
    assert (code, err.count("\n")) == (2, 1)
    assert "memory" in err
    assert "7 TiB" in err


def test_warnings_and_logs_are_one_line_each(copying, capsys):
    pathlib.Path("a.json").write_text("1", encoding="utf-8")

    def work():
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("two\nlines", stacklevel=2)
            warnings.warn("two\nlines", stacklevel=1)  # again, from elsewhere
        logging.getLogger("nibabel.global").warning("of a\nlibrary")

    code, err = copying(capsys, work, "--source=a.json", "--output=b.json")
    assert (code, err) == (0, "warning: two lines\nwarning: of a library\n")


def test_an_output_that_is_an_input_is_refused_before_the_work(copying, capsys):
    pathlib.Path("a.json").write_text("1", encoding="utf-8")
    pathlib.Path("link.json").symlink_to("a.json")
    for output in ("a.json", "link.json", "./a.json"):
        code, err = copying(capsys, pytest.fail, "--source=a.json", f"--output={output}")
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith("error: --output: ")
        assert "input" in err


@pytest.mark.parametrize(
    "flags", [("--source=none.json", "--output=b.json"), ("--source=a.json", "--output=no/b.json")]
)
def test_files_are_looked_at_before_the_work(copying, capsys, flags):
    pathlib.Path("a.json").write_text("1", encoding="utf-8")
    code, err = copying(capsys, pytest.fail, *flags)
    assert (code, err.count("\n")) == (2, 1)


def test_a_pipe_is_no_input(copying, capsys):
    os.mkfifo("a.json")
    code, err = copying(capsys, pytest.fail, "--source=a.json", "--output=b.json")
    assert (code, err.count("\n")) == (2, 1)
    assert "--source" in err


@pytest.mark.parametrize("begun", [False, True])  # while modules are imported, and at work
def test_an_interrupted_command_says_one_line(tmp_path, begun):
    output = tmp_path / "d.zarr"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    process = subprocess.Popen(
        words("simulate_dictionary", f"--output={output}", "--grid=fine", UNIFORM),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    while begun and not output.exists():
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.count("\n") == 1
    assert "interrupted" in stderr


def test_words_that_nobody_reads_do_not_end_the_work(tmp_path):
    output = tmp_path / "d.npz"
    environment = os.environ | {"HOME": "", "XDG_CACHE_HOME": "relative", "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            words("simulate_dictionary", f"--output={output}", *SMALL),
            cwd=tmp_path,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["d.npz"]  # no cache beside it


def test_a_closed_stream_or_a_home_that_is_not_there_goes_unnoticed():
    script = "import experiments, os; os.fstat(0); import matplotlib.pyplot"  # no file becomes number 0
    environment = os.environ | {"HOME": "/proc/none", "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""}
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "{script}" <&-'],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_words_that_a_stream_has_no_letters_for_lose_nothing(copying, capsys, monkeypatch):
    pathlib.Path("a.json").write_text("1", encoding="utf-8")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    monkeypatch.setattr(sys, "stderr", None)  # closed: no place for a warning

    def work():
        print("größer\nmore")
        logging.getLogger("library").warning("unheard")

    copying(capsys, work, "--source=a.json", "--output=b.json")
    assert pathlib.Path("b.json").exists()
    assert written.getvalue() == b"gr\\xf6\\xdfer\nmore\n"
