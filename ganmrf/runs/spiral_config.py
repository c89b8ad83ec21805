"""Configuration of the spirals that sample k-space."""

import numpy as np

from ganmrf.imaging.trajectory import Spiral, design_spiral, rotated, rotation_angles
from ganmrf.io.pulseq_settings import Readout, ScannerLimits
from ganmrf.settings import configuration, naming_fields, setting

_SPIRAL_FIELDS = {  # argument -> field
    "matrix": "size",
    "field_of_view": "field_of_view_mm",
    "max_gradient": "max_gradient_mt_per_m",
    "max_slew_rate": "max_slew_rate_t_per_m_s",
    "dwell_time": "dwell_time_us",
}


@configuration
class SpiralConfig:
    """Spirals that sample k-space.

    Raises:
      ValueError: a field that breaks its rule.
    """

    size: int = setting(256, "rows and columns of the image", at_least=8)
    field_of_view_mm: float = setting(300.0, "edge of the image in mm", above=0)
    interleaves: int = setting(48, "spirals that sample k-space fully; a frame has one", at_least=1)
    rotation: str = setting("uniform", "of the spiral from frame to frame", choices=("uniform", "golden"))
    centre_density: float = setting(2.0, "how much denser the centre of k-space is sampled", above=0)
    max_gradient_mt_per_m: float = setting(40.0, "limit of the gradient in any direction, mT/m", above=0)
    max_slew_rate_t_per_m_s: float = setting(150.0, "limit of the slew rate in any direction, T/m/s", above=0)
    dwell_time_us: float = setting(4.0, "time between samples in us", at_least=0.1)

    @property
    def field_of_view(self) -> float:
        """Edge of the image, m."""
        return 1e-3 * self.field_of_view_mm

    def spiral(self) -> Spiral:
        """The readout."""
        with naming_fields(**_SPIRAL_FIELDS):
            return design_spiral(
                matrix=self.size,
                field_of_view=self.field_of_view,
                interleaves=self.interleaves,
                centre_density=self.centre_density,
                max_gradient=1e-3 * self.max_gradient_mt_per_m,
                max_slew_rate=self.max_slew_rate_t_per_m_s,
                dwell_time=1e-6 * self.dwell_time_us,
            )

    def angles(self, n_frames: int) -> np.ndarray:
        """By how much the spiral is turned in each frame, rad, (frames,)."""
        return rotation_angles(n_frames, self.rotation, interleaves=self.interleaves)

    def trajectory(self, n_frames: int) -> np.ndarray:
        """Where all frames sample k-space, 1/m, (frames, samples, 2)."""
        return rotated(self.spiral().k, self.angles(n_frames))

    def readout(self, n_frames: int) -> Readout:
        """The spirals as a Pulseq file plays them."""
        spiral = self.spiral()
        with naming_fields(**_SPIRAL_FIELDS):
            return Readout(
                gradient=spiral.gradient,
                angles=self.angles(n_frames),
                n_samples=len(spiral.k),
                dwell_time=spiral.dwell_time,
                field_of_view=self.field_of_view,
            )

    def scanner(self, **fields):
        """The `ganmrf.scanner.Scanner` of these spirals; ``fields`` are further ones of its own."""
        from ganmrf.scanner import Scanner  # here: it imports for a third of a second, and most runs scan nothing

        return Scanner(size=self.size, field_of_view=self.field_of_view, dwell_time=1e-6 * self.dwell_time_us, **fields)

    @property
    def limits(self) -> ScannerLimits:
        """What the spirals keep to."""
        return ScannerLimits(max_gradient=1e-3 * self.max_gradient_mt_per_m, max_slew_rate=self.max_slew_rate_t_per_m_s)
