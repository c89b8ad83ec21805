"""A recipe that cannot work is refused by name, before anything is made of it."""

import pytest

from ganmrf.gan.recipes import PRESETS, Recipe, changes_of, recipe

pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "softmax"}, "head must be one of tanh, svd; got softmax"),
        ({"reconstruction_weight": -1.0}, "reconstruction_weight must be at least 0.* got -1.0"),
        ({"r1_weight": float("nan")}, "r1_weight must be a finite number.* got nan"),
        ({"learning_rate": 0.0}, "learning_rate must be .* 0.* got 0.0"),
        ({"steps": 0}, "steps must be at least 1.* got 0"),
        ({"adversarial_weight": 0.0, "reconstruction_weight": 0.0}, "nothing to learn from"),
        ({"sequence_input": "folded"}, "does not go with optimiser=soap"),
        ({"head": "tanh"}, "refit solves for a linear output layer"),
        ({"adversarial_loss": "lsgan"}, "adversarial_loss must be one of cross_entropy, hinge, wasserstein; got lsgan"),
        (
            {"adversarial_weight": 1.0, "adversarial_loss": "wasserstein", "r1_weight": 0.0},
            "adversarial_loss=wasserstein needs a discriminator whose slope is bounded",
        ),
    ],
)
def test_refused(changes, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        recipe(**changes)


def test_unknown_preset():
    with pytest.raises(ValueError, match=r"preset must be one of regression, gan, .*paper; got 'fast'"):
        recipe("fast")


def test_users_get_regression():
    assert Recipe() == recipe() == PRESETS["regression"]
    assert not Recipe().adversarial_weight
    assert changes_of("regression") == {}


def test_the_gan_is_regression_with_an_adversary():
    assert PRESETS["gan"].adversarial_weight
    assert recipe(**changes_of("gan")) == PRESETS["gan"]


@pytest.mark.parametrize("preset", ["gan", "hinge", "wasserstein"])
def test_adversaries_differ_from_regression_by_what_concerns_them_alone(preset):
    assert {*changes_of(preset)} <= {
        *("adversarial_weight", "adversarial_loss", "reconstruction_weight", "whiten"),
        *("r1_weight", "spectral_norm", "slope_weight"),
    }
    assert PRESETS[preset].adversarial_loss == (preset if preset != "gan" else "cross_entropy")


def test_the_papers_choices():
    paper = PRESETS["paper"]
    stated = (paper.width, paper.depth, paper.activation, paper.head, paper.optimiser, paper.learning_rate)
    assert stated == (128, 3, "relu", "tanh", "adam", 1e-5)
    assert (paper.batch_size, paper.reconstruction, paper.reconstruction_weight) == (30, "l1", 100.0)
    assert (paper.discriminator_optimiser, paper.learning_rate_schedule) == ("adam", "constant")
    assert paper.separate_scaling
    assert paper.adversarial_weight == 1
    assert not any((paper.r1_weight, paper.refit, paper.skip))
