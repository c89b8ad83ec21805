"""Inversion-prepared MRF-FISP: its pulses and times, and the readable definition of its signal.

One repetition, and where the operators of `epg` stand in it::

    RF        |^|                                   |^|
    readout       ----------- echo ----
    spoiler                             |#####|
    time      0                TE                   TR
              excite, relax, signal = F0, relax, dephase
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.physics import epg
from ganmrf.physics.sequences.blocks import LONGEST, Blocks, Train, after_inversion, require_within_frames
from ganmrf.physics.sequences.pulse_power import check_pulses, pulses_of
from ganmrf.pytrees import floating, pytree, require, require_positive, require_scale


@pytree
@dataclasses.dataclass(frozen=True)
class Fisp:
    """An inversion-prepared FISP sequence with RF phase 0, frame by frame.

    Attributes:
      flip_angle: nominal flip angle of each frame, rad, (frames,).
      repetition_time: time from this frame's pulse to the next, s, (frames,) or one number for all.
      echo_time: time from this frame's pulse to its echo, s, (frames,) or one number for all.
      inversion_time: time from the ideal inversion to the first pulse, s, one number; None for no inversion.
      pulse_duration: of the pulses, s, one number or (frames,), which a semisolid pool needs; None where not known.
      pulse_shape: mean of the squared waveform of the pulses over the squared mean, likewise; None for 1.
      inversion_saturation: what the inversion multiplies the magnetisation of a semisolid pool by, 0 to 1.
      saturation_angle: of a pulse off resonance in front of each frame's, rad, likewise; it has the duration and the
        shape of the other, and saturates a semisolid pool as an excitation by this angle would. None for no such pulse.

    Raises:
      ValueError: values that are not finite, angles beyond a full turn (degrees?), an echo after the end of its
        frame, negative times, frame counts that disagree, or times that are in ms by their size
        (`ganmrf.pytrees.unusual_values` allows them).
    """

    former_names: ClassVar = ("Sequence",)

    flip_angle: jax.Array
    repetition_time: jax.Array | float
    echo_time: jax.Array | float
    inversion_time: jax.Array | float | None = None
    pulse_duration: jax.Array | float | None = None
    pulse_shape: jax.Array | float | None = 1.0
    inversion_saturation: jax.Array | float | None = 1.0
    saturation_angle: jax.Array | float | None = None

    def __post_init__(self):
        flip_angle = floating("flip_angle", self.flip_angle)
        if flip_angle.ndim != 1 or flip_angle.size == 0:
            raise ValueError(f"Fisp.flip_angle must be (frames,) with one frame at least; got {flip_angle.shape}")
        object.__setattr__(self, "flip_angle", flip_angle)
        times = {name: floating(name, getattr(self, name)) for name in ("repetition_time", "echo_time")}
        for name, value in times.items():
            if value.shape not in ((), flip_angle.shape):
                raise ValueError(f"Fisp.{name} has shape {value.shape}, but flip_angle has {flip_angle.size} frames")
            object.__setattr__(self, name, jnp.broadcast_to(value, flip_angle.shape))
        full_turn = 2 * np.pi * (1 + 1e-6)
        rule = "within +-2 pi rad (is it in degrees?)"
        require("Fisp.flip_angle", flip_angle, lambda x: np.abs(x) <= full_turn, rule)
        require_positive("Fisp.repetition_time", self.repetition_time)
        require_scale("Fisp.repetition_time", self.repetition_time, LONGEST, "s", "ms")
        require("Fisp.echo_time", self.echo_time, lambda x: (x >= 0) & np.isfinite(x), "0 or more, and finite")
        require_within_frames("Fisp.echo_time", **times)
        if self.inversion_time is not None:
            inversion_time = floating("inversion_time", self.inversion_time)
            if inversion_time.ndim:
                raise ValueError(f"Fisp.inversion_time must be one number; got shape {inversion_time.shape}")
            rule = "0 or more, and finite (None for no inversion)"
            require("Fisp.inversion_time", inversion_time, lambda x: (x >= 0) & np.isfinite(x), rule)
            require_scale("Fisp.inversion_time", inversion_time, LONGEST, "s", "ms")
            object.__setattr__(self, "inversion_time", inversion_time)
        check_pulses(self, flip_angle.size, flip_angle.dtype)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.flip_angle.shape[-1]

    def as_blocks(self) -> Blocks:
        """An ideal inversion, and a train of frames with one turn at the end of each."""
        train = Train(self.flip_angle, self.repetition_time, self.echo_time, **pulses_of(self))
        return after_inversion(self, train)


def require_fisp(sequence, what: str):
    """Raises `ValueError` naming ``what`` wants a `Fisp`, of FISP, where it is given another kind."""
    if not isinstance(sequence, Fisp):
        raise ValueError(f"{what} takes FISP alone; got {type(sequence).__name__}")


def simulate_voxel(sequence: Fisp, t1, t2, b1=1.0, n_states: int | None = None) -> jax.Array:
    """The definition: the signal of one voxel, T1 and T2 in s, written as the pulse diagram reads.

    An ``n_states`` of None is that of `epg.exact_n_states`.

    Returns:
      Complex transverse magnetisation Mx + i My at the echoes, (frames,), for M0 = 1.
    """

    def frame(states, pulse):
        flip_angle, repetition_time, echo_time = pulse
        states = epg.excite(states, b1 * flip_angle)
        states = epg.relax(states, echo_time, t1, t2)
        signal = states.f_plus[0]
        states = epg.relax(states, repetition_time - echo_time, t1, t2)
        return epg.dephase(states), signal

    n_states = epg.exact_n_states(sequence.n_frames) if n_states is None else n_states
    states = epg.equilibrium(n_states, jnp.result_type(sequence.flip_angle, jnp.complex64))
    if sequence.inversion_time is not None:
        states = epg.relax(epg.invert(states), sequence.inversion_time, t1, t2)
    return lax.scan(frame, states, (sequence.flip_angle, sequence.repetition_time, sequence.echo_time))[1]
