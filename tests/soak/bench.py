"""Small jobs, the files that they read, and their undisturbed results."""

import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Callable

import nibabel
import numpy as np
import scipy.io

from experiments.__main__ import main
from ganmrf import mrf_fisp
from ganmrf.files import read_arrays
from ganmrf.io.schedule import write_schedule
from tests.soak.running import Outcome, run
from tests.soak.verdicts import contents, differing

_SMALL = "--frames=60 --grid=coarse"
_ANCHORS = "--anchors=16 --sequences=4 --candidates=256 --tissues=256 --refit_tissues=256 --batch_size=32"
_MATCH = "--method=frames --norefine --signal_threshold=0 --output=o"
_FEW = "--t1_ms=500:1500:500 --t2_ms=50:100:50"
_SHAPE = 7, 6, 5  # z, y, x of the image series


@dataclasses.dataclass(frozen=True)
class Job:
    """A command, the inputs that it finds in its folder, and what there it makes, a file or a folder."""

    line: str
    inputs: tuple[str, ...] = ()
    output: str = "o"

    @property
    def words(self) -> list[str]:
        """Name and flags of the command."""
        return self.line.split()


# Inputs by name: the job whose output they are, or a function of the bench that writes a file there.
_MADE = {
    "d.npz": Job(f"simulate_dictionary --output=o.npz {_SMALL}", output="o.npz"),
    "d.mat": Job(f"simulate_dictionary --output=o.mat {_SMALL}", output="o.mat"),
    "d.zarr": Job(f"simulate_dictionary --output=o.zarr --chunk_atoms=64 {_SMALL}", output="o.zarr"),
    "mrf.seq": Job("export_pulseq --output=o.seq --frames=40 --size=64 --interleaves=16", output="o.seq"),
    "scan.h5": Job("simulate_acquisition --output=o.h5 --size=32 --frames=60 --coils=2 --interleaves=8", output="o.h5"),
    "trained": Job(f"train --workdir=o --steps=80 --every=20 --width=16 {_SMALL}"),
    "anchored": Job(f"train_anchored --workdir=o --frames=60 {_ANCHORS} --steps=60 --width=16 --depth=2"),
    "mapped": Job("reconstruct_maps --input=scan.h5 --grid=coarse --iterations=2 --output=o", ("scan.h5",)),
    "generator.npz": lambda bench, path: shutil.copy(bench.input("trained") / "generator.npz", path),
    "any.npz": lambda bench, path: shutil.copy(bench.input("anchored") / "generator.npz", path),
    "s.csv": lambda _, path: write_schedule(path, mrf_fisp(40)),
    "images.npz": lambda bench, path: np.savez(path, images=bench.images()),
    "images.mat": lambda bench, path: scipy.io.savemat(path, {"images": np.moveaxis(bench.images(), 0, -1)}),
    "images.nii.gz": lambda bench, path: _save(path, bench.images().T),
    "mask.nii.gz": lambda _, path: _save(path, np.ones(_SHAPE, np.uint8).T),
}
# Jobs that parts disturb: those of KILLED go on where they were, the others begin again.
KILLED = {
    "train": Job(f"train --workdir=o --steps=200 --every=20 --width=16 {_SMALL}"),
    "zarr": Job("simulate_dictionary --output=o.zarr --frames=100 --rank=20 --chunk_atoms=256", output="o.zarr"),
    "design": Job("design_sequence --workdir=o --frames=40 --steps=60 --starts=2 --draws=20 --brain_size=48"),
    "maps": _MADE["mapped"],
}
JOBS = (
    KILLED
    | {
        "npz": Job("simulate_dictionary --output=o.npz --frames=100 --rank=20", output="o.npz"),
        "mat": _MADE["d.mat"],
        "seq": _MADE["mrf.seq"],
        "generated": Job(
            f"generate_dictionary --generator=generator.npz {_FEW} --output=o.npz", ("generator.npz",), "o.npz"
        ),
        "prepared": Job(
            f"generate_dictionary --generator=any.npz --allow_error=1 {_FEW} --output=o.npz", ("any.npz",), "o.npz"
        ),
        "from csv": Job(f"simulate_dictionary --schedule=s.csv {_FEW} --output=o.npz", ("s.csv",), "o.npz"),
        "from seq": Job(f"simulate_dictionary --schedule=mrf.seq {_FEW} --output=o.npz", ("mrf.seq",), "o.npz"),
        "resumed": Job("train --workdir=trained", ("trained",), "trained/generator.npz"),
        "gone on": Job("reconstruct_maps --input=scan.h5 --output=mapped", ("scan.h5", "mapped"), "mapped"),
    }
    | {
        f"{series} by {atoms}": Job(
            f"reconstruct_maps --input={series} --mask=mask.nii.gz --dictionary={atoms} {_MATCH}",
            (series, "mask.nii.gz", atoms),
        )
        for series, atoms in (("images.nii.gz", "d.npz"), ("images.npz", "d.mat"), ("images.mat", "d.zarr"))
    }
)


class Bench:
    """A folder in which jobs run, each in a folder of its own; `ValueError` for one that fails undisturbed."""

    def __init__(self, folder: pathlib.Path):
        self._folder, self._count = folder, 0

    def fresh(self, inputs: tuple[str, ...] = ()) -> pathlib.Path:
        """A new folder with copies of some inputs."""
        sources = [self.input(name) for name in inputs]
        self._count += 1
        folder = self._folder / f"case-{self._count}"
        folder.mkdir(parents=True)
        for name, source in zip(inputs, sources, strict=True):
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
        return folder

    def remove(self, folder: pathlib.Path):
        """Removes such a folder, and what was said in it."""
        for path in folder.parent.glob(f"{folder.name}.*"):
            path.unlink()
        shutil.rmtree(folder)

    def run(self, job: Job, folder: pathlib.Path, **disturbance) -> Outcome:
        """Runs a job in a folder; ``disturbance`` as `running.run` has it."""
        return run(main, job.words, folder, **disturbance)

    def input(self, name: str) -> pathlib.Path:
        """A valid file or folder, made when it is asked for first."""
        path, made = self._folder / "inputs" / name, _MADE[name]
        if not path.exists():
            path.parent.mkdir(exist_ok=True, parents=True)
            if isinstance(made, Callable):
                made(self, path)
            else:
                self._whole(made, lambda folder: shutil.move(folder / made.output, path))
        return path

    @functools.cache  # noqa: B019 (one bench lives as long as the process)
    def undisturbed(self, job: Job) -> tuple[dict, int]:
        """What a job makes that nothing disturbs, and how many files it changes."""
        outcome, made = self._whole(job, lambda folder: contents(folder / job.output))
        return made, outcome.changes

    @functools.cache  # noqa: B019 (as above)
    def core_seconds(self, job: Job) -> float:
        """Core time in s of a job whose programs are compiled; raises `ValueError` where it makes something else."""
        made, _ = self.undisturbed(job)
        outcome, again = self._whole(job, lambda folder: contents(folder / job.output))
        if wrong := differing(made, again):
            raise ValueError(f"two undisturbed runs of ganmrf {job.line} differ in {', '.join(wrong)}")
        return outcome.seconds

    @functools.cache  # noqa: B019 (as above)
    def images(self) -> np.ndarray:
        """A series of images of atoms of the dictionary, (frames, z, y, x)."""
        arrays = read_arrays(self.input("d.npz"))
        atoms = np.random.default_rng(0).integers(0, len(arrays["norms"]), _SHAPE)
        return np.moveaxis((arrays["dictionary"] * arrays["norms"][:, None])[atoms], -1, 0)

    def _whole(self, job, take):
        """The outcome of a job in a folder of its own, and what ``take`` finds there."""
        folder = self.fresh(job.inputs)
        outcome = self.run(job, folder)
        if outcome.code != 0:
            said = outcome.stderr.strip().rpartition("\n")[2]
            raise ValueError(f"ganmrf {job.line} ends with exit code {outcome.code}, {said[:200]!r} on stderr")
        taken = take(folder)
        self.remove(folder)
        return outcome, taken


def _save(path, values):
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0])), path)
