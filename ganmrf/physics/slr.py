"""Linear-phase pulses by the Shinnar-Le Roux algorithm: flat slices at high flip angles.

Where hard pulses take turns with equal shares of a gradient's dephasing, the spinor after n of them is two polynomials
A and B of degree n - 1 in z = exp(2 pi i frequency). B is a filter, |B| = sin(flip angle / 2) at every position; A
follows from |A|**2 + |B|**2 = 1 as the one of least energy in the pulse; and both are peeled off pulse by pulse::

    A = cos A' - sin B' / z        tan = sin / cos = B[0] / A[0], the half of the flip angle of the last hard pulse
    B = sin A' + cos B' / z        A', B' = cos A + sin B, z (cos B - sin A), one degree lower

Reference: Pauly, Le Roux, Nishimura & Macovski 1991, doi:10.1109/42.75611.
"""

import numpy as np
import scipy.signal

from ganmrf.physics.rf_pulse import N_SAMPLES, RfPulse
from ganmrf.pytrees import require, require_positive, require_whole

_FINER = 32  # times the samples of a pulse: log |A| of 90 degrees aliases by less than rounding


def slr(
    time_bandwidth: float,
    flip_angle: float = np.pi / 2,
    pass_ripple: float = 0.01,
    stop_ripple: float = 0.01,
    n_samples: int = N_SAMPLES,
) -> RfPulse:
    """The linear-phase pulse whose |Mxy| is flat inside and outside of the slice at one flip angle.

    The slice thickness lies between the middles of the transition bands of an equiripple filter B, where |B| is about
    half of that in the slice. Those bands are as wide as the ripples need, `transition_width` or up to a third more.

    Args:
      time_bandwidth: duration times bandwidth; the shorter it is, the wider the transition.
      flip_angle: at which the ripples are as small as stated, rad, above 0 and below pi.
      pass_ripple: of |Mxy| in the slice, as a share of that in its middle, above 0 and below 1.
      stop_ripple: of |Mxy| outside of the slice, likewise.
      n_samples: hard pulses that stand for it.

    Raises:
      ValueError: an argument out of range, or a time-bandwidth product or number of samples that leaves no room for a
        slice or for what is outside of it.
    """
    require_whole("n_samples", n_samples)
    least = transition_width(time_bandwidth, flip_angle, pass_ripple, stop_ripple)
    ripples = _ripples_of_b(flip_angle, pass_ripple, stop_ripple)
    # Pauly's relation was fitted to filters of many kinds, and is a third too narrow for the narrowest slices.
    for width in least * np.linspace(1, 1.5, 26):
        if width >= 1:
            raise ValueError(
                f"time_bandwidth must be above {width * time_bandwidth:.3g} for these ripples; got {time_bandwidth:g}"
            )
        edges = time_bandwidth / n_samples * np.array([1 - width, 1 + width]) / 2  # cycles a sample
        if edges[1] >= 0.5:
            raise ValueError(f"n_samples must be above {2 * edges[1] * n_samples:.3g} for this pulse; got {n_samples}")
        b = scipy.signal.remez(n_samples, [0, *edges, 0.5], [1, 0], weight=1 / ripples, fs=1)
        if _keeps(b, edges, ripples):
            return RfPulse.of_waveform(_pulse_of(np.sin(flip_angle / 2) / b.sum() * b), time_bandwidth)
    raise ValueError(f"no filter of n_samples={n_samples} keeps ripples of {pass_ripple:g} and {stop_ripple:g}")


def _keeps(b, edges, ripples):
    """Whether a filter has no larger ripples than these, but for a hundredth, up to and from two frequencies on."""
    response = np.abs(np.fft.rfft(b, _FINER * len(b)))
    frequency = np.linspace(0, 0.5, len(response))
    inside, outside = response[frequency <= edges[0]] - 1, response[frequency >= edges[1]]
    return np.abs(inside).max() <= 1.01 * ripples[0] and outside.max() <= 1.01 * ripples[1]


def transition_width(time_bandwidth, flip_angle=np.pi / 2, pass_ripple=0.01, stop_ripple=0.01) -> float:
    """Width of a transition band of `slr`, from the end of the slice to the start of what is outside, in thicknesses.

    Raises:
      ValueError: as `slr`.

    References:
      Pauly et al. 1991, equations 20 and 21; Herrmann, Rabiner & Chan 1973, doi:10.1002/j.1538-7305.1973.tb01990.x.
    """
    require_positive("time_bandwidth", time_bandwidth)
    require("flip_angle", flip_angle, lambda x: (x > 0) & (x < np.pi), "above 0 and below pi rad")
    for name, ripple in (("pass_ripple", pass_ripple), ("stop_ripple", stop_ripple)):
        require(name, ripple, lambda x: (x > 0) & (x < 1), "above 0 and below 1")
    inside, outside = np.log10(_ripples_of_b(flip_angle, pass_ripple, stop_ripple))
    by_outside = 5.309e-3 * inside**2 + 7.114e-2 * inside - 0.4761
    return float(by_outside * outside - 2.66e-3 * inside**2 - 0.5941 * inside - 0.4278) / time_bandwidth


def _ripples_of_b(flip_angle, pass_ripple, stop_ripple):
    """Ripples of B, as shares of its value in the slice, for those of |Mxy| = sin(2 arcsin |B|).

    To second order, a relative change e of B changes |Mxy| / sin(flip angle) by 2 t e cot(flip angle) - 2 (t e)**2,
    where t = tan(flip angle / 2): e for small flip angles, and -2 e**2 for 90 degrees, as in Pauly's table II.
    """
    half = np.tan(flip_angle / 2)
    slope, curvature = abs(2 * half / np.tan(flip_angle)), 2 * half**2
    inside = 2 * pass_ripple / (slope + np.sqrt(slope**2 + 4 * curvature * pass_ripple))
    # Half of it, as the middle, to which everything is scaled, may itself be at the top or bottom of a ripple.
    return np.array([inside / 2, stop_ripple * np.cos(flip_angle / 2)])


def _pulse_of(b):
    """The flip angles of the hard pulses, rad, whose B polynomial this is; |B| < 1."""
    n_samples, n_points = len(b), _FINER * len(b)
    log = np.fft.ifft(np.log(1 - np.abs(np.fft.fft(b, n_points)) ** 2) / 2).real
    causal = np.zeros(n_points)  # of least energy in the pulse: minimum phase, by the cepstrum
    causal[[0, n_points // 2]], causal[1 : n_points // 2] = 1, 2
    a = np.fft.ifft(np.exp(np.fft.fft(log * causal))).real[:n_samples]
    flips = np.zeros(n_samples)
    for sample in reversed(range(n_samples)):
        half = np.arctan(b[0] / a[0])
        flips[sample] = 2 * half
        a, b = (np.cos(half) * a + np.sin(half) * b)[:-1], (np.cos(half) * b - np.sin(half) * a)[1:]
    return flips
