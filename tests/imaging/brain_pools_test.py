"""The digital brain with a second pool of spins: literature values, truth, and the signals of what is in a voxel."""

import numpy as np
import pytest

from ganmrf.imaging.brain_tissues import BRAIN_TISSUES, TISSUES, brain_values
from ganmrf.imaging.phantom import acquire, digital_brain
from ganmrf.physics import tissue
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.scanner import Scanner

KINDS = "exchanging", "semisolid"


@pytest.mark.parametrize("kind", KINDS)
def test_white_matter_has_the_largest_second_pool_and_fluid_has_none(kind):
    values = brain_values(kind)
    white, grey, fluid = (values[name]["fraction"] for name in BRAIN_TISSUES)
    assert 0.3 > white > grey > fluid == 0
    for name, (t1, t2, _) in TISSUES.items():
        if not values[name]["fraction"]:
            assert (values[name]["t1"], values[name]["t2"]) == (t1, t2)  # one pool, as without
    own = {name for name, parameter in tissue.parameters(tissue.TISSUES[kind]).items() if not parameter.signed}
    assert values["white matter"].keys() == own - {"b1"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_pool_leaves_the_anatomy_alone(kind):
    plain, pools = (digital_brain(size=24, b0_variation=10.0, seed=2, **of) for of in ({}, {"kind": kind}))
    np.testing.assert_array_equal(plain.fractions, pools.fractions)
    np.testing.assert_array_equal(plain.phase, pools.phase)
    np.testing.assert_array_equal(plain.off_resonance, pools.off_resonance)
    fluid = BRAIN_TISSUES.index("CSF")
    np.testing.assert_array_equal(plain.tissue.t1[fluid], pools.tissue.t1[fluid])


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_of_a_second_pool_is_known_where_one_tissue_is(kind):
    brain = digital_brain(size=48, kind=kind, variation=0.05)
    truths, white = brain.truths(), brain.labels == 0
    assert white.sum() > 20
    mean = brain_values(kind)["white matter"]
    for name, value in mean.items():
        found = truths[name][white]
        # Smooth fields are cut at two standard deviations.
        assert np.abs(found / value - 1).max() <= (0.1 if name in ("t1", "t2", "fraction") else 0) + 1e-6
    assert np.ptp(truths["fraction"][white]) > 0.02 * mean["fraction"]
    for values in truths.values():
        assert np.isnan(values[brain.labels < 0]).all()
    np.testing.assert_array_equal(brain.truth(), [truths["t1"], truths["t2"]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_voxel_has_the_signals_of_its_tissues_with_their_pools(kind):
    scanner = Scanner(size=16, kind=kind, b1_variation=0.2)
    sequence = mrf_fisp(12)
    sequence = type(sequence)(**vars(sequence) | {"pulse_duration": 2e-3, "pulse_shape": 1.5})
    brain = digital_brain(size=16, kind=kind, b1_variation=0.2)
    images = acquire(brain, sequence)
    np.testing.assert_array_equal(scanner.image(sequence).images, images)
    y, x = np.unravel_index(np.argmax((brain.fractions[:3] > 0.05).sum(axis=0)), images.shape[1:])
    shape = brain.fractions.shape
    here = {
        name: np.broadcast_to(value, shape)[:, y, x] for name, value in vars(brain.tissue).items() if value is not None
    }
    parts = simulate(sequence, type(brain.tissue)(**here))
    weights = brain.proton_density * brain.fractions[:, y, x] * np.exp(1j * brain.phase[y, x])
    np.testing.assert_allclose(images[:, y, x], weights @ np.asarray(parts), atol=2e-5)  # states for 1e-4 of a signal


def test_another_kind_of_tissue_is_refused():
    with pytest.raises(ValueError, match="kind must be one of one_pool, exchanging, semisolid; got 'three'"):
        digital_brain(size=16, kind="three")
