"""Designs from Python: what a configuration asks for, searches that find it and go on, what is refused."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.anchors.anchor_set import fit_norms
from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.anchors.generator_file import save_generator
from ganmrf.anchors.radial import RadialFeatures, RadialWeights, weight_matrix
from ganmrf.design.bounds import precision
from ganmrf.design.limits import Limits, violations
from ganmrf.design.parametrisations import Frames, Lobes, Spline
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.runs.configs import SimulationConfig
from ganmrf.runs.designing import DesignConfig, design_in_folder, kept_start, make_objective
from ganmrf.runs.workdir import Workdir
from ganmrf.settings import from_plain, to_plain
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")
FRAMES = 24
START = mrf_fisp(FRAMES)
OF_START = SimulationConfig(frames=FRAMES)
TISSUE = Tissue(np.array([0.832, 1.331, 2.569]), np.array([0.0792, 0.11, 0.329]))  # those of the default
B1 = (0.7, 1.3)
SEARCHED = DesignConfig(OF_START, starts=2, steps=100, gain_t2=1.5)


def ratios(sequence, start=START, tissue=TISSUE):
    """Standard deviations of T1 and T2 over those of the start, (2, tissues)."""
    ours, others = (precision(each, tissue) for each in (sequence, start))
    return np.stack([ours.t1 / others.t1, ours.t2 / others.t2])


@pytest.fixture(scope="module")
def sequences():
    """The start and two others, and all of them as one pytree."""
    rng, share = np.random.default_rng(0), np.linspace(0, 1, FRAMES)
    some = [START]
    for turns in (1.5, 2.0):
        angle = np.deg2rad(45 + 35 * np.sin(2 * np.pi * turns * share) + rng.uniform(-4, 4, FRAMES))
        some.append(Sequence(angle, rng.uniform(11.5e-3, 16e-3, FRAMES), START.echo_time, rng.uniform(18e-3, 40e-3)))
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


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A search, and its folder."""
    folder = tmp_path_factory.mktemp("plain")
    return design_in_folder(folder, SEARCHED, progress=False), folder


def test_the_best_of_all_starts_is_better_than_the_start_within_every_limit(plain):
    found, _ = plain
    assert found.values.shape[1] == len(found.best) == len(found.basins) == 2
    np.testing.assert_allclose(found.best, found.values.min(axis=0), rtol=1e-6)
    assert found.sequence is found.basins[int(np.argmin(found.best))]
    assert (found.best < found.values[0]).all()
    assert found.values[0, 0] == pytest.approx(1.5, rel=0.04)  # the given sequence: 1.5 times what is wanted of T2
    for sequence in found.basins:
        assert not any(violations(sequence, found.limits).values())
    t1, t2 = ratios(found.sequence)
    assert np.max([t1, 1.5 * t2]) == pytest.approx(found.best.min(), rel=0.05)  # a smooth maximum, as above


def test_a_search_that_was_cut_off_ends_the_same_from_its_folder_alone(plain, tmp_path):
    found, folder = plain
    cut = shutil.copytree(folder, tmp_path / "cut")
    last = max(int(path.name) for path in (cut / "checkpoints").iterdir())
    shutil.rmtree(cut / "checkpoints" / str(last))
    again = design_in_folder(cut, progress=False)
    np.testing.assert_array_equal(again.values, found.values)
    for ours, theirs in zip(jax.tree.leaves(again.sequence), jax.tree.leaves(found.sequence), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (cut / "config.json").read_bytes() == (folder / "config.json").read_bytes()


def test_the_seed_is_that_of_the_starts_beside_the_given_one_and_the_rate_that_of_adam(plain, tmp_path):
    other = dataclasses.replace(SEARCHED, seed=1, learning_rate=1e-6)
    found = design_in_folder(tmp_path, other, progress=False)
    first, second = plain[0].values[0], found.values[0]
    assert second[0] == pytest.approx(first[0], rel=1e-5)  # float32
    assert abs(second[1] - first[1]) > 1e-3
    assert np.ptp(found.values, axis=0).max() < 1e-3  # parameters moved by 1e-4 at most, in 100 updates


def test_a_folder_keeps_to_its_settings(plain):
    _, folder = plain
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=r"gain_t2=3.0 conflicts with 1.5 in "):
        design_in_folder(folder, dataclasses.replace(SEARCHED, gain_t2=3.0))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def worst(sequence, b1):
    """The largest of all standard deviations times its gain, over tissues and B1 values; those of the start are 1."""
    return max(np.max([[1], [1.5]] * ratios(sequence, tissue=Tissue(TISSUE.t1, TISSUE.t2, each))) for each in b1)


def test_lbfgs_designs_for_the_worst_b1(plain, tmp_path):
    b1 = 0.8, 1.0, 1.2
    asked = {"design_b1": b1, "optimiser": "lbfgs", "starts": 1, "steps": 20}
    found = design_in_folder(tmp_path, dataclasses.replace(SEARCHED, **asked), progress=False)
    assert (np.diff(found.values[:, 0]) < 1e-4).all()  # a line search goes down, to rounding
    assert found.best[0] == pytest.approx(worst(found.sequence, b1), rel=0.05)  # a smooth maximum, as above
    assert worst(found.sequence, b1) < 0.95 * worst(plain[0].basins[0], b1)  # from the same start, for B1 = 1 alone


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """A file: quintic radial basis functions about 6 x 6 tissues between white and grey matter, and no training."""
    path = tmp_path_factory.mktemp("generator") / "radial.npz"
    box = TissueBox(("t1", "t2"), [0.6, 0.06], [1.6, 0.13])
    axis = np.linspace(0, 1, 6)
    anchors = box.spread(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float32))
    places = np.asarray(box.coordinates(anchors), float)
    norm = fit_norms(places, np.linalg.norm(np.asarray(simulate(START, anchors), float), axis=1))
    features, size = RadialFeatures(places, np.ones(2), "quintic"), anchors.size
    model = RadialWeights({size: features}, {size: weight_matrix(features)})
    norms = np.asarray(norm(box.coordinates(anchors)))
    save_generator(
        path,
        AnchoredGenerator(
            box, anchors, norms, norm, None, model, anchors, anchors.rows(slice(0)), norms, {size: np.eye(size)}
        ),
    )
    return str(path)


def test_a_generator_designs_for_the_simulator(generator, tmp_path):
    tissue = Tissue(np.array([0.8, 1.3]), np.array([0.08, 0.11]))
    asked = {"tissues": ("white:800/80", "grey:1300/110"), "starts": 1, "steps": 40}
    found = design_in_folder(tmp_path, DesignConfig(OF_START, generator=generator, **asked), progress=False)
    t1, t2 = ratios(found.sequence, tissue=tissue)
    # Derivatives of 36 radial basis functions, and a smooth maximum, are worth a few per cent.
    assert float(found.best[0]) == pytest.approx(np.max([t1, 2 * t2]), rel=0.08)
    assert max(t1.max(), 2 * t2.max()) < 0.95 * 2  # the start has 2


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
        ({"generator": __file__}, "designing_test.py"),
    ],
    ids=lambda value: ",".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_designed_leaves_a_folder_that_can_be_used(tmp_path, asked, words):
    with pytest.raises(ValueError, match=words):
        design_in_folder(tmp_path, DesignConfig(**{"simulation": OF_START} | asked), progress=False)
    assert not list(tmp_path.iterdir())


def written(path, titles, row):
    """A simulation of a CSV of as many equal rows as the start has frames."""
    path.write_text("\n".join([titles, *[row] * FRAMES]) + "\n", encoding="utf-8")
    return SimulationConfig(schedule=str(path))


def test_a_start_must_tell_the_tissues_apart(tmp_path):
    dark = DesignConfig(written(tmp_path / "dark.csv", "fa_deg,tr_ms,te_ms,ti_ms", "0,13,2,20"))
    with pytest.raises(ValueError, match="the sequence of 24 frames does not determine 3 of 3 tissues"):
        design_in_folder(tmp_path / "run", dark, progress=False)


def test_a_range_of_inversion_times_wants_an_inversion(tmp_path):
    plain = written(tmp_path / "plain.csv", "fa_deg,tr_ms,te_ms", "20,13,2")
    with pytest.raises(ValueError, match="inversion_range_ms goes with a start that has an inversion"):
        design_in_folder(tmp_path / "run", DesignConfig(plain, inversion_range_ms=(18.0, 40.0)), progress=False)


def test_a_generator_must_cover_the_tissues(generator, tmp_path):
    with pytest.raises(ValueError, match=r"1 of 3 .*outside"):
        design_in_folder(tmp_path, DesignConfig(OF_START, generator=generator), progress=False)
    assert not list(tmp_path.iterdir())


def test_settings_are_read_back(tmp_path, plain):
    stored = json.loads((plain[1] / "config.json").read_text(encoding="utf-8"))
    assert stored["simulation"]["frames"] == FRAMES
    assert stored["tissues"][0] == "white matter:832/79.2"
    with pytest.raises(ValueError, match="holds no run"):
        design_in_folder(tmp_path, progress=False)


def test_a_design_goes_on_from_the_start_of_its_first_call(tmp_path):
    path = tmp_path / "schedule.csv"
    config = DesignConfig(written(path, "fa_deg,tr_ms,te_ms", "20,13,2"), starts=1, steps=1)
    with Workdir(tmp_path / "run", config) as workdir:
        first = kept_start(workdir, config)
        workdir.record({"step": 1})
        path.unlink()
        again = kept_start(workdir, config)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    assert again.inversion_time is None
    np.savez(tmp_path / "run" / "start.npz", images=np.zeros(3))
    with Workdir(tmp_path / "run", config) as workdir, pytest.raises(ValueError, match=r"start\.npz: not the start"):
        kept_start(workdir, config)
