"""The paper's conditioning on the sequence: one network for a family of sequences, with the sequence as an input.

The family is `random.five_lobes`. The network sees the eight parameters of a sequence, or its flip angles and
repetition times, beside T1 and T2. Every chunk of steps has fresh sequences and tissues, all of them functions of the
seed and the step. Errors are evaluated on sequences that are never trained on.

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
from ganmrf.gan.emission import hidden_layers
from ganmrf.gan.least_squares import least_squares
from ganmrf.gan.recipes import Recipe
from ganmrf.physics.engines.programs import compiled
from ganmrf.physics.epg import exact_n_states
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.random import five_lobes, sample_five_lobes
from ganmrf.physics.simulate_many import require_signal_memory
from ganmrf.physics.tissue import Tissue

T1_LIMITS = (0.1, 3.0)  # s, of the tissues that are drawn
T2_LIMITS = (0.01, 0.5)

# Numbers of states with which every fingerprint of the family is accurate to 1e-4, for training, and to 2e-6.
_N_STATES, _N_STATES_EVALUATED = 81, 129
_TISSUES = 64  # drawn for every sequence
_LARGEST_FLIP_ANGLE, _LARGEST_TR = np.deg2rad(70), 19.1e-3  # rad and s, of the family
_RIDGE = 1e-6  # of the output layer: its hidden layers are float32, and 1e-6 is some ten times their rounding
# Streams of keys: sequences and tissues for each purpose are drawn apart.
TRAINING, REFIT, _BASIS, _EVALUATED = range(4)


@dataclasses.dataclass(frozen=True)
class SequenceInputTask:
    """How sequences are an input of the network, and how many the network learns from.

    Attributes:
      n_frames: length of every sequence.
      n_sequences: number of sequences, with 64 tissues each, of every chunk of steps, and of the basis.
      seed: of the sequences and tissues of training.
      schedule_input: whether all flip angles and repetition times stand for a sequence, in place of its parameters.
    """

    n_frames: int
    n_sequences: int
    seed: int = 0
    schedule_input: bool = False

    def condition(self, scaling: Scaling, parameters: jax.Array, t1: jax.Array, t2: jax.Array) -> jax.Array:
        """Inputs of the network, (sequences * tissues, features).

        ``parameters`` are of `random.five_lobes`, (sequences, 8); T1 and T2, s, are (sequences, tissues).
        """
        known = parameters
        if self.schedule_input:
            sequences = named_sequences(parameters, self.n_frames)
            schedule = sequences.flip_angle / _LARGEST_FLIP_ANGLE, sequences.repetition_time / _LARGEST_TR
            # Divided so that the schedule in all weighs about as much as the parameters would.
            known = (2 * jnp.concatenate(schedule, axis=1) - 1) / np.sqrt(2 * self.n_frames / parameters.shape[1])
        return jnp.concatenate([scaling.condition(t1.ravel(), t2.ravel()), jnp.repeat(known, t1.shape[1], 0)], axis=1)

    def draw(self, scaling: Scaling, number: int, stream: int = TRAINING) -> Examples:
        """The examples of the chunk of steps, or with `REFIT` of the part, of this number, without fingerprints."""
        parameters, times = _drawn(_key(self.seed, stream, number), self.n_sequences)
        fingerprints = _simulated(parameters, times, self.n_frames, _N_STATES)
        target = _encoded(fingerprints, jnp.asarray(scaling.basis, jnp.float32))
        condition = self.condition(scaling, parameters, *times)
        return Examples(condition, target, fingerprints[:0], jnp.zeros((len(target), 0)))


@functools.partial(jax.jit, static_argnums=1)
def named_sequences(parameters: jax.Array, n_frames: int) -> Fisp:
    """The sequences of some parameters, (sequences, 8), as one batched `Fisp`: fields (sequences, frames)."""
    return jax.vmap(functools.partial(five_lobes, n_frames=n_frames))(parameters)


def prepare_task(task: SequenceInputTask, recipe: Recipe, *, n_evaluated: int) -> Data:
    """The scaling, and sets ``validation`` and ``test`` that are never trained on, the same for all seeds.

    Each set has ``n_evaluated`` sequences, with 64 tissues each. The recipe is without noise and has an SVD basis; its
    ``rank`` and ``encoding`` are used.
    """
    # Twice as many frames: float32 signals, and unit fingerprints.
    require_signal_memory(_TISSUES * max(task.n_sequences, n_evaluated), 2 * task.n_frames)
    parameters, times = _drawn(_key(0, _BASIS, 0), task.n_sequences)
    fingerprints = np.asarray(_simulated(parameters, times, task.n_frames, _N_STATES))
    basis = svd_basis(fingerprints, min(recipe.rank, task.n_frames))
    scaling = Scaling(
        low=np.float32([T1_LIMITS[0], T2_LIMITS[0]]),
        high=np.float32([T1_LIMITS[1], T2_LIMITS[1]]),
        offset=np.float32(_LARGEST_TR / 3),  # about half the mean repetition time
        constant=np.zeros(0, np.float32),
        output_scale=np.sqrt(np.mean((fingerprints @ basis) ** 2, axis=0)).astype(np.float32),
        scale=np.ones((), np.float32),
        basis=basis,
        encoding=recipe.encoding,
    )
    sets = {}
    for name, number in (("validation", 0), ("test", 2)):
        parameters, times = _drawn(_key(0, _EVALUATED, number), n_evaluated)
        fingerprints = _simulated(parameters, times, task.n_frames, _N_STATES_EVALUATED)
        condition, target = task.condition(scaling, parameters, *times), scaling.encode(np.asarray(fingerprints))
        sets[name] = Examples(condition, jnp.asarray(target), fingerprints, jnp.zeros((len(target), 0)))
    return Data(sets, {}, scaling)


def refit(task: SequenceInputTask, recipe: Recipe, params, scaling: Scaling, n_parts: int):
    """The parameters with the output layer solved for by least squares, in float64, on ``n_parts`` fresh draws.

    Hidden layers of all draws take gigabytes in float64. Each part is therefore reduced to the triangle of a QR
    decomposition together with the parts before it, which leaves the least-squares problem as it is.
    """
    run = jax.jit(functools.partial(hidden_layers, recipe))
    triangle = None
    for part in range(n_parts):
        examples = task.draw(scaling, part, REFIT)
        hidden = run(params, scaling, examples.noise, examples.condition)
        hidden = np.asarray(hidden if recipe.skip else hidden[:, -recipe.width :], float)
        targets = np.asarray(examples.target, float) / scaling.output_scale[None]
        rows = np.concatenate([hidden, np.ones((len(hidden), 1)), targets], axis=1)
        triangle = np.linalg.qr(rows if triangle is None else np.concatenate([triangle, rows]), mode="r")
    size = hidden.shape[1] + 1
    weights = jnp.asarray(least_squares(triangle[:size, :size], triangle[:size, size:], _RIDGE), jnp.float32)
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


def _simulated(parameters, times, n_frames, n_states):
    """Unit fingerprints (sequences * tissues, frames), by one compiled program for all sequences of a length."""
    run = compiled(_simulate_each, n_states=min(n_states, exact_n_states(n_frames)))
    return run(named_sequences(parameters, n_frames), times, None)[0].reshape(-1, n_frames)


def _simulate_each(sequences, times, slice_profile, **form):
    def simulate(inputs):
        sequence, (t1, t2) = inputs
        return unit_fingerprints(sequence, Tissue(t1, t2), slice_profile, **form)

    return jax.lax.map(simulate, (sequences, times))


@jax.jit
def _encoded(fingerprints, basis):
    return fingerprints @ basis
