"""Searches that take their signals from anchors: verified by the simulator, for a population, or refused in a line."""

import dataclasses

import numpy as np
import pytest

from ganmrf.anchors.generator_file import save_generator
from ganmrf.anchors.table import TableWeights
from ganmrf.design.bounds import precision
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import SemisolidPool
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.runs.designing import DesignConfig, design_in_folder
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import PowerConfig
from ganmrf.runs.tissues import TissueConfig
from tests.design.lattices import lattice_generator, of_family
from tests.runs.design_starts import OF_START, START

pytestmark = pytest.mark.usefixtures("quick_compiler")
POPULATION = DesignConfig(
    OF_START,
    tissues=("short:800/70", "long:1300/110"),
    population=6,
    design_b1=(0.9, 1.1),
    reduce="mean",
    starts=2,
    steps=30,
    own_anchors=True,
)


def ratio(found, config):
    """Mean of gain times bound over the start's, of all that a design must serve, by the simulator."""
    before, after = (precision(each, config.served) for each in (found.start, found.sequence))
    return float(np.mean([after.t1 / before.t1, 2 * after.t2 / before.t2]))


def test_a_search_by_its_own_anchors_serves_a_population(tmp_path):
    found = design_in_folder(tmp_path, POPULATION, progress=False)
    assert POPULATION.served.size == 16
    assert found.best.shape == (2,)
    assert found.best.min() == pytest.approx(ratio(found, POPULATION), rel=1e-3)  # by the simulator, not by anchors
    assert found.best.min() < 0.9 * 1.5  # of the start
    assert found.verification.apart < 0.05
    assert found.core_seconds > 0
    again = design_in_folder(tmp_path, progress=False)
    np.testing.assert_array_equal(again.sequence.flip_angle, found.sequence.flip_angle)
    assert again.n_anchors == found.n_anchors


def test_a_population_lies_between_its_tissues():
    served = dataclasses.replace(POPULATION, population=50, design_b1=(1.0,)).served
    assert served.size == 52
    for values, low, high in ((served.t1, 0.8, 1.3), (served.t2, 0.07, 0.11)):
        assert values.min() >= low * (1 - 1e-6)
        assert values.max() <= high * (1 + 1e-6)
        assert np.ptp(values) > 0.9 * (high - low)
    simulation = SimulationConfig(frames=24, pools=TissueConfig(tissue="semisolid"))
    pools = DesignConfig(
        simulation, tissues=("a:1600/60/0.1/14/340/15", "b:2000/90/0.2/14/340/15"), population=20
    ).served
    assert isinstance(pools, SemisolidPool)
    assert np.ptp(pools.fraction) > 0.08
    np.testing.assert_allclose(pools.exchange_rate, 14, rtol=1e-6)
    np.testing.assert_allclose(pools.lineshape, 15e-6, rtol=1e-6)


def generator_file(path, change=lambda generator: generator, box=None, slice_profile=None):
    box = box or TissueBox(("t1", "t2"), [0.6, 0.06], [1.6, 0.13])
    save_generator(path, change(lattice_generator(box, START, 6, slice_profile)))
    return str(path)


def as_table(generator):
    model = TableWeights(generator.anchors, np.ones((36, 3), np.float32), {36: np.ones((3, 36))})
    return dataclasses.replace(generator, model=model)


@pytest.mark.parametrize(
    ("change", "asked", "words"),
    [
        (as_table, {}, r"^generator: .*any\.npz: a table has no derivatives by tissue"),
        (
            lambda generator: of_family(generator, "bssfp"),
            {},
            "has learned from sequences of kind bssfp; a design is fisp",
        ),
        (lambda generator: generator, {"tissues": ("WM:800/80", "CSF:3000/110")}, "farthest has t1 = 3"),
    ],
    ids=["table", "family", "outside"],
)
def test_a_generator_that_does_not_serve_is_refused_in_a_line(tmp_path, change, asked, words):
    path = generator_file(tmp_path / "any.npz", change)
    config = DesignConfig(OF_START, generator=path, **{"tissues": ("WM:800/80", "GM:1300/110")} | asked)
    with pytest.raises(ValueError, match=words) as error:
        design_in_folder(tmp_path / "run", config, progress=False)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_generator_of_another_spoiler_or_tissue_is_refused(tmp_path):
    other = generator_file(tmp_path / "any.npz", slice_profile=FullSlice(windowed_sinc(4, "hann", n_samples=20), 4.0))
    tissues = ("WM:800/80", "GM:1300/110")
    asked = DesignConfig(OF_START.with_slice("full"), generator=other, tissues=tissues)
    with pytest.raises(ValueError, match=r"for the full slice of .* the design for the full slice of "):
        design_in_folder(tmp_path / "run", asked, progress=False)
    powers = PowerConfig(pulse_duration_ms=2.0, pulse_shape=1.5)
    pools = SimulationConfig(frames=24, pools=TissueConfig(tissue="semisolid"), powers=powers)
    plain = generator_file(tmp_path / "plain.npz")
    with pytest.raises(
        ValueError,
        match=r"^generator: .*plain.npz: .* for tissue of the kind one_pool, --tissue=one_pool; got semisolid",
    ):
        design_in_folder(tmp_path / "run", DesignConfig(pools, generator=plain), progress=False)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"generator": "any.npz", "own_anchors": True}, "generator=any.npz does not go with --own_anchors"),
        ({"population": 10, "tissues": ("a:800/70", "b:1200/70")}, "all --tissues have one T2, 70 ms"),
        ({"population": 10, "tissues": ("a:800/70",)}, "all --tissues have one T1, 800 ms"),
        ({"population": 0}, "population must be at least 1; got 0"),
    ],
)
def test_what_does_not_go_together(asked, words):
    with pytest.raises(ValueError, match=words):
        DesignConfig(OF_START, **asked)


def test_a_generator_whose_bounds_are_useless_is_refused(tmp_path):
    def noisy(generator):
        matrices = {36: generator.model.matrices[36] + 0.1 * np.eye(*generator.model.matrices[36].shape, k=5)}
        return dataclasses.replace(generator, model=dataclasses.replace(generator.model, matrices=matrices))

    path = generator_file(tmp_path / "any.npz", noisy)
    config = DesignConfig(OF_START, generator=path, tissues=("WM:800/80", "GM:1300/110"))
    with pytest.raises(ValueError, match=r"generator: bounds by its 36 anchors are off: .* leave --generator out"):
        design_in_folder(tmp_path / "run", config, progress=False)
