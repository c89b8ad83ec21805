"""The README's library example runs as it stands there and gives what it says."""

import pathlib
import re

import numpy as np

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_library_example(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = {}
    exec(blocks[0], names)
    assert capsys.readouterr().out.strip() == re.search(r"print\(.*?# (.*)", blocks[0]).group(1)
    assert np.isfinite(names["slope"])
    exec(blocks[3], names)
    # Both kept to 1e-3 at least.
    exact = names["simulate"](names["sequence"], names["tissue"])
    error = np.linalg.norm(names["signal"] - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
    assert error.max() <= 1e-3
