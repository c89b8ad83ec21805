"""Chunks of work reach every device once, and what goes wrong in one is heard."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf import Tissue, build_dictionary, mrf_fisp
from ganmrf.parallel import run_chunks, workers

TWO_DEVICES = """
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from ganmrf import Tissue, build_dictionary, match, mrf_fisp
from ganmrf.dictionary import build
from ganmrf.physics import one_kernel
from ganmrf.parallel import meshes, workers
assert len(set(workers())) == len(set(meshes())) == 2
t1 = np.linspace(0.3, 3, 900)
dictionary = build_dictionary(mrf_fisp(60), Tissue(t1=t1, t2=0.1 * t1))
found = match(dictionary, np.repeat(dictionary.fingerprints, 3, axis=0), axis=-1).index
assert (found == np.repeat(np.arange(900), 3)).all()
np.save("{path}", dictionary.fingerprints)

build.meshes = lambda: [jax.sharding.Mesh(jax.devices(), ("atoms",))] * 2  # as accelerators have it
shared = build_dictionary(mrf_fisp(60), Tissue(t1=t1, t2=0.1 * t1))
np.testing.assert_array_equal(shared.fingerprints, dictionary.fingerprints)
one_kernel.works = lambda: False
tissue = Tissue(t1=t1[:301], t2=0.1 * t1[:301], b1=np.linspace(0.8, 1.2, 301))
np.save("{ordinary}", build_dictionary(mrf_fisp(60), tissue, n_states=31).fingerprints)
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
    two, ordinary = tmp_path / "two.npy", tmp_path / "ordinary.npy"
    subprocess.run([sys.executable, "-c", TWO_DEVICES.format(path=two, ordinary=ordinary)], check=True)
    t1 = np.linspace(0.3, 3, 900)
    one = build_dictionary(mrf_fisp(60), Tissue(t1=t1, t2=0.1 * t1))
    np.testing.assert_array_equal(np.load(two), one.fingerprints)
    # 301 atoms are no multiple of the devices; the ordinary form rounds otherwise.
    some = build_dictionary(mrf_fisp(60), Tissue(t1[:301], 0.1 * t1[:301], np.linspace(0.8, 1.2, 301)), n_states=31)
    np.testing.assert_allclose(np.load(ordinary), some.fingerprints, atol=1e-6)
