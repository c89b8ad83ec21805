"""Chunks of work reach every device once, and an error in one of them is raised."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf import Tissue, build_dictionary, mrf_fisp
from ganmrf.parallel import bound_to, cores, run_chunks, workers
from tests.commands import ROOT

TWO_DEVICES = """
import sys
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from ganmrf import Tissue, build_dictionary, match, mrf_fisp
from ganmrf.dictionary.build import unit_fingerprints
from ganmrf.parallel import keep_compiled_programs, meshes, workers
from ganmrf.physics.engines import one_kernel
from ganmrf.physics.simulate_many import batched_simulator, plan_n_states

keep_compiled_programs()
assert len(set(workers())) == len(set(meshes())) == 2
t1 = np.linspace(0.3, 3, 900)
tissue = Tissue(t1=t1, t2=0.1 * t1)
dictionary = build_dictionary(mrf_fisp(60), tissue)
found = match(dictionary, np.repeat(dictionary.fingerprints, 3, axis=0), axis=-1).index
assert (found == np.repeat(np.arange(900), 3)).all()


def on_one_mesh(tissue, n_states):
    "As accelerators have it: both devices divide every call."
    mesh = jax.sharding.Mesh(jax.devices(), ("atoms",))
    planned = plan_n_states(mrf_fisp(60), tissue, n_states=n_states, accuracy=1e-4, slice_profile=None)
    fingerprints = np.full((tissue.size, 60), np.nan, np.float32)
    simulate = batched_simulator(unit_fingerprints, mrf_fisp(60), tissue, None, planned)
    for places, unit in simulate(np.arange(tissue.size), mesh):
        fingerprints[places] = unit[0]
    return fingerprints


shared = on_one_mesh(tissue, None)
one_kernel.OPTIONS["xla_cpu_no_such_option"] = True  # as on a backend that has only the ordinary form
one_kernel.works.cache_clear()
t1 = t1[:301]
ordinary = on_one_mesh(Tissue(t1=t1, t2=0.1 * t1, b1=np.linspace(0.8, 1.2, 301)), 31)
np.savez(sys.argv[1], two=dictionary.fingerprints, shared=shared, ordinary=ordinary)
"""


@pytest.mark.parametrize("wide", [False, True])
def test_every_chunk_is_run_once_in_the_callers_precision(wide):
    seen = []
    with jax.enable_x64(wide):
        run_chunks(lambda chunk, device: seen.append((chunk, device, jnp.ones(()).dtype)), range(7))
    assert sorted(chunk for chunk, *_ in seen) == list(range(7))
    assert {device for _, device, _ in seen} <= set(workers())
    assert {dtype for *_, dtype in seen} == {jnp.dtype("float64" if wide else "float32")}


def test_an_error_in_a_chunk_is_raised():
    def fail(chunk, device):
        raise RuntimeError(f"chunk {chunk} on {device}")

    with pytest.raises(RuntimeError, match="chunk 0"):
        run_chunks(fail, [0])


def test_two_devices_give_what_one_gives(tmp_path):
    subprocess.run([sys.executable, "-c", TWO_DEVICES, tmp_path / "fingerprints.npz"], check=True)
    found = np.load(tmp_path / "fingerprints.npz")
    t1 = np.linspace(0.3, 3, 900)
    one = build_dictionary(mrf_fisp(60), Tissue(t1=t1, t2=0.1 * t1))
    np.testing.assert_array_equal(found["two"], one.fingerprints)
    np.testing.assert_array_equal(found["shared"], one.fingerprints)
    # 301 atoms are no multiple of the devices; the ordinary form rounds otherwise.
    some = build_dictionary(mrf_fisp(60), Tissue(t1[:301], 0.1 * t1[:301], np.linspace(0.8, 1.2, 301)), n_states=31)
    np.testing.assert_allclose(found["ordinary"], some.fingerprints, atol=1e-6)


ONE_THREAD = """
import jax
import numpy as np
from ganmrf.parallel import start_on_one_thread

start_on_one_thread()
inputs, errors = (np.random.default_rng(0).standard_normal((384, width), np.float32) for width in (256, 64))
print(np.asarray(jax.jit(lambda inputs, errors: inputs.T @ errors)(inputs, errors)).tobytes().hex())
"""


def test_on_one_thread_a_product_has_the_same_bits_on_any_number_of_cores():
    """Of a gradient's shape, which two threads sum in two parts."""
    found = []
    for some in cores()[:1], cores():
        with bound_to(some):
            words = [sys.executable, "-c", ONE_THREAD]
            found.append(subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    assert found[0] == found[1] != ""
