"""Settings of the whole suite: shapes must agree without hidden broadcasting, examples repeat, programs are kept."""

import gc
import os

import hypothesis
import jax
import pytest

from ganmrf.parallel import keep_compiled_programs

# XLA compiles programs in half the time, and they run as fast, with its older code for fused operations and the first
# level of LLVM's optimisations. A command in a process of its own has them, too. Other versions may not know the flags,
# and would end on them.
if jax.__version_info__ < (0, 11):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1")
keep_compiled_programs()
jax.config.update("jax_numpy_rank_promotion", "raise")
# Programs of thousands of operations are traced: of their objects, which live on, Python would look through all again
# and again, a hundred times as often as here. And each operation would carry the lines of code that it came from.
gc.set_threshold(70_000, 10, 10)
jax.config.update("jax_traceback_in_locations_limit", 0)
hypothesis.settings.register_profile("ganmrf", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("ganmrf")


@pytest.fixture(scope="module")
def quick_compiler():
    """Programs that are compiled with few optimisations: for files of tests that compile longer than they run."""


@pytest.fixture(scope="module", autouse=True)
def optimisations(request):
    """Few where a file of tests uses `quick_compiler`, else as usual; one file after another as long as both agree.

    Programs of other optimisations are forgotten first: JAX would go on using them, and a command in this process would
    then differ in its last digits from the same command in a process of its own.
    """
    quickly = any("quick_compiler" in mark.args for mark in request.node.iter_markers("usefixtures"))
    if quickly == jax.config.read("jax_disable_most_optimizations"):
        return
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quickly))  # for the processes that a command starts
    jax.config.update("jax_disable_most_optimizations", quickly)
    jax.clear_caches()
