"""Many voxels, each with as many states as it needs, get the signals that each would get alone with all states."""

import numpy as np

from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.simulate_many import simulate_few, simulate_many
from ganmrf.physics.tissue import Tissue


def test_few_and_many_voxels_keep_the_accuracy_in_any_order():
    rng = np.random.default_rng(0)
    t1 = rng.uniform(0.2, 3, 101)  # no multiple of what is simulated together
    tissue = Tissue(t1, t1 * rng.uniform(0.01, 1, t1.size), rng.uniform(0.7, 1.3, t1.size))
    exact = np.asarray(simulate(mrf_fisp(150), tissue, n_states=76))
    for simulated in (simulate_few, simulate_many):
        signals = simulated(mrf_fisp(150), tissue, accuracy=1e-4)
        errors = np.linalg.norm(signals - exact, axis=1) / np.linalg.norm(exact, axis=1)
        assert errors.max() <= 1e-4
