"""Maps of one scan by dictionaries with other models of its slice: what it costs to assume them."""

from collections.abc import Mapping

from ganmrf.dictionary.match import Maps
from ganmrf.imaging.phantom import BRAIN_TISSUES, Brain
from ganmrf.metrics import TissueRow, tissue_table
from ganmrf.physics.slice_profile import FullSlice, SliceModel
from ganmrf.runs.simulation_config import SimulationConfig

FULL = "full"
_OTHERS = {"partitioned": "partitioned", "small tip": "small_tip"}  # as reports name them -> of --slice_model


def other_models(simulation: SimulationConfig) -> dict[str, SliceModel]:
    """Other models of a full slice, by name; none of another slice, or where the spoiler is too weak for them."""
    full = simulation.slice_profile()
    if not isinstance(full, FullSlice) or full.turns < 1:
        return {}
    return {name: simulation.with_slice(model).slice_profile() for name, model in _OTHERS.items()}


def errors_by_model(maps: Mapping[str, Maps], brain: Brain) -> dict[str, list[TissueRow]]:
    """Errors of the maps by each model against what the brain was made of, by tissue of the brain."""
    t1, t2 = brain.truth()
    names = {label: name for label, name in enumerate(brain.tissue_names) if name in BRAIN_TISSUES}
    return {model: tissue_table(t1, t2, each.t1, each.t2, brain.labels, names) for model, each in maps.items()}
