"""The README's examples of the simulator run as they stand there and give what they say."""

import pathlib
import re

import numpy as np

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_library_examples(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    first, derivatives, orders = (
        next(block for block in blocks if name in block) for name in ("slope", "simulate_reverse", "choose_n_states")
    )
    names = {}
    exec(first, names)
    assert capsys.readouterr().out.strip() == re.search(r"print\(.*?# (.*)", first).group(1)
    assert np.isfinite(names["slope"])
    exec(derivatives, names)
    assert np.isfinite(names["gradient"].flip_angle).all()
    exec(orders, names)
    # Both kept to 1e-3 at least.
    exact = names["simulate"](names["sequence"], names["tissue"])
    error = np.linalg.norm(names["signal"] - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
    assert error.max() <= 1e-3
