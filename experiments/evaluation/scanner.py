"""A scan of the digital brain with spirals and receive coils."""

import dataclasses

import numpy as np

from ganmrf.imaging.acquisition import add_thermal_noise, sample_kspace
from ganmrf.imaging.coils import head_array
from ganmrf.imaging.phantom import Brain, acquire, digital_brain
from ganmrf.io.mrd import RawData
from ganmrf.parallel import require_memory
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.runs.configs import SpiralConfig

_SINUSES, _EXTENT = -0.07, 0.02  # m: their place along y, and how wide the field that they disturb is


@dataclasses.dataclass(frozen=True)
class Scanner:
    """What scans, and what it scans.

    Attributes:
      sampling: the spirals.
      coils: loops around the head.
      snr: as `add_thermal_noise` has it; 0 for no noise.
      variation: of T1 and T2 within a tissue, as `digital_brain` has it.
      b1_variation: likewise.
      off_resonance_hz: of the field above the sinuses.
    """

    sampling: SpiralConfig
    coils: int = 20
    snr: float = 50.0
    variation: float = 0.05
    b1_variation: float = 0.0
    off_resonance_hz: float = 0.0

    def require_memory(self, frames: int, samples: int):
        """Refuses a scan that would not fit, before it starts."""
        size = self.sampling.size
        needed = 8 * frames * (1.5 * size**2 + 3 * samples * self.coils)
        require_memory(needed, f"a scan of {size} x {size}", "fewer --coils or --frames, or a smaller --size need less")

    def scan(
        self, sequence: Sequence, trajectory, *, slice_profile=None, seed: int = 0, progress: bool = False
    ) -> tuple[Brain, np.ndarray, RawData]:
        """The brain of this seed, its images (frames, y, x), and its raw data with noise of the same seed."""
        if not self.snr >= 0:
            raise ValueError(f"--snr must be 0 (no noise) or more; got {self.snr:g}")
        self.require_memory(*trajectory.shape[:2])
        sampling = self.sampling
        fields = {"variation": self.variation, "b1_variation": self.b1_variation, "seed": seed}
        brain = digital_brain(size=sampling.size, field_of_view=sampling.field_of_view, **fields)
        images = acquire(brain, sequence, slice_profile=slice_profile, progress=progress)
        coils = head_array(self.coils, sampling.size, sampling.field_of_view)
        disturbed = {}
        if self.off_resonance_hz:
            disturbed["off_resonance"] = self.off_resonance_hz * _above_sinuses(sampling)
            disturbed["times"] = 1e-6 * sampling.dwell_time_us * (np.arange(trajectory.shape[1]) + 0.5)
        kspace = sample_kspace(images, coils, trajectory, sampling.voxel_size, progress=progress, **disturbed)
        if self.snr:
            kspace = add_thermal_noise(kspace, self.snr, images, mask=brain.brain_mask, seed=seed)
        raw = RawData(
            kspace=kspace,
            trajectory=trajectory,
            matrix=(sampling.size,) * 2,
            field_of_view=(sampling.field_of_view,) * 2,
            slice_thickness=brain.voxel_size[2],
            dwell_time=1e-6 * sampling.dwell_time_us,
            affine=brain.affine,
            sequence=sequence,
        )
        return brain, images, raw


def _above_sinuses(sampling):
    position = sampling.field_of_view * ((np.arange(sampling.size) + 0.5) / sampling.size - 0.5)
    return np.exp(-((position[:, None] - _SINUSES) ** 2 + position**2) / (2 * _EXTENT**2))
