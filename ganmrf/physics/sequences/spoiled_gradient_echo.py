"""RF-spoiled gradient echo: FISP's frames, and a phase of the pulses that grows quadratically.

::

    RF        |^| flip, phase inc n (n + 1) / 2               |^|
    readout       ----------- echo ----
    gradient                            |#####| one turn
    time      0                TE                             TR

Reference: Zur, Wood and Neuringer 1991, doi:10.1002/mrm.1910210210 (117 degrees).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.physics.sequences.blocks import Blocks, Inversion, Train, after_inversion
from ganmrf.physics.sequences.pulse_power import check_pulses, pulses_of
from ganmrf.pytrees import pytree, require


@pytree
@dataclasses.dataclass(frozen=True)
class SpoiledGradientEcho:
    """A gradient echo spoiled by gradient and RF phase, frame by frame.

    Attributes:
      flip_angle: nominal flip angle of each frame, rad, (frames,).
      repetition_time: s, (frames,) or one number for all.
      echo_time: s, likewise.
      inversion_time: from an ideal inversion to the first pulse, s; None for no inversion.
      phase_increment: by which the step of the RF phase grows from frame to frame, rad, static: after a thousand frames
        the phase is a million rad, which float32 would round to a tenth.

      pulse_duration: of the pulses, s, one number or (frames,), which a semisolid pool needs; None where not known.
      pulse_shape: mean of the squared waveform of the pulses over the squared mean, likewise; None for 1.
      inversion_saturation: what the inversion multiplies the magnetisation of a semisolid pool by, 0 to 1.
      saturation_angle: of a pulse off resonance in front of each frame's, rad, likewise; it has the duration and the
        shape of the other, and saturates a semisolid pool as an excitation by this angle would. None for no such pulse.

    Raises:
      ValueError: values that a `Train` refuses.
    """

    flip_angle: jax.Array
    repetition_time: jax.Array | float
    echo_time: jax.Array | float
    inversion_time: jax.Array | float | None = None
    phase_increment: float = dataclasses.field(default=math.radians(117), metadata={"static": True})
    pulse_duration: jax.Array | float | None = None
    pulse_shape: jax.Array | float | None = 1.0
    inversion_saturation: jax.Array | float | None = 1.0
    saturation_angle: jax.Array | float | None = None

    def __post_init__(self):
        train = Train(self.flip_angle, self.repetition_time, self.echo_time)
        for name in ("flip_angle", "repetition_time", "echo_time"):
            object.__setattr__(self, name, getattr(train, name))
        require("SpoiledGradientEcho.phase_increment", self.phase_increment, np.isfinite, "finite")
        object.__setattr__(self, "phase_increment", float(self.phase_increment))
        if self.inversion_time is not None:
            object.__setattr__(self, "inversion_time", Inversion(self.inversion_time).time)
        check_pulses(self, self.n_frames, self.flip_angle.dtype)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.flip_angle.shape[-1]

    def as_blocks(self) -> Blocks:
        """An ideal inversion, and a train with quadratic phases within a turn."""
        frame = np.arange(self.n_frames)
        phase = jnp.asarray(self.phase_increment * (frame * (frame + 1) // 2) % (2 * np.pi), self.flip_angle.dtype)
        train = Train(self.flip_angle, self.repetition_time, self.echo_time, rf_phase=phase, **pulses_of(self))
        return after_inversion(self, train)
