"""MR fingerprinting in JAX: simulate, match and learn dictionaries.

The names below are the public core; everything else is imported from its room, such as `ganmrf.dictionary.compress`.
"""

__version__ = "0.1.0"

from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.dictionary.match import Maps, match
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import Tissue

__all__ = [
    "Dictionary",
    "Maps",
    "Fisp",
    "FullSlice",
    "Tissue",
    "build_dictionary",
    "match",
    "mrf_fisp",
    "simulate",
    "tissue_grid",
    "windowed_sinc",
]
