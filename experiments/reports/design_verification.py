"""What a search by anchors has found, beside what the simulator says of it."""

import numpy as np

from ganmrf.physics.tissue import TissueModel, parameters
from ganmrf.report.html import Section, Table
from ganmrf.runs.designing import Design


def verification_table(found: Design, tissue: TissueModel) -> Table:
    """Bounds of the design by its anchors and by the simulator, over all voxels of the tissue that it was made for."""
    facts, rows = parameters(tissue), []
    excess = found.verification.excess()
    for name, exact in found.verification.exact.stds.items():
        both = (np.asarray(each)[np.isfinite(each)] for each in (found.verification.claimed.stds[name], exact))
        unit = 1 if facts[name].signed else 100
        cells = [f"{unit * reduce(each):.4g}" for each in both for reduce in (np.median, np.max)]
        rows.append((facts[name].name, *cells, f"{100 * np.abs(excess[name]).max():.2g}"))
    of = f"{tissue.size} voxels"
    columns = (
        "Bound (%)",
        "median, anchors",
        "largest, anchors",
        "median, simulator",
        "largest, simulator",
        "apart (%)",
    )
    caption = (
        f"Bounds of {of} at M0 = noise by the {found.n_anchors} anchors of the search, and by the simulator; the last "
        "column is the largest difference of one voxel"
    )
    return Table(columns, rows, caption)


def verification_section(found: Design, tissue: TissueModel) -> Section:
    """The section of the report on a search by anchors."""
    words = (
        f"The search has simulated {found.n_anchors} anchors in place of {tissue.size} voxels and their derivatives."
    )
    tables = [] if found.verification is None else [verification_table(found, tissue)]
    return Section("Signals by anchors", f"{words} Everything else in this report is by the simulator.", tables=tables)
