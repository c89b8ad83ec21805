"""Progress where stderr is no terminal: whole lines at intervals, and nothing of work that is done before."""

import re
import time

import pytest

from ganmrf.progress import Progress, watched


def test_lines_say_what_is_done_how_far_and_how_long_it_takes_still(capsys):
    with Progress(4, "training", unit="step", interval=0.01) as bar:
        for _ in range(4):
            time.sleep(0.02)
            bar.set_postfix_str("loss 1.0e-03", refresh=False)
            bar.update()
    error = capsys.readouterr().err
    assert "\r" not in error
    lines = error.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("training: ") and "loss 1.0e-03" in line for line in lines)
    assert "50%" in lines[1]
    assert re.search(r"\d\d:\d\d<\d\d:\d\d", lines[1])


def test_nothing_is_said_of_what_is_done_before_the_first_line_is_due(capsys):
    assert list(watched([1, 2, 3], "evaluating")) == [1, 2, 3]
    with Progress(2, "training") as bar:
        bar.update()
    with Progress(2, "training", shown=False, interval=0.0) as bar:
        bar.update()
    with pytest.raises(KeyError), Progress(2, "training"):
        raise KeyError
    assert capsys.readouterr().err == ""
