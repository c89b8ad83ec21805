"""The machine: devices and cores that share work, and compiled programs that are kept."""

import concurrent.futures
import contextlib
import ctypes
import functools
import gc
import logging
import os
import pathlib
import sys
import warnings

import jax
import threadpoolctl
from jax.extend.backend import clear_backends

from ganmrf.files import make_folder
from ganmrf.progress import Progress

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ganmrf" / "compiled"
_XLA_THREADS = "PJRT_NPROC"  # variable of the environment; no flag of XLA's and no setting of JAX's does the same
_M_MMAP_THRESHOLD, _MMAP_BYTES = -3, 2**22  # of mallopt(3): larger arrays than these get pages of their own


def workers() -> list[jax.Device]:
    """The device of each worker: every local device once, or a lone CPU device once for each core it may use.

    XLA runs a scan of small steps on one core; several scans called from several threads run side by side.
    """
    devices = jax.local_devices()
    if len(devices) == 1 and devices[0].platform == "cpu":
        return devices * len(cores())
    return devices


def meshes() -> list[jax.sharding.Mesh]:
    """For work that is divided over the axis ``atoms`` of a mesh: the mesh of each worker.

    Accelerators share a mesh, and a second worker has the next chunk under way while the first fetches its results. On
    CPUs each worker has a mesh of its own device: XLA's CPU devices wait for each other in a shared program.
    """
    devices = workers()
    if devices[0].platform == "cpu":
        return [jax.sharding.Mesh([device], ("atoms",)) for device in devices]
    return [jax.sharding.Mesh(devices, ("atoms",))] * 2


def run_chunks(run, chunks, *, places=None, sizes=None, progress: str | None = None):
    """Calls ``run(chunk, place)`` for every chunk, each worker with its own place; returns when all are done.

    Args:
      run: the work; it must be safe to call from several threads.
      chunks: the pieces, handed out in order.
      places: the device or mesh of each worker; `workers` by default.
      sizes: how much each chunk counts in the progress bar; 1 by default.
      progress: label of a progress bar with an estimate of the time left, on stderr; None for none.
    """
    places = workers() if places is None else places
    wide = jax.config.jax_enable_x64

    def work(item):
        position, chunk = item
        place = places[position % len(places)]
        devices = [place] if isinstance(place, jax.Device) else list(place.devices.flat)
        with jax.enable_x64(wide), jax.default_device(devices[0]):
            run(chunk, place)
        return position

    sizes = [1] * len(chunks) if sizes is None else sizes
    with (
        concurrent.futures.ThreadPoolExecutor(len(places)) as pool,
        Progress(sum(sizes), progress, shown=progress is not None) as bar,
    ):
        futures = [pool.submit(work, item) for item in enumerate(chunks)]
        try:
            for future in concurrent.futures.as_completed(futures):
                bar.update(sizes[future.result()])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextlib.contextmanager
def one_blas_thread():
    """A context, or a decorator, in which BLAS keeps to one thread.

    A worker is a core, and more threads would wait for each other. Other numbers of threads round otherwise: what is
    decided or learned inside has the same bits on any number of cores.
    """
    with _blas().limit(limits=1, user_api="blas"):
        yield


def start_on_one_thread():
    """Has XLA run each program on one thread of a CPU, for the rest of the process; other devices stay as they are.

    XLA sums a large matrix product in as many parts as it has threads: with one, what is computed has the same bits on
    any number of cores. Networks as small as these train as fast, in fewer core-seconds. Nothing changes where arrays
    exist already.
    """
    if jax.default_backend() != "cpu" or jax.live_arrays():
        return
    clear_backends()
    before = os.environ.get(_XLA_THREADS)
    os.environ[_XLA_THREADS] = "1"
    try:
        jax.devices()  # which reads it
    finally:
        os.environ.pop(_XLA_THREADS)
        os.environ.update({} if before is None else {_XLA_THREADS: before})


@functools.cache
def _blas():
    """The libraries that are loaded; finding them takes milliseconds."""
    return threadpoolctl.ThreadpoolController()


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))


@contextlib.contextmanager
def bound_to(some):
    """Processes started inside have these cores alone, where the system lets one choose."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, some)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def compiled_programs() -> str | pathlib.Path | None:
    """The folder that `keep_compiled_programs` keeps them in; None where nothing can be kept."""
    if not jax.config.jax_enable_compilation_cache:
        return None
    if jax.config.jax_compilation_cache_dir is not None:
        return jax.config.jax_compilation_cache_dir
    try:
        return make_folder(CACHE.expanduser())
    except (ValueError, RuntimeError):  # no folder that can be written, or no home
        return None


def keep_compiled_programs():
    """Keeps this process's compiled programs in `CACHE`, and takes them from there.

    JAX's own variables go before: ``JAX_COMPILATION_CACHE_DIR`` names another folder, and
    ``JAX_ENABLE_COMPILATION_CACHE=false`` keeps nothing.
    """
    logging.getLogger("jax").setLevel(logging.WARNING)
    if (folder := compiled_programs()) is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # hundreds of small ones take seconds
    # One that another process is writing, or was killed while it wrote, is compiled as if it were not there.
    warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry")


def return_freed_memory():
    """Has the C library of Linux give freed arrays back to the system at once, for a job of many large ones.

    Otherwise arrays of up to 32 MB stay in a heap of the thread that made them: a quarter of the reproduction's peak.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)


def forget_compiled_programs():
    """Gives back the memory of the programs compiled so far, for a job of many; one needed again is read from `CACHE`.

    Those of the reproduction's training and timing hold 350 MB.
    """
    jax.clear_caches()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
