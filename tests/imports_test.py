"""The house's walls: imports point down only, and each heavy library has one room."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

from experiments.flags.jobs import job_modules

ROOT = pathlib.Path(__file__).parents[1]
FLOORS = [
    "pytrees",
    "settings",
    "messages",
    "progress",
    "memory",
    "matlab",
    "files",
    "parallel",
    "metrics",
    "physics",
    "dictionary",
    "gan",
    "anchors",
    "design",
    "imaging",
    "io",
    "scanner",
    "report",
    "stages",
    "scan_settings",
    "scan_reading",
    "scan_to_maps",
    "runs",
]
ABOVE_ALONE = {"design": {"imaging"}, "imaging": {"design"}, "io": {"imaging", "design"}, "report": {"io"}}
ONLY_IN = {
    "orbax": ("gan/checkpoint.py",),
    "flax": ("gan/networks.py",),
    "tensorstore": ("dictionary/zarr.py",),
    "h5py": ("matlab.py", "io/mrd"),
    "ismrmrd": ("io/mrd", "io/twix.py"),
    "twixtools": ("io/twix.py",),
    "pydicom": ("io/dicom",),
    "jax_finufft": ("imaging/nufft.py",),
    "finufft": ("imaging/nufft.py",),
    "matplotlib": ("report/",),
    "cmcrameri": ("report/",),
}
MODULES = sorted((ROOT / "ganmrf").rglob("*.py"))


def imported(path):
    """Full names of the modules a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    place = path.relative_to(ROOT / "ganmrf").as_posix()
    room = place.split("/")[0].removesuffix(".py")
    for name in imported(path):
        first, *rest = name.split(".")
        assert first != "experiments", f"{place} imports {name}"
        assert not name.startswith("absl.flags"), f"{place} imports {name}"
        if first in ONLY_IN:
            assert place.startswith(ONLY_IN[first]), f"{place} imports {name}"
        if name == "ganmrf":  # for its version
            assert room in ("io", "scanner", "report"), f"{place} imports {name}"
        elif first == "ganmrf" and room != "__init__" and rest[0] not in (room, "data"):
            below = FLOORS[: FLOORS.index(room)]
            assert rest[0] in below, f"{place} imports {name}"
            assert rest[0] not in ABOVE_ALONE.get(room, ()), f"{place} imports {name}"


def test_every_room_has_a_floor():
    rooms = {path.relative_to(ROOT / "ganmrf").parts[0].removesuffix(".py") for path in MODULES}
    assert rooms - {"__init__", "data"} <= set(FLOORS)


COMMANDS = sorted((ROOT / "experiments").glob("[!_]*.py"))
HELPERS = ["flags", "benchmarks", "evaluation", "reports", "studies"]  # a folder sees those before it, never a command


def test_only_commands_stand_at_the_top_of_experiments():
    assert {path.stem for path in COMMANDS} == {job for job in job_modules() if "." not in job}


@pytest.mark.parametrize("folder", HELPERS)
def test_helpers_do_not_import_commands(folder):
    for path in (ROOT / "experiments" / folder).glob("*.py"):
        for name in imported(path):
            if name.startswith("experiments."):
                assert name.split(".")[1] in HELPERS[: HELPERS.index(folder) + 1], f"{path} imports {name}"


def test_no_command_starts_a_device_before_it_has_read_its_flags():
    script = "import importlib; from experiments.flags.jobs import job_modules; "
    script += "[importlib.import_module(f'experiments.{job}') for job in job_modules()]"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "none such"})
    assert done.returncode == 0  # a device that there is not would have been an error
