"""Files are written whole or not at all, where their links lead, over nothing that must stay."""

import functools
import os
import shutil
import subprocess
import sys

import pytest

from ganmrf.files import check_output, keeping, making_folder, read_json, remove_folder, replacing, write_json
from tests.commands import ROOT


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "there" / "real.json")
    write_json(link, 1)
    write_json(link, 2)
    assert link.is_symlink()
    assert read_json(tmp_path / "there" / "real.json") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"there", "link.json"}


def test_what_a_killed_write_left_is_removed_by_the_next_write_of_that_file_alone(tmp_path):
    script = (
        "import os, signal, sys; from ganmrf.files import making_folder, remove_folder, replacing\n"
        "sys.addaudithook(lambda event, _: event == 'shutil.rmtree' and os.kill(os.getpid(), signal.SIGKILL))\n"
        f"with replacing({str(tmp_path / 'a.json')!r}), making_folder({str(tmp_path / 'b.zarr')!r}):\n"
        f"    remove_folder({str(tmp_path / 'c.zarr')!r})"
    )
    (tmp_path / "c.zarr").mkdir()
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert len(list(tmp_path.iterdir())) == 3
    assert not (tmp_path / "c.zarr").exists()  # never half of it
    with making_folder(tmp_path / "c.zarr"):
        pass
    remove_folder(tmp_path / "c.zarr")
    with replacing(tmp_path / "a.json") as mine:
        assert len(list(tmp_path.iterdir())) == 2  # the other file's leftover, and what is being written
        write_json(tmp_path / "a.json", 1)  # beside a write that is under way
        assert mine.exists()
        mine.write_text("2", encoding="utf-8")
    assert read_json(tmp_path / "a.json") == 2
    with making_folder(tmp_path / "b.zarr"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "b.zarr"}


def test_what_a_process_of_the_same_number_left_is_removed(tmp_path):
    """In a container, every run may be process 7."""
    for write in (replacing, making_folder):
        with write(tmp_path / "a") as temporary:
            pass
        os.rename(tmp_path / "a", temporary)  # as a killed run had left it
        with write(tmp_path / "a"):
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        (tmp_path / "a").unlink(missing_ok=True)


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(NotADirectoryError), replacing(tmp_path / "a.json") as temporary:
        os.rmdir(temporary)
    assert read_json(tmp_path / "a.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_inputs_folders_pipes_and_impossible_names_are_no_outputs(tmp_path):
    write_json(tmp_path / "in.json", 1)
    (tmp_path / "link.json").symlink_to("in.json")
    (tmp_path / "loop.json").symlink_to("loop.json")
    os.mkfifo(tmp_path / "pipe.json")
    with keeping([tmp_path / "in.json"]):
        for name in ("in.json", "link.json", "loop.json", "pipe.json", ".", "no/a.json", "n" * 300):
            with pytest.raises(ValueError, match="cannot write"):
                check_output(tmp_path / name)
        check_output(tmp_path / "out.json")
    write_json(tmp_path / "in.json", 2)


def test_an_output_that_is_a_folder_keeps_the_same_rules(tmp_path):
    write_json(tmp_path / "a.zarr", 1)
    (tmp_path / "b.zarr").mkdir()
    check_output(tmp_path / "b.zarr", folder=True)  # as when it is gone on with
    for name in ("a.zarr", "no/c.zarr"):
        for write in (functools.partial(check_output, folder=True), lambda path: making_folder(path).__enter__()):
            with pytest.raises(ValueError, match=f"cannot write .*{name}"):
                write(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]
