"""Errors of maps of any parameter against what the digital brain was made of, by tissue, beside their bounds."""

import numpy as np

from ganmrf.dictionary.match import Maps
from ganmrf.dictionary.refine import Refined
from ganmrf.imaging.phantom import BRAIN_TISSUES, Brain
from ganmrf.physics.tissue import TissueModel
from ganmrf.runs.tissues import OF_ONE_POOL


def further_parameters(maps: Maps, refined: Refined | None, atoms: TissueModel) -> list[str]:
    """Fields of a second pool that were estimated: fitted, or of several values among the atoms."""
    fitted = () if refined is None else refined.stds
    return [
        name for name in maps.parameters if name not in OF_ONE_POOL and (name in fitted or np.ptp(getattr(atoms, name)))
    ]


def errors_of_parameters(names, maps: Maps | Refined, brain: Brain) -> list[dict]:
    """A row for each parameter and tissue of the brain, of voxels that the tissue fills to 95 %.

    ``true`` is the mean truth, ``bias`` and ``rmse`` are those of the maps, and ``bound`` is the median standard
    deviation of refined maps by the Cramer-Rao bound, None without: all absolute, SI.
    """
    truths, rows = brain.truths(), []
    for name in names:
        bounds = getattr(maps, "stds", {}).get(name)
        for label, tissue in enumerate(brain.tissue_names):
            here = (brain.labels == label) & brain.brain_mask
            if tissue not in BRAIN_TISSUES or not here.any():
                continue
            true, wrong = truths[name][here], maps.parameters[name][here] - truths[name][here]
            row = {"parameter": name, "tissue": tissue, "voxels": int(here.sum()), "true": float(true.mean())}
            row |= {"bias": float(wrong.mean()), "rmse": float(np.sqrt(np.mean(wrong**2)))}
            rows.append(row | {"bound": None if bounds is None else _finite(np.median(bounds[here]))})
    return rows


def _finite(number):
    """A number as JSON holds it: None where nothing determines it."""
    return float(number) if np.isfinite(number) else None
