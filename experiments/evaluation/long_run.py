"""The curve of a long training of the paper's network: the one that is shipped, or that of a run's folder."""

import importlib.resources

from ganmrf.runs.configs import TrainingJob
from ganmrf.runs.workdir import read_config, read_records
from ganmrf.settings import flat

SHIPPED = importlib.resources.files("ganmrf.data") / "paper_network"
_COLUMNS = "train_error", "seconds"
_FREE = {"steps", "every"}  # fields in which a longer run may differ


def check_settings_of(folder, job: TrainingJob):
    """Raises `ValueError` where a folder does not hold a run of the same settings as ``job``, and names those."""
    stored, wanted = flat(read_config(folder, job)), flat(job)
    others = [name for name, value in wanted.items() if name not in _FREE and stored[name] != value]
    if others:
        differences = ", ".join(f"{name} = {stored[name]}, not {wanted[name]}" for name in others)
        raise ValueError(f"{folder} was trained with {differences}")


def check_long_run(folder, job: TrainingJob):
    """Raises `ValueError` where a folder does not hold records of a run of the same settings as ``job``."""
    try:
        check_settings_of(folder, job)
        if not read_records(folder, _COLUMNS):
            raise ValueError(f"{folder} has no record yet")
    except ValueError as error:
        raise ValueError(f"long_run: {error}") from error


def long_run_rows(folder, job: TrainingJob) -> list[dict] | None:
    """Records of the run in a folder, or of the shipped one: None where ``job`` has other settings than that."""
    if folder is None:
        folder = SHIPPED
        try:
            check_long_run(folder, job)
        except ValueError:
            return None
    return read_records(folder, _COLUMNS)
