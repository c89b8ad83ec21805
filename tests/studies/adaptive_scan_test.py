"""The study of scans that are adapted: what is played is told by bounds and fits, beside fixed scans."""

import numpy as np
import pytest

from experiments.studies.adaptive_scan import Config, measure, scanner_of
from experiments.studies.adaptive_scan_runs import designed, duration_of, sequence_of

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = Config(pieces=2, frames=8, atoms=4, repeats=1, passes=0, m0_over_noise=1e3)


def test_every_tissue_has_all_kinds_of_scans():
    rows = measure(SMALL)
    kinds = ["published", "beforehand", "adapted", "tissue known"]
    assert [row["strategy"] for row in rows[:4]] == kinds
    assert len(rows) == 4 * len(kinds)
    for row in rows:
        assert row["seconds"] > 0
        for name in ("t1", "t2"):
            # One fit: far beyond four bounds but once in ten thousand.
            assert 0 < row[f"{name}_error"] < 4 * row[f"{name}_bound"]
        assert (row["strategy"] == "adapted") == ("choice_ms" in row)


def test_the_numbers_of_pieces_are_the_scan_that_is_played():
    scanner = scanner_of(SMALL)
    numbers = designed(scanner, 1, "designing")
    sequence = sequence_of(scanner.continuations, numbers)
    assert sequence.n_frames == 16
    trains = [block for block in sequence.blocks if hasattr(block, "repetition_time")]
    others = [block.time for block in sequence.blocks if not hasattr(block, "repetition_time")]
    seconds = sum(float(np.sum(train.repetition_time)) for train in trains) + float(sum(others))
    assert duration_of(scanner.continuations, numbers) == pytest.approx(seconds, rel=1e-5)


def test_more_frames_than_were_published():
    with pytest.raises(ValueError, match="1000 frames published; got 30 x 40"):
        Config(pieces=30)
