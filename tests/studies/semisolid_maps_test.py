"""The study of semisolid maps: fractions are found between the atoms on disk, with bounds beside them."""

import numpy as np
import pytest

from experiments.studies.errors import chosen
from experiments.studies.semisolid_maps import Config, measure

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_fractions_are_found_and_the_store_is_used_again(tmp_path):
    axes = {"n_t1": 7, "n_t2": 7, "n_fraction": 4, "n_exchange_rate": 2, "n_b1": 3}
    store = tmp_path / "atoms.zarr"
    config = Config(**axes, frames=100, rank=20, size=32, snr=3e4, case=("b1_mapped",), store=str(store))
    rows, costs, maps, brain = measure(config)
    matched, fitted = (
        chosen(rows, maps=kind, parameter="fraction", tissue="white matter")[0] for kind in ("matched", "fitted")
    )
    # The exchange rate and the line that are taken for those of tissue are some per cent off.
    assert fitted["rmse"] < min(0.01, matched["rmse"])
    assert 0 < fitted["bound"] < 1e-2
    assert maps.keys() == {"b1_mapped"}
    known = brain.brain_mask & (brain.labels == 0)
    np.testing.assert_allclose(maps["b1_mapped"][known], brain.truths()["fraction"][known], atol=0.02)
    assert [cost["stage"][:8] for cost in costs] == ["simulati", "matching", "fitting "]
    chunk = next(store.glob("dictionary/c/*/*"))
    written = chunk.stat().st_mtime_ns
    again, *_ = measure(config)
    assert again == rows
    assert chunk.stat().st_mtime_ns == written
