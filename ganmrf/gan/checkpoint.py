"""Checkpoints of a training run: whole, checked, and readable on any device."""

import logging
import pathlib
import warnings
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

_KEPT = 3  # the newest ones


class Checkpoints:
    """The newest checkpoints of one run, each a folder in one folder; a context manager.

    Every checkpoint holds the leaves of a pytree as host arrays, with their shapes, dtypes and checksums. Orbax writes
    a checkpoint under a temporary name and renames it when it is whole.
    """

    def __init__(self, folder):
        """Opens a folder, and makes it where it is missing."""
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax logs every file that it writes
        self._folder = pathlib.Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._manager.close()

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
        try:
            self._manager.save(
                step, args=ocp.args.Composite(state=ocp.args.StandardSave(leaves), facts=ocp.args.JsonSave(facts))
            )
        except Exception as error:  # Orbax passes on errors of its storage, of many types
            raise ValueError(f"cannot write checkpoint {self._folder / str(step)}: {_line(error)}") from error

    def restore(self, like):
        """The newest whole checkpoint, on the default device; damaged checkpoints are skipped with a warning.

        Args:
          like: a pytree with the shapes and dtypes that the checkpoint must have.

        Returns:
          (step, state), or None where there is no checkpoint.

        Raises:
          ValueError: a checkpoint of another architecture (the message names the first leaf that differs), or only
            damaged checkpoints.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                leaves = self._read(step, like)
            except _DamagedError as error:
                warnings.warn(
                    f"checkpoint {self._folder / str(step)} is damaged ({error}): using an earlier one", stacklevel=2
                )
                self._manager.delete(step)
                continue
            state = jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(leaf) for leaf in leaves])
            return step, state
        if steps:
            raise ValueError(f"{self._folder}: every checkpoint is damaged; remove the folder to start again")
        return None

    def _read(self, step, like):
        expected = {name: _facts(leaf) for name, leaf in _leaves(like).items()}
        try:
            facts = self._manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore()))["facts"]
        except Exception as error:
            raise _DamagedError(_line(error)) from error
        for name in expected | facts:
            found = {key: facts[name][key] for key in ("shape", "dtype")} if name in facts else "nothing"
            if found != expected.get(name, "nothing"):
                raise ValueError(
                    f"checkpoint {self._folder / str(step)} is of another architecture: {name} is {found}, expected "
                    f"{expected.get(name, 'nothing')}"
                )
        try:
            target = {name: np.empty(fact["shape"], fact["dtype"]) for name, fact in expected.items()}
            restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
        except Exception as error:
            raise _DamagedError(_line(error)) from error
        leaves = {name: np.asarray(restored["state"][name]) for name in expected}
        for name, leaf in leaves.items():
            if zlib.crc32(leaf.tobytes()) != facts[name]["crc32"]:
                raise _DamagedError(f"the checksum of {name} is wrong")
        return leaves.values()


class _DamagedError(Exception):
    """A checkpoint that cannot be read whole."""


def _leaves(tree):
    keyed, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(key, simple=True, separator="."): np.asarray(leaf) for key, leaf in keyed}


def _facts(leaf):
    return {"shape": list(leaf.shape), "dtype": leaf.dtype.name}


def _line(error):
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= 200 else f"{line[:80]} ... {line[-115:]}"  # an error's reason comes last
