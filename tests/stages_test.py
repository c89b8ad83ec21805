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


def test_stages_of_other_files_are_not_gone_on_with(tmp_path):
    for name in ("scan", "mask"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    Stages(tmp_path / "stages", [tmp_path / "scan", tmp_path / "mask"])
    Stages(tmp_path / "stages", [tmp_path / "scan", tmp_path / "mask"])
    with pytest.raises(ValueError, match=r"mask has changed since .*stages was begun: use another folder"):
        Stages(tmp_path / "stages", [tmp_path / "scan"])
    (tmp_path / "mask").write_text("other", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mask has changed since .*stages was begun: use another folder"):
        Stages(tmp_path / "stages", [tmp_path / "scan", tmp_path / "mask"])
    with pytest.raises(ValueError, match=r"cannot read .*none: No such file or directory"):
        Stages(tmp_path / "stages", [tmp_path / "none"])
