"""What a generator is trained with: the paper's choices, and better ones beside them."""

import dataclasses

# What a field may hold.
CHOICES = {
    "sequence_input": ("full", "folded", "none"),
    "encoding": ("linear", "log", "fourier"),
    "activation": ("relu", "silu"),
    "head": ("tanh", "svd"),
    "reconstruction": ("l1", "l2", "energy", "likelihood"),
    "reduction": ("mean", "sum"),
    "optimiser": ("adam", "soap"),
    "discriminator_optimiser": ("adam", "soap"),
    "learning_rate_schedule": ("constant", "cosine"),
}
_AT_LEAST = {
    "noise": 0,
    "width": 1,
    "depth": 1,
    "rank": 1,
    "adversarial_weight": 0,
    "r1_weight": 0,
    "reconstruction_weight": 0,
    "batch_size": 1,
    "steps": 1,
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that shapes a training run, but the dictionary and the seed.

    Attributes:
      noise: dimension of the generator's input z ~ N(0, 1); 0 for none. The paper writes a scalar.
      sequence_input: flip angles and repetition times as inputs: ``full``; ``folded`` into the first layer, where they
        are the same for all atoms, without changing the run (`networks.fold_constant`); or ``none``.
      encoding: of T1 and T2, from -1 to 1 over the trained range: ``linear``; ``log``, of the time and half a
        repetition time (`data.Scaling.offset`); or ``fourier``, which adds sines and cosines of those logarithms.
      separate_scaling: whether training, validation and test set are each scaled by their own range, as in the paper.
      width: units of a hidden layer.
      depth: hidden layers.
      activation: of the hidden layers: ``relu`` or ``silu``.
      residual: whether every hidden layer but the first is added to the one before it.
      skip: whether the generator's output layer sees every hidden layer; else the last one alone.
      head: what the generator emits: ``tanh``, every frame over the largest value; or ``svd``, coefficients in the
        leading singular vectors of the training set.
      rank: number of those.
      whiten: whether the discriminator sees each of those over its root mean square, and so the small ones too.
      adversarial_weight: of the adversarial terms; 0 trains by regression alone, without a discriminator.
      r1_weight: of the discriminator's gradient penalty (`losses.r1_penalty`).
      reconstruction_weight: lambda of Eq. 5.
      reconstruction: norm of the difference of two fingerprints, ``l1`` or ``l2``; ``energy``, the score of two
        generated ones (`losses.energy_score`), which asks for their distribution; or ``likelihood`` of a mixture of
        Gaussians over the coefficients (`mixture`), whose parameters are then emitted, and from which z draws.
      reduction: ``sum`` over the frames, or ``mean``: l1 over their number, l2 over its square root.
      optimiser: of the generator, ``adam`` or ``soap``.
      discriminator_optimiser: of the discriminator, likewise.
      learning_rate: at the start.
      learning_rate_schedule: of the learning rate: ``constant``, or ``cosine`` to 0 at the last step.
      batch_size: atoms a step, drawn with replacement.
      steps: updates of each player.
      averaging: decay of the exponential average of the generator's parameters, which is then what is used; 0: none.
      refit: whether the output layer is solved for by least squares afterwards, in float64.

    Raises:
      ValueError: a field out of its range, or two that do not go together.
    """

    noise: int = 0
    sequence_input: str = "none"
    encoding: str = "fourier"
    separate_scaling: bool = False
    width: int = 128
    depth: int = 3
    activation: str = "silu"
    residual: bool = False
    skip: bool = True
    head: str = "svd"
    rank: int = 64
    whiten: bool = False
    adversarial_weight: float = 1.0
    r1_weight: float = 1.0
    reconstruction_weight: float = 100.0
    reconstruction: str = "l2"
    reduction: str = "sum"
    optimiser: str = "soap"
    discriminator_optimiser: str = "adam"
    learning_rate: float = 3e-3
    learning_rate_schedule: str = "cosine"
    batch_size: int = 256
    steps: int = 3500
    averaging: float = 0.0
    refit: bool = True

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        for name, least in _AT_LEAST.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive; got {self.learning_rate}")
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging must be 0 to below 1; got {self.averaging}")
        if self.adversarial_weight == 0 and self.reconstruction_weight == 0:
            raise ValueError("adversarial_weight and reconstruction_weight are both 0: there is nothing to learn from")
        if self.sequence_input == "folded" and "soap" in (self.optimiser, self.discriminator_optimiser):
            raise ValueError("sequence_input=folded is exact under adam alone; it does not go with optimiser=soap")
        if self.refit and self.head == "tanh":
            raise ValueError("refit solves for a linear output layer: it does not go with head=tanh")
        if self.whiten and self.head == "tanh":
            raise ValueError("whiten is of coefficients: it does not go with head=tanh")
        if self.reconstruction == "likelihood" and (
            self.head == "tanh" or self.adversarial_weight or self.refit or self.noise != self.rank + 1
        ):
            raise ValueError(
                "reconstruction=likelihood goes with head=svd, adversarial_weight=0, norefit and noise = rank + 1"
            )


PRESETS = {
    "best": Recipe(),
    # Where the paper leaves something open (noise, encoding, reduction), the plainest reading of its text. The number
    # of steps is open too: its 8 hours are many times these.
    "paper": Recipe(
        noise=1,
        sequence_input="folded",
        encoding="linear",
        separate_scaling=True,
        activation="relu",
        skip=False,
        head="tanh",
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


def recipe(preset: str = "best", **changes) -> Recipe:
    """A preset with some of its fields changed.

    Args:
      preset: ``paper`` or ``best``.
      **changes: fields of `Recipe`.

    Raises:
      ValueError: another preset, or a value that its field cannot have.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {preset!r}")
    return dataclasses.replace(PRESETS[preset], **changes)
