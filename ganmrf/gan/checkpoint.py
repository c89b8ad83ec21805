"""Checkpoints of a training run: whole, checked, and readable on any device."""

import contextlib
import logging
import pathlib
import shutil
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Container

import jax
import numpy as np
import orbax.checkpoint as ocp

_KEPT = 3  # the newest ones
_PATIENCE_S = 10  # with a thread of Orbax whose save has failed


class Checkpoints:
    """The newest checkpoints of one run, each a folder in one folder; a context manager.

    Every checkpoint holds the leaves of a pytree as host arrays, with their shapes, dtypes and checksums. Orbax writes
    a checkpoint under a temporary name and renames it when it is whole.
    """

    def __init__(self, folder, *, read_only: bool = False):
        """Opens a folder, and makes it where it is missing; ``read_only`` changes nothing in it.

        Whoever holds the lock of the run may write. Others read, also while checkpoints come and go.
        """
        for name in ("absl", "asyncio"):  # Orbax logs all that it writes, and what it raises
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if not isinstance(sys.unraisablehook, _WithoutLateReads):
            sys.unraisablehook = _WithoutLateReads(sys.unraisablehook)
        self._folder, self._read_only, self._failed = pathlib.Path(folder).absolute(), read_only, None
        if self._folder.exists() and not self._folder.is_dir():
            raise ValueError(f"{self._folder} must be a folder of checkpoints")
        options = {"save_interval_steps": 0, "create": False} if read_only else {"max_to_keep": _KEPT}
        # Lightly: it does not look into checkpoints, which the run that is under way may remove meanwhile.
        options |= {"read_only": read_only, "cleanup_tmp_directories": not read_only, "lightweight_initialize": True}
        self._manager = ocp.CheckpointManager(
            self._folder, options=ocp.CheckpointManagerOptions(enable_async_checkpointing=False, **options)
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            self._manager.close()
        except Exception:
            if self._failed is None:  # otherwise the error of the save, once more
                raise
        if self._failed is not None:
            self._remove_unfinished()

    def save(self, step: int, state):
        """Writes a checkpoint; when it returns, the checkpoint is on disk.

        Args:
          step: number of the checkpoint, above those of all earlier checkpoints.
          state: a pytree of arrays.

        Raises:
          ValueError: the checkpoint cannot be written, as on a full disk; earlier checkpoints stay as they are.
        """
        leaves = _leaves(state)
        facts = {name: _facts(leaf) | {"crc32": zlib.crc32(leaf.tobytes())} for name, leaf in leaves.items()}
        before = set(threading.enumerate())
        hook, threading.excepthook = threading.excepthook, lambda _: None  # what ends a thread of Orbax is raised here
        try:
            self._manager.save(
                step, args=ocp.args.Composite(state=ocp.args.StandardSave(leaves), facts=ocp.args.JsonSave(facts))
            )
        except Exception as error:  # Orbax passes on errors of its storage, of many types
            self._failed = set(threading.enumerate()) - before
            raise ValueError(f"cannot write checkpoint {self._folder / str(step)}: {_line(error)}") from error
        finally:
            threading.excepthook = hook

    def restore(self, like, recorded: Container[int] | None = None):
        """The newest checkpoint that can be used, on the default device; newer ones are told of, and removed.

        Args:
          like: a pytree with the shapes and dtypes that the checkpoint must have.
          recorded: steps that the run has records of: a checkpoint of another step is not used. None: all.

        Returns:
          (step, state), or None where there is no checkpoint.

        Raises:
          ValueError: no checkpoint is whole and of this architecture; the message says why the newest is not.
        """
        while steps := self._steps():
            unusable = {}
            for step in steps:
                try:
                    if recorded is not None and step not in recorded:
                        raise _UnusableError("without a record of its step")
                    leaves = self._read(step, like)
                except _UnusableError as error:
                    if self._read_only and self._steps() != steps:  # the run is under way, and has newer ones
                        break
                    unusable[step] = f"checkpoint {self._folder / str(step)} is {error}"
                    continue
                for newer, why in unusable.items():
                    warnings.warn(f"{why}: using an earlier one", stacklevel=2)
                    if not self._read_only:
                        self._manager.delete(newer)
                return step, jax.tree.unflatten(jax.tree.structure(like), [jax.device_put(leaf) for leaf in leaves])
            else:
                raise ValueError(f"{unusable[steps[0]]}; no other can be used: remove {self._folder} to start again")
        return None

    def _remove_unfinished(self):
        """Removes what a save that failed has written, when the threads that Orbax began for the save have ended."""
        for thread in self._failed:
            with contextlib.suppress(Exception):  # a thread of Orbax raises again what has ended it
                thread.join(_PATIENCE_S)
        for _ in range(10):  # the storage below the threads may write on for a while
            for unfinished in self._folder.glob("*.orbax-checkpoint-tmp"):
                shutil.rmtree(unfinished, ignore_errors=True)
            time.sleep(0.05)

    def _steps(self):
        """The steps of all checkpoints that are there now, the newest first."""
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted((int(path.name) for path in found if path.name.isdecimal() and path.is_dir()), reverse=True)

    def _read(self, step, like):
        expected = {name: _facts(leaf) for name, leaf in _leaves(like).items()}
        try:
            facts = self._manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore()))["facts"]
            found = {name: {key: fact[key] for key in ("shape", "dtype")} for name, fact in facts.items()}
            checksums = {name: fact["crc32"] for name, fact in facts.items()}
        except Exception as error:  # of Orbax or its storage, of many types; or facts that are no facts
            raise _UnusableError(f"damaged ({_line(error)})") from error
        for name in expected | found:
            if found.get(name) != expected.get(name):
                other, own = (kind.get(name, "nothing") for kind in (found, expected))
                raise _UnusableError(f"of another architecture: {name} is {other}, expected {own}")
        try:
            target = {name: np.empty(fact["shape"], fact["dtype"]) for name, fact in expected.items()}
            restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
        except Exception as error:
            raise _UnusableError(f"damaged ({_line(error)})") from error
        leaves = {name: np.asarray(restored["state"][name]) for name in expected}
        for name, leaf in leaves.items():
            if zlib.crc32(leaf.tobytes()) != checksums[name]:
                raise _UnusableError(f"damaged (the checksum of {name} is wrong)")
        return leaves.values()


class _WithoutLateReads:
    """A hook for errors that nobody can catch, without those of reads that Orbax left to a loop which it had closed.

    Orbax reads all arrays of a checkpoint at once, and raises the error of the first that is damaged.
    """

    def __init__(self, hook):
        self._hook = hook

    def __call__(self, unraisable):
        if "Event loop is closed" not in str(unraisable.exc_value):
            self._hook(unraisable)


class _UnusableError(Exception):
    """What a checkpoint is that cannot be used."""


def _leaves(tree):
    keyed, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(key, simple=True, separator="."): np.asarray(leaf) for key, leaf in keyed}


def _facts(leaf):
    return {"shape": list(leaf.shape), "dtype": leaf.dtype.name}


def _line(error):
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= 200 else f"{line[:80]} ... {line[-115:]}"  # an error's reason comes last
