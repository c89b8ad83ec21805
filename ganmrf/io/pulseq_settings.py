"""Beside the sequence, what a scan to be written as a Pulseq file needs: pulse, readout and limits of the scanner."""

import dataclasses

import numpy as np

from ganmrf.physics.constants import GYROMAGNETIC_RATIO
from ganmrf.physics.rf_pulse import WINDOWS, RfPulse, windowed_sinc
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.pytrees import require, require_positive, require_whole

RASTER_US = 10  # of blocks and gradients
RF_RASTER_US = 1
_ADC_RASTER = 1e-7  # s
_RESIDUAL = 1.0  # cycles/m that a readout may leave: a thousandth of a cycle across 1 mm
_WITHIN = 1 + 1e-9  # rounding of a waveform designed up to the limits


@dataclasses.dataclass(frozen=True)
class Excitation:
    """The slice-selective pulse of every frame, and how its slice is spoiled.

    Attributes:
      duration: of the pulse, s, on the raster of 10 us.
      time_bandwidth: duration times bandwidth of a sinc, as in `ganmrf.physics.rf_pulse.windowed_sinc`.
      window: of the sinc: ``hann``, ``hamming`` or ``none``.
      slice_thickness: m.
      spoil_cycles: dephasing across the slice in each repetition, in units of 2 pi; 1 or more.
      pulse: what is played in place of the sinc, with its own time-bandwidth product; None is the sinc.

    Raises:
      ValueError: a field out of range or off its raster, or a pulse of more samples than its duration has microseconds.
    """

    duration: float = 1.8e-3
    time_bandwidth: float = 8.0
    window: str = "hann"
    slice_thickness: float = 5e-3
    spoil_cycles: float = 4
    pulse: RfPulse | None = None

    def __post_init__(self):
        for name in ("duration", "time_bandwidth", "slice_thickness"):
            require_positive(f"excitation.{name}", getattr(self, name))
        steps = 1e6 * self.duration / RASTER_US
        if abs(steps - round(steps)) > 1e-4:  # nanoseconds: rounding of a time in ms
            raise ValueError(
                f"excitation.duration must be a multiple of {RASTER_US} us; got {1e6 * self.duration:.6g} us"
            )
        if self.window not in WINDOWS:
            raise ValueError(f"excitation.window must be one of {', '.join(WINDOWS)}; got {self.window!r}")
        require("excitation.spoil_cycles", self.spoil_cycles, lambda x: (x >= 1) & np.isfinite(x), "1 or more")
        most = round(steps) * RASTER_US // RF_RASTER_US
        if self.pulse is not None and self.pulse.samples.size > most:
            raise ValueError(
                f"excitation.duration of {1e6 * self.duration:.6g} us must be longer for the pulse: its "
                f"{self.pulse.samples.size} samples are more than one in {RF_RASTER_US} us"
            )

    def full_slice(self) -> FullSlice:
        """The slice that the scan excites and spoils, to simulate what is played."""
        pulse = windowed_sinc(self.time_bandwidth, self.window) if self.pulse is None else self.pulse
        return FullSlice(pulse, self.spoil_cycles)

    def on_raster(self) -> RfPulse:
        """The pulse with a sample for each microsecond that it is played, on straight lines between its own."""
        n_samples = round(1e6 * self.duration / RF_RASTER_US)
        if self.pulse is None:
            return windowed_sinc(self.time_bandwidth, self.window, n_samples)
        own, played = ((np.arange(n) + 0.5) / n for n in (self.pulse.samples.size, n_samples))
        return RfPulse.of_waveform(np.interp(played, own, self.pulse.samples), self.pulse.time_bandwidth)


@dataclasses.dataclass(frozen=True)
class Readout:
    """The gradient waveform after every pulse, turned from frame to frame, and its samples.

    Attributes:
      gradient: x and y, T/m, in the middle of each raster time of 10 us, (raster times, 2), from 0 to 0 and with its
        rewinder; becomes float64.
      angles: by how much the waveform is turned in each frame, counter-clockwise from x to y, rad, (frames,); float64.
      n_samples: number of samples; the first dwell time begins with the waveform.
      dwell_time: between samples, s, on the raster of 0.1 us.
      field_of_view: edge of the image, m; told in the file, nothing else depends on it.

    Raises:
      ValueError: a field out of range or off its raster, or a waveform that does not return to k = 0.
    """

    gradient: np.ndarray
    angles: np.ndarray
    n_samples: int
    dwell_time: float
    field_of_view: float = 0.3

    def __post_init__(self):
        gradient, angles = np.asarray(self.gradient, float), np.asarray(self.angles, float)
        object.__setattr__(self, "gradient", gradient)
        object.__setattr__(self, "angles", angles)
        if gradient.ndim != 2 or gradient.shape[1] != 2 or len(gradient) < 2 or not np.isfinite(gradient).all():
            raise ValueError(f"gradient must be (raster times, 2) and finite; got shape {gradient.shape}")
        if angles.ndim != 1 or not np.isfinite(angles).all():
            raise ValueError(f"angles must be (frames,) and finite; got shape {angles.shape}")
        require_positive("field_of_view", self.field_of_view)
        require_whole("n_samples", self.n_samples)
        require_positive("dwell_time", self.dwell_time)
        steps = self.dwell_time / _ADC_RASTER
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"dwell_time must be a multiple of {_ADC_RASTER:g} s; got {self.dwell_time:.9g} s")
        duration = 1e-6 * RASTER_US * len(gradient)
        if self.n_samples * self.dwell_time > duration * _WITHIN:
            raise ValueError(
                f"n_samples of dwell_time must not outlast gradient; got {1e3 * self.n_samples * self.dwell_time:.6g} "
                f"ms, gradient {1e3 * duration:.6g} ms"
            )
        residual = np.linalg.norm(GYROMAGNETIC_RATIO * 1e-6 * RASTER_US * gradient.sum(axis=0))
        if residual > _RESIDUAL:
            raise ValueError(
                f"gradient must return to k = 0; it ends at {residual:.6g} cycles/m, {_RESIDUAL:g} allowed"
            )


@dataclasses.dataclass(frozen=True)
class ScannerLimits:
    """Limits of a scanner's hardware.

    Attributes:
      max_gradient: T/m, in any direction.
      max_slew_rate: T/m/s, in any direction.
      max_b1: T, peak of an RF pulse.
      rf_dead_time: before an RF pulse, s.
      rf_ringdown_time: after an RF pulse, s.
      adc_dead_time: before and after a readout, s.

    Raises:
      ValueError: a limit that is not positive, or a time that is negative.
    """

    max_gradient: float = 0.04
    max_slew_rate: float = 150.0
    max_b1: float = 25e-6
    rf_dead_time: float = 100e-6
    rf_ringdown_time: float = 30e-6
    adc_dead_time: float = 10e-6

    def __post_init__(self):
        for name in ("max_gradient", "max_slew_rate", "max_b1"):
            require_positive(f"limits.{name}", getattr(self, name))
        for name in ("rf_dead_time", "rf_ringdown_time", "adc_dead_time"):
            value = getattr(self, name)
            require(f"limits.{name}", value, lambda x: (x >= 0) & np.isfinite(x), "0 or more, and finite")

    def require_within(self, name: str, found: float, what: str):
        """Raises `ValueError` where ``what`` needs more than a limit, the field ``name``, in the unit of the limit."""
        allowed, unit = getattr(self, name), {"max_gradient": "T/m", "max_slew_rate": "T/m/s", "max_b1": "T"}[name]
        if found > allowed * _WITHIN:
            raise ValueError(f"{what} needs {found:.6g} {unit}; limits.{name} is {allowed:.6g} {unit}")
