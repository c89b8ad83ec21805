"""How a scan becomes maps: one configuration for Python and for the flags of `reconstruct_maps`."""

import pathlib

from ganmrf.imaging.pipeline import METHODS
from ganmrf.io.mrd_frames import COUNTERS
from ganmrf.io.trajectories import CYCLIC, GRADIENT_UNITS, UNITS
from ganmrf.physics.tissue import TISSUES, flag_name, parameters
from ganmrf.settings import configuration, flat, group, setting

_RAW_SUFFIXES = ".h5", ".mrd", ".ismrmrd", ".dat"
_ITERATIVE = ("method=sense|low_rank",)
_GIVEN = ("trajectory", "gradients")
_MAGNITUDE = "auto", "yes", "no"
_WITH_POOLS = "tissue=" + "|".join(kind for kind in TISSUES if kind != "one_pool")
_OF_SIMULATION = (
    "sequence",
    "schedule",
    "frames",
    "echo_time_ms",
    "inversion_time_ms",
    "grid",
    "t1_ms",
    "t2_ms",
    "b1",
    "off_resonance_hz",
    "slice_model",
    "slice_nodes",
    "rf_pulse",
    "time_bandwidth",
    "window",
    "spoiler_turns",
    "tissue",
    *(
        flag_name(name, parameter)
        for kind in TISSUES.values()
        for name, parameter in parameters(kind).items()
        if name not in parameters(TISSUES["one_pool"])
    ),
    "fix",
    "pulse_duration_ms",
    "pulse_shape",
)


@configuration
class RawConfig:
    """What of raw data is read, and what its file does not say, or says wrongly.

    Raises:
      ValueError: a field that breaks its rule.
    """

    dataset: str | None = setting(None, "group of the HDF5 file; none: dataset")
    header: str | None = setting(None, "file whose header replaces the scan's, MRD or XML", reads=True)
    skip_readouts: int | None = setting(
        None, "readouts in front to leave out; none: those of another length", at_least=0
    )
    frame_counter: str | None = setting(
        None, "header counter that numbers the frames; none: the one that varies evenly", choices=COUNTERS
    )
    slice: int | None = setting(None, "slice of the raw data, where there are several", at_least=0)
    matrix: tuple[int, ...] = setting(
        (), "rows and columns of the image, one number or y,x; none: the file's", at_least=1, repeats=True
    )
    field_of_view_mm: tuple[float, ...] = setting(
        (), "edges of the image in mm, one number or y,x; none: the file's", above=0, repeats=True
    )
    trajectory: str | None = setting(
        None, "k-space trajectory, .npz, .npy, .mat or .seq; none: the file's", reads=True, instead_of=("gradients",)
    )
    gradients: str | None = setting(None, "nominal gradients of the readout, .npz, .npy or .mat", reads=True)
    gradient_raster_us: float = setting(10.0, "time between the gradients, us", above=0, goes_with=("gradients",))
    girf: str | None = setting(
        None, "measured response of the gradients, arrays frequency_hz and girf", reads=True, goes_with=_GIVEN
    )
    trajectory_variable: str | None = setting(
        None, "array of the trajectory or the gradients; none: the only one", goes_with=_GIVEN
    )
    trajectory_units: str | None = setting(
        None,
        "unit of the trajectory or the gradients; none: the one that reaches the edge of k-space",
        choices=(*UNITS, *GRADIENT_UNITS),
    )
    interleave_order: str | None = setting(
        None, f"{CYCLIC}, or the array that holds the interleave of each frame", goes_with=_GIVEN
    )
    weights: str | None = setting(None, "density weights, .npz, .npy or .mat; none: computed", reads=True)
    sensitivities: str | None = setting(
        None, "coil sensitivities, .npz or .npy, coils first, or .mat, coils last; none: from the scan", reads=True
    )

    def __post_init__(self):
        for name in ("matrix", "field_of_view_mm"):
            if len(given := getattr(self, name)) > 2:
                raise ValueError(f"{name} must be one number or y,x; got {','.join(map(str, given))}")
        if self.girf and not self.gradients and not is_pulseq(self.trajectory or ""):
            raise ValueError("girf wants nominal gradients: --gradients, or a trajectory in a .seq file")
        if self.trajectory and is_pulseq(self.trajectory):
            for name in ("trajectory_variable", "trajectory_units", "interleave_order"):
                if (given := getattr(self, name)) not in (None, "1/m"):
                    raise ValueError(f"{name} would change nothing: a .seq file says where samples lie; got {given}")

    @property
    def files(self) -> list[str]:
        """The files that are read beside the scan."""
        named = self.header, self.trajectory, self.gradients, self.girf, self.weights, self.sensitivities
        return [path for path in named if path]


@configuration
class FitConfig:
    """What is fitted between the atoms, and from when on a value counts as not determined.

    Raises:
      ValueError: a field that breaks its rule.
    """

    fit: tuple[str, ...] | None = setting(
        None,
        "parameters to fit, such as t1,t2,fraction; default: T1, T2 and, where the dictionary has several, the "
        "fraction of a second pool and off-resonance",
        choices=tuple(dict.fromkeys(name for kind in TISSUES.values() for name in parameters(kind))),
        goes_with=("refine",),
    )
    force_fit: bool = setting(
        False, "also fit what the scan does not determine", goes_with=("fit", "dictionary", _WITH_POOLS), kept=False
    )
    # At the value itself, an interval of one standard deviation reaches 0: the scan does not tell it from nothing.
    undetermined: float = setting(
        1.0,
        "standard deviation, over the value, above which the report shows a voxel as not determined, 1 being 100 %; of "
        "a fraction and of off-resonance, over the standard deviation of values spread over the dictionary's range",
        above=0,
        goes_with=("refine",),
        kept=False,
    )


@configuration
class ReconstructionConfig:
    """How a scan becomes maps, and the files that belong to it beside the scan itself.

    Raises:
      ValueError: a field that breaks its rule.
    """

    dictionary: str | None = setting(
        None, "dictionary to match with, .npz, .mat or .zarr; none: simulated", reads=True, instead_of=_OF_SIMULATION
    )
    method: str = setting(
        "sense", "method of reconstruction; an image series is matched uncompressed by frames", choices=METHODS
    )
    rank: int = setting(6, "rank of the temporal basis; a dictionary with a basis has its own", at_least=2)
    prewhiten: bool = setting(True, "make the coils' noise white and equal, where there are noise readouts")
    virtual_coils: int = setting(10, "what coils are combined into; 0: as they are", at_least=0)
    iterations: int = setting(
        6, "conjugate gradient steps: fewer leave out noise, and fine detail", at_least=1, goes_with=_ITERATIVE
    )
    threshold: float = setting(
        5e-4,
        "strength of the low-rank prior, a share of the largest singular value",
        at_least=0,
        goes_with=("method=low_rank",),
    )
    variable: str | None = setting(
        None, "array that holds the series, or structure.field; number of a DICOM series; none: images"
    )
    frame_axis: int | None = setting(None, "axis of the frames; none: first in .npz and .npy, last in .mat")
    magnitude: str = setting(
        "auto", "is the series one of magnitudes? auto: where it is real and nowhere negative", choices=_MAGNITUDE
    )
    mask: str | None = setting(
        None,
        "voxels to match: labels, or a probability of half or more; none: by signal_threshold",
        reads=True,
        folder=True,
    )
    signal_threshold: float = setting(
        0.1, "share of the 99 % quantile of the signal below which a voxel is air; 0: match any signal", at_least=0
    )
    b1_map: str | None = setting(
        None,
        "B1 map, actual over nominal flip angle; the atoms must have several B1",
        reads=True,
        folder=True,
    )
    b1_scale: float = setting(1.0, "what values of the B1 map are multiplied by: 0.01 for percent", above=0)
    b0_map: str | None = setting(
        None, "B0 map, off-resonance in Hz; the atoms must have several off-resonances", reads=True, folder=True
    )
    b0_scale: float | None = setting(
        None,
        "what makes Hz of the B0 map: 0.1592 of rad/s, below 0 turns its sign; none: its sidecar's Units, or 1",
    )
    refine: bool = setting(True, "fit T1, T2 and more (--fit) between the atoms, with error bars")
    exact: bool = setting(
        False,
        "match as with a simulated dictionary: of a generated one, simulate what its errors could make match wrongly",
    )
    raw: RawConfig = group(RawConfig)
    estimate: FitConfig = group(FitConfig)

    def __post_init__(self):
        if self.b1_scale != 1 and self.b1_map is None:
            raise ValueError(f"b1_scale goes with a b1_map; got {self.b1_scale:g} without one")
        if self.b0_scale is not None and self.b0_map is None:
            raise ValueError(f"b0_scale goes with a b0_map; got {self.b0_scale:g} without one")

    def check_reads(self, scan_path):
        """Raises `ValueError` for a field that says something of another kind of scan, and would not be read."""
        raw, own = is_raw(scan_path), flat(ReconstructionConfig())
        unread = _OF_SERIES if raw else (*_OF_RAW, "rank") if self.method == "frames" else _OF_RAW
        for name, value in flat(self).items():
            if name in unread and value != own[name]:
                kind = "raw data" if raw else f"an image series with method={self.method}"
                raise ValueError(f"{name} would change nothing of {scan_path}, {kind}")

    @property
    def files(self) -> list[str]:
        """The files that are read beside the scan."""
        return [path for path in (self.mask, self.b1_map, self.b0_map, self.dictionary, *self.raw.files) if path]

    def coils_kept(self, coils: int) -> int:
        """Number of virtual coils that so many coils are combined into."""
        return min(self.virtual_coils or coils, coils)


_OF_RAW = ("prewhiten", "virtual_coils", "iterations", "threshold", *flat(RawConfig()))
_OF_SERIES = "variable", "frame_axis", "magnitude"


def is_raw(scan_path) -> bool:
    """Whether a scan is raw data, by its suffix."""
    return pathlib.Path(scan_path).suffix.lower() in _RAW_SUFFIXES


def is_pulseq(path) -> bool:
    """Whether a file is Pulseq's, by its suffix."""
    return pathlib.Path(path).suffix.lower() == ".seq"
