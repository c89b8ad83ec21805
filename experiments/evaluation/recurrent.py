"""A recurrent network in the simulator's place, in the manner of Liu et al. 2021: a baseline for anchored generators.

The network steps through a sequence frame by frame: from the flip angle, the time since the pulse before, and the
tissue it makes the signal, and what it knows of earlier pulses is in the states of three stacked layers of gated
recurrent units. It is trained on the families of sequences that anchored generators are trained on, and on tissues of
their box, with the simulator's signals for M0 = 1. For a new sequence nothing is simulated.

As for anchored generators, the echo time is no input: it multiplies the signal right after the pulse by exp(-TE / T2).
The network of Liu et al. serves for derivatives by the tissue, too, which are not evaluated here.

Reference: Liu et al. 2021, NMR Biomed, PMC8244023.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from ganmrf.anchors.families import sample_sequences
from ganmrf.gan.train import DivergedError, NetworkState, TrainState
from ganmrf.parallel import run_chunks
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate_many import empty_signals, simulate_few
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import Tissue
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.pytrees import pytree

_LAYERS = 3  # stacked, in the manner of Liu et al.; sizes are our own choice
_WIDTH = 32  # units of a layer; more of them leave fewer steps for the same cost
# A step takes time in proportion to its frames. Many steps of few frames teach more than few steps of many in the same
# time; the second half of the training is of sequences that last as long as the longest T1.
_FIRST_FRAMES, MOST_FRAMES = 100, 250
_BATCH = 32  # voxels a step, most of sequences of their own
# Of Adam, whose other settings are those of optax: the highest, at which nothing diverges, and its way there, a share
# of all steps, from a tenth of it. It ends at 0, along a cosine.
_LEARNING_RATE, _WARM_UP = 5e-3, 0.05
_LARGEST_GRADIENT = 1.0  # its norm: gradients through hundreds of frames are steep at times, the loss begins near 1
_EVERY = 200  # steps between two draws, and two records: drawing takes a tenth of the time
_SEQUENCES, _TISSUES = 64, 64  # of a draw, each sequence with tissues of its own: few voxels are used twice
_ACCURACY = 1e-4  # of the signals that are learned from: below what the network reaches
_STREAM = 1001  # folded into the seed of sequences and tissues: a stream that nothing else here uses
_RECOVERED_S = 30.0  # ten times the longest T1 of most boxes
_CHUNK = 256  # voxels whose signals are made at a time


@dataclasses.dataclass(frozen=True)
class RecurrentConfig:
    """What the network learns from, and how long.

    Attributes:
      steps: number of updates.
      seed: of sequences, tissues and the network.
      frames: length of the sequences that are learned from; in the first half of the steps no more than 100.
      axes: names of the tissue parameters that vary; ``low`` and ``high`` are the ends of their ranges, SI.
    """

    steps: int
    seed: int
    frames: int
    axes: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def box(self) -> TissueBox:
        """The tissues that the network is for."""
        return TissueBox(self.axes, self.low, self.high)


class RecurrentNetwork(nn.Module):
    """Layers of gated recurrent units, stacked, and a linear output. A frame sees itself and earlier frames alone."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Signals (frames, voxels), from inputs (frames, voxels, features)."""
        for layer in range(_LAYERS):
            inputs = nn.RNN(nn.GRUCell(_WIDTH), time_major=True, name=f"layer_{layer}")(inputs)
        return nn.Dense(1, name="output")(inputs)[..., 0]


class Pulses(NamedTuple):
    """What the network is told of a sequence, each (frames, ...).

    Attributes:
      flip_angle: nominal, rad.
      interval: time since the pulse before, s; for the first frame since the inversion.
    """

    flip_angle: jax.Array
    interval: jax.Array


@pytree
@dataclasses.dataclass(frozen=True)
class Examples:
    """Simulated signals of some sequences, each for tissues of its own.

    Attributes:
      pulses: of the sequences, (frames, sequences).
      tissue: (sequences, tissues).
      signals: right after each pulse, (frames, sequences, tissues).
    """

    pulses: Pulses
    tissue: Tissue
    signals: jax.Array


def pulses_of(sequence: Fisp) -> Pulses:
    """The pulses of a sequence; one without an inversion is one whose magnetisation has long recovered from it."""
    first = _RECOVERED_S if sequence.inversion_time is None else sequence.inversion_time
    times = np.asarray(sequence.repetition_time, np.float32)
    return Pulses(np.asarray(sequence.flip_angle, np.float32), np.float32([first, *times[:-1]]))


def draw(config: RecurrentConfig, step: int, slice_profile: SliceModel | None = None) -> Examples:
    """The examples of the chunk that begins with a step, in a slice, a function of seed and step alone.

    A sequence that is shorter than the others ends in frames of flip angle 0, which have no signal.
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), _STREAM), step)
    keys = jax.random.split(key)
    n_frames = config.frames if 2 * step >= config.steps else min(config.frames, _FIRST_FRAMES)
    cube = jax.random.uniform(keys[1], (_SEQUENCES, _TISSUES, len(config.axes)))
    tissue = jax.tree.map(np.asarray, config.box().spread(cube))
    pulses, signals = [], []
    for i, sequence in enumerate(sample_sequences(keys[0], _SEQUENCES, n_frames)):
        kept = slice(n_frames)
        cut = Fisp(sequence.flip_angle[kept], sequence.repetition_time[kept], 0.0, sequence.inversion_time)
        missing = n_frames - cut.n_frames
        of_sequence = tissue.rows(i)
        simulated = simulate_few(cut, of_sequence, accuracy=_ACCURACY, slice_profile=slice_profile)
        signals.append(np.pad(simulated.T, ((0, missing), (0, 0))))
        angle, interval = pulses_of(cut)
        pulses.append((np.pad(angle, (0, missing)), np.pad(interval, (0, missing), mode="edge")))
    angles, intervals = np.moveaxis(np.array(pulses), 0, -1)
    return jax.tree.map(jnp.asarray, Examples(Pulses(angles, intervals), tissue, np.stack(signals, axis=1)))


def network_inputs(box: TissueBox, pulses: Pulses, tissue: Tissue) -> jax.Array:
    """Inputs of the network, (frames, voxels, features), from pulses (frames, voxels) or (frames, 1).

    The rotation by the pulse, the relaxation since the pulse before and how fast that is, and coordinates in the box.
    """
    angle = pulses.flip_angle * jnp.reshape(tissue.b1, (1, -1))
    rates = [pulses.interval / time[None, :] for time in (tissue.t1, tissue.t2)]
    columns = [jnp.sin(angle), jnp.cos(angle), *(jnp.exp(-rate) for rate in rates), *(jnp.log(rate) for rate in rates)]
    columns += [2 * column[None, :] - 1 for column in box.coordinates(tissue).T]
    shape = jnp.broadcast_shapes(*(column.shape for column in columns))
    return jnp.stack([jnp.broadcast_to(column, shape) for column in columns], axis=-1)


def init_state(config: RecurrentConfig) -> TrainState:
    """A fresh network; the same seed gives the same one."""
    params = _init_params(config, jax.random.fold_in(jax.random.key(config.seed), _STREAM))
    return TrainState(jnp.zeros((), jnp.int32), NetworkState(params, _optimiser(config).init(params)), None)


def fit(
    config: RecurrentConfig, state: TrainState, *, slice_profile: SliceModel | None = None, chunk: int = _EVERY
) -> Iterator:
    """Trains up to ``config.steps``, on fresh examples in every chunk of steps, which is one compiled call.

    Args:
      config: what is learned.
      state: fresh from `init_state`, or restored, as of the end of a chunk. Its arrays are given away.
      slice_profile: model of the slice that the signals are of; None for a uniform one.
      chunk: steps between two yields; the last one may be shorter.

    Yields:
      (state, row): after every chunk, with numbers by name: ``step``, and ``train_error``, the root mean square over
      the chunk of the relative L2 error of a signal. The state is given away when the next chunk is asked for.

    Raises:
      DivergedError: an error that is not finite.
    """
    step = int(state.step)
    while step < config.steps:
        n_steps = min(chunk, config.steps - step)
        state, error = _run_steps(config, n_steps, state, draw(config, step, slice_profile))
        step += n_steps
        if not np.isfinite(error):
            raise DivergedError(f"training diverged before step {step}: its error is not finite any more")
        yield state, {"step": step, "train_error": float(error)}


def make_train_step(config: RecurrentConfig):
    """One update: ``step(state, batch) -> state, loss``, for `Examples` of one tissue and signal for each sequence."""
    network, optimiser, box = RecurrentNetwork(), _optimiser(config), config.box()

    def loss_of(params, batch):
        made = network.apply(params, network_inputs(box, batch.pulses, batch.tissue))
        return jnp.mean(jnp.sum((made - batch.signals) ** 2, axis=0) / jnp.sum(batch.signals**2, axis=0))

    def step(state, batch):
        player = state.generator
        loss, gradient = jax.value_and_grad(loss_of)(player.params, batch)
        updates, memory = optimiser.update(gradient, player.optimiser, player.params)
        player = NetworkState(optax.apply_updates(player.params, updates), memory)
        return TrainState(state.step + 1, player, None), loss

    return step


def recurrent_signals(config: RecurrentConfig, params: Any, sequence: Fisp, tissue: Tissue) -> np.ndarray:
    """Signals by the network, (voxels, frames), with the sign of `simulate`; the tissue is in one dimension."""
    tissue, box = jax.tree.map(np.asarray, tissue), config.box()
    signals, pulses = empty_signals(sequence, tissue), jax.tree.map(lambda x: x[:, None], pulses_of(sequence))
    echo_time = np.asarray(sequence.echo_time, np.float32)

    def chunk(rows, _):
        part = signals[rows]
        padded = jax.tree.map(lambda leaf: np.resize(leaf[rows], _CHUNK) if leaf.ndim else leaf, tissue)
        part[:] = np.asarray(_made(box, params, pulses, echo_time, padded))[: len(part)]

    run_chunks(chunk, [slice(start, start + _CHUNK) for start in range(0, tissue.size, _CHUNK)])
    return signals


@functools.partial(jax.jit, static_argnums=0)
def _init_params(config, key):
    box, one = config.box(), jnp.ones((1, 1))
    return RecurrentNetwork().init(key, network_inputs(box, Pulses(one, one), box.spread(jnp.zeros((1, box.low.size)))))


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _run_steps(config, n_steps, state, examples):
    key, step = jax.random.fold_in(jax.random.key(config.seed), _STREAM), make_train_step(config)

    def body(state, _):
        of_sequence, of_tissue = jax.random.split(jax.random.fold_in(key, state.step))
        rows = jax.random.randint(of_sequence, _BATCH, 0, _SEQUENCES)
        places = jax.random.randint(of_tissue, _BATCH, 0, _TISSUES)
        pulses = jax.tree.map(lambda leaf: leaf[:, rows], examples.pulses)
        signals = examples.signals[:, rows, places]
        return step(state, Examples(pulses, examples.tissue.rows((rows, places)), signals))

    state, losses = jax.lax.scan(body, state, length=n_steps)
    return state, jnp.sqrt(jnp.mean(losses))


@jax.jit
def _made(box, params, pulses, echo_time, tissue):
    after_pulse = RecurrentNetwork().apply(params, network_inputs(box, pulses, tissue))
    return (after_pulse * jnp.exp(-echo_time[:, None] / tissue.t2[None, :])).T


def _optimiser(config):
    warm_up = int(_WARM_UP * config.steps)
    rate = optax.warmup_cosine_decay_schedule(_LEARNING_RATE / 10, _LEARNING_RATE, warm_up, config.steps)
    return optax.chain(optax.clip_by_global_norm(_LARGEST_GRADIENT), optax.adam(rate))
