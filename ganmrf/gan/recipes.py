"""Recipes: every choice that shapes a training, with the paper's choices and better ones as presets."""

import dataclasses

from ganmrf.gan.losses import ADVERSARIAL_LOSSES
from ganmrf.settings import configuration, setting

_OF_GAN = ("adversarial_weight",)


@configuration
class Recipe:
    """Everything that shapes a training run except the dictionary and the seed.

    Raises:
      ValueError: a field that breaks its rule, or two that do not go together.
    """

    noise: int = setting(
        0,
        "dimension of the generator's input z ~ N(0, 1); 0 for none. The paper has z in R^m, and does not say m",
        at_least=0,
    )
    sequence_input: str = setting(
        "none",
        "flip angles and repetition times as inputs of the networks: full; folded into the first layer, where they are "
        "the same for all atoms, which does not change the run; or none",
        choices=("full", "folded", "none"),
    )
    encoding: str = setting(
        "fourier",
        "of T1 and T2, from -1 to 1 over the trained range: linear; log, of the time plus half a repetition time "
        "; or fourier, which adds sines and cosines of those logarithms",
        choices=("linear", "log", "fourier"),
    )
    input_range: str = setting(
        "symmetric",
        "of the encoded T1 and T2 over the trained range: symmetric, from -1 to 1; or unit, from 0 to 1",
        choices=("symmetric", "unit"),
    )
    separate_scaling: bool = setting(
        False, "scale training, validation and test set each by its own range, as the paper does"
    )
    fingerprint_scaling: str = setting(
        "set",
        "fingerprints are divided by the largest absolute value: set, of the training set; or each, of their own",
        choices=("set", "each"),
        goes_with=("head=tanh",),
    )
    width: int = setting(128, "units of a hidden layer", at_least=1)
    depth: int = setting(3, "hidden layers", at_least=1)
    activation: str = setting("silu", "of the hidden layers", choices=("relu", "silu"))
    initialiser: str = setting(
        "lecun_normal",
        "of the networks' weights: lecun_normal, the default of Flax; glorot_uniform, that of TensorFlow; or uniform, "
        "that of PyTorch, within 1 over the root of a layer's inputs",
        choices=("lecun_normal", "glorot_uniform", "uniform"),
    )
    residual: bool = setting(False, "add every hidden layer but the first to the one before it")
    skip: bool = setting(True, "the generator's output layer sees every hidden layer; else the last one alone")
    head: str = setting(
        "svd",
        "what the generator emits: tanh, every frame over the largest value; or svd, coefficients in the leading "
        "singular vectors of the training set",
        choices=("tanh", "svd"),
    )
    rank: int = setting(64, "number of singular vectors of --head=svd", at_least=1, goes_with=("head=svd",))
    whiten: bool = setting(
        False,
        "the discriminator sees each coefficient over its root mean square, so that small ones weigh as much",
        goes_with=_OF_GAN,
    )
    adversarial_weight: float = setting(
        0.0, "of the adversarial terms; 0 trains by regression alone, without a discriminator", at_least=0
    )
    adversarial_loss: str = setting(
        "cross_entropy",
        "of both networks: cross_entropy, as in the paper; hinge; or wasserstein, which needs a discriminator whose "
        "slope is bounded",
        choices=tuple(ADVERSARIAL_LOSSES),
        goes_with=_OF_GAN,
    )
    spectral_norm: bool = setting(
        False,
        "every layer of the discriminator is divided by its largest singular value (Miyato et al. 2018)",
        goes_with=_OF_GAN,
    )
    slope_weight: float = setting(
        0.0,
        "of the penalty on slopes of the discriminator that are not 1, between simulated and generated fingerprints "
        "(Gulrajani et al. 2017)",
        at_least=0,
        goes_with=_OF_GAN,
    )
    r1_weight: float = setting(
        1.0, "of the discriminator's gradient penalty (the R1 of Mescheder et al. 2018)", at_least=0, goes_with=_OF_GAN
    )
    reconstruction_weight: float = setting(100.0, "lambda of the paper's Eq. 5", at_least=0, goes_with=_OF_GAN)
    reconstruction: str = setting(
        "l2",
        "the mismatch of generated and simulated fingerprints: l1 or l2, the norm of their difference; energy, a score "
        "of distributions from two generated fingerprints for each simulated one; or "
        "likelihood, where the generator emits a mixture of Gaussians over the coefficients, and z draws from it",
        choices=("l1", "l2", "energy", "likelihood"),
    )
    reduction: str = setting(
        "sum",
        "of l1 or l2 over the frames: sum; or mean, which divides l1 by the number of frames, l2 by its square root",
        choices=("mean", "sum"),
        goes_with=("reconstruction=l1|l2",),
    )
    optimiser: str = setting("soap", "of the generator", choices=("adam", "soap"))
    discriminator_optimiser: str = setting("adam", "of the discriminator", choices=("adam", "soap"), goes_with=_OF_GAN)
    learning_rate: float = setting(3e-3, "at the start", above=0, at_most=1e19)  # its square is finite in float32
    learning_rate_schedule: str = setting(
        "cosine", "of the learning rate: constant, or cosine to 0 at the last step", choices=("constant", "cosine")
    )
    batch_size: int = setting(256, "atoms a step, drawn with replacement", at_least=1)
    steps: int = setting(1000, "updates of the generator, and as many of the discriminator", at_least=1)
    refit: bool = setting(True, "solve for the output layer by least squares afterwards, in float64")

    def __post_init__(self):
        if self.adversarial_weight == 0 and self.reconstruction_weight == 0:
            raise ValueError("adversarial_weight and reconstruction_weight are both 0: there is nothing to learn from")
        if self.sequence_input == "folded" and "soap" in (self.optimiser, self.discriminator_optimiser):
            raise ValueError("sequence_input=folded is exact under adam alone; it does not go with optimiser=soap")
        if self.refit and self.head == "tanh":
            raise ValueError("refit solves for a linear output layer: it does not go with head=tanh")
        bounded = self.spectral_norm or self.slope_weight or self.r1_weight
        if self.adversarial_loss == "wasserstein" and self.adversarial_weight and not bounded:
            raise ValueError(
                "adversarial_loss=wasserstein needs a discriminator whose slope is bounded: slope_weight, r1_weight "
                "and spectral_norm are all 0"
            )
        if self.whiten and self.head == "tanh":
            raise ValueError("whiten is of coefficients: it does not go with head=tanh")
        if self.reconstruction == "likelihood" and (
            self.head == "tanh" or self.adversarial_weight or self.refit or self.noise != self.rank + 1
        ):
            raise ValueError(
                "reconstruction=likelihood goes with head=svd, adversarial_weight=0, norefit and noise = rank + 1"
            )


PRESETS = {
    "regression": Recipe(),
    # A discriminator that sees coefficients as they are cannot tell errors of a thousandth, and stays at guessing. One
    # that sees them whitened can, and pulls the harder the smaller a coefficient is: this is the least power of ten for
    # lambda at which the error before the refit is that of regression.
    "gan": Recipe(adversarial_weight=1.0, whiten=True, reconstruction_weight=1e6),
    # The same, lambda too, against two other losses, each with what usually bounds its discriminator.
    "hinge": Recipe(
        adversarial_weight=1.0,
        adversarial_loss="hinge",
        spectral_norm=True,
        r1_weight=0.0,
        whiten=True,
        reconstruction_weight=1e6,
    ),
    "wasserstein": Recipe(
        adversarial_weight=1.0,
        adversarial_loss="wasserstein",
        slope_weight=10.0,  # of the reference, for all of its experiments
        r1_weight=0.0,
        whiten=True,
        reconstruction_weight=1e6,
    ),
    # The paper leaves open the dimension of z, the range of the inputs, the scale of the fingerprints, the initialiser,
    # whether the l1 norm is a sum over the frames or their mean, and the number of steps, of which its 8 hours of
    # training hold many times these. What stands here for them is our choice.
    "paper": Recipe(
        noise=1,
        sequence_input="folded",
        encoding="linear",
        separate_scaling=True,
        activation="relu",
        skip=False,
        head="tanh",
        adversarial_weight=1.0,
        r1_weight=0.0,
        reconstruction="l1",
        reduction="mean",
        optimiser="adam",
        learning_rate=1e-5,
        learning_rate_schedule="constant",
        batch_size=30,
        steps=200_000,
        refit=False,
    ),
}


def recipe(preset: str = "regression", **changes) -> Recipe:
    """A preset, by its name in `PRESETS`, with some of the fields of its `Recipe` changed.

    Raises:
      ValueError: another preset, or a value that its field cannot have.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {preset!r}")
    return dataclasses.replace(PRESETS[preset], **changes)


def changes_of(preset: str) -> dict:
    """The fields of a preset that differ from those of ``regression``."""
    regression = vars(PRESETS["regression"])
    return {name: value for name, value in vars(PRESETS[preset]).items() if value != regression[name]}
