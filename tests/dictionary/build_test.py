"""A dictionary holds each atom's own fingerprint, to the accuracy asked for."""

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.physics.bloch import isochromat_signal
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.tissue import Tissue


@pytest.fixture(scope="module")
def dictionary():
    return build_dictionary(mrf_fisp(200), tissue_grid("coarse"))


def test_rows_are_unit_fingerprints_of_their_atoms(dictionary):
    assert dictionary.fingerprints.shape == (297, 200)
    assert dictionary.fingerprints.dtype == np.float32
    reference = (1j * isochromat_signal(dictionary.sequence, dictionary.tissue)).real
    signals = dictionary.fingerprints * dictionary.norms[:, None]
    error = np.linalg.norm(signals - reference, axis=1) / np.linalg.norm(reference, axis=1)
    assert error.max() <= 1e-4  # the accuracy asked for
    np.testing.assert_allclose(np.linalg.norm(dictionary.fingerprints, axis=1), 1, rtol=3e-7)  # float32


def test_silent_atoms_are_refused():
    sequence = Sequence(flip_angle=np.zeros(5), repetition_time=0.01, echo_time=0.002)
    with pytest.raises(ValueError, match=r"atom 0 \(T1 1 s, T2 0.1 s\) has no signal"):
        build_dictionary(sequence, Tissue(t1=[1.0], t2=[0.1]))
