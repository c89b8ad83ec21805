"""A trained generator gives dictionaries of unit norm within its range, and comes back from its file as it was."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.anchors.generator_file import load_generator, save_generator
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.gan.data import split_and_scale
from ganmrf.gan.generate import fingerprints, finish, generate
from ganmrf.gan.mixture import MixtureOutputs
from ganmrf.gan.recipes import recipe
from ganmrf.gan.train import fit, init_state
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.rf_pulse import RfPulse
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice
from ganmrf.physics.tissue import SemisolidPool, Tissue
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = {"width": 32, "depth": 2, "rank": 20, "steps": 200, "adversarial_weight": 0.0, "optimiser": "adam"}


def begun(dictionary, **changes):
    chosen = recipe(**SMALL | changes)
    data = split_and_scale(dictionary, chosen, split=(1, 0, 0))
    return chosen, quickly(lambda: init_state(chosen, data))(), data


@pytest.fixture(scope="module")
def run(dictionary):
    chosen, state, data = begun(dictionary)
    *_, (state, _) = fit(chosen, data, state, chunk=200)
    return chosen, state, data


@pytest.fixture(scope="module")
def generator(run, dictionary):
    chosen, state, data = run
    return finish(chosen, state.params, data, dictionary)


def test_a_dictionary_like_the_simulated_one(generator, dictionary):
    made = generate(generator, dictionary.tissue)
    assert made.fingerprints.shape == (297, 60)
    assert made.fingerprints.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(made.fingerprints, axis=1), 1, atol=1e-5)
    assert fingerprint_errors(made.fingerprints, dictionary.fingerprints).mean() < 1e-2
    np.testing.assert_allclose(made.norms, dictionary.norms, rtol=2e-2)


def test_solving_for_the_output_layer_helps(run, dictionary):
    chosen, state, data = run
    errors = [
        fingerprint_errors(
            generate(
                finish(dataclasses.replace(chosen, refit=refit), state.params, data, dictionary), dictionary.tissue
            ).fingerprints,
            dictionary.fingerprints,
        ).mean()
        for refit in (False, True)
    ]
    assert errors[1] < 0.2 * errors[0]


def test_company_and_compression_change_nothing(generator):
    grid = tissue_grid("paper")
    inside = ~generator.box.outside(grid)
    grid = Tissue(np.asarray(grid.t1)[inside], np.asarray(grid.t2)[inside])
    assert grid.size > 4000  # several chunks, the last one not full
    whole = generate(generator, grid)
    few = generate(generator, Tissue(grid.t1[-3:], grid.t2[-3:]))
    np.testing.assert_allclose(few.fingerprints, whole.fingerprints[-3:], atol=1e-6)
    compressed = generate(generator, grid, compressed=True)
    assert compressed.fingerprints.shape == (grid.size, 20)
    np.testing.assert_allclose(compressed.fingerprints @ compressed.basis.T, whole.fingerprints, atol=1e-6)


def test_a_basis_of_as_many_vectors_as_frames_is_a_basis_too(dictionary):
    frames = dictionary.sequence.n_frames
    chosen, state, data = begun(dictionary, rank=frames)
    made = generate(finish(chosen, state.params, data, dictionary), dictionary.tissue)
    # The output layer is solved for: errors are far below those of another basis, of the order of 1.
    assert fingerprint_errors(made.fingerprints, dictionary.fingerprints).mean() < 0.1


def test_range_and_b1_are_refused_unless_allowed(generator):
    tissue = Tissue(t1=np.array([1.0, 4.0]), t2=np.array([0.05, 0.6]))
    np.testing.assert_array_equal(generator.box.outside(tissue), [False, True])
    with pytest.raises(ValueError, match=r"1 of 2 atoms lie outside .* t1 = 4000 ms, 33.3 % beyond 50 to 3000 ms"):
        generate(generator, tissue)
    assert generate(generator, tissue, allow_extrapolation=True).norms.size == 2
    with pytest.raises(ValueError, match="trained at b1 = 1 alone"):
        generate(generator, Tissue(1.0, 0.05, 0.9))
    for allowed in (False, True):
        with pytest.raises(ValueError, match="for tissue of the kind one_pool, --tissue=one_pool; got semisolid"):
            generate(generator, SemisolidPool(1.0, 0.05, 0.1, 14.0, 0.3, 1.5e-5), allow_extrapolation=allowed)


def test_noise_is_an_input_where_the_recipe_has_it(dictionary):
    chosen, state, data = begun(dictionary, noise=2)
    noisy = finish(chosen, state.params, data, dictionary)
    tissue = Tissue(np.full(2, 1.0), np.full(2, 0.05))
    one, again, other = (generate(noisy, tissue, seed=seed).fingerprints for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert (one[0] != one[1]).any()


def test_a_tanh_head_has_no_coefficients(dictionary):
    chosen, state, data = begun(dictionary, head="tanh", refit=False)
    bounded = finish(chosen, state.params, data, dictionary)
    assert generate(bounded, dictionary.tissue).fingerprints.shape == (297, 60)
    with pytest.raises(ValueError, match="no basis"):
        generate(bounded, dictionary.tissue, compressed=True)


def test_gradients_with_respect_to_tissue_are_central_differences(generator):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, float), generator)

        @quickly
        def signal_and_slope(t1):
            def signal(t1):
                return fingerprints(wide, t1[None], jnp.array([0.08]), jnp.zeros((1, 0)))[0][0, 30]

            return jax.value_and_grad(signal)(t1)

        step = 1e-5
        (below, _), (_, slope), (above, _) = (signal_and_slope(jnp.asarray(1.1 + n * step)) for n in (-1, 0, 1))
        difference = (above - below) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


def test_a_file_gives_the_same_generator(generator, dictionary, tmp_path):
    save_generator(tmp_path / "g.npz", generator)
    found = load_generator(tmp_path / "g.npz")
    assert found.recipe == generator.recipe
    one, other = generate(generator, dictionary.tissue), generate(found, dictionary.tissue)
    np.testing.assert_array_equal(one.fingerprints, other.fingerprints)
    np.testing.assert_array_equal(one.norms, other.norms)
    np.testing.assert_array_equal(one.sequence.flip_angle, other.sequence.flip_angle)


@pytest.mark.parametrize(
    "profile",
    [FullSlice(RfPulse(np.array([0.5 - 0.1j, 0.5 + 0.1j]), 2), 4), PartitionedSlice(RfPulse([1], 2), 3, False), None],
    ids=["full", "partitioned", "uniform"],
)
def test_a_file_keeps_the_slice(generator, tmp_path, profile):
    save_generator(tmp_path / "g.npz", dataclasses.replace(generator, slice_profile=profile))
    found = load_generator(tmp_path / "g.npz").slice_profile
    assert found == profile  # pulses are compared to the bit


def test_files_that_are_no_generator(generator, tmp_path):
    path = tmp_path / "g.npz"
    save_generator(path, generator)
    with np.load(path) as archive:
        contents = dict(archive)
    np.savez(tmp_path / "newer.npz", **contents | {"schema_version": np.asarray(99)})
    np.savez(tmp_path / "part.npz", **{name: value for name, value in contents.items() if "norm_weights" not in name})
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    path.write_bytes(path.read_bytes()[:-50])
    for name, message in (
        ("g", "not a whole .npz file"),
        ("newer", "has schema 99; this version reads 2"),
        ("part", "not a whole generator"),
        ("other", "not a generator of this version"),
        ("none", "cannot read"),
    ):
        with pytest.raises(ValueError, match=message):
            load_generator(tmp_path / f"{name}.npz")


def rewritten(path, generator, change):
    """The file of a generator, some of whose arrays were changed by hand."""
    save_generator(path, generator)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | change(arrays))
    return path


@pytest.mark.parametrize(
    ("change", "blamed"),
    [
        (lambda a: {"scaling/basis": np.append(a["scaling/basis"].ravel(), 0)}, "scaling/basis"),
        (lambda a: {"norm_weights": a["norm_weights"] * np.float32(np.nan)}, "norm_weights"),
        (lambda _: {"box/low": np.array("x")}, "box/low"),
        (lambda a: {"box/low": a["box/low"].astype(complex)}, "box/low"),
        (lambda _: {"scaling": np.zeros(3)}, "scaling"),
        (lambda _: {"structure": np.array("[" * 100_000)}, "not a whole generator"),
        (lambda _: {"structure": np.array('{"value": 5}')}, "not a"),
        (lambda _: {"structure": np.array('{"class": ["x"], "fields": []}')}, "not a whole generator"),
        (lambda a: {"structure": np.array(str(a["structure"]).replace("scaling/basis", "nothing"))}, "nothing"),
        (lambda _: {"schema_version": np.arange(2)}, "schema_version"),
        (lambda a: {"slice_profile/pulse/samples": 2 * a["slice_profile/pulse/samples"]}, "RfPulse.samples must sum"),
        (lambda a: {"structure": np.array(str(a["structure"]).replace("4.5", "NaN"))}, "FullSlice.turns must be fini"),
        (lambda a: {"structure": np.array(str(a["structure"]).replace("FullSlice", "Slab"))}, "Slab"),
    ],
)
def test_a_damaged_file_is_refused_by_the_name_of_the_array(generator, tmp_path, change, blamed):
    generator = dataclasses.replace(generator, slice_profile=FullSlice(RfPulse([0.5, 0.5], 2), 4.5))
    path = rewritten(tmp_path / "g.npz", generator, change)
    with pytest.raises(ValueError, match=rf"g\.npz.*{blamed}"):
        load_generator(path)


def test_draws_from_mixtures_in_several_chunks(generator):
    size = generator.scaling.basis.shape[1]
    layer = {"bias": jnp.zeros(MixtureOutputs.n_outputs(size))}
    layer["kernel"] = jnp.zeros((generator.params["params"]["output"]["kernel"].shape[0], layer["bias"].size))
    mixture = dataclasses.replace(
        generator,
        params={"params": generator.params["params"] | {"output": layer}},
        recipe=dataclasses.replace(generator.recipe, reconstruction="likelihood", refit=False, noise=size + 1),
    )
    tissue = Tissue(np.linspace(0.5, 1.5, 4100), np.full(4100, 0.05))
    # Not in this thread: workers that hold all of XLA's threads, and wait for another one, would never end.
    made = []
    thread = threading.Thread(target=lambda: made.append(generate(mixture, tissue)), daemon=True)
    thread.start()
    thread.join(60)
    assert made, "it waits for ever"
    assert np.isfinite(made[0].fingerprints).all()
