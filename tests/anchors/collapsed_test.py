"""A prepared generator as one function of tissue is what it generates, and fits by it find what the simulator made."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.anchors.anchor_set import build_anchor_set
from ganmrf.anchors.collapsed import GeneratedSignals, collapse
from ganmrf.anchors.continuous import continuous_maps
from ganmrf.anchors.continuous_checks import at_ends, fit_quality, generator_bias
from ganmrf.anchors.generator import radial_generator, table_generator, trunk_generator
from ganmrf.anchors.prepared import prepare
from ganmrf.anchors.trunk import RECIPE, finish_trunk, trunk_data
from ganmrf.dictionary.cramer_rao import cramer_rao
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.gan.train import init_state
from ganmrf.parallel import meshes
from ganmrf.physics.sequences.bssfp import ma_bssfp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.physics.tissue_box import TissueBox

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES = 60
BOX = TissueBox(("t1", "t2", "b1"), [0.3, 0.03, 0.8], [2.5, 0.25, 1.2])
SEQUENCE = mrf_fisp(FRAMES)
VARIED = dataclasses.replace(SEQUENCE, echo_time=np.linspace(1e-3, 6e-3, FRAMES))


def anchors_of(box, family="fisp"):
    return build_anchor_set(box, None, family=family, n_anchors=96, n_sequences=4, n_frames=FRAMES, n_candidates=512)


def untrained_trunk(anchor_set):
    """A trunk of random hidden layers, whose output layer is solved for: accurate to some hundredths."""
    recipe = dataclasses.replace(RECIPE, width=96, depth=2)
    data = trunk_data(anchor_set, anchor_set.features_of(anchor_set.validation))
    return trunk_generator(anchor_set, finish_trunk(anchor_set, recipe, init_state(recipe, data).params, 0, 1024))


@pytest.fixture(scope="module")
def anchor_set():
    return anchors_of(BOX)


@pytest.fixture(scope="module")
def trunk(anchor_set):
    return untrained_trunk(anchor_set)


@pytest.fixture(scope="module")
def prepared(anchor_set):
    """By radial basis functions, whose errors are far below the noise of what is fitted."""
    return prepare(radial_generator(anchor_set), SEQUENCE, allow_error=1.0)


@pytest.fixture(scope="module")
def voxels():
    """Tissues away from the ends of the box, and their signals in float64, (voxels, frames)."""
    tissue = BOX.spread(0.2 + 0.6 * np.random.default_rng(2).random((300, 3)))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, float), (SEQUENCE, tissue))
        signals = np.asarray(simulate(*wide, n_states=FRAMES // 2 + 1))
    return tissue, signals


def assert_same(prepared, box):
    tissue = box.spread(np.random.default_rng(3).random((70, len(box.names))))
    made = prepared.generate(tissue, compressed=True)
    source = GeneratedSignals.of(prepared)
    whole = Tissue(**{name: np.broadcast_to(v, 70) for name, v in vars(tissue).items() if v is not None})
    found = source.signals(whole, ("t1", "t2"), meshes()[0])
    np.testing.assert_allclose(found[:, 0] / made.norms[:, None], made.fingerprints, atol=2e-5)  # rounding of weights
    shift = 1e-2
    for n, name in enumerate(("t1", "t2"), 1):
        there = [dataclasses.replace(whole, **{name: getattr(whole, name) * np.exp(s)}) for s in (shift, -shift)]
        up, down = (source.signals(each, ("t1",), meshes()[0])[:, 0] for each in there)
        scale = np.linalg.norm(found[:, n], axis=1).max()
        np.testing.assert_allclose(found[:, n] / scale, (up - down) / (2 * shift * scale), atol=1e-3)


@pytest.mark.parametrize("sequence", [SEQUENCE, VARIED], ids=["one echo time", "many"])
def test_the_function_is_what_is_generated_and_its_derivatives_are_differences(trunk, sequence):
    assert_same(prepare(trunk, sequence, allow_error=1.0), BOX)


def test_complex_signals_and_radial_functions_collapse_likewise():
    box = TissueBox(("t1", "t2", "off_resonance"), [0.5, 0.04, -2.0], [2.0, 0.2, 2.0])
    anchor_set = anchors_of(box, "bssfp")
    echoes = dataclasses.replace(ma_bssfp(FRAMES), echo_time=0.0)
    for generator in (untrained_trunk(anchor_set), radial_generator(anchor_set)):
        for sequence in (ma_bssfp(FRAMES), echoes):
            assert_same(prepare(generator, sequence, allow_error=1.0), box)


def test_few_echo_times_stand_for_many(trunk):
    function = collapse(prepare(trunk, VARIED, allow_error=1.0))
    assert function.echo_times.size < FRAMES / 4


def test_a_table_is_refused(anchor_set):
    grid = BOX.spread(np.random.default_rng(0).random((64, 3)))
    table = table_generator(anchor_set, grid, anchor_set.features_of(grid))
    with pytest.raises(ValueError, match="table"):
        collapse(prepare(table, SEQUENCE, allow_error=1.0))


def test_clean_voxels_are_off_by_no_more_than_errors_of_the_generator_explain(prepared, voxels):
    """A fit moves by the product of its bound for noise 1 and the norm of the error, at most, to first order."""
    tissue, signals = voxels
    found = continuous_maps(prepared, 30j * signals, axis=-1, noise=30.0, force=True)
    made = prepared.generate(tissue)
    error = np.linalg.norm(made.fingerprints * made.norms[:, None] - signals, axis=1)
    for name in BOX.names:
        moved = np.abs(getattr(found, name) - np.asarray(getattr(tissue, name)))
        assert (moved <= 1.3 * getattr(found, f"{name}_std") * error).mean() > 0.98
    assert found.converged.mean() > 0.98
    np.testing.assert_allclose(np.abs(found.m0), 30, rtol=0.1)


def test_the_bias_that_is_told_is_how_far_clean_voxels_are_off(prepared, voxels):
    """To first order in the error, whose square is a tenth of it in no voxel, or less than a twentieth error bar."""
    signals = voxels[1][:24]
    found = continuous_maps(prepared, 30j * signals, axis=-1, noise=0.03, force=True)
    order = np.argsort(found.t1)
    bias = generator_bias(prepared, found)
    assert np.median(bias.t1) > 0.2
    for name in BOX.names:
        true = np.asarray(getattr(voxels[0], name), float)[:24]
        off = np.abs(getattr(found, name) - true) / getattr(found, f"{name}_std")
        np.testing.assert_allclose(getattr(bias, name), off[order], rtol=0.1, atol=0.05)
    off = np.abs(np.abs(found.m0) - 30) / found.m0_std
    np.testing.assert_allclose(bias.m0, off[order], rtol=0.1, atol=0.05)


def test_quality_is_1_but_for_noise_and_the_generator(prepared, voxels):
    signals = voxels[1][:30].reshape(5, 6, -1)
    mask = np.arange(30).reshape(5, 6) % 4 > 0
    noise = np.random.default_rng(5).standard_normal((*signals.shape, 2)) @ [1, 1j]
    for sigma, low in ((1e-9, 1 - 1e-4), (5e-3, 0.98)):
        noisy = 30j * (signals + sigma * noise)
        found = continuous_maps(prepared, noisy, mask=mask, axis=-1, noise=0.3, force=True)
        quality = fit_quality(prepared, noisy, found, mask=mask, axis=-1)
        made = prepared.generate(Tissue(*(getattr(found, name)[mask] for name in BOX.names))).fingerprints
        unit = noisy[mask] / np.linalg.norm(noisy[mask], axis=1)[:, None]
        np.testing.assert_allclose(quality[mask], np.abs((made * unit).sum(axis=1)), atol=1e-5)
        assert quality[mask].min() > low
        assert not quality[~mask].any()


def test_noisy_voxels_scatter_as_the_simulators_bound_says(prepared, voxels):
    """300 voxels know a spread to 4 %; noise is chosen well above the generator's errors."""
    tissue, signals = voxels
    sigma = 4e-3
    noisy = signals + sigma * np.random.default_rng(4).standard_normal((*signals.shape, 2)) @ [1, 1j]
    found = continuous_maps(prepared, noisy, axis=-1, known={"b1": np.asarray(tissue.b1)}, noise=sigma)
    with jax.enable_x64(True):
        sequence, wide = jax.tree.map(lambda leaf: np.asarray(leaf, float), (SEQUENCE, tissue))

        def by(name):
            there = lambda value: simulate(sequence, dataclasses.replace(wide, **{name: value}), n_states=31)  # noqa: E731
            return jax.jvp(there, (getattr(wide, name),), (np.ones(300),))[1]

        bounds = np.asarray(cramer_rao(signals, (by("t1"), by("t2")), np.ones(300), sigma)[0])
    for name, bound in zip(("t1", "t2"), bounds, strict=True):
        known = np.isfinite(getattr(found, f"{name}_std"))
        scaled = ((getattr(found, name) - np.asarray(getattr(tissue, name), float)) / bound)[known]
        assert known.mean() > 0.95
        assert np.sqrt(np.mean(scaled**2)) == pytest.approx(1, abs=0.15)
        np.testing.assert_allclose(np.median(getattr(found, f"{name}_std")[known] / bound[known]), 1, rtol=0.05)
    np.testing.assert_array_equal(found.b1, np.asarray(tissue.b1, float))


def test_nothing_is_extrapolated(prepared):
    outside = Tissue(np.array([4.0, 1.0]), np.array([0.1, 0.1]))
    signals = np.asarray(simulate(SEQUENCE, outside))
    found = continuous_maps(prepared, signals, axis=-1, known={"b1": 1.0}, noise=1e-3, force=True)
    assert found.t1[0] <= 2.5
    assert np.isinf(found.t1_std[0])
    assert np.isfinite(found.t1_std[1])
    assert not found.converged[0]
    ends = at_ends(prepared, found, mask=np.ones(2, bool))
    np.testing.assert_array_equal(ends["t1"], [True, False])
    assert not at_ends(prepared, found, mask=np.zeros(2, bool))["t1"].any()


def test_bad_input(prepared, voxels):
    images = voxels[1][:4]
    for arguments, words in (
        ({"n_starts": 0}, "n_starts must be 1 or more; got 0"),
        ({"known": {"fraction": 0.1}}, "known fraction is no axis .* t1, t2, b1"),
        ({"known": {"t1": 1.0, "t2": 0.1, "b1": 1.0}}, "nothing to fit"),
        ({"known": {"b1": 1.4}}, "known b1 .* 0.8 to 1.2 in 4 of 4 voxels, from 1.4"),
        ({"known": {"b1": np.ones(3)}}, "known b1 has shape"),
        ({"mask": np.ones(3, bool)}, "mask has shape"),
        ({"known": {"b1": np.array([1.0, np.nan, 1.0, 1.0])}}, "known b1 must be finite in every voxel"),
    ):
        with pytest.raises(ValueError, match=words):
            continuous_maps(prepared, images, axis=-1, noise=1e-3, **arguments)
    with pytest.raises(ValueError, match="images hold NaN or infinite values, in 1 voxels"):
        continuous_maps(prepared, np.where(np.arange(4)[:, None] == 2, np.nan, images), axis=-1, noise=1e-3)
    source, atoms = GeneratedSignals.of(prepared), prepared.generate(voxels[0], compressed=False)
    maps = match(atoms, images, axis=-1)
    with pytest.raises(ValueError, match="another basis"):
        refine(atoms, images, maps, axis=-1, source=source)
    with pytest.raises(ValueError, match="magnitude"):
        refine(atoms, np.abs(images), maps, axis=-1, source=source, magnitude=True)
