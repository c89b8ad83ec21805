"""Multi-spin-echo (CPMG): an excitation and refocusing pulses of any flip angle, an echo between any two of them.

::

    RF        |^| 90, phase pi/2     |^| refocusing, phase 0       |^|
    readout                                       echo                          echo
    gradient         |##|                 |##|           |##|            |##|
    time      |<- spacing/2 ->|            |<-- spacing/2 -->|<-- spacing/2 ->|

A frame is half a spacing with one turn. The echo is at the beginning of a frame without pulse.

Reference: Hennig 1988, J Magn Reson 78:397.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.physics.sequences.blocks import Blocks, Train
from ganmrf.physics.sequences.pulse_power import check_pulses, pulses_of
from ganmrf.pytrees import floating, pytree, require_positive


@pytree
@dataclasses.dataclass(frozen=True)
class MultiSpinEcho:
    """Spin echoes after one excitation.

    Attributes:
      refocusing_angle: nominal flip angle of each refocusing pulse, rad, (echoes,).
      echo_spacing: time between echoes, s.
      excitation_angle: nominal flip angle of the excitation, rad; its phase is pi/2 from that of the others.

      pulse_duration: of the pulses, s, one number, which a semisolid pool needs; None where it is not known.
      pulse_shape: mean of the squared waveform of the pulses over the squared mean, likewise; None for 1.

    Raises:
      ValueError: values that a `Train` refuses.
    """

    refocusing_angle: jax.Array
    echo_spacing: jax.Array | float
    excitation_angle: jax.Array | float = np.pi / 2
    pulse_duration: jax.Array | float | None = None
    pulse_shape: jax.Array | float | None = 1.0

    def __post_init__(self):
        angle = floating("refocusing_angle", self.refocusing_angle)
        if angle.ndim != 1 or not angle.size:
            raise ValueError(f"MultiSpinEcho.refocusing_angle must be (echoes,), one at least; got shape {angle.shape}")
        object.__setattr__(self, "refocusing_angle", angle)
        for name in ("echo_spacing", "excitation_angle"):
            object.__setattr__(self, name, floating(name, getattr(self, name)))
        require_positive("MultiSpinEcho.echo_spacing", self.echo_spacing)
        check_pulses(self, 1, angle.dtype)

    @property
    def n_frames(self) -> int:
        """Number of echoes."""
        return self.refocusing_angle.shape[-1]

    def as_blocks(self) -> Blocks:
        """The excitation's half spacing, and for each echo a refocused half spacing and one that begins with it."""
        half, echoes, pulses = self.echo_spacing / 2, self.n_frames, pulses_of(self)
        excitation = Train(self.excitation_angle, half, 0.0, rf_phase=jnp.full(1, jnp.pi / 2), recorded=False, **pulses)
        angles = jnp.stack([self.refocusing_angle, jnp.zeros(echoes)], axis=1).ravel()
        train = Train(angles, half, 0.0, rf_phase=0.0, recorded=np.tile([False, True], echoes), **pulses)
        return Blocks((excitation, train))
