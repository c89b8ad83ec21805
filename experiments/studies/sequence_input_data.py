"""The paper's direct conditioning: one network for a family of sequences, which is told the sequence beside T1 and T2.

The family is `families.five_lobes`. The network sees its eight parameters, or the flip angles and repetition times
themselves. Every chunk of steps has fresh sequences and tissues, all of them functions of the seed and the step; what
it is judged by are sequences that it has never seen.

Reference: Yang et al. 2020, arXiv:2004.02270, Eqs. 5 to 7, whose condition y holds flip angles and repetition times.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.dictionary.build import unit_fingerprints
from ganmrf.dictionary.compress import svd_basis
from ganmrf.gan.data import Data, Examples, Scaling
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.train import hidden_layers
from ganmrf.physics.engines.real import compiled
from ganmrf.physics.epg import exact_n_states
from ganmrf.physics.sequences.random import five_lobes, sample_five_lobes
from ganmrf.physics.tissue import Tissue

SEQUENCE_INPUTS = ("parameters", "schedule")
T1_LIMITS = (0.1, 3.0)  # s, of the tissues that are drawn
T2_LIMITS = (0.01, 0.5)

# Orders that keep every fingerprint of the family to 1e-4, and to 2e-6.
_N_STATES, _N_STATES_JUDGED = 81, 129
_TISSUES = 64  # of every sequence that is drawn
_LARGEST_FLIP_ANGLE, _LARGEST_TR = np.deg2rad(70), 19.1e-3  # of the family
_RIDGE = 1e-6  # of the least squares, relative to the largest singular value
# What is drawn, each from keys of its own.
_TRAINING, _REFIT, _BASIS, _JUDGED = range(4)
_JUDGED_SETS = {"validation": 0, "test": 2}


@dataclasses.dataclass(frozen=True)
class DirectTask:
    """What the network is told and shown.

    Attributes:
      n_frames: of every sequence.
      sequence_input: what the network sees of a sequence: its ``parameters``, or its ``schedule``, all flip angles and
        repetition times.
      n_sequences: drawn for every chunk of steps, and for the basis, with 64 tissues each.
      seed: of all that is trained on.

    Raises:
      ValueError: a field out of its range.
    """

    n_frames: int = 1000
    sequence_input: str = "parameters"
    n_sequences: int = 512
    seed: int = 0

    def __post_init__(self):
        if self.sequence_input not in SEQUENCE_INPUTS:
            raise ValueError(f"sequence_input must be one of {', '.join(SEQUENCE_INPUTS)}; got {self.sequence_input!r}")
        for name in ("n_frames", "n_sequences"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")

    def condition(self, scaling: Scaling, parameters: jax.Array, t1: jax.Array, t2: jax.Array) -> jax.Array:
        """Inputs of the network, (sequences * tissues, features).

        Args:
          scaling: of T1 and T2.
          parameters: of `families.five_lobes`, (sequences, 8).
          t1: s, (sequences, tissues).
          t2: s, (sequences, tissues).
        """
        known = parameters
        if self.sequence_input == "schedule":
            sequences = _sequences(parameters, self.n_frames)
            times = sequences.flip_angle / _LARGEST_FLIP_ANGLE, sequences.repetition_time / _LARGEST_TR
            # All of them together weigh about as much as the parameters would.
            known = (2 * jnp.concatenate(times, axis=1) - 1) / np.sqrt(2 * self.n_frames / parameters.shape[1])
        return jnp.concatenate([scaling.condition(t1.ravel(), t2.ravel()), jnp.repeat(known, t1.shape[1], 0)], axis=1)

    def draw(self, scaling: Scaling, step: int) -> Examples:
        """The examples of the chunk of steps that begins at ``step``; full fingerprints are not kept."""
        return self._examples(scaling, _key(self.seed, _TRAINING, step), self.n_sequences)

    def draw_for_refit(self, scaling: Scaling, part: int) -> Examples:
        """One of the parts that the output layer is solved for on, likewise."""
        return self._examples(scaling, _key(self.seed, _REFIT, part), self.n_sequences)

    def _examples(self, scaling, key, n_sequences):
        parameters, times = _drawn(key, n_sequences)
        fingerprints = _simulated(parameters, times, self.n_frames, _N_STATES)
        target = _encoded(fingerprints, jnp.asarray(scaling.basis, jnp.float32))
        n_atoms = len(target)
        return Examples(self.condition(scaling, parameters, *times), target, fingerprints[:0], jnp.zeros((n_atoms, 0)))


def prepare_direct(task: DirectTask, recipe: Recipe, *, n_judged: int = 128) -> Data:
    """The scaling, and two sets of sequences that are never trained on, the same for all seeds.

    Args:
      task: what the network is told.
      recipe: its ``rank`` and ``encoding`` are used.
      n_judged: sequences of each of the sets ``validation`` and ``test``, with 64 tissues each.

    Raises:
      ValueError: a recipe with noise, or that is not of coefficients of T1 and T2 without a constant sequence.
    """
    if recipe.noise or recipe.head != "svd" or recipe.sequence_input != "none":
        raise ValueError(
            "direct conditioning takes a recipe with noise=0, head=svd and sequence_input=none; got "
            f"{recipe.noise}, {recipe.head} and {recipe.sequence_input}"
        )
    parameters, times = _drawn(_key(0, _BASIS, 0), task.n_sequences)
    fingerprints = np.asarray(_simulated(parameters, times, task.n_frames, _N_STATES))
    basis = svd_basis(fingerprints, min(recipe.rank, task.n_frames))
    scaling = Scaling(
        low=np.float32([T1_LIMITS[0], T2_LIMITS[0]]),
        high=np.float32([T1_LIMITS[1], T2_LIMITS[1]]),
        offset=np.float32(_LARGEST_TR / 3),  # about half the mean repetition time
        constant=np.zeros(0, np.float32),
        gain=np.sqrt(np.mean((fingerprints @ basis) ** 2, axis=0)).astype(np.float32),
        unit=np.ones((), np.float32),
        basis=basis,
        encoding=recipe.encoding,
    )
    sets = {}
    for name, number in _JUDGED_SETS.items():
        parameters, times = _drawn(_key(0, _JUDGED, number), n_judged)
        fingerprints = _simulated(parameters, times, task.n_frames, _N_STATES_JUDGED)
        condition, target = task.condition(scaling, parameters, *times), scaling.encode(np.asarray(fingerprints))
        sets[name] = Examples(condition, jnp.asarray(target), fingerprints, jnp.zeros((len(target), 0)))
    return Data(sets, {}, scaling)


def refit(task: DirectTask, recipe: Recipe, params, scaling: Scaling, n_parts: int = 4):
    """The same network with its output layer solved for by least squares, in float64, on fresh draws.

    Args:
      task: what it was trained on.
      recipe: how it was trained.
      params: ``TrainState.params``.
      scaling: of `prepare_direct`.
      n_parts: how many times ``task.n_sequences`` are drawn.
    """
    run = jax.jit(functools.partial(hidden_layers, recipe))
    correlation, projection = 0.0, 0.0
    for part in range(n_parts):
        examples = task.draw_for_refit(scaling, part)
        hidden = run(params, scaling, examples.noise, examples.condition)
        hidden = np.asarray(hidden if recipe.skip else hidden[:, -recipe.width :], float)
        hidden = np.concatenate([hidden, np.ones((len(hidden), 1))], axis=1)
        correlation += hidden.T @ hidden
        projection += hidden.T @ (np.asarray(examples.target, float) / scaling.gain[None])
    ridge = _RIDGE**2 * np.linalg.eigvalsh(correlation)[-1]
    weights = np.linalg.solve(correlation + ridge * np.eye(len(correlation)), projection)
    weights = jnp.asarray(weights, jnp.float32)
    return {"params": params["params"] | {"output": {"kernel": weights[:-1], "bias": weights[-1]}}}


def _key(seed, stream, number):
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), number)


@functools.partial(jax.jit, static_argnums=1)
def _drawn(key, n_sequences):
    """Parameters (sequences, 8), and T1 and T2, each (sequences, tissues), log-uniform with T2 <= T1."""
    of_sequences, of_tissue = jax.random.split(key)
    parameters = jax.vmap(sample_five_lobes)(jax.random.split(of_sequences, n_sequences))
    shares = jax.random.uniform(of_tissue, (2, n_sequences, _TISSUES))
    t1 = _between(shares[0], *T1_LIMITS)
    return parameters, (t1, _between(shares[1], T2_LIMITS[0], jnp.minimum(t1, T2_LIMITS[1])))


def _between(share, low, high):
    return jnp.minimum(low * (high / low) ** share, high)


@functools.partial(jax.jit, static_argnums=1)
def _sequences(parameters, n_frames):
    return jax.vmap(functools.partial(five_lobes, n_frames=n_frames))(parameters)


def _simulated(parameters, times, n_frames, n_states):
    """Unit fingerprints (sequences * tissues, frames): one compiled program, whatever the sequences."""
    run = compiled(_simulate_each, n_states=min(n_states, exact_n_states(n_frames)))
    return run(_sequences(parameters, n_frames), times, None)[0].reshape(-1, n_frames)


def _simulate_each(sequences, times, slice_profile, **form):
    def simulate(inputs):
        sequence, (t1, t2) = inputs
        return unit_fingerprints(sequence, Tissue(t1, t2), slice_profile, **form)

    return jax.lax.map(simulate, (sequences, times))


@jax.jit
def _encoded(fingerprints, basis):
    return fingerprints @ basis
