"""Errors of maps and fingerprints against a truth, computed in float64."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# Columns of T1 and of T2, and what their values are multiplied by.
_OF_TIMES = {"(ms)": 1e3, "bias (%)": 100, "RRMSE (%)": 100}
TISSUE_COLUMNS = ("Tissue", "Voxels", "Unmatched", *(f"{t} {column}" for t in ("T1", "T2") for column in _OF_TIMES))

_WITHIN_95 = 1.959964  # standard deviations on either side of the mean, which hold 95 % of a normal distribution
_ROWS = 4096  # fingerprints converted to float64 at a time, so that no second dictionary is in memory


class TissueRow(NamedTuple):
    """Errors of T1 and T2 in one tissue; NaN where no voxel can be compared.

    Attributes:
      name: the tissue.
      voxels: number of voxels compared: those whose truth and estimate are finite.
      unmatched: number of voxels of the tissue without a finite truth or estimate.
      t1: mean true T1, s; likewise ``t2``.
      t1_bias: mean relative error of T1, dimensionless; likewise ``t2_bias``.
      t1_rrmse: relative root-mean-square error of T1, dimensionless; likewise ``t2_rrmse``.
    """

    name: str
    voxels: int
    unmatched: int
    t1: float
    t1_bias: float
    t1_rrmse: float
    t2: float
    t2_bias: float
    t2_rrmse: float


def rrmse(estimate, truth) -> float:
    """Relative root-mean-square error ``||estimate - truth|| / ||truth||`` over all entries, dimensionless.

    Both are real or complex, of one shape and unit; NaN anywhere gives NaN. Raises `ValueError` for shapes that differ,
    no entry, or a truth that is 0 everywhere.
    """
    estimate, truth = _pair("rrmse", estimate, truth)
    norm = np.linalg.norm(truth)
    if norm == 0:
        raise ValueError("rrmse: truth is 0 everywhere; a relative error needs an entry that is not")
    return float(np.linalg.norm(estimate - truth) / norm)


def bias(estimate, truth) -> float:
    """Mean relative error, the mean of ``(estimate - truth) / truth``, dimensionless; positive for overestimates.

    Both are real, of one shape and unit; NaN anywhere gives NaN. Raises `ValueError` for shapes that differ, no entry,
    or a truth that is 0 somewhere.
    """
    estimate, truth = _pair("bias", estimate, truth)
    if (truth == 0).any():
        raise ValueError(f"bias: truth must not be 0; got {np.count_nonzero(truth == 0)} of {truth.size} entries at 0")
    return float(np.mean((estimate - truth) / truth))


def coverage(estimate, std, truth) -> float:
    """Share of entries whose 95 % interval, ``estimate`` plus or minus 1.96 ``std``, holds the ``truth``.

    All three are real, of one shape and unit. Error bars that are right, of estimates without bias, cover 0.95. Raises
    `ValueError` for shapes that differ, or no entry.
    """
    _check_pair("coverage", np.asarray(std), np.asarray(truth))
    estimate, truth = _pair("coverage", estimate, truth)
    return float(np.mean(np.abs(estimate - truth) <= _WITHIN_95 * np.ravel(std)))


def fingerprint_errors(generated, simulated) -> np.ndarray:
    """Relative L2 error of every fingerprint, ``||generated - simulated|| / ||simulated||``, (atoms,), dimensionless.

    Both are (atoms, frames), real or complex, and no row of the simulated ones is 0. Raises `ValueError` for shapes
    that differ, or no atom.
    """
    generated, simulated = np.asarray(generated), np.asarray(simulated)
    _check_pair("fingerprint_errors", generated, simulated)
    wide = np.result_type(simulated, np.float64)
    errors = np.empty(len(simulated))
    for start in range(0, len(simulated), _ROWS):
        rows = slice(start, start + _ROWS)
        reference = simulated[rows].astype(wide)
        difference = np.linalg.norm(generated[rows] - reference, axis=1)
        errors[rows] = difference / np.linalg.norm(reference, axis=1)
    return errors


def direction_errors(generated, simulated) -> np.ndarray:
    """`fingerprint_errors` of generated fingerprints of any norm but 0, normalised first."""
    return fingerprint_errors(generated / np.linalg.norm(generated, axis=1, keepdims=True), simulated)


def tissue_table(truth_t1, truth_t2, t1, t2, labels, names: Mapping[int, str]) -> list[TissueRow]:
    """Errors of T1 and T2 maps, s, tissue by tissue: one row for each of ``names``, such as ``{1: "white matter"}``.

    All arrays have one shape. Estimates are not finite where there is no match; ``labels``, integers, say the tissue of
    each voxel, and those not in ``names`` are left out. A tissue without voxels has NaN for its errors.

    Raises:
      ValueError: shapes that differ.
    """
    labels = np.asarray(labels)
    maps = {"truth_t1": truth_t1, "truth_t2": truth_t2, "t1": t1, "t2": t2}
    maps = {name: np.asarray(value, np.float64) for name, value in maps.items()}
    for name, value in maps.items():
        if value.shape != labels.shape:
            raise ValueError(f"tissue_table: {name} has shape {value.shape}, but labels has {labels.shape}")
    finite = np.all([np.isfinite(value) for value in maps.values()], axis=0)
    rows = []
    for label, name in names.items():
        of_tissue = labels == label
        compared = of_tissue & finite
        counts = int(compared.sum()), int((of_tissue & ~finite).sum())
        truth_1, truth_2, t1_here, t2_here = (value[compared] for value in maps.values())
        rows.append(TissueRow(name, *counts, *_errors(t1_here, truth_1), *_errors(t2_here, truth_2)))
    return rows


def format_tissues(rows) -> list[tuple[str, ...]]:
    """The rows of `tissue_table` as text under `TISSUE_COLUMNS`: ms, per cent, and a dash without any voxel."""
    factors, forms = 2 * [*_OF_TIMES.values()], (".0f", "+z.2f", ".2f", ".1f", "+z.2f", ".2f")

    def number(value, factor, form):
        return "-" if np.isnan(value) else format(factor * value, form)

    return [(row.name, f"{row.voxels}", f"{row.unmatched}", *map(number, row[3:], factors, forms)) for row in rows]


def _errors(estimate, truth):
    if truth.size == 0:
        return (np.nan,) * 3
    return float(truth.mean()), bias(estimate, truth), rrmse(estimate, truth)


def _pair(caller, estimate, truth):
    """Both arrays, flat, in float64 or complex128."""
    pair = [np.asarray(value) for value in (estimate, truth)]
    _check_pair(caller, *pair)
    return [value.astype(np.result_type(value, np.float64)).ravel() for value in pair]


def _check_pair(caller, one, other):
    if one.shape != other.shape:
        raise ValueError(f"{caller}: the shapes {one.shape} and {other.shape} differ")
    if one.size == 0:
        raise ValueError(f"{caller}: nothing to compare: both arrays are empty")
