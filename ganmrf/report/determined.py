"""Which values of refined maps the scan determines, by their standard deviations."""

import numpy as np

from ganmrf.dictionary.refine import Refined
from ganmrf.physics.tissue import TissueModel, parameters
from ganmrf.report.drawing import from_zero


def undetermined(refined: Refined, atoms: TissueModel, threshold: float) -> dict[str, np.ndarray]:
    """Where each fitted parameter is not determined by the scan, field -> bool, of the shape of the maps.

    That is where its standard deviation exceeds ``threshold`` times the value, or is not known. Of parameters that can
    be 0 or negative, of which a small value is known as well as a large one, it is ``threshold`` times the standard
    deviation that values spread evenly over the range of the dictionary's ``atoms`` have: what was known before.

    Args:
      refined: the maps with their error bars; those of magnitudes have none, and nothing counts as not determined.
      atoms: tissue of the dictionary.
      threshold: 1 is 100 %.
    """
    found, facts = {}, parameters(atoms)
    for name, std in refined.stds.items() if refined.has_error_bars else ():
        value = np.abs(refined.parameters[name])
        spread = float(np.ptp(getattr(atoms, name))) / np.sqrt(12)
        size = spread if from_zero(facts[name]) and spread else value
        found[name] = ~(std <= threshold * size)
    return found
