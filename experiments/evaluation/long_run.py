"""The curve of a long training of the paper's network: the one that is shipped, or that of a run's folder."""

import importlib.resources
from typing import NamedTuple

from ganmrf.dictionary.slice_fields import same_slice
from ganmrf.runs.slices import OF_SLICE, slice_words
from ganmrf.runs.training_config import TrainingJob
from ganmrf.runs.workdir import read_config, read_records
from ganmrf.settings import flat

SHIPPED = importlib.resources.files("ganmrf.data") / "paper_network"
_COLUMNS = "train_error", "seconds"
_FREE = frozenset({"steps", "every"})  # fields in which a longer run may differ


class LongRun(NamedTuple):
    """A longer run of the paper's network.

    Attributes:
      rows: its records.
      slice_profile: the slice of its dictionary in words where that is another one, else empty.
    """

    rows: list[dict]
    slice_profile: str


def check_settings_of(folder, job: TrainingJob, free: frozenset[str] = _FREE):
    """Raises `ValueError` where a folder does not hold a run of the same settings as ``job``, and names those.

    ``free`` are names of settings that may differ.
    """
    stored, wanted = flat(read_config(folder, job)), flat(job)
    others = [name for name, value in wanted.items() if name not in free and stored[name] != value]
    if others:
        differences = ", ".join(f"{name} = {stored[name]}, not {wanted[name]}" for name in others)
        raise ValueError(f"{folder} was trained with {differences}")


def check_long_run(folder, job: TrainingJob):
    """Raises `ValueError` where a folder does not hold records of a run of the same settings as ``job``.

    The slice may be another one: reports name it.
    """
    try:
        check_settings_of(folder, job, _FREE.union(OF_SLICE))
        if not read_records(folder, _COLUMNS):
            raise ValueError(f"{folder} has no record yet")
    except ValueError as error:
        raise ValueError(f"long_run: {error}") from error


def read_long_run(folder, job: TrainingJob) -> LongRun | None:
    """The run in a folder, or the shipped one: None where ``job`` has other settings than that but for its slice."""
    if folder is None:
        folder = SHIPPED
        try:
            check_long_run(folder, job)
        except ValueError:
            return None
    own = read_config(folder, job)
    profile = own.simulation.slice_profile()
    differs = not same_slice(profile, job.simulation.slice_profile())
    return LongRun(read_records(folder, _COLUMNS), slice_words(profile) if differs else "")
