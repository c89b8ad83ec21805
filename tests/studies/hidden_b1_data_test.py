"""B1 is two-humped and hidden unless it is named, and a distribution is learned by an ordinary recipe."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.studies.hidden_b1_data import (
    B1_DEVIATION,
    B1_HUMPS,
    draw_b1,
    hidden_b1_dictionary,
    prepare_hidden,
    sample_fingerprints,
)
from experiments.studies.hidden_b1_metrics import sliced_wasserstein
from ganmrf.gan.data import batch, split_and_scale
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.train import fit, init_state, make_train_step
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")

N_DRAWS = 200
SMALL = {"width": 16, "depth": 1, "rank": 3, "refit": False, "adversarial_weight": 0.0, "optimiser": "adam"}


@pytest.fixture(scope="module")
def hidden():
    tissue = Tissue(np.array([0.5, 0.9, 1.4]), np.array([0.04, 0.06, 0.08]))
    return tissue, hidden_b1_dictionary(mrf_fisp(30), None, tissue, N_DRAWS, np.random.default_rng(0))


def test_b1_has_two_humps_of_equal_weight():
    b1 = draw_b1(np.random.default_rng(0), 10_000)
    high = b1 > np.mean(B1_HUMPS)
    assert abs(high.mean() - 0.5) < 0.02  # four standard errors
    for hump, part in zip(B1_HUMPS, (b1[~high], b1[high]), strict=True):
        assert abs(part.mean() - hump) < 0.003
        assert abs(part.std() / B1_DEVIATION - 1) < 0.05


def test_the_dictionary_simulates_every_tissue_at_its_draws(hidden):
    tissue, dictionary = hidden
    assert dictionary.fingerprints.shape == (3 * N_DRAWS, 30)
    atom = N_DRAWS + 3
    alone = Tissue(tissue.t1[1], tissue.t2[1], dictionary.tissue.b1[atom])
    signal = np.asarray(simulate(dictionary.sequence, alone))
    np.testing.assert_allclose(dictionary.fingerprints[atom], signal / np.linalg.norm(signal), atol=2e-4)


def test_named_b1_is_one_more_input_of_its_own_atom(hidden):
    _, dictionary = hidden
    recipe = Recipe(**SMALL)
    plain, named = (prepare_hidden(dictionary, recipe, name_b1=name) for name in (False, True))
    condition = np.asarray(named.sets["train"].condition)
    np.testing.assert_array_equal(condition[:, :-1], plain.sets["train"].condition)
    b1 = np.asarray(dictionary.tissue.b1)[named.rows["train"]]
    assert np.corrcoef(condition[:, -1], b1)[0, 1] > 1 - 1e-6
    reference = split_and_scale(dictionary, recipe, split=(1, 0, 0)).sets["train"]
    np.testing.assert_array_equal(plain.sets["train"].target, reference.target)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": 3, "reconstruction": "likelihood"}, "reconstruction=likelihood goes with"),
        ({"head": "tanh", "whiten": True}, "whiten is of coefficients"),
    ],
)
def test_recipes_that_cannot_work(changes, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**SMALL | changes)


def test_whitening_has_an_effect_on_the_discriminator_alone(hidden):
    _, dictionary = hidden
    recipe = Recipe(**SMALL | {"adversarial_weight": 1.0, "r1_weight": 0.0})
    data = prepare_hidden(dictionary, recipe, name_b1=False)
    state, examples = init_state(recipe, data), batch(jax.random.key(0), 0, data.sets["train"], 8, 0)

    @quickly
    def losses(state):
        recipes = (dataclasses.replace(recipe, whiten=whiten) for whiten in (False, True))
        return [make_train_step(each, data.scaling, 1.0)(state, examples)[1] for each in recipes]

    plain, whitened = losses(state)  # the updates are not used, and so not compiled
    assert plain["reconstruction_loss"] == whitened["reconstruction_loss"]
    assert plain["discriminator_loss"] != whitened["discriminator_loss"]


def test_a_mixture_learns_the_distribution(hidden):
    """Its draws come nearer than the mean of the true distribution does, which is all that regression can give."""
    tissue, dictionary = hidden
    mixture = {"noise": 4, "reconstruction": "likelihood", "steps": 600, "learning_rate": 1e-2}
    recipe = Recipe(**SMALL | mixture, batch_size=64)
    data = prepare_hidden(dictionary, recipe, name_b1=False)
    *_, (state, _) = fit(recipe, data, init_state(recipe, data), chunk=600)
    rng = np.random.default_rng(1)
    samples = sample_fingerprints(recipe, state.params, data.scaling, tissue, N_DRAWS, rng, name_b1=False)
    assert samples.shape == (3, N_DRAWS, 30)
    for generated, true in zip(samples, dictionary.fingerprints.reshape(samples.shape), strict=True):
        mean = np.broadcast_to(true.mean(axis=0), true.shape)
        assert sliced_wasserstein(generated, true) < 0.6 * sliced_wasserstein(mean, true)
