"""The curve of a long training of the paper's network: the one that is shipped, or that of a run's folder."""

import importlib.resources

from ganmrf.runs.configs import TrainingJob
from ganmrf.runs.workdir import read_config, read_records
from ganmrf.settings import flat

SHIPPED = importlib.resources.files("ganmrf.data") / "paper_network"
_FREE = {"steps", "every"}  # fields in which a longer run may differ


def check_long_run(folder, job: TrainingJob):
    """Raises `ValueError` where a folder does not hold a run of the same settings as ``job``, and names the first."""
    stored, wanted = flat(read_config(folder, job)), flat(job)
    for name, value in wanted.items():
        if name not in _FREE and stored[name] != value:
            raise ValueError(f"long_run: {folder} was trained with {name} = {stored[name]}, not {value}")
    if not read_records(folder):
        raise ValueError(f"long_run: {folder} has no record yet")


def long_run_rows(folder, job: TrainingJob) -> list[dict] | None:
    """Records of the run in a folder, or of the shipped one: None where ``job`` has other settings than that."""
    if folder is None:
        folder = SHIPPED
        try:
            check_long_run(folder, job)
        except ValueError:
            return None
    return read_records(folder, ("train_error", "seconds"))
