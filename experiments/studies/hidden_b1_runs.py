"""One generator of fingerprints under a hidden B1: trained in a folder, resumed, and evaluated by its distribution."""

import dataclasses
import functools
import pathlib

import numpy as np

from experiments.studies.hidden_b1_data import hidden_b1_dictionary, prepare_hidden, sample_fingerprints
from experiments.studies.hidden_b1_metrics import covariance_error, mean_error, sliced_wasserstein
from experiments.studies.variants import with_scaled_lambda
from ganmrf.files import replacing
from ganmrf.gan.generate import finish
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.train import fit, init_state
from ganmrf.physics.tissue import Tissue
from ganmrf.report.figures import REFERENCE_TIMES
from ganmrf.runs.loop import advance
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.workdir import Workdir
from ganmrf.settings import from_plain

SHOWN = ("WM", "GM")  # tissues of the figures
FLOOR = "simulated again"
_B1_NAMED = "regression, B1 named"
_N_SHOWN = 1000  # samples of each
_RANK = 16  # what lies outside is a fifteenth of what B1 does to a fingerprint
_GAN = {"adversarial_weight": 1.0, "r1_weight": 1.0, "whiten": True, "discriminator_optimiser": "soap"}
_GAN |= {"noise": 4, "reconstruction": "l1", "reduction": "mean"}
_NO_ADVERSARY = {"adversarial_weight": 0.0, "reconstruction_weight": 1.0}
_REGRESSION = {**_NO_ADVERSARY, "refit": True}  # which makes it the conditional mean

# What differs in each recipe; lambda is the weight of the paper's l1 norm.
VARIANTS = {
    "GAN, no l1": {**_GAN, "reconstruction_weight": 0.0},
    "GAN, l1 with lambda 1": {**_GAN, "reconstruction_weight": 1.0},
    "GAN, l1 with lambda 100": {**_GAN, "reconstruction_weight": 100.0},
    "energy score": {**_NO_ADVERSARY, "noise": 4, "reconstruction": "energy"},
    "mixture density": {**_NO_ADVERSARY, "noise": _RANK + 1, "reconstruction": "likelihood"},
    "regression": _REGRESSION,
    _B1_NAMED: _REGRESSION,
}


def train_and_evaluate(folder: pathlib.Path, settings: dict, variant: str, seed: int) -> dict:
    """Trains from the newest checkpoint to the end; errors by name for the variant and for `FLOOR`.

    The errors are means over the tissues that are held out, the same ones for all seeds. The folder gets
    ``checkpoints`` and ``shown.npz``, samples of the tissues `SHOWN`; ``settings`` are those of the study.
    """
    simulation = from_plain(SimulationConfig(), settings["simulation"])
    scan = simulation.sequence(), simulation.slice_profile()
    seen, held_out = _split(simulation.tissue(), settings["conditions"])
    shown = Tissue(*np.array([REFERENCE_TIMES[name] for name in SHOWN]).T)
    of_training, of_test = (np.random.default_rng([seed, stream]) for stream in range(2))

    dictionary = hidden_b1_dictionary(*scan, seen, settings["draws"], of_training)
    recipe, name_b1 = _recipe(variant, settings, dictionary), variant == _B1_NAMED
    data = prepare_hidden(dictionary, recipe, name_b1=name_b1, seed=seed)
    params = finish(recipe, _trained(folder, recipe, data, seed).params, data, dictionary).params

    def simulated(tissue, n_draws):
        atoms = hidden_b1_dictionary(*scan, tissue, n_draws, of_test)
        return atoms.fingerprints.reshape(tissue.size, n_draws, -1)

    def generated(tissue, n_draws):
        return sample_fingerprints(recipe, params, data.scaling, tissue, n_draws, of_test, name_b1=name_b1)

    truth, again = simulated(held_out, settings["samples"]), simulated(held_out, settings["samples"])
    found = {variant: _errors(generated(held_out, settings["samples"]), truth), FLOOR: _errors(again, truth)}
    with replacing(folder / "shown.npz") as path:
        np.savez(path, simulated=simulated(shown, _N_SHOWN), generated=generated(shown, _N_SHOWN))
    return found


def _split(tissue, n_held_out):
    """Tissues to learn from, and tissues to evaluate on."""
    order = np.random.default_rng(0).permutation(tissue.size)
    if not 0 < n_held_out < tissue.size:
        raise ValueError(f"--conditions must be 1 to {tissue.size - 1}, fewer than the grid has; got {n_held_out}")
    return tissue.rows(order[n_held_out:]), tissue.rows(order[:n_held_out])


def _recipe(variant, settings, dictionary):
    common = {name: settings[name] for name in ("width", "depth", "batch_size", "steps")}
    recipe = Recipe(**{"rank": _RANK, "refit": False} | common | VARIANTS[variant])
    return with_scaled_lambda(recipe, dictionary.fingerprints) if recipe.reconstruction == "l1" else recipe


@dataclasses.dataclass(frozen=True)
class _Run:
    """What a run's own folder keeps: the settings that change its steps."""

    recipe: Recipe
    seed: int


def _trained(folder, recipe, data, seed):
    chunks = functools.partial(fit, recipe, data, seed=seed, chunk=max(recipe.steps // 5, 1))
    with Workdir(folder, _Run(recipe, seed)) as workdir:
        return advance(chunks, init_state(recipe, data, seed), workdir, recipe.steps, progress=False)[0]


def _errors(samples, truth):
    measures = {"sliced_wasserstein": sliced_wasserstein, "covariance": covariance_error, "mean": mean_error}
    return {name: float(np.mean(list(map(measure, samples, truth)))) for name, measure in measures.items()}
