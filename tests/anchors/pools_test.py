"""Anchored generators of tissue with two pools, whose axes may begin at 0, against the simulator."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.anchors.anchor_set import build_anchor_set
from ganmrf.anchors.echoes import combined_at_echo, echo_times, without_echo
from ganmrf.anchors.families import sample_sequences
from ganmrf.anchors.generator import radial_generator, table_generator
from ganmrf.anchors.generator_file import load_anchored, save_generator
from ganmrf.anchors.prepared import prepare
from ganmrf.dictionary.build import build_dictionary
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.sequences.sequence_power import Power, with_power
from ganmrf.physics.slice_profile import PartitionedSlice
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool, Tissue
from ganmrf.physics.tissue_box import TissueBox

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES = 50
SETTINGS = {"n_anchors": 64, "n_sequences": 4, "n_frames": FRAMES, "n_candidates": 256}
AXES = {"names": ("t1", "t2", "fraction"), "low": [0.5, 0.03, 0.0], "high": [2.5, 0.2, 0.3]}
BOXES = {
    "semisolid": TissueBox(
        **AXES, kind="semisolid", fixed={"exchange_rate": 14.0, "t1_b": 0.34, "lineshape": 15e-6, "b1": 0.9}
    ),
    "exchanging": TissueBox(**AXES, kind="exchanging", fixed={"exchange_rate": 10.0, "t1_b": 0.4, "t2_b": 0.015}),
}
# Neither its pulses nor its echo is one of those that anything is learned from.
SEQUENCE = with_power(dataclasses.replace(mrf_fisp(FRAMES), echo_time=np.float32(3.3e-3)), Power(1.3e-3, 1.7))


@pytest.fixture(scope="module", params=BOXES)
def made(request):
    """A table and its anchors, and the grid that it is of."""
    box = BOXES[request.param]
    anchor_set = build_anchor_set(box, None, **SETTINGS)
    grid = box.spread(np.random.default_rng(1).random((150, 3)))
    return table_generator(anchor_set, grid, anchor_set.features_of(grid)), anchor_set, grid


def true_errors(prepared, tissue):
    truth = build_dictionary(prepared.sequence, tissue, accuracy=1e-5, slice_profile=prepared.slice_profile)
    return fingerprint_errors(prepared.generate(tissue).fingerprints, truth.fingerprints)


def test_signals_of_two_pools_are_generated_and_their_errors_known(made, tmp_path):
    generator, _, grid = made
    save_generator(tmp_path / "g.npz", generator)
    for each in (generator, load_anchored(tmp_path / "g.npz")):
        prepared = prepare(each, SEQUENCE, allow_error=1.0, rounds=0)
        found = true_errors(prepared, grid)
        assert found.mean() < 2e-3
        assert 0.4 < found.mean() / prepared.certificate.mean < 2.5
        assert np.mean(found > prepared.generate(grid).errors) < 0.02


def test_norms_are_those_of_m0_1(made):
    generator, _, grid = made
    prepared = prepare(generator, SEQUENCE, allow_error=1.0)
    truth = build_dictionary(SEQUENCE, grid)
    np.testing.assert_allclose(prepared.generate(grid).norms, truth.norms, rtol=1e-2)


@pytest.mark.parametrize("made", ["semisolid"], indirect=True)
def test_another_slice_is_served_where_its_error_is_small_or_allowed(made):
    generator, _, grid = made
    profile = PartitionedSlice(windowed_sinc(4, "hann", n_samples=30), 8)
    prepared = prepare(generator, SEQUENCE, slice_profile=profile, allow_error=1.0, rounds=0)
    assert prepared.generate(grid).slice_profile == profile
    found = true_errors(prepared, grid)
    assert found.mean() < 5e-3
    assert 0.4 < found.mean() / prepared.certificate.mean < 2.5
    with pytest.raises(ValueError, match=r"made for another slice, pulse or spoiler: .* above allow_error = 0\.001"):
        prepare(generator, SEQUENCE, 16, slice_profile=profile, rounds=0)


@pytest.mark.parametrize("made", ["semisolid"], indirect=True)
def test_tissue_of_another_kind_or_with_other_values_is_refused(made):
    generator, _, grid = made
    prepared = prepare(generator, SEQUENCE, allow_error=1.0)
    with pytest.raises(ValueError, match="for tissue of the kind semisolid, --tissue=semisolid; got one_pool"):
        prepared.generate(Tissue(t1=1.0, t2=0.1))
    with pytest.raises(ValueError, match=r"no axis for exchange_rate: it must be 14 1/s for all atoms .*got 20 1/s"):
        prepared.generate(dataclasses.replace(grid, exchange_rate=20.0))
    with pytest.raises(ValueError, match=r"no axis for b1: it must be 0\.9 for all atoms"):
        prepared.generate(dataclasses.replace(grid, b1=1.0))
    with pytest.raises(ValueError, match="pulse_duration"):
        prepare(generator, mrf_fisp(FRAMES))


@pytest.mark.parametrize("made", ["semisolid"], indirect=True)
def test_of_atoms_outside_the_box_no_error_is_known(made):
    _, anchor_set, grid = made
    prepared = prepare(radial_generator(anchor_set), SEQUENCE, allow_error=1.0, rounds=0)
    outside = dataclasses.replace(grid, t1=grid.t1.at[0].set(5.0), fraction=grid.fraction.at[1].set(0.9))
    errors = prepared.generate(outside, allow_extrapolation=True).errors
    np.testing.assert_array_equal(errors[:2], 2)  # the farthest that two unit fingerprints are apart
    np.testing.assert_array_equal(errors[2:], prepared.errors_of(grid)[2:])


@pytest.mark.parametrize("made", ["semisolid"], indirect=True)
def test_radial_functions_serve_pools_too(made):
    _, anchor_set, grid = made
    prepared = prepare(radial_generator(anchor_set), SEQUENCE, allow_error=1.0, rounds=0)
    found = true_errors(prepared, grid)
    assert found.mean() < 1e-2
    assert np.mean(found > prepared.errors_of(grid)) < 0.02


def test_two_transverse_pools_are_combined_at_the_echo_and_one_before():
    assert [combined_at_echo(kind) for kind in (Tissue, SemisolidPool, ExchangingPools)] == [False, False, True]
    assert not np.any(echo_times(SEQUENCE, ExchangingPools))
    np.testing.assert_array_equal(without_echo(SEQUENCE, ExchangingPools).echo_time, SEQUENCE.echo_time)
    np.testing.assert_allclose(echo_times(SEQUENCE, SemisolidPool), 3.3e-3, rtol=1e-6)
    assert not np.any(without_echo(SEQUENCE, SemisolidPool).echo_time)


@pytest.mark.parametrize(("kind", "field"), [(SemisolidPool, "pulse_duration"), (ExchangingPools, "echo_time")])
def test_families_vary_what_the_tissue_feels(kind, field):
    drawn = sample_sequences(jax.random.key(3), 4, 20, tissue=kind)
    values = [float(np.ravel(getattr(each, field))[0]) for each in drawn]
    assert len({*values}) == 4
    again = sample_sequences(jax.random.key(3), 4, 20, tissue=kind)
    assert [float(np.ravel(getattr(each, field))[0]) for each in again] == values


def test_an_axis_that_no_sequence_sees_is_named():
    fixed = {"fraction": 0.0, "t1_b": 0.34, "lineshape": 15e-6}
    box = TissueBox(("t1", "t2", "exchange_rate"), [0.5, 0.03, 5], [2.5, 0.2, 80], kind="semisolid", fixed=fixed)
    with pytest.raises(ValueError, match="exchange_rate changes no signal"):
        build_anchor_set(box, None, **SETTINGS | {"n_anchors": 16, "n_sequences": 1})


def test_a_box_that_begins_where_nothing_is_left_of_signals_is_refused():
    fixed = {"fraction": 0.1, "exchange_rate": 0.0, "t1_b": 1e-3, "t2_b": 1e-4}
    box = TissueBox(("t1", "t2"), [0.5, 1e-5], [2.5, 0.2], kind="exchanging", fixed=fixed)  # echoes after 1 ms
    with pytest.raises(ValueError, match=r"of the usual signal, which no anchor shows: .*t2 = .*e-05 s"):
        build_anchor_set(box, None, **SETTINGS | {"n_anchors": 16, "n_sequences": 1})
