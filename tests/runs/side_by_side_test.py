"""Jobs side by side: results in order, and what goes wrong in a process is an error of the caller's."""

import math
import operator
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from ganmrf.runs.side_by_side import run_side_by_side
from ganmrf.runs.worker import Worker
from tests.commands import ROOT

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_results_come_in_the_order_of_the_items():
    assert run_side_by_side(operator.neg, [3, 1, 2]) == [-3, -1, -2]


def test_bad_input_of_a_job_is_the_callers_error():
    with pytest.raises(ValueError, match="math domain error"):
        run_side_by_side(math.sqrt, [-1.0])


def test_a_process_that_ends_by_itself_ends_the_work():
    with pytest.raises(ValueError, match=r"ended by itself \(exit code 3\)"):
        run_side_by_side(os._exit, [3])


def test_a_process_is_deaf_to_ctrl_c_from_its_start_and_says_whole_lines(capsys):
    with Worker() as worker:
        for process in psutil.Process().children():
            process.send_signal(signal.SIGINT)  # before it has imported anything
        worker.call(exec, "import os; print('one', 'line'); os.write(1, b'of a library')")
        worker.call(exec, "print('another')")
    assert capsys.readouterr() == ("one line\nanother\n", "")


def test_a_process_ends_with_its_parent_however_that_is_killed(tmp_path):
    begun = tmp_path / "begun"
    job = f"import os, time; os.mkdir({str(begun)!r}); time.sleep(600)"
    script = f"from ganmrf.runs.side_by_side import run_side_by_side; run_side_by_side(exec, [{job!r}])"
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    while parent.poll() is None and not begun.exists():
        time.sleep(0.05)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert children
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
