"""Stages are made once, again where their file is damaged, and never mixed with those of other files."""

import numpy as np
import pytest

from ganmrf.stages import Stages


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _: b"", lambda _: b"no archive"])
def test_stages_are_made_once_or_again(tmp_path, damage):
    made = []

    def make():
        made.append(len(made))
        return {"values": np.arange(50.0) + made[-1]}

    for _ in range(2):
        stages = Stages(tmp_path)
        np.testing.assert_array_equal(stages("one", make)["values"], np.arange(50.0))
    assert len(made) == 1
    assert stages.seconds["one"] >= 0
    path = tmp_path / "one.npz"
    path.write_bytes(damage(path.read_bytes()))
    np.testing.assert_array_equal(Stages(tmp_path)("one", make)["values"], np.arange(50.0) + 1)
    np.testing.assert_array_equal(Stages(tmp_path)("one", make)["values"], np.arange(50.0) + 1)


def test_what_is_none_is_left_out(tmp_path):
    made, kept = (Stages(tmp_path)("one", lambda: {"values": 1.0, "nothing": None}) for _ in range(2))
    assert made == kept == {"values": 1.0}


def test_stages_of_other_files_are_not_gone_on_with(tmp_path):
    for name in ("scan", "mask"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    Stages(tmp_path / "stages", [tmp_path / "scan"])  # no stage is made: the folder is anybody's
    Stages(tmp_path / "stages", [tmp_path / "scan", tmp_path / "mask"])("one", dict)
    Stages(tmp_path / "stages", [tmp_path / "scan", tmp_path / "mask"])
    with pytest.raises(ValueError, match=r"mask has changed since .*stages was begun: use another folder"):
        Stages(tmp_path / "stages", [tmp_path / "scan"])
    (tmp_path / "mask").write_text("other", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mask has changed since .*stages was begun: use another folder"):
        Stages(tmp_path / "stages", [tmp_path / "scan", tmp_path / "mask"])
    with pytest.raises(ValueError, match=r"cannot read .*none: No such file or directory"):
        Stages(tmp_path / "stages", [tmp_path / "none"])


@pytest.mark.parametrize("content", ["{}", "[]", '{"files": 5, "settings": {}}', "{", None])
def test_stages_of_unknown_origin_are_refused(tmp_path, content):
    Stages(tmp_path)("one", dict)
    path = tmp_path / "sources.json"
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"sources\.json"):
        Stages(tmp_path)


def test_the_file_of_another_stage_is_not_used(tmp_path):
    stages = Stages(tmp_path)
    stages("one", lambda: {"values": np.arange(3)})
    (tmp_path / "two.npz").write_bytes((tmp_path / "one.npz").read_bytes())
    np.savez(tmp_path / "three.npz", images=np.zeros(3))
    for name in ("two", "three"):
        np.testing.assert_array_equal(stages(name, lambda: {"values": np.ones(3)})["values"], 1)


def test_a_stage_that_cannot_be_kept_is_not_made(tmp_path):
    stages = Stages(tmp_path)
    (tmp_path / "one.npz").mkdir()
    with pytest.raises(ValueError, match="it is a folder"):
        stages("one", lambda: pytest.fail("it was made"))
