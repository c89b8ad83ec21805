"""The study of prewhitening: noise makes maps worse, and prewhitening takes some of that back."""

from experiments.studies.prewhitening import Config, measure
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.spiral_config import SpiralConfig


def test_prewhitening_takes_errors_back():
    simulation = SimulationConfig(frames=60, t1_ms="500:2000:100", t2_ms="40:160:15")
    sampling = SpiralConfig(size=40, field_of_view_mm=240.0, interleaves=8)
    config = Config(coils=4, virtual_coils=4, rank=3, factor=8.0, simulation=simulation, sampling=sampling)
    clean, noisy, white = (row["white matter"]["t2_rrmse"] for row in measure(config))
    assert clean < white < 0.9 * noisy
