r"""From an image series to maps of volume fractions of components that do not exchange, such as myelin water.

Example::

    ganmrf map_fractions --input=images.nii.gz --dictionary=paper.npz --components_ms=400:20,1000:80,4300:500 \
        --names=myelin,cells,free --mask=brain.nii.gz --output=runs/fractions
    ganmrf map_fractions --input=images.nii.gz --dictionary=paper.npz --mask=brain.nii.gz --output=runs/sparse

``--components_ms`` are T1 and T2 of each component, whose signals are simulated for the sequence and the slice of the
dictionary, and for a ``--b1_map`` where there is one. Without them a few of the dictionary's atoms are found that all
voxels together are sums of, by SPIJN, and their T1 and T2 are refined. The weights of a voxel are 0 or more, and have
one phase. Their standard deviations are Cramer-Rao bounds at the noise that the residuals show; what a wrong T1, T2 or
B1 of a component does is not in them.
"""

import numpy as np

from experiments.flags.command_line import command
from experiments.reports.fractions import save_maps_figure, write_fractions_report
from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.compress import wide_blocks
from ganmrf.dictionary.fractions import Fractions, component_name, fractions_of, require_one_field
from ganmrf.dictionary.joint_sparsity import joint_sparse_fractions
from ganmrf.dictionary.magnitude import is_magnitude
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.files import check_output, make_folder
from ganmrf.io.field_maps import read_b1_map
from ganmrf.io.fraction_maps import check_names, fraction_files, write_fractions
from ganmrf.io.maps import describe, file_stem
from ganmrf.io.series import Series, read_mask, read_series
from ganmrf.physics.tissue import Tissue
from ganmrf.settings import configuration, setting

_OTHER_SIGN = 1e-3  # share of the energy that may have it, as in `is_magnitude`


@configuration
class Config:
    """The series, the components and the files of the maps."""

    input: str = setting(
        meaning="image series, .nii, .nii.gz, .npz, .npy, .mat or DICOM, not of magnitudes", reads=True, folder=True
    )
    dictionary: str = setting(meaning="dictionary of the sequence that was played, .npz, .mat or .zarr", reads=True)
    output: str = setting(meaning="folder of the maps and the report", kept=False)
    components_ms: tuple[str, ...] = setting(
        (),
        "T1:T2 of each component, ms; none: a few atoms of the dictionary",
        repeats=True,
        instead_of=("sparsity", "refine"),
    )
    names: tuple[str, ...] = setting((), "of the components; none: c1, c2, ...", goes_with=("components_ms",))
    sparsity: float = setting(3.0, "in noise: more of it leaves fewer atoms, and loses small components", at_least=0)
    refine: bool = setting(True, "fit T1 and T2 of the atoms that are found, to all voxels together")
    mask: str | None = setting(
        None,
        "voxels to fit: labels, or a probability of half or more; none: by signal_threshold",
        reads=True,
        folder=True,
    )
    signal_threshold: float = setting(
        0.1, "share of the 99 % quantile of the signal below which a voxel is air; 0: fit any signal", at_least=0
    )
    b1_map: str | None = setting(
        None,
        "B1 map, actual over nominal flip angle, at which components are simulated; none: the dictionary's B1",
        reads=True,
        folder=True,
        goes_with=("components_ms",),
    )
    b1_scale: float = setting(
        1.0, "what values of the B1 map are multiplied by: 0.01 for percent", above=0, goes_with=("b1_map",)
    )
    variable: str | None = setting(
        None, "array that holds the series, or structure.field; number of a DICOM series; none: images"
    )
    frame_axis: int | None = setting(None, "axis of the frames; none: first in .npz and .npy, last in .mat")
    prefix: str = setting("", "start of the NIfTI file names, such as sub-01", kept=False)

    def __post_init__(self):
        file_stem(self.prefix)
        if self.names:
            check_names(self.names, len(self.components_ms))
        self.tissue()

    def tissue(self) -> Tissue | None:
        """T1 and T2 of the components, s; None where they are to be found."""
        if not self.components_ms:
            return None
        try:
            times = np.array([[float(time) for time in pair.split(":")] for pair in self.components_ms])
            t1, t2 = 1e-3 * times.T
        except ValueError:
            given = ",".join(self.components_ms)
            raise ValueError(f"components_ms must be T1:T2,T1:T2,... in ms, as 400:20,1000:80; got {given}") from None
        try:
            return Tissue(t1, t2)
        except ValueError as error:
            raise ValueError(f"components_ms={','.join(self.components_ms)}, here in s: {error}") from error


@command(Config)
def main(config: Config):
    """Fits the fractions, and writes what came out."""
    folder = make_folder(config.output)
    names = config.names or [f"c{row + 1}" for row in range(len(config.components_ms))]
    for path in (*fraction_files(folder, names, config.prefix), folder / "maps.png", folder / "report.html"):
        check_output(path)
    dictionary = open_dictionary(config.dictionary)
    series = read_series(config.input, config.variable, frame_axis=config.frame_axis)
    if len(series.images) != dictionary.sequence.n_frames:
        has = f"{config.input} has {len(series.images)} frames"
        raise ValueError(f"{has}, but {config.dictionary} has {dictionary.sequence.n_frames}")
    found = _fit(config, dictionary, series)
    names = config.names or [f"c{row + 1}" for row in range(len(found.fractions))]
    place = {"affine": series.affine} if series.affine is not None else {}
    sidecar = {"Sources": [path for path in (config.input, config.mask, config.b1_map, config.dictionary) if path]}
    write_fractions(folder, found, names, prefix=config.prefix, sidecar=sidecar | describe(dictionary), **place)
    save_maps_figure(folder / "maps.png", found, names)
    write_fractions_report(folder / "report.html", config, found, names)
    print(f"{np.count_nonzero(found.fitted)} voxels, median residual {np.median(found.residual[found.fitted]):.3g}")
    for row, name in enumerate(names):
        part, std = (np.median(values[row][found.fitted]) for values in (found.fractions, found.stds))
        print(f"{name} ({component_name(found.components, row)}): median fraction {part:.3f} +- {std:.3f}")
    print(f"report: {folder / 'report.html'}")


def _fit(config, dictionary: Dictionary, series: Series) -> Fractions:
    tissue, mask = config.tissue(), _mask(config, series)
    if tissue is None:
        _require_one_sign(config, dictionary, series)
        how = {"sparsity": config.sparsity, "refine": config.refine}
        return joint_sparse_fractions(dictionary, series.images, mask=mask, progress=True, **how)
    require_one_field(dictionary)
    own = dictionary.tissue.b1, dictionary.tissue.off_resonance
    b1, off_resonance = (None if values is None else float(np.min(values)) for values in own)
    tissue = Tissue(tissue.t1, tissue.t2, b1, off_resonance)
    components = build_dictionary(dictionary.sequence, tissue, slice_profile=dictionary.slice_profile)
    _require_one_sign(config, components, series)
    b1_map = None
    if config.b1_map:
        b1_map = read_b1_map(config.b1_map, mask.shape, scale=config.b1_scale, affine=series.grid)
    return fractions_of(components, series.images, mask=mask, b1_map=b1_map, progress=True)


def _mask(config, series: Series) -> np.ndarray:
    if config.mask:
        return series.only_finite(read_mask(config.mask, series.images.shape[1:], series.grid), config.mask)
    strength = np.linalg.norm(series.images, axis=0)
    mask = strength > config.signal_threshold * np.quantile(strength, 0.99)
    return mask if series.finite is None else mask & series.finite


def _require_one_sign(config, components: Dictionary, series: Series):
    """Refuses magnitudes of components whose signals change sign or phase from frame to frame: they do not add."""
    if not series.images.any() or not is_magnitude(series.images):
        return
    for block in wide_blocks(components.fingerprints):
        signals = block if components.basis is None else block @ components.basis.conj().T
        total = signals.sum()
        along = np.maximum((signals * np.conj(total / np.abs(total))).real, 0)
        if np.linalg.norm(along) ** 2 < (1 - _OTHER_SIGN) * np.linalg.norm(signals) ** 2:
            raise ValueError(
                f"{config.input} is a series of magnitudes, and signals of the components change their signs: such "
                "magnitudes do not add; give the complex images"
            )


if __name__ == "__main__":
    main.run()
