"""What a design's configuration asks for, from Python, and what is refused before a search begins."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.design.limits import Limits
from ganmrf.design.parametrisations import Frames, Lobes, Spline
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.runs.designing import DesignConfig, design_in_folder, make_objective
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.settings import from_plain, to_plain
from tests.quick import quickly
from tests.runs.design_starts import FRAMES, OF_START, START, TISSUE, ratios, written

pytestmark = pytest.mark.usefixtures("quick_compiler")
B1 = (0.7, 1.3)


@pytest.fixture(scope="module")
def sequences():
    """The start and two others, and all of them as one pytree."""
    rng, share = np.random.default_rng(0), np.linspace(0, 1, FRAMES)
    some = [START]
    for turns in (1.5, 2.0):
        angle = np.deg2rad(45 + 35 * np.sin(2 * np.pi * turns * share) + rng.uniform(-4, 4, FRAMES))
        some.append(Fisp(angle, rng.uniform(11.5e-3, 16e-3, FRAMES), START.echo_time, rng.uniform(18e-3, 40e-3)))
    return some, jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf, float) for leaf in leaves]), *some)


ASKED = {
    "default": {},
    "mean": {"gain_t2": 5.0, "reduce": "mean"},
    "rms": {"gain_t1": 3.0, "reduce": "rms"},
    "t2 alone": {"gain_t1": 0.0},
    "rough": {"smoothness": 0.5},
    "b1": {"design_b1": B1, "reduce": "mean"},
    "worst neighbours": {"objective": "separation", "design_b1": B1},
    "mean neighbours": {"objective": "separation", "reduce": "mean", "design_b1": B1},
}


@pytest.fixture(scope="module")
def values(sequences):
    """Objective of every sequence, by name of what was asked for, (sequences,)."""
    objectives = {name: make_objective(DesignConfig(OF_START, **asked), START) for name, asked in ASKED.items()}
    of_one = quickly(lambda sequence: {name: objective(sequence) for name, objective in objectives.items()})
    found = [of_one(jax.tree.map(lambda leaf, i=i: leaf[i], sequences[1])) for i in range(len(sequences[0]))]
    return {name: np.array([float(each[name]) for each in found]) for name in objectives}


@pytest.mark.parametrize(
    ("name", "by_definition"),
    [
        ("default", lambda t1, t2: np.max([t1, 2 * t2])),
        ("mean", lambda t1, t2: np.mean([t1, 5 * t2])),
        ("rms", lambda t1, t2: 2.5 * np.sqrt(np.mean([1.2 * t1**2, 0.8 * t2**2]))),
        ("t2 alone", lambda _, t2: np.max(2 * t2)),
    ],
)
def test_the_bound_is_1_where_the_wanted_gains_are_reached(sequences, values, name, by_definition):
    expected = np.array([by_definition(*ratios(sequence)) for sequence in sequences[0]])
    assert np.ptp(expected) > 0.01
    # Signals are simulated to 1e-3; the worst is a smooth maximum, above the exact one where several are near it.
    above = 0.04 if name in ("default", "t2 alone") else 0
    assert (values[name] >= expected * (1 - 5e-3)).all()
    assert (values[name] <= expected * (1 + 5e-3 + above)).all()


def test_every_b1_counts(sequences, values):
    tissues = [Tissue(TISSUE.t1, TISSUE.t2, b1) for b1 in B1]
    expected = [
        np.mean([[1], [2]] * np.concatenate([ratios(each, tissue=of) for of in tissues], axis=1))
        for each in sequences[0]
    ]
    np.testing.assert_allclose(values["b1"], expected, rtol=5e-3)  # as above


@pytest.mark.parametrize(("name", "reduced"), [("worst neighbours", np.max), ("mean neighbours", np.mean)])
def test_separation_compares_neighbours(sequences, values, name, reduced):
    def unit(sequence, t1, t2):
        voxels = Tissue(*np.broadcast_arrays(t1 * TISSUE.t1, t2 * TISSUE.t2, np.array(B1)[:, None]))
        signals = np.asarray(simulate(sequence, voxels), complex)
        return signals / np.linalg.norm(signals, axis=-1, keepdims=True)

    for sequence, value in zip(sequences[0], values[name], strict=True):
        own = unit(sequence, 1, 1)
        others = [unit(sequence, *times) for times in ((0.9, 1), (1.1, 1), (1, 0.9), (1, 1.1))]
        products = [np.abs(np.sum(own.conj() * other, axis=-1)) for other in others]
        assert value == pytest.approx(reduced(products), abs=1e-5)  # products near 1 of signals known to 1e-3


def test_roughness_counts_where_it_is_asked_for(sequences, values):
    for sequence, without, value in zip(sequences[0], values["default"], values["rough"], strict=True):
        angle, time = (np.asarray(each, float) for each in (sequence.flip_angle, sequence.repetition_time))
        # 1 would be from end to end of a range and back.
        bends = np.diff(np.rad2deg(angle), 2) / 170, np.diff(1e3 * time, 2) / 9
        expected = sum(np.mean(np.square(each)) for each in bends)
        assert value - without == pytest.approx(0.5 * expected, abs=2e-5)  # float32 of values of 2


ALLOWED = Limits(
    flip_angle=(0.0, np.deg2rad(85)),
    repetition_time=(11.5e-3, 16e-3),
    echo_time=1.908e-3,
    inversion_time=(18e-3, 40e-3),
    scan_time=float(np.asarray(START.repetition_time, float).sum()) + 18e-3,
    scan_time_fixed=True,
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {}),
        ({"flip_angle_deg": (10.0, 50.0)}, {"flip_angle": (np.deg2rad(10), np.deg2rad(50))}),
        ({"repetition_time_ms": (12.0,)}, {"repetition_time": (12e-3, 12e-3)}),
        ({"inversion_range_ms": (25.0,)}, {"inversion_time": (25e-3, 25e-3)}),
        ({"scan_time_s": 0.36, "scan_time_fixed": False}, {"scan_time": 0.36, "scan_time_fixed": False}),
        ({"max_flip_change_deg": 2.0}, {"max_flip_change": np.deg2rad(2)}),
        ({"rf_power": 8.0}, {"rf_power": 8.0}),
    ],
    ids=lambda value: ",".join(value) or "default",
)
def test_limits_are_in_si_units(asked, expected):
    found = DesignConfig(OF_START, **asked).limits(START)
    for name, value in dataclasses.asdict(dataclasses.replace(ALLOWED, **expected)).items():
        assert getattr(found, name) == (value if value is None else pytest.approx(value, rel=1e-6)), name  # float32


def test_names_of_tissues_may_hold_colons():
    named = DesignConfig(tissues=("fat:300/50", "liver: lobe:800/40"))
    assert named.named_tissues == {"fat": (300.0, 50.0), "liver: lobe": (800.0, 40.0)}
    np.testing.assert_allclose((named.tissue.t1, named.tissue.t2), ([0.3, 0.8], [0.05, 0.04]), rtol=1e-6)  # float32
    assert from_plain(DesignConfig(), to_plain(named)) == named


@pytest.mark.parametrize(
    ("asked", "shape", "free"),
    [
        ({}, Spline(10), ("flip_angle", "repetition_time", "inversion_time")),
        ({"knot_spacing": 4.0}, Spline(4), ("flip_angle", "repetition_time", "inversion_time")),
        ({"shape": "frames", "optimise": ("repetition_time",)}, Frames(), ("repetition_time",)),
        ({"shape": "lobes", "optimise": ("flip_angle",)}, Lobes(5, 10), ("flip_angle",)),
        ({"inversion_range_ms": (25.0,)}, Spline(10), ("flip_angle", "repetition_time")),
    ],
    ids=lambda value: ",".join(map(str, value)) or "default" if isinstance(value, dict) else "",
)
def test_a_search_has_the_shape_and_the_fields_that_were_asked_for(asked, shape, free):
    config = DesignConfig(OF_START, **asked)
    found = config.parametrisation(START)
    assert (found.shape, found.free, found.limits) == (shape, free, config.limits(START))


def test_a_start_without_inversion_stays_without():
    config, start = DesignConfig(OF_START), dataclasses.replace(START, inversion_time=None)
    assert config.limits(start).inversion_time is None
    assert config.parametrisation(start).free == ("flip_angle", "repetition_time")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"flip_angle_deg": (10.0, 20.0, 30.0)}, "flip_angle_deg must be one number or two; got 10.0,20.0,30.0"),
        ({"repetition_time_ms": (-1.0, 16.0)}, "repetition_time_ms must be above 0; got -1.0,16.0"),
        ({"tissues": ("fat",)}, "tissues must be name:T1/T2 in ms, .*; got fat"),
        ({"tissues": ("fat:1/2/3",)}, "tissues must be name:T1/T2 .*; got fat:1/2/3"),
        ({"tissues": ("fat:300/50", "fat:300/60")}, "tissues must be name:T1/T2"),
        ({"tissues": ()}, "tissues must not be empty"),
        ({"design_b1": (0.0, 1.0)}, "design_b1 must be above 0; got 0.0,1.0"),
        ({"gain_t1": -1.0}, "gain_t1 must be at least 0; got -1.0"),
        ({"shape": "steps"}, "shape must be one of spline, frames, lobes; got steps"),
        ({"starts": 0}, "starts must be at least 1; got 0"),
    ],
    ids=lambda value: ",".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_what_no_design_can_ask_for(asked, words):
    with pytest.raises(ValueError, match=words):
        DesignConfig(**asked)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"scan_time_s": 0.2}, "scan_time_s: 0.2 s is too short for 24 frames: .* need at least 0.294 s"),
        ({"scan_time_s": 0.5}, "scan_time_s: 0.5 s cannot be filled by 24 frames: .* at most 0.424 s"),
        (
            {"rf_power": 1.0, "flip_angle_deg": (20.0, 60.0)},
            "^rf_power: 1 rad.* too low for 24 frames: .* need at least ",
        ),
        ({"repetition_time_ms": (16.0, 12.0)}, "repetition_time_ms must rise"),
        ({"max_flip_change_deg": 0.0}, "max_flip_change_deg must be above 0"),
        ({"tissues": ("fat:50/300",)}, r"T1 >= T2 > 0, .*; got fat:50/300"),
        ({"tissues": ("fat:nan/50",)}, "T1 >= T2 > 0, .*; got fat:nan/50"),
        ({"simulation": SimulationConfig(frames=2)}, "the sequence of 2 frames does not determine 3 of 3 tissues"),
        ({"simulation": SimulationConfig(frames=1001)}, "frames must be 1 to 1000, .*; got 1001"),
        ({"optimise": ("flip_angles",)}, "optimise must be one of flip_angle, .*; got flip_angles"),
        ({"gain_t1": 0.0, "gain_t2": 0.0}, "gain_t1 and --gain_t2 are both 0"),
        ({"objective": "separation", "reduce": "rms"}, "reduce=rms goes with --objective=bound"),
        ({"knot_spacing": 0.0}, "knot_spacing must be at least 1; got 0.0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0; got 0.0"),
        ({"generator": "none.npz"}, "none.npz: .*No such file"),
        ({"generator": __file__}, "design_requests_test.py"),
    ],
    ids=lambda value: ",".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_designed_leaves_a_folder_that_can_be_used(tmp_path, asked, words):
    with pytest.raises(ValueError, match=words):
        design_in_folder(tmp_path, DesignConfig(**{"simulation": OF_START} | asked), progress=False)
    assert not list(tmp_path.iterdir())


def test_a_start_must_tell_the_tissues_apart(tmp_path):
    dark = DesignConfig(written(tmp_path / "dark.csv", "fa_deg,tr_ms,te_ms,ti_ms", "0,13,2,20"))
    with pytest.raises(ValueError, match="the sequence of 24 frames does not determine 3 of 3 tissues"):
        design_in_folder(tmp_path / "run", dark, progress=False)


def test_a_range_of_inversion_times_wants_an_inversion(tmp_path):
    plain = written(tmp_path / "plain.csv", "fa_deg,tr_ms,te_ms", "20,13,2")
    with pytest.raises(ValueError, match="inversion_range_ms goes with a start that has an inversion"):
        design_in_folder(tmp_path / "run", DesignConfig(plain, inversion_range_ms=(18.0, 40.0)), progress=False)
