"""Inversion-prepared balanced SSFP with flip angles and times that vary from frame to frame.

::

    RF        inv      |^| -flip/2         |^| flip, phase 0    |^| flip, phase pi
    readout                                    ------ echo -----    ------ echo -----
    gradient                                 |##|           |##|  |##|           |##|    moments of a frame: 0
    time      |<- TI ->|<- TR/2 ->|            TE               TR

Reference: Ma et al. 2013, doi:10.1038/nature11971.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.physics.sequences.blocks import Blocks, HalfTurns, Inversion, Train, after_inversion
from ganmrf.physics.sequences.pulse_power import check_pulses, pulses_of
from ganmrf.pytrees import floating, pytree, require_positive, require_scale

_LONGEST = 1.0  # s, of a frame: no field is homogeneous enough to balance a longer one, and 1 ms is short for one


@pytree
@dataclasses.dataclass(frozen=True)
class Bssfp:
    """Balanced SSFP, frame by frame.

    Attributes:
      flip_angle: nominal flip angle of each frame, rad, (frames,).
      repetition_time: s, (frames,) or one number for all.
      echo_time: s, likewise; None for the middle of each frame.
      inversion_time: from an ideal inversion to the first pulse, s; None for no inversion.
      rf_phase: rad, (frames,); None alternates between 0 and pi.
      half_start: whether a pulse of half the first flip angle, half the first repetition time before it and of opposite
        phase, catalyses the steady state.
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
    echo_time: jax.Array | float | None = None
    inversion_time: jax.Array | float | None = None
    rf_phase: jax.Array | HalfTurns | None = None
    half_start: bool = dataclasses.field(default=True, metadata={"static": True})
    pulse_duration: jax.Array | float | None = None
    pulse_shape: jax.Array | float | None = 1.0
    inversion_saturation: jax.Array | float | None = 1.0
    saturation_angle: jax.Array | float | None = None

    def __post_init__(self):
        flip_angle = floating("flip_angle", self.flip_angle)
        if flip_angle.ndim != 1 or not flip_angle.size:
            raise ValueError(f"Bssfp.flip_angle must be (frames,), one frame at least; got shape {flip_angle.shape}")
        times = floating("repetition_time", self.repetition_time)
        require_positive("Bssfp.repetition_time", times)
        require_scale("Bssfp.repetition_time", times, _LONGEST, "s", "ms")
        phase = np.pi * (np.arange(flip_angle.size) % 2) if self.rf_phase is None else self.rf_phase
        echo_time = times / 2 if self.echo_time is None else self.echo_time
        train = Train(flip_angle, times, echo_time, rf_phase=phase, turns=0)
        for name in ("flip_angle", "repetition_time", "echo_time", "rf_phase"):
            object.__setattr__(self, name, getattr(train, name))
        if self.inversion_time is not None:
            object.__setattr__(self, "inversion_time", Inversion(self.inversion_time).time)
        check_pulses(self, self.n_frames, self.flip_angle.dtype)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.flip_angle.shape[-1]

    def as_blocks(self) -> Blocks:
        """An ideal inversion, half a pulse, and a balanced train."""
        blocks = []
        if self.half_start:
            first = -self.flip_angle[:1] / 2  # about the axis of the first pulse, the other way round
            phase = HalfTurns(self.rf_phase.counts[:1]) if isinstance(self.rf_phase, HalfTurns) else self.rf_phase[:1]
            half = self.repetition_time[:1] / 2
            blocks.append(
                Train(first, half, jnp.zeros(1), rf_phase=phase, turns=0, recorded=False, **pulses_of(self, slice(1)))
            )
        train = Train(
            self.flip_angle, self.repetition_time, self.echo_time, rf_phase=self.rf_phase, turns=0, **pulses_of(self)
        )
        return after_inversion(self, *blocks, train)


def ma_bssfp(n_frames: int = 1000, seed: int = 0) -> Bssfp:
    """A schedule of the family of Ma et al. 2013: half sines of flip angles up to 60 degrees with noise, random TR.

    Flip angles follow ``10 + |sin(2 pi t / 500)| 50`` degrees in lobes of 250 frames, every second lobe half as high,
    each with Gaussian noise of 5 degrees, and 50 frames without pulse between; TR are uniform from 10.5 to 14 ms; the
    phase alternates.
    """
    rng = np.random.default_rng(seed)
    lobe = np.arange(n_frames) % 250
    high = np.where(np.arange(n_frames) // 250 % 2 == 0, 1.0, 0.5)
    degrees = high * (10 + 50 * np.sin(np.pi * (lobe + 1) / 200)) + 5 * rng.standard_normal(n_frames)
    degrees = np.where(lobe < 200, np.clip(degrees, 0, 60), 0.0)
    return Bssfp(np.deg2rad(degrees), rng.uniform(10.5e-3, 14e-3, n_frames), inversion_time=20e-3)
