"""The memory that a training takes, asked about before it is taken."""

from ganmrf.gan.recipes import Recipe
from ganmrf.memory import require_memory

_LONGEST = 512  # axis that `soap` keeps a basis of
_COPIES = 8  # of a parameter: itself, its gradient and update, and two moments, some of them twice in a step
_LAYERS = 12  # copies of a batch's layers: of both networks, forwards, backwards, and through the gradient penalty
_PROGRAM_BYTES = 5e6  # that XLA takes to compile one hidden layer, measured


def require_training_memory(
    recipe: Recipe, n_examples: int, n_frames: int, n_outputs: int | None = None, n_features: int = 36
):
    """Raises `ValueError` with both figures where a training would need more memory than is available.

    Args:
      recipe: how it trains.
      n_examples: atoms of all sets together.
      n_frames: length of a fingerprint.
      n_outputs: numbers that the generator emits for an atom; None for as many as the recipe's head has.
      n_features: what the networks see of tissue; by default about what `data.with_harmonics` makes of three axes.
    """
    if n_outputs is None:
        n_outputs = n_frames if recipe.head == "tanh" else min(recipe.rank, n_frames)
    width, depth, noise = recipe.width, recipe.depth, recipe.noise
    n_inputs = n_features + (0 if recipe.sequence_input == "none" else 2 * n_frames)
    hidden = depth * width
    kernels = (
        (1, n_inputs + noise, width),
        (1, hidden if recipe.skip else width, n_outputs),
        (1, n_inputs + n_outputs, width),
        (2 * (depth - 1), width, width),
    )
    parameters = sum(number * rows * columns for number, rows, columns in kernels)
    bases = sum(number * axis**2 for number, *axes in kernels for axis in axes if axis <= _LONGEST)
    batch = 4 * _LAYERS * recipe.batch_size
    needs = {  # what needs less of it -> bytes
        "a smaller --width or --depth": 4 * _COPIES * (parameters - noise * width + bases) + _PROGRAM_BYTES * depth,
        "a smaller --batch_size": batch * (hidden + n_outputs + n_inputs),
        "a smaller --noise": 4 * noise * (2 * n_examples + _LAYERS * recipe.batch_size + _COPIES * width),
        "a coarser grid": 16 * n_examples * (n_frames + hidden + n_features),
    }
    what = f"training with batches of {recipe.batch_size} and {depth} layers of {width} on {n_examples} examples"
    require_memory(sum(needs.values()), what, f"{max(needs, key=needs.get)} needs less")
