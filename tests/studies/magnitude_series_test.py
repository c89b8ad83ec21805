"""The study of magnitudes: known as such they cost little, taken for signed signals they give other tissues."""

from experiments.studies.magnitude_series import Config, measure
from ganmrf.runs.simulation_config import SimulationConfig


def test_magnitudes_are_harmless_when_they_are_known():
    grid = SimulationConfig(frames=120, t1_ms="400:3000:200", t2_ms="40:400:30")
    rows = measure(Config(snr=(30.0,), draws=30, simulation=grid))
    assert len(rows) == 9
    for row in rows:
        if row["taken_for"] == "signed":
            # The signal of CSF is negative throughout so few frames: its sign goes to M0.
            assert abs(row["t1_bias"]) > 0.3 or row["tissue"] == "CSF"
        else:
            # The mean of 30 draws is known to a fifth of their spread; Rice's bias at this ratio is far below it.
            assert abs(row["t1_bias"]) < row["t1_spread"]
            assert abs(row["t2_bias"]) < row["t2_spread"]
