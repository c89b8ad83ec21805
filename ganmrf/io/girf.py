"""The gradient impulse response function (GIRF) of a scanner: which gradients it plays when asked for others."""

import dataclasses
import pathlib

import numpy as np
from scipy import fft

from ganmrf.files import read_arrays

_OUTSIDE = 0.01  # share of the gradients' energy that may lie beyond the frequencies that were measured
_RASTER = 1e-5  # s, at which the gradients of a whole scan are sampled: that of most scanners
_SILENCE = 0.02  # s of 0 around gradients: eddy currents that last longer are slow against a readout


@dataclasses.dataclass(frozen=True)
class Girf:
    """Response of the gradients along x and y to gradients along x and y.

    Attributes:
      frequency: Hz, ascending, (frequencies,); where none is negative, the response to -f is the conjugate of that to
        f.
      response: complex, (frequencies, 2, 2): played axis, then axis that was asked for; or (frequencies, 2), of each
        axis to itself alone. 1 is a perfect gradient.

    Raises:
      ValueError: frequencies that do not ascend, shapes that disagree, or values that are not finite.

    References:
      Vannesjo et al. 2013, doi:10.1002/mrm.24263. Campbell-Washburn et al. 2016, doi:10.1002/mrm.25788.
    """

    frequency: np.ndarray
    response: np.ndarray

    def __post_init__(self):
        frequency, response = np.asarray(self.frequency, float).ravel(), np.asarray(self.response, complex)
        if response.ndim == 2:
            response = response[:, :, None] * np.eye(response.shape[1])
        if response.ndim != 3 or response.shape[1:] not in ((2, 2), (3, 3)) or len(response) != frequency.size:
            raise ValueError(
                f"girf must be (frequencies, axes) or (frequencies, axes, axes) of {frequency.size} frequencies; got "
                f"{np.shape(self.response)}"
            )
        if not (np.isfinite(frequency).all() and (np.diff(frequency) > 0).all() and frequency.size > 1):
            raise ValueError("frequency_hz must be finite and ascend")
        if unfit := np.count_nonzero(~np.isfinite(response)):
            raise ValueError(f"girf has {unfit} of {response.size} values that are NaN or infinite")
        object.__setattr__(self, "frequency", frequency)
        object.__setattr__(self, "response", response[:, :2, :2])

    def play(self, gradients, raster_time: float) -> np.ndarray:
        """The gradients that are played in place of nominal ones, (..., raster times, 2), in their unit.

        Before and after, the nominal gradients are 0; the response at frequencies that were not measured is 0.

        Raises:
          ValueError: more than 1 % of the gradients' energy is at frequencies that were not measured.
        """
        gradients = np.asarray(gradients, float)
        count = gradients.shape[-2]
        length = fft.next_fast_len(count + 2 * round(_SILENCE / raster_time), real=True)
        spectrum = fft.rfft(gradients, length, axis=-2)
        frequency = fft.rfftfreq(length, raster_time)
        energy, outside = np.abs(spectrum) ** 2, frequency > self.frequency[-1]
        if (beyond := energy[..., outside, :].sum()) > _OUTSIDE * energy.sum():
            raise ValueError(
                f"the GIRF ends at {self.frequency[-1]:.4g} Hz, and {100 * beyond / energy.sum():.2g} % of the "
                "gradients' energy is beyond: are the frequencies in Hz?"
            )
        played = np.einsum("foi,...fi->...fo", self._at(frequency), spectrum)
        return fft.irfft(played, length, axis=-2)[..., :count, :]

    def of_moments(self, moments, duration: float):
        """Moments that are played in place of nominal ones, cycles/m, both functions of times, s, to (times, axes).

        ``duration`` is that of the scan, s; the axes are x and y of the nominal ones.
        """
        knots = _RASTER * np.arange(int(np.ceil(duration / _RASTER)) + 1)
        nominal = np.diff(moments(knots)[:, :2], axis=0) / _RASTER
        error = _RASTER * np.cumsum(self.play(nominal, _RASTER) - nominal, axis=0)
        error = np.concatenate([np.zeros((1, 2)), error])

        def played(times):
            return moments(times)[:, :2] + np.stack([np.interp(times, knots, axis) for axis in error.T], axis=1)

        return played

    def _at(self, frequency):
        """The response at frequencies that are 0 or more, (frequencies, 2, 2)."""

        def between(values):
            return np.interp(frequency, self.frequency, values.real, right=0) + 1j * np.interp(
                frequency, self.frequency, values.imag, right=0
            )

        return np.moveaxis([[between(self.response[:, o, i]) for i in range(2)] for o in range(2)], -1, 0)


def read_girf(path) -> Girf:
    """Reads a response from a ``.npz`` or ``.mat`` file with the arrays ``frequency_hz`` and ``girf``, as in `Girf`.

    Raises:
      ValueError: a file that cannot be read, or has no such arrays.
    """
    path = pathlib.Path(path)
    arrays = read_arrays(path, ["frequency_hz", "girf"])
    for name in ("frequency_hz", "girf"):
        if name not in arrays:
            raise ValueError(f"{path}: no array {name!r}; a GIRF has frequency_hz and girf")
    try:
        return Girf(arrays["frequency_hz"], arrays["girf"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
