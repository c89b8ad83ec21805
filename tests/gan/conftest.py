"""A small dictionary to learn from."""

import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.physics.sequences.published import mrf_fisp


@pytest.fixture(scope="session")
def dictionary():
    """297 atoms of 60 frames."""
    return build_dictionary(mrf_fisp(60), tissue_grid("coarse"))
