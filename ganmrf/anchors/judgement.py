"""What a generator is not asked for: sequences of another period, and errors above what is put up with."""

import warnings

import numpy as np

from ganmrf.dictionary.slice_fields import same_slice
from ganmrf.physics.lowering import trains_of
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.sequences.kinds import kind_of
from ganmrf.physics.tissue_box import TissueBox

GOOD_ERROR = 1e-3  # passes without a warning: where the mean is half of it, maps change by tenths of a per cent
_ALLOWED_ERROR = 1e-2  # passes with a warning: ten times that
_SAME_PERIOD = 1e-4  # relative: T2 of 1 s then sees a hundredth of a turn


def require_period(box: TissueBox, sequence: PulseSequence):
    """Raises `ValueError` for a box that is periodic in off-resonance, but not with the times of the sequence."""
    for name in box.periodic:
        axis = box.names.index(name)
        times = [np.asarray(each.repetition_time, float)[np.flatnonzero(each.recorded)] for each in trains_of(sequence)]
        times, period = np.concatenate(times), 1 / (box.high[axis] - box.low[axis])
        if (wrong := np.abs(times / period - 1) > _SAME_PERIOD).any():
            raise ValueError(
                f"this generator is for sequences of one repetition time, {1e3 * period:.6g} ms; got "
                f"{1e3 * times[np.argmax(wrong)]:.6g} ms"
            )


def judge(prepared, accuracy: float | None, allow_error: float | None):
    """Warns or raises `ValueError` where the largest error is above what `prepared.prepare` was asked for."""
    largest = f"the largest error of this sequence's fingerprints is {prepared.certificate.largest:.2g}, above"
    kind, family, usual = kind_of(prepared.sequence), prepared.generator.family, _ALLOWED_ERROR
    if kind != family:
        largest = f"this generator has learned from sequences of kind {family}, and this one is {kind}: {largest}"
        usual = GOOD_ERROR
    if not same_slice(prepared.slice_profile, prepared.generator.slice_profile):
        largest = f"this generator was made for another slice, pulse or spoiler: {largest}"
        usual = GOOD_ERROR
    told = [("allow_error", allow_error), ("accuracy", accuracy), ("allow_error", usual)]
    name, allowed = next((name, value) for name, value in told if value is not None)
    fewer = prepared.n_anchors < prepared.generator.sizes[-1]
    advice = f"{'take' if fewer else 'make a generator of'} more anchors, or simulate the dictionary"
    if prepared.certificate.largest > allowed:
        used = f"with {prepared.n_anchors} anchors and {len(prepared.added)} sentinels"
        raise ValueError(f"{largest} {name} = {allowed:.3g}, {used}: {advice}, or let {name} be larger")
    if allow_error is None and accuracy is None and prepared.certificate.largest > GOOD_ERROR:
        warnings.warn(f"{largest} {GOOD_ERROR:g}: where that is too much, {advice}", stacklevel=3)
