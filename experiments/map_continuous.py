"""From an image series to maps of every axis of a generator, T1, T2, B1, pools and all, with error bars and no grid.

Example::

    ganmrf map_continuous --input=images.nii.gz --generator=runs/anchored/generator.npz --schedule=mrf.seq --output=maps
    ganmrf map_continuous --input=images.nii.gz --generator=runs/anchored/generator.npz --b1_map=b1.nii.gz --output=maps
    ganmrf map_continuous --input=images.nii.gz --generator=runs/semisolid/generator.npz --known=t1_b:0.34 --output=maps

The generator is one that `train_anchored` made, of any kind but a table. Its anchors are simulated under the sequence
that was played, ``--schedule`` or the paper's, and the error is told: a sequence whose largest error is above
``--allow_error`` is refused. Then all axes of its box and M0 are fitted in every voxel with signal, or of ``--mask``,
but for what is known: ``--known`` gives numbers in SI units, ``--b1_map`` and ``--b0_map`` maps, and a voxel where
these lie beyond the box is left out. Up to ``--starts`` atoms of some thousands that are generated start the fit of a
voxel. The slice is that of a .seq schedule, or else that of the generator, unless ``--slice_model`` and ``--rf_pulse``
name one; pulses that saturate a semisolid pool are those of the schedule or of the slice, or ``--pulse_duration_ms``.

An image series is ``.nii``, ``.nii.gz``, ``.npz``, ``.npy``, ``.mat``, or a folder of DICOM files, complex or signed:
magnitudes are refused. Error bars are Cramer-Rao bounds at the noise that the residuals show, or ``--noise``. What is
not in them, the errors of the generator, is simulated in some of the voxels, and the report has it in units of the
error bars. Called again with the same folder, the command goes on where it was cut off.
"""

import pathlib
import warnings

import numpy as np

from experiments.evaluation.continuous import OF_MAPS, Continuous, map_series
from experiments.flags.command_line import command
from experiments.flags.config import check_apart
from experiments.reports.continuous import bias_words, ends_words, write_continuous_report
from experiments.reports.map_files import folder_of_maps, write_map_files
from experiments.reports.scan import medians_of, terminal_words, undetermined_shares
from ganmrf.anchors.continuous import N_STARTS
from ganmrf.files import write_json
from ganmrf.io.maps import describe, file_stem
from ganmrf.physics.tissue import FACTS
from ganmrf.runs.preparation_config import PreparationConfig
from ganmrf.runs.simulation_config import TISSUE_FIELDS, SimulationConfig
from ganmrf.runs.slices import PowerConfig, slice_words
from ganmrf.runs.tissues import named_values
from ganmrf.scan_settings import ReconstructionConfig, is_raw
from ganmrf.settings import configuration, flat, group, setting

_READ = {  # of `ReconstructionConfig`, which has much more
    *("variable", "frame_axis", "magnitude", "mask", "signal_threshold"),
    *("b1_map", "b1_scale", "b0_map", "b0_scale", "force_fit", "undetermined"),
}
_ALGORITHM = "least squares by Gauss-Newton from several starts, signals and derivatives by an anchored generator"


@configuration
class Config:
    """The series, the generator, what is known, and the files of the maps."""

    input: str = setting(
        meaning="image series, .nii, .nii.gz, .npz, .npy, .mat or DICOM, not of magnitudes", reads=True, folder=True
    )
    generator: str = setting(meaning="generator.npz of train_anchored; no table", reads=True)
    output: str = setting(meaning="folder of the maps, the report and the stages", kept=False)
    known: tuple[str, ...] = setting((), "axes of the generator that are not fitted, SI units, such as b1:0.95")
    noise: float | None = setting(
        None,
        "standard deviation of the noise in the real, and in the imaginary, part of a frame, in units of the images; "
        "none: measured from the residuals",
        above=0,
    )
    starts: int = setting(N_STARTS, "most atoms that a voxel is fitted from", at_least=1)
    also: tuple[str, ...] = setting(
        (), "further formats of the maps beside NIfTI", choices=("npz", "mat", "dicom"), kept=False
    )
    prefix: str = setting("", "start of the NIfTI file names, such as sub-01", kept=False)
    reconstruction: ReconstructionConfig = group(
        ReconstructionConfig,
        without=tuple({*flat(ReconstructionConfig())} - _READ),
        choices={"magnitude": ("auto", "no")},
        meanings={
            "magnitude": "auto: a series that is real and nowhere negative is one of magnitudes, and refused; no: its "
            "images are signed",
            "mask": "voxels to fit: labels, or a probability of half or more; none: by signal_threshold",
            "signal_threshold": "share of the 99 % quantile of the signal below which a voxel is air; 0: fit any",
            "b1_map": "B1 map, actual over nominal flip angle, of a generator with an axis of B1, which is not fitted",
            "b0_map": "B0 map, off-resonance in Hz, of a generator with an axis of it, which is not fitted",
            "force_fit": "also fit what the scan does not determine",
            "undetermined": "standard deviation, over the value, above which the report shows a voxel as not "
            "determined, 1 being 100 %; of a fraction and of a frequency, over that of values spread over the "
            "generator's range",
        },
    )
    preparation: PreparationConfig = group(PreparationConfig)
    powers: PowerConfig = group(PowerConfig)
    simulation: SimulationConfig = group(SimulationConfig, without=(*TISSUE_FIELDS, *vars(PowerConfig())))

    def __post_init__(self):
        file_stem(self.prefix)  # refused here, not after the work
        check_apart(self.input, self.output)
        if is_raw(self.input):
            raise ValueError(f"input must be an image series; got {self.input}: raw data are for reconstruct_maps")
        for flag, field in OF_MAPS.items():
            if getattr(self.reconstruction, flag) and field in self.numbers:
                raise ValueError(f"{flag} stands in place of --known={field}: give one of them")

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that are known, SI, by field of tissue."""
        return named_values("known", self.known, FACTS)

    @property
    def files(self) -> list[str]:
        """The files that are read beside the series."""
        pulse = self.simulation.slice.rf_pulse
        named = [self.generator, *self.reconstruction.files, self.simulation.schedule]
        return [path for path in (*named, pulse) if path and pathlib.Path(path).is_file()]


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Fits the maps, and writes what came out."""
    with folder_of_maps(config, given) as (config, folder):
        found = map_series(config, folder / "stages")
        _tell(config, found)
        _write(folder, config, found)
    print(f"report: {folder / 'report.html'}")


def _tell(config, found: Continuous):
    """Prints the generator's errors, what was assumed, and medians."""
    results, prepared = found.results, found.prepared
    print(f"{prepared.summary()}\nAssumed is {slice_words(prepared.slice_profile)}")
    for note in results.notes:
        print(note)
    medians, lines = terminal_words(config, results)
    print(f"{np.count_nonzero(results.maps.index >= 0)} voxels, {medians}")
    if words := bias_words(found):
        warnings.warn(words, stacklevel=2)
    for line in (*ends_words(found), *lines):
        print(line)


def _write(folder: pathlib.Path, config, found: Continuous):
    """The maps in every format, what there is to say in numbers, and the report."""
    results, prepared = found.results, found.prepared
    facts = describe(results.dictionary)
    own = {name: value for name, value in facts.pop("Dictionary").items() if name != "Atoms"}
    own |= {"Anchors": len(prepared.signals), "LargestError": prepared.certificate.largest}
    sidecar = {"Sources": [config.input, *config.files], "Notes": results.notes, "Generator": own} | facts
    write_map_files(folder, config, results, sidecar, _ALGORITHM)
    content = {
        "voxels": int(np.count_nonzero(results.maps.index >= 0)),
        "medians": medians_of(results),
        "largest_error": prepared.certificate.largest,
        "bias_over_error_bar": found.biases,
        "at_an_end": found.shares_at_ends,
        "undetermined": undetermined_shares(config, results),
        "median_residual_over_noise": None if results.fit is None else float(np.median(results.fit.ratio)),
        "seconds": results.seconds,
    }
    write_json(folder / "results.json", content)
    write_continuous_report(folder / "report.html", config, found)


if __name__ == "__main__":
    main.run()
