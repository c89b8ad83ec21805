"""A scanner for the digital brain: perfect images, or what receive coils sample along a trajectory; noise on either."""

import dataclasses

import numpy as np

from ganmrf.imaging.acquisition import add_thermal_noise, sample_kspace
from ganmrf.imaging.coils import head_array
from ganmrf.imaging.phantom import Brain, acquire, add_noise, add_noise_in, digital_brain, noise_std, sinus_field
from ganmrf.io.mrd import RawData
from ganmrf.memory import require_memory
from ganmrf.physics.sequences.blocks import PulseSequence

# Bytes of a voxel and frame: complex64 images with and without noise; or the signals of all tissues, and images of the
# brain's voxels, a quarter of all, with and without noise.
_IMAGES, _SIGNALS = 16, 8


@dataclasses.dataclass(frozen=True)
class ImageScan:
    """A scan whose k-space was sampled completely in every frame.

    Attributes:
      brain: what was scanned.
      images: (frames, y, x), complex64.
    """

    brain: Brain
    images: np.ndarray

    def with_noise(self, snr: float, seed: int = 0) -> "ImageScan":
        """The scan with white noise on its images, as `add_noise` adds it in the brain; itself for an ``snr`` of 0."""
        if not _positive(snr):
            return self
        return dataclasses.replace(self, images=add_noise(self.images, snr, mask=self.brain.brain_mask, seed=seed))


@dataclasses.dataclass(frozen=True)
class RawScan:
    """A scan by receive coils.

    Attributes:
      brain: what was scanned.
      images: of a perfect scan without noise, (frames, y, x), complex64.
      raw: what the coils sampled.
    """

    brain: Brain
    images: np.ndarray
    raw: RawData

    def with_noise(self, snr: float, seed: int = 0) -> "RawScan":
        """The scan with thermal noise on its samples, as `add_thermal_noise` adds it; itself for an ``snr`` of 0."""
        if not _positive(snr):
            return self
        kspace = add_thermal_noise(self.raw.kspace, snr, self.images, mask=self.brain.brain_mask, seed=seed)
        return dataclasses.replace(self, raw=dataclasses.replace(self.raw, kspace=kspace))


@dataclasses.dataclass(frozen=True)
class Scanner:
    """The scanner, and the variation of the brain in it.

    Attributes:
      size: rows and columns of the image.
      field_of_view: edge of the image, m.
      coils: loops around the head; of `sample`.
      variation: standard deviation of T1 and of T2 within a tissue, as a fraction (`digital_brain`).
      b1_variation: B1+ is 1 + this at the centre and 1 - this at 100 mm.
      b0_variation: field that the brain is off resonance by, Hz (`digital_brain`): in its signal, and in `sample` while
        a readout lasts, too.
      off_resonance: largest further field above the sinuses, Hz, which readouts alone see; of `sample`.
      dwell_time: from one sample to the next, s; of `sample`.
      kind: of the brain's tissue (`digital_brain`); sequences for a semisolid pool say how long their pulses last.
    """

    size: int = 256
    field_of_view: float = 0.3
    coils: int = 20
    variation: float = 0.05
    b1_variation: float = 0.0
    b0_variation: float = 0.0
    off_resonance: float = 0.0
    dwell_time: float = 4e-6
    kind: str = "one_pool"

    def image(self, sequence: PulseSequence, *, slice_profile=None, seed: int = 0, progress: bool = False) -> ImageScan:
        """Perfect images of every frame, without noise: those of `acquire`. The ``seed`` is of the brain's variation.

        Raises:
          ValueError: a ``size`` whose voxels are too large for the brain, or more than the memory holds.
        """
        self.require_memory(sequence.n_frames)
        brain = self._brain(seed)
        return ImageScan(brain, acquire(brain, sequence, slice_profile=slice_profile, progress=progress))

    def noisy_signals(
        self, sequence: PulseSequence, snrs, *, slice_profile=None, seed: int = 0, progress: bool = False
    ) -> tuple[Brain, dict[float, np.ndarray], dict[float, float]]:
        """The voxels of the brain alone, of perfect images with noise: a quarter of the memory of `image`.

        Args:
          sequence: what is played.
          snrs: signal-to-noise ratios above 0, as `add_noise` has them.
          slice_profile: model of the slice; None for a uniform one.
          seed: of the brain's variation and of the noise of the first ratio; the noise of the next has the next seed.
          progress: whether to show progress.

        Returns:
          The brain; for each ratio signals (frames, voxels of ``brain_mask``), complex64; and for each ratio the
          standard deviation of the noise, `noise_std`.

        Raises:
          ValueError: as `image`.
        """
        self.require_memory(sequence.n_frames, whole=False)
        brain = self._brain(seed)
        mask = brain.brain_mask
        clean = acquire(brain, sequence, slice_profile=slice_profile, mask=mask, progress=progress)
        noisy = {snr: add_noise_in(clean, snr, mask=mask, seed=seed + i) for i, snr in enumerate(snrs)}
        return brain, noisy, {snr: noise_std(clean, snr) for snr in snrs}

    def sample(
        self, sequence: PulseSequence, trajectory, *, slice_profile=None, seed: int = 0, progress: bool = False
    ) -> RawScan:
        """Samples of every coil in every frame along a trajectory, cycles/m, (frames, samples, 2), without noise.

        The other arguments are those of `image`.

        Raises:
          ValueError: a ``size`` whose voxels are too large for the brain, or more than the memory holds.
        """
        self.require_memory(*trajectory.shape[:2])
        scan = self.image(sequence, slice_profile=slice_profile, seed=seed, progress=progress)
        coils = head_array(self.coils, self.size, self.field_of_view)
        disturbed = {}
        if self.off_resonance or self.b0_variation:
            disturbed["off_resonance"] = scan.brain.off_resonance + self.off_resonance * sinus_field(
                self.size, self.field_of_view
            )
            disturbed["times"] = self.dwell_time * (np.arange(trajectory.shape[1]) + 0.5)
        voxel_size = (self.field_of_view / self.size,) * 2
        raw = RawData(
            kspace=sample_kspace(scan.images, coils, trajectory, voxel_size, progress=progress, **disturbed),
            trajectory=trajectory,
            matrix=(self.size,) * 2,
            field_of_view=(self.field_of_view,) * 2,
            slice_thickness=scan.brain.voxel_size[2],
            dwell_time=self.dwell_time,
            affine=scan.brain.affine,
            sequence=sequence,
        )
        return RawScan(scan.brain, scan.images, raw)

    def require_memory(self, frames: int, samples: int = 0, *, whole: bool = True):
        """Raises `ValueError` with both figures where a scan would need more memory than is available.

        The scan is that of `sample`, with so many ``samples`` of a frame; that of `image`, without samples; or, unless
        the ``whole`` images are wanted, that of `noisy_signals`.
        """
        needed = frames * ((_IMAGES if whole else _SIGNALS) * self.size**2 + 8 * 3 * samples * self.coils)
        advice = f"a smaller size{', fewer coils' * (samples > 0)} or fewer --frames need less"
        require_memory(needed, f"a scan of {self.size} x {self.size}", advice)

    def _brain(self, seed):
        names = ("size", "field_of_view", "variation", "b1_variation", "b0_variation", "kind")
        brain = digital_brain(seed=seed, **{name: getattr(self, name) for name in names})
        if not brain.brain_mask.any():
            raise ValueError(f"size = {self.size} is too coarse: no voxel is half filled by the brain")
        return brain


def _positive(snr):
    if not snr >= 0:
        raise ValueError(f"snr must be 0 (no noise) or more; got {snr:g}")
    return snr > 0
