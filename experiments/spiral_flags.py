"""The flags of spiral readouts."""

import dataclasses

from absl import flags

from ganmrf.imaging.trajectory import Spiral, design_spiral, rotation_angles

_SIZE = flags.DEFINE_integer("size", 256, "rows and columns of the image", lower_bound=8)
_FIELD_OF_VIEW_MM = flags.DEFINE_float("field_of_view_mm", 300.0, "edge of the image")
_INTERLEAVES = flags.DEFINE_integer(
    "interleaves", 48, "spirals that sample k-space fully; a frame has one", lower_bound=1
)
_ROTATION = flags.DEFINE_enum("rotation", "uniform", ["uniform", "golden"], "of the spiral from frame to frame")
_CENTRE_DENSITY = flags.DEFINE_float("centre_density", 2.0, "how much denser the centre of k-space is sampled")
_MAX_GRADIENT = flags.DEFINE_float("max_gradient_mt_per_m", 40.0, "limit in any direction")
_MAX_SLEW_RATE = flags.DEFINE_float("max_slew_rate_t_per_m_s", 150.0, "limit in any direction")
_DWELL_TIME_US = flags.DEFINE_float("dwell_time_us", 4.0, "between samples")


@dataclasses.dataclass(frozen=True)
class SpiralConfig:
    """How k-space is sampled; the fields are the flags."""

    size: int
    field_of_view_mm: float
    interleaves: int
    rotation: str
    centre_density: float
    max_gradient_mt_per_m: float
    max_slew_rate_t_per_m_s: float
    dwell_time_us: float

    @property
    def field_of_view(self) -> float:
        """Edge of the image, m."""
        return 1e-3 * self.field_of_view_mm

    @property
    def voxel_size(self) -> tuple[float, float]:
        """Along (y, x), m."""
        return (self.field_of_view / self.size,) * 2

    def spiral(self) -> Spiral:
        """The readout."""
        return design_spiral(
            matrix=self.size,
            field_of_view=self.field_of_view,
            interleaves=self.interleaves,
            centre_density=self.centre_density,
            max_gradient=1e-3 * self.max_gradient_mt_per_m,
            max_slew_rate=self.max_slew_rate_t_per_m_s,
            dwell_time=1e-6 * self.dwell_time_us,
        )

    def angles(self, n_frames: int):
        """By how much it is turned in each frame, rad."""
        return rotation_angles(n_frames, self.rotation, interleaves=self.interleaves)


def spiral_config() -> SpiralConfig:
    """The parsed flags."""
    return SpiralConfig(
        size=_SIZE.value,
        field_of_view_mm=_FIELD_OF_VIEW_MM.value,
        interleaves=_INTERLEAVES.value,
        rotation=_ROTATION.value,
        centre_density=_CENTRE_DENSITY.value,
        max_gradient_mt_per_m=_MAX_GRADIENT.value,
        max_slew_rate_t_per_m_s=_MAX_SLEW_RATE.value,
        dwell_time_us=_DWELL_TIME_US.value,
    )
