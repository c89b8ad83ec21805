"""Whether bounds by anchors are those of the simulator: before a search, and of what it has found.

A search goes where its objective is lowest, and so to sequences whose errors by anchors happen to lower it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ganmrf.design.bounds import Precision, precision_of
from ganmrf.design.combined import CombinedSignals
from ganmrf.design.signal_models import SignalModel, simulator_model
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TissueModel, parameters


class Verification(NamedTuple):
    """Bounds of one sequence.

    Attributes:
      claimed: by anchors.
      exact: by the simulator.
    """

    claimed: Precision
    exact: Precision

    def excess(self) -> dict[str, np.ndarray]:
        """By what share the claimed bounds of each parameter exceed the exact ones, of voxels where both are finite."""
        found = {}
        for name, exact in self.exact.stds.items():
            pairs = np.stack([np.ravel(self.claimed.stds[name]), np.ravel(exact)])
            claimed, exact = pairs[:, np.isfinite(pairs).all(axis=0)]
            found[name] = claimed / exact - 1
        return found

    @property
    def apart(self) -> float:
        """The largest share by which a bound differs; 0 where no bound is finite."""
        return max((float(np.abs(each).max()) for each in self.excess().values() if each.size), default=0.0)

    def words(self, tissue: TissueModel) -> str:
        """By how much the bounds of each parameter differ, in words: ``T1 by -0.3 to 1.2 %``."""
        facts = parameters(tissue)
        shares = {name: each for name, each in self.excess().items() if each.size}
        return ", ".join(f"{facts[n].name} by {100 * e.min():.2g} to {100 * e.max():.2g} %" for n, e in shares.items())


def exact_bounds(
    sequence: Fisp, tissue: TissueModel, names: tuple[str, ...], slice_profile: SliceModel | None
) -> Precision:
    """The bounds of `precision` with all states that matter; of tissue at few B1 in a slice sooner (`common_b1`)."""
    return precision_of(simulator_model(slice_profile=slice_profile, parameters=names)(sequence, tissue), tissue)


def verified(sequence: Fisp, model: SignalModel, exact: Precision, tissue: TissueModel) -> Verification:
    """The bounds of a sequence by a signal model, beside the exact ones."""
    return Verification(precision_of(model(sequence, tissue), tissue), exact)


def fewest_anchors(
    models: Sequence[CombinedSignals], tried: Sequence[tuple[Fisp, Precision]], share: float
) -> tuple[CombinedSignals, list[Verification]]:
    """The model of fewest anchors whose bounds are right.

    Args:
      models: the same but for their number of anchors, which rises, and the first of which are the same.
      tried: some sequences, and their `exact_bounds`.
      share: by which bounds may differ.

    Returns:
      The first model that keeps ``share`` for all sequences that are ``tried``, or else the last one; and its bounds of
      each of them.
    """
    tissue = models[-1].tissue
    signals = [models[-1].anchor_signals(sequence) for sequence, _ in tried]
    for model in models:
        found = [
            Verification(precision_of(model.combined(sequence, of_anchors), tissue), exact)
            for (sequence, exact), of_anchors in zip(tried, signals, strict=True)
        ]
        if max(each.apart for each in found) <= share:
            break
    return model, found
