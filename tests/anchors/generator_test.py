"""Anchored generators against the simulator, for sequences of which nothing was learned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.anchors.anchor_set import build_anchor_set, choose_anchors, with_spread_anchors
from ganmrf.anchors.echoes import without_echo
from ganmrf.anchors.generator import radial_generator, table_generator, trunk_generator, validation_errors
from ganmrf.anchors.generator_file import load_anchored, load_any, load_generator, save_generator
from ganmrf.anchors.prepared import anchored_fingerprints, prepare
from ganmrf.anchors.sentinels import faces_and_corners, joined
from ganmrf.anchors.trunk import RECIPE, draw_tissue, finish_trunk, trunk_data
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.match import match
from ganmrf.gan.least_squares import least_squares
from ganmrf.gan.train import fit, init_state
from ganmrf.physics.sequences.cardiac import cardiac_mrf
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.physics.tissue_box import TissueBox
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES = 100
BOX = TissueBox(("t1", "t2"), [0.1, 0.01], [3.0, 0.5])
SEQUENCE = mrf_fisp(FRAMES)  # no family has it


@pytest.fixture(scope="module")
def anchor_set():
    return build_anchor_set(BOX, None, n_anchors=48, n_sequences=6, n_frames=FRAMES, n_candidates=512)


@pytest.fixture(scope="module")
def grid():
    """Atoms of which neither anchors nor candidates are any."""
    return BOX.spread(np.random.default_rng(1).random((300, 2)))


@pytest.fixture(scope="module")
def table(anchor_set, grid):
    return table_generator(anchor_set, grid, anchor_set.features_of(grid))


@pytest.fixture(scope="module")
def radial(anchor_set):
    return radial_generator(anchor_set)


@pytest.fixture(scope="module")
def trained(anchor_set):
    """A small trunk's recipe, and its states halfway and at the end."""
    recipe = dataclasses.replace(RECIPE, width=96, depth=2, steps=200, batch_size=128)
    data = trunk_data(anchor_set, anchor_set.features_of(anchor_set.validation))
    draw = draw_tissue(anchor_set, 0, 512)
    states = [jax.tree.map(np.asarray, s) for s, _ in fit(recipe, data, init_state(recipe, data), chunk=100, draw=draw)]
    return recipe, data, draw, states


@pytest.fixture(scope="module")
def trunk(anchor_set, trained):
    recipe, _, _, states = trained
    return trunk_generator(anchor_set, finish_trunk(anchor_set, recipe, states[-1].params, 0, 1024))


@pytest.fixture(scope="module")
def truth(grid):
    return build_dictionary(SEQUENCE, grid, accuracy=1e-5)


def errors(generated, truth):
    return np.linalg.norm(np.asarray(generated.fingerprints) - truth.fingerprints, axis=1)


def test_an_unseen_sequence_is_generated_and_its_error_known(table, trunk, radial, grid, truth):
    bounds = {"table": (1e-3, 1e-4), "trunk": (1e-3, 1e-4), "radial": (5e-3, 2e-3)}
    for generator in (table, trunk, radial):
        for size, bound in zip((32, 48), bounds[generator.model.kind], strict=True):
            prepared = prepare(generator, SEQUENCE, size, allow_error=1.0, rounds=0)
            made = prepared.generate(grid)
            found = errors(made, truth)
            assert found.mean() < bound
            # Held-out tissues are as many others from the same box.
            assert 0.5 < found.mean() / prepared.certificate.mean < 2
            np.testing.assert_allclose(made.norms, truth.norms, rtol=20 * bound)
            assert made.sequence is SEQUENCE


def test_the_error_that_is_told_of_a_table_is_that_of_its_own_atoms(anchor_set, table):
    """Atoms of which none relaxes fast, as most of an even grid's, err otherwise than tissues of the whole box."""
    slow = BOX.spread(0.75 + 0.25 * np.random.default_rng(2).random((200, 2)))
    of_slow = table_generator(anchor_set, slow, anchor_set.features_of(slow))
    prepared, of_box = (prepare(each, SEQUENCE, rounds=0) for each in (of_slow, table))
    found = errors(prepared.generate(slow), build_dictionary(SEQUENCE, slow, accuracy=1e-5))
    assert 0.9 < found.mean() / prepared.certificate.mean < 1.1
    assert found.mean() < 0.8 * of_box.certificate.mean


def test_learned_weights_beat_radial_basis_functions_from_the_same_anchors(table, radial, anchor_set):
    learned, interpolated = (validation_errors(generator, anchor_set) for generator in (table, radial))
    assert learned.keys() == interpolated.keys() == {16, 32, 48}
    for size in learned:
        assert learned[size].mean() < interpolated[size].mean()


def test_heart_rhythms_are_sequences_like_others(table, grid):
    sequence = cardiac_mrf([0.9, 0.5, 1.3])
    made = prepare(table, sequence).generate(grid)
    assert errors(made, build_dictionary(sequence, grid, accuracy=1e-5)).mean() < 1e-4


def test_echo_times_that_change_from_frame_to_frame_are_exact(table, grid):
    sequence = dataclasses.replace(SEQUENCE, echo_time=np.linspace(1e-3, 6e-3, FRAMES))
    prepared = prepare(table, sequence)
    truth = build_dictionary(sequence, grid, accuracy=1e-5)
    made, compressed = (prepared.generate(grid, compressed=each) for each in (False, True))
    assert errors(made, truth).mean() < 1e-4
    np.testing.assert_allclose(made.norms, truth.norms, rtol=1e-3)
    back = dataclasses.replace(compressed, fingerprints=compressed.fingerprints @ compressed.basis.T)
    assert errors(back, truth).mean() < 1e-4


@pytest.mark.parametrize("n_frames", [20, FRAMES])  # fewer frames than anchors, and more
def test_compressed_fingerprints_are_those_of_full_length_in_the_basis(table, grid, n_frames):
    prepared = prepare(table, mrf_fisp(n_frames), allow_error=1.0)
    full, compressed = (prepared.generate(grid, compressed=each) for each in (False, True))
    np.testing.assert_allclose(compressed.basis.T @ compressed.basis, np.eye(compressed.basis.shape[1]), atol=1e-7)
    np.testing.assert_allclose(compressed.fingerprints, full.fingerprints @ compressed.basis, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(compressed.fingerprints, axis=1), 1, rtol=1e-5)
    exact = np.linalg.svd(prepared.signals.astype(float), full_matrices=False)[2][: compressed.basis.shape[1]]
    np.testing.assert_allclose(np.abs(exact @ compressed.basis).diagonal()[:4], 1, atol=1e-5)  # largest first


def test_rows_that_are_generated_when_asked_for_are_matched_without_the_others(trunk, grid):
    prepared = prepare(trunk, SEQUENCE)
    streamed, made = prepared.stream(grid), prepared.generate(grid)
    assert streamed.fingerprints.shape == (300, FRAMES)
    for rows in (slice(10, 20), np.array([7, 3])):
        np.testing.assert_allclose(streamed.fingerprints[rows], made.fingerprints[rows], atol=1e-6)
        np.testing.assert_allclose(streamed.norms[rows], made.norms[rows], rtol=1e-6)
    signals = np.asarray(simulate(SEQUENCE, grid.rows(slice(0, 300, 10))))
    one, other = (match(dictionary, signals, axis=-1) for dictionary in (streamed, made))
    np.testing.assert_array_equal(one.index, np.arange(0, 300, 10))
    np.testing.assert_array_equal(one.index, other.index)


def test_anchors_that_an_accuracy_needs(table):
    few, many = (prepare(table, SEQUENCE, accuracy=accuracy) for accuracy in (1e-2, 1e-4))
    assert few.n_anchors < many.n_anchors
    assert few.certificate.largest <= 1e-2
    assert many.certificate.largest <= 1e-4
    same = prepare(table, SEQUENCE, many.n_anchors)
    np.testing.assert_allclose(many.signals, same.signals, atol=1e-6)
    with pytest.raises(ValueError, match=r"above accuracy = 1e-09, with 48 anchors"):
        prepare(table, SEQUENCE, accuracy=1e-9)


def test_a_prepared_sequence_serves_fewer_anchors_without_another_simulation(table, radial, grid):
    for generator in (table, radial):
        prepared = prepare(generator, SEQUENCE, allow_error=1.0)
        for size, rounds in ((32, 0), (32, 4), (48, 0)):
            fewer, same = (
                prepared.by_anchors(size, rounds=rounds),
                prepare(generator, SEQUENCE, size, rounds=rounds, allow_error=1.0),
            )
            assert fewer.n_anchors == size
            np.testing.assert_array_equal(fewer.added, same.added)
            np.testing.assert_allclose(errors(fewer.generate(grid), same.generate(grid)), 0, atol=1e-5)
            assert fewer.certificate.largest == pytest.approx(same.certificate.largest, rel=1e-2)
        with pytest.raises(ValueError, match="n_anchors must be at most 32, as this sequence has; got 48"):
            prepared.by_anchors(32).by_anchors(48)
        np.testing.assert_array_equal(prepared.by_anchors().signals, prepared.signals)


def test_the_certificate_is_the_error_of_what_is_generated(trunk, radial):
    sequence = dataclasses.replace(SEQUENCE, echo_time=np.linspace(1e-3, 6e-3, FRAMES))
    for prepared in (prepare(trunk, sequence), prepare(radial, sequence, 32, allow_error=1.0)):
        checked = joined(prepared.generator.held_out, prepared.generator.sentinels)
        truth = build_dictionary(sequence, checked, accuracy=1e-6)
        full, compressed = (prepared.generate(checked, compressed=each) for each in (False, True))
        found, near = prepared.certificate, {"rtol": 1e-2, "atol": 3e-6}  # rounding of float32 signals
        np.testing.assert_allclose(np.append(found.held_out, found.sentinels), errors(full, truth), **near)
        np.testing.assert_allclose(found.norms, np.abs(full.norms / truth.norms - 1), **near)
        back = dataclasses.replace(compressed, fingerprints=compressed.fingerprints @ compressed.basis.T)
        np.testing.assert_allclose(found.compressed, errors(back, truth), **near)
        assert found.mean < found.quantile_99 < found.largest


def test_sentinels_are_faces_corners_and_where_errors_are_largest(table, trunk, radial):
    for generator in (table, trunk, radial):
        own = np.asarray(BOX.coordinates(generator.sentinels))
        for corner in np.asarray(BOX.coordinates(faces_and_corners(BOX))):
            assert np.abs(own - corner).max(axis=1).min() < 1e-5
        prepared = prepare(generator, SEQUENCE, allow_error=1.0, rounds=0)
        assert prepared.certificate.largest > prepared.certificate.quantile_99


def test_the_worst_sentinels_become_anchors_until_the_error_is_small(table, trunk, radial, grid, truth):
    for generator in (table, trunk, radial):
        before = prepare(generator, SEQUENCE, 32, allow_error=1.0, rounds=0)
        after = prepare(generator, SEQUENCE, 32, allow_error=1.0)
        assert before.certificate.largest > 1e-3  # what is wanted when nothing is said
        assert after.certificate.largest < before.certificate.largest
        assert (after.certificate.sentinels < before.certificate.sentinels)[after.added].all()
        one, other = (errors(each.generate(grid), truth) for each in (before, after))
        assert other.max() < one.max()
        assert other.mean() < one.mean()
        # An error that was small enough is left alone.
        allowed = before.certificate.largest
        within = prepare(generator, SEQUENCE, accuracy=1.01 * allowed)
        assert within.added.size == 0
        assert within.n_anchors <= 32


def test_large_errors_are_told_or_refused(table):
    with pytest.warns(UserWarning, match=r"the largest error of this sequence's fingerprints is \S+, above 0\.001"):
        prepared = prepare(table, SEQUENCE, 32, rounds=0)
    assert 1e-3 < prepared.certificate.largest < 1e-2
    with pytest.raises(ValueError, match=r"above allow_error = 0\.01, .* let allow_error be larger"):
        prepare(table, SEQUENCE, 16, rounds=0)
    told = prepare(table, SEQUENCE, 16, rounds=0, allow_error=1.0)  # without a word
    assert told.certificate.largest > 1e-2
    with pytest.raises(ValueError, match="above accuracy"):
        prepare(table, SEQUENCE, accuracy=1e-9)
    assert prepare(table, SEQUENCE, accuracy=1e-9, allow_error=1e-2).certificate.largest < 1e-2
    with pytest.raises(ValueError, match="accuracy do not go together"):
        prepare(table, SEQUENCE, 32, accuracy=1e-3)


def test_derivatives_are_those_of_the_simulator(trunk, grid):
    few = grid.rows(slice(0, 300, 20))
    direction = np.random.default_rng(0).standard_normal((few.size, FRAMES)).astype(np.float32)

    def generated(sequence, t1):
        return jnp.sum(direction * anchored_fingerprints(trunk, sequence, dataclasses.replace(few, t1=t1))[0])

    def simulated(sequence, t1):
        signals = simulate(sequence, dataclasses.replace(few, t1=t1))
        return jnp.sum(direction * signals / jnp.linalg.norm(signals, axis=1, keepdims=True))

    found, expected = (quickly(jax.grad(f, argnums=(0, 1)))(SEQUENCE, few.t1) for f in (generated, simulated))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(one - other) < 1e-2 * np.linalg.norm(other)
    by_weights = quickly(
        jax.grad(lambda sequence: jnp.sum(direction * anchored_fingerprints(trunk, sequence, weights)[0]))
    )
    weights = trunk.weights(few)
    np.testing.assert_allclose(by_weights(SEQUENCE).flip_angle, found[0].flip_angle, rtol=1e-3, atol=1e-4)


def test_a_resumed_trunk_ends_as_an_uninterrupted_one(trained):
    recipe, data, draw, (halfway, end) = trained
    [(resumed, _)] = fit(recipe, data, jax.tree.map(jnp.asarray, halfway), chunk=100, draw=draw)
    jax.tree.map(np.testing.assert_array_equal, resumed, end)
    one, other = (np.asarray(draw(step).condition[:, 0]) for step in (0, 100))
    assert not np.isin(one[np.abs(one) < 1], other).any()  # but for those at an end


def test_files_give_the_same_generator(table, trunk, radial, grid, tmp_path):
    for generator in (table, trunk, radial):
        path = tmp_path / f"{generator.model.kind}.npz"
        save_generator(path, generator)
        found = load_anchored(path)
        assert found.model.kind == generator.model.kind
        one, other = (each.weights(grid, 32) for each in (generator, found))
        jax.tree.map(np.testing.assert_array_equal, one, other)
        with pytest.raises(
            ValueError, match=r"is a generator for any sequence of a kind .* takes one for one sequence"
        ):
            load_generator(path)
    with np.load(path) as archive:
        np.savez(tmp_path / "text.npz", **dict(archive) | {"schema_version": np.asarray("four")})
    with pytest.raises(ValueError, match=r"text.npz: not a generator of this version of ganmrf \(no schema_version\)"):
        load_any(tmp_path / "text.npz")
    with np.load(path) as archive:
        contents = {name: value for name, value in archive.items() if not name.startswith("model/matrices")}
    np.savez(path, **contents)
    with pytest.raises(ValueError, match="not a whole generator"):
        load_any(path)
    np.savez(path, **contents | {"schema_version": np.asarray(2)})  # from before there were sentinels
    with pytest.raises(ValueError, match="has schema 2; this version reads 4: make it again by the same command"):
        load_any(path)


def test_what_cannot_be_generated_is_named(table, trunk, grid):
    prepared = prepare(trunk, SEQUENCE)
    outside = Tissue(np.array([0.5, 4.0]), 0.1)
    with pytest.raises(ValueError, match="1 of 2 atoms lie outside the trained box"):
        prepared.generate(outside)
    assert prepared.generate(outside, allow_extrapolation=True).fingerprints.shape == (2, FRAMES)
    with pytest.raises(ValueError, match="no axis for b1"):
        prepared.generate(Tissue(0.5, 0.1, np.array([0.9])), allow_extrapolation=True)
    with pytest.raises(ValueError, match="n_anchors must be one of 16, 32, 48; got 20"):
        prepare(trunk, SEQUENCE, 20)
    with pytest.raises(ValueError, match="the weights are for 32 anchors, not for 48"):
        prepared.generate(trunk.weights(grid, 32))
    with pytest.raises(ValueError, match="a table for its own 300 atoms"):
        table.weights(grid.rows(slice(10)))
    with pytest.raises(ValueError, match="accuracy must be positive"):
        prepare(trunk, SEQUENCE, accuracy=0.0)
    invalid = jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan), SEQUENCE)  # as a failed optimisation leaves it
    with pytest.raises(ValueError, match=r"must be .*; got nan"):
        prepare(trunk, invalid)
    with pytest.raises(ValueError, match="a sequence must have 2 frames at least"):
        prepare(trunk, mrf_fisp(1))
    with pytest.raises(ValueError, match="a table for its own 300 atoms"):
        table.weights(grid.rows(slice(10)), allow_extrapolation=True)
    silent = dataclasses.replace(SEQUENCE, flip_angle=np.zeros(FRAMES))
    with pytest.raises(ValueError, match="an anchor has no signal"):
        prepare(trunk, silent)


def test_anchors_are_nested_and_weights_of_an_anchor_are_that_anchor(anchor_set):
    rows = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    features = np.concatenate([rows[:3], 0.1 * rows[:3], rows[3:] * 0.5])
    assert set(choose_anchors(features, 6)) == {0, 1, 2, 6, 7, 8}
    np.testing.assert_array_equal(choose_anchors(features, 4), choose_anchors(features, 6)[:4])
    anchors = anchor_set.features[:20]
    np.testing.assert_allclose(anchors @ least_squares(anchors, np.eye(20), 1e-8), np.eye(20), atol=1e-4)


def test_foundations_repeat_and_anchors_can_be_spread():
    settings = {"n_anchors": 16, "n_sequences": 4, "n_frames": FRAMES, "n_candidates": 64}
    one, other = (build_anchor_set(BOX, None, **settings) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one.anchors, other.anchors)
    np.testing.assert_array_equal(one.features, other.features)
    spread = with_spread_anchors(one)
    assert spread.anchors.size == 16
    assert not np.isin(spread.anchors.t1, one.anchors.t1).all()
    error = radial_generator(spread)
    assert validation_errors(error, spread)[16].mean() < 0.1
    with pytest.raises(ValueError, match="n_anchors must be 16 to 64; got 80"):
        build_anchor_set(BOX, None, **settings | {"n_anchors": 80})


def test_anchors_are_simulated_right_after_each_pulse(table):
    prepared = prepare(table, SEQUENCE, 16, allow_error=1.0, rounds=0)
    anchors = table.anchors.rows(slice(16))
    expected = np.asarray(simulate(without_echo(SEQUENCE, anchors), anchors)) / table.anchor_norms[:16, None]
    np.testing.assert_allclose(prepared.signals, expected, atol=1e-5)
