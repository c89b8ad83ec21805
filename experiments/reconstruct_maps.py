"""From a scan to T1, T2, M0 and B0 maps with error bars, and a report: raw data or an image series in.

Example::

    ganmrf reconstruct_maps --input=scan.h5 --output=runs/scan
    ganmrf reconstruct_maps --input=images.nii.gz --schedule=mrf.seq --mask=brain.nii.gz --output=maps
    ganmrf reconstruct_maps --input=scan.h5 --output=mt --tissue=semisolid --grid=coarse --fix=exchange_rate:14

Raw data is ISMRMRD/MRD, HDF5 or a stream (``.h5``, ``.mrd``, ``.ismrmrd``), or Siemens' ``.dat``, with its trajectory
or one of ``--trajectory`` (``.npz``, ``.npy``, ``.mat``, or the ``.seq`` that was played) or nominal ``--gradients``,
which a measured ``--girf`` corrects, and its sequence or one of the flags. Noise readouts make the coils' noise white,
coils are combined into ``--virtual_coils``, their sensitivities estimated from the scan, and ``--method`` reconstructs:
``sense``, least squares for the coefficients of a temporal basis; ``low_rank``, the same with a locally low-rank prior;
``gridding``, those coefficients by gridding; or ``frames``, each frame gridded by itself as in the GAN-MRF paper. An
image series is ``.nii``, ``.nii.gz``, ``.npz``, ``.npy``, ``.mat``, or a folder of DICOM files; one that is real and
nowhere negative is matched as one of magnitudes. Every voxel with signal, or of ``--mask``, is matched, and the maps
are refined between the atoms with the Cramer-Rao bound as error bar. Every stage is kept in the output folder: called
again, the command goes on where it was cut off.

``--tissue=semisolid`` or ``exchanging`` also maps the fraction of a second pool of spins, with its error bars: what the
scan can tell of it is in the report, which shows voxels as not determined where the error bar exceeds the value
(``--undetermined``). Parameters beyond T1, T2 and the fraction have one value each (``--fix``) unless ``--fit`` names
them. A ``--dictionary`` says itself what tissue it is of. Of one that `generate_dictionary` made from anchors,
``--exact`` simulates the atoms whose errors could change a match, so that voxels have the same atoms as by a simulated
one.

``--method=frames --norefine --signal_threshold=0`` matches an image series as it is, in every voxel with any signal: a
``--dictionary`` in a ``.zarr`` folder is then read block by block, and never is in memory whole.
"""

import contextlib
import dataclasses
import pathlib

import numpy as np

from experiments.flags.command_line import command
from experiments.flags.config import check_apart
from experiments.reports.map_files import folder_of_maps, write_map_files
from experiments.reports.scan import medians_of, terminal_words, undetermined_shares, write_reconstruction_report
from ganmrf.files import write_json
from ganmrf.imaging.pipeline import METHODS
from ganmrf.io.maps import describe, file_stem
from ganmrf.io.mrd import write_mrd_images
from ganmrf.physics.tissue import parameters
from ganmrf.runs.pulseq_schedules import is_pulseq
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import AS_PLAYED, slice_words
from ganmrf.runs.tissues import check_fit, pool_words
from ganmrf.scan_settings import ReconstructionConfig, is_raw
from ganmrf.scan_to_maps import map_scan
from ganmrf.settings import configuration, group, setting


@configuration
class Config:
    """The scan, and the files of its maps."""

    input: str = setting(
        meaning="raw data, .h5, .mrd, .ismrmrd or .dat, or series, .nii, .nii.gz, .npz, .npy, .mat or DICOM",
        reads=True,
        folder=True,
    )
    output: str = setting(meaning="folder of the maps, the report and the stages", kept=False)
    also: tuple[str, ...] = setting(
        (),
        "further formats of the maps beside NIfTI; mrd of raw data",
        choices=("npz", "mat", "mrd", "dicom"),
        kept=False,
    )
    prefix: str = setting("", "start of the NIfTI file names, such as sub-01", kept=False)
    reconstruction: ReconstructionConfig = group(ReconstructionConfig)
    simulation: SimulationConfig = group(SimulationConfig, defaults=AS_PLAYED)

    def __post_init__(self):
        if self.reconstruction.dictionary is None:  # which has a tissue of its own
            check_fit(self.reconstruction.estimate, self.simulation.pools)
        file_stem(self.prefix)  # refused here, not after the work
        self.reconstruction.check_reads(self.input)
        check_apart(self.input, self.output)
        if "mrd" in self.also and not is_raw(self.input):
            raise ValueError(f"also=mrd goes with raw data; got --input={self.input}")


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Maps the scan, and writes what came out."""
    with folder_of_maps(config, given) as (config, folder):
        results = _map(config, folder / "stages")
        print(f"slice: {slice_words(results.dictionary.slice_profile)}")
        if pools := pool_words(results.dictionary.tissue, results.dictionary.sequence):
            print(f"tissue: {pools}")
        for note in results.notes:
            print(note)
        _write(folder, config, results)
        write_reconstruction_report(folder / "report.html", config, results)
    matched = results.maps.index >= 0
    medians, lines = terminal_words(config, results)
    print(f"{matched.sum()} voxels, {medians}, quality {_median_quality(results):.4f}")
    for line in lines:
        print(line)
    print(f"report: {folder / 'report.html'}")


def _map(config, stages):
    simulation, named = config.simulation, {}
    if config.reconstruction.dictionary is None:
        named = {"tissue": simulation.tissue(), "slice_profile": _of_slice(config, SimulationConfig.slice_profile)}
        if simulation.pools.saturated:
            named["power"] = _of_slice(config, SimulationConfig.power)
        if simulation.names_sequence:
            named["sequence"] = simulation.sequence()
    return map_scan(config.input, stages, config=config.reconstruction, progress=True, **named)


def _of_slice(config, what):
    """What the flags name, of the pulse and the spoiler of a .seq file that says where the samples lie."""
    simulation, raw = config.simulation, config.reconstruction.raw
    if not simulation.names_sequence and is_pulseq(raw.trajectory):
        with contextlib.suppress(ValueError):  # of no use where another sequence is given
            return what(dataclasses.replace(simulation, schedule=raw.trajectory, schedule_slice=raw.slice))
    return what(simulation)


def _write(folder: pathlib.Path, config, results):
    """The maps in every format, and what there is to say in numbers."""
    best, reconstruction = results.refined or results.maps, config.reconstruction
    sidecar = {"Sources": [config.input, *reconstruction.files]}
    sidecar["Reconstruction"] = METHODS[reconstruction.method] if is_raw(config.input) else None
    sidecar |= {"MagnitudeImages": results.magnitude, "Notes": results.notes}
    write_map_files(folder, config, results, sidecar | describe(results.dictionary))
    if "mrd" in config.also:
        depth, *voxel = results.voxel_size
        facts = parameters(results.dictionary.tissue)
        mapped = {facts[name].suffix: best.parameters[name] for name in medians_of(results)}
        write_mrd_images(
            folder / "maps.h5",
            mapped | {"M0map": best.m0},
            field_of_view=tuple(size * count for size, count in zip(voxel, best.t1.shape, strict=True)),
            slice_thickness=depth,
            affine=results.affine,
        )
    content = {
        "voxels": int((results.maps.index >= 0).sum()),
        "atoms": len(results.dictionary.norms),
        "median_quality": _median_quality(results),
        "median_residual_over_noise": None if results.fit is None else float(np.median(results.fit.ratio)),
        "undetermined": undetermined_shares(config, results),
        "notes": results.notes,
        "seconds": results.seconds,
    }
    write_json(folder / "results.json", content)


def _median_quality(results):
    return float(np.median(results.maps.quality[results.maps.index >= 0]))


if __name__ == "__main__":
    main.run()
