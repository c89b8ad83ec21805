"""A digital brain: one axial slice of tissue fractions with known T1, T2, B1+, B0 and proton density, and its signal.

White matter, grey matter and CSF come from the shipped MNI152 slab; skull and scalp are shells around them. A voxel is
a mixture: its signal is the sum of the signals of its tissues, each simulated with T1 and T2 of that tissue at that
place. A mixed voxel therefore has no single true T1 or T2, and the truth maps leave mixed voxels out. White and grey
matter may have a second pool of spins, semisolid or mobile, with which the first one exchanges.
"""

import dataclasses
import importlib.resources

import numpy as np
from scipy import ndimage

from ganmrf.imaging.brain_tissues import BRAIN_TISSUES, TISSUES, brain_values
from ganmrf.memory import require_memory
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TISSUES as KINDS
from ganmrf.physics.tissue import TissueModel, parameters
from ganmrf.pytrees import pytree, require, require_positive, require_whole

PURE = 0.95  # a voxel has a true T1 and T2 where one tissue fills at least this much of it

# Shells around the brain mask: outer distance of CSF, skull and scalp, mm; about those of an adult.
_CSF_MM, _SKULL_MM, _SCALP_MM = 1.5, 7.0, 12.0
_SLICE_MM = 5.0  # thickness of the slice, of 10 mm that the slab has
_CLOSING_MM = 40.0  # dents in the brain's outline of a smaller radius do not dent the skull
_VARIATION_LENGTH, _PHASE_LENGTH, _HEAD_RADIUS = 0.03, 0.1, 0.1  # m: correlation of T1 and T2, of phase; B1's fall
_SINUS_Y, _SINUS_RADIUS = -0.07, 0.02  # m: where the sinuses lie on the y axis, and the width of the field above them
_BYTES_A_VOXEL = 220  # of memory while the brain is made: five tissues, most of their arrays in float64
COARSEST = 16  # rows and columns of an image of 300 mm: with fewer, no voxel may be of one tissue to 95 %
_CLIP = 2.0  # standard deviations within which smooth fields stay, so that T1 and T2 stay positive


@pytree
@dataclasses.dataclass(frozen=True)
class Brain:
    """One slice: the share of each tissue in each voxel, and T1 and T2 of each tissue at each place.

    Attributes:
      fractions: share of the voxel's volume that each tissue fills, (tissues, y, x), float32, sum at most 1; the rest
        is air.
      tissue: of any kind; t1 and t2 of each tissue at each place, (tissues, y, x), s, and so a second pool's fraction;
        its other parameters (tissues, 1, 1); b1 (y, x), or one number for all; off_resonance, Hz, likewise, or None.
      proton_density: of each tissue, relative to CSF, (tissues,).
      phase: receive phase, rad, (y, x).
      affine: from (column, row, slice, 1) to RAS millimetres, (4, 4): the affine of a NIfTI file with axes x, y, z.
      tissue_names: name of each tissue.

    Raises:
      ValueError: fractions outside 0 to 1, or shapes that disagree.
    """

    fractions: np.ndarray
    tissue: TissueModel
    proton_density: np.ndarray
    phase: np.ndarray
    affine: np.ndarray
    tissue_names: tuple[str, ...] = dataclasses.field(default=tuple(TISSUES), metadata={"static": True})

    def __post_init__(self):
        shape = np.shape(self.fractions)
        rest = (self.tissue.shape, (*np.shape(self.proton_density), *np.shape(self.phase)))
        if len(shape) != 3 or any(other != shape for other in rest) or len(self.tissue_names) != shape[0]:
            raise ValueError(
                f"Brain: fractions must be (tissues, y, x) and the other fields must agree; got fractions {shape}, "
                f"tissue {self.tissue.shape}, proton_density {np.shape(self.proton_density)}, "
                f"phase {np.shape(self.phase)}, {len(self.tissue_names)} names"
            )
        require("Brain.fractions", self.fractions, lambda x: (x >= 0) & (x <= 1), "within 0 to 1")

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """Size of a voxel along column, row and slice, m."""
        return tuple((1e-3 * np.linalg.norm(self.affine[:3, :3], axis=0)).tolist())

    @property
    def mask(self) -> np.ndarray:
        """True where tissue fills half the voxel or more, bool, (y, x)."""
        return self.fractions.sum(axis=0) >= 0.5

    @property
    def brain_mask(self) -> np.ndarray:
        """True where white matter, grey matter and CSF fill half the voxel or more, bool, (y, x)."""
        return self.fractions[np.isin(self.tissue_names, BRAIN_TISSUES)].sum(axis=0) >= 0.5

    @property
    def labels(self) -> np.ndarray:
        """Index of the tissue that fills at least 95 % of the voxel, -1 where none does, int, (y, x)."""
        return np.where(self.fractions.max(axis=0) >= PURE, self.fractions.argmax(axis=0), -1)

    @property
    def off_resonance(self) -> np.ndarray:
        """Off-resonance, Hz, (y, x): 0 where the tissue has none."""
        apart = self.tissue.off_resonance
        return np.broadcast_to(np.float32(0) if apart is None else np.asarray(apart), self.fractions.shape[1:])

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """True T1 and T2, s, (y, x) each; NaN where no tissue fills 95 % of the voxel."""
        truths = self.truths()
        return truths["t1"], truths["t2"]

    def truths(self) -> dict[str, np.ndarray]:
        """True parameters by field, SI, (y, x) each, None as 0; NaN where no tissue fills 95 % of the voxel."""
        labels, found = self.labels, {}
        for name in parameters(self.tissue):
            value = getattr(self.tissue, name)
            values = np.broadcast_to(np.float32(0) if value is None else np.asarray(value), self.fractions.shape)
            values = np.take_along_axis(values, np.maximum(labels, 0)[None], axis=0)[0]
            found[name] = np.where(labels >= 0, values, np.nan)
        return found


def digital_brain(
    *,
    size: int = 256,
    field_of_view: float = 0.3,
    variation: float = 0.05,
    b1_variation: float = 0.0,
    b0_variation: float = 0.0,
    seed: int = 0,
    kind: str = "one_pool",
) -> Brain:
    """An axial slice of 5 mm through the lateral ventricles, z = 17.5 mm, in radiological convention.

    Row 0 is anterior and column 0 is the patient's right, as radiologists view images. Every voxel holds the average
    over its own volume, in the plane and through the slice. The anatomy does not depend on ``seed``, and the random
    fields do not depend on ``size``.

    Args:
      size: rows and columns.
      field_of_view: edge of the image, m.
      variation: standard deviation of T1, of T2 and of the part of a second pool within a tissue, as a fraction below
        0.5; each follows its own smooth random field (correlation length 30 mm, cut at 2 standard deviations).
      b1_variation: B1+ falls from ``1 + b1_variation`` at the centre to ``1 - b1_variation`` at 100 mm, quadratically;
        below 1. 0 gives ``b1 = 1.0``.
      b0_variation: Hz; off-resonance is a smooth random field (correlation length 100 mm) of this standard deviation
        divided by 4, cut at 2 standard deviations, and in front `sinus_field` times this. 0 gives none.
      seed: of the random fields of T1, T2, receive phase, off-resonance and the part of a second pool.
      kind: of tissue: ``one_pool``, ``exchanging`` or ``semisolid`` (`ganmrf.physics.tissue.TISSUES`).

    Raises:
      ValueError: an argument outside its range, or an image that the memory does not hold.

    References:
      Slab: Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033. Values: `ganmrf.imaging.brain_tissues`.
    """
    require_whole("size", size)
    require_positive("field_of_view", field_of_view, "positive and finite (m)")
    require("variation", variation, lambda x: (x >= 0) & (x < 1 / _CLIP), f"0 or more and below {1 / _CLIP}")
    require("b1_variation", b1_variation, lambda x: (x >= 0) & (x < 1), "0 or more and below 1")
    require("b0_variation", b0_variation, lambda x: (x >= 0) & np.isfinite(x), "0 or more, and finite (Hz)")
    require_whole("seed", seed, 0)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    fine = size + 2e3 * field_of_view  # rows of the finest grid: a voxel of the image, and of half a mm
    needed = _BYTES_A_VOXEL * size**2 + 16 * fine**2
    require_memory(needed, f"a brain of {size} x {size}", "a smaller size or field of view needs less")

    volumes, slab_affine, centre = _slab_fractions()
    affine = _image_affine(centre, size, 1e3 * field_of_view / size)
    fractions = _resample(volumes, np.linalg.inv(slab_affine) @ affine, size)

    position = field_of_view * ((np.arange(size) + 0.5) / size - 0.5)
    rng = np.random.default_rng(seed)
    rows = brain_values(kind).values()
    means = {name: [row[name] for row in rows] for name in next(iter(rows))}
    fields = _smooth_fields(rng, 2 * len(TISSUES), position, _VARIATION_LENGTH)
    t1 = [mean * (1 + variation * next(fields)) for mean in means.pop("t1")]
    t2 = [mean * (1 + variation * next(fields)) for mean in means.pop("t2")]
    t2 = [np.minimum(value, longest) for value, longest in zip(t2, t1, strict=True)]
    radius = np.hypot(position[:, None], position[None, :]) / _HEAD_RADIUS
    b1 = 1 + b1_variation * (1 - 2 * np.minimum(radius, 1) ** 2) if b1_variation else 1.0
    phase = np.pi / 4 * next(_smooth_fields(rng, 1, position, _PHASE_LENGTH))
    values = {"t1": t1, "t2": t2, "b1": b1}
    if b0_variation:
        b0 = next(_smooth_fields(rng, 1, position, _PHASE_LENGTH)) / 4 + sinus_field(size, field_of_view)
        values["off_resonance"] = b0_variation * b0
    if "fraction" in means:
        fields = _smooth_fields(rng, len(TISSUES), position, _VARIATION_LENGTH)
        values["fraction"] = [mean * (1 + variation * next(fields)) for mean in means.pop("fraction")]
    values |= {name: np.reshape(of_tissues, (-1, 1, 1)) for name, of_tissues in means.items()}
    tissue = KINDS[kind](**{name: np.asarray(value, np.float32) for name, value in values.items()})
    return Brain(
        fractions=fractions,
        tissue=tissue,
        proton_density=np.float32([density for *_, density in TISSUES.values()]),
        phase=phase.astype(np.float32),
        affine=affine,
    )


def sinus_field(size: int, field_of_view: float) -> np.ndarray:
    """The shape of the field that the frontal sinuses cause: a Gaussian of 20 mm around them, 1 at its top, (y, x)."""
    position = field_of_view * ((np.arange(size) + 0.5) / size - 0.5)
    return np.exp(-((position[:, None] - _SINUS_Y) ** 2 + position**2) / (2 * _SINUS_RADIUS**2))


def acquire(
    brain: Brain,
    sequence: PulseSequence,
    *,
    slice_profile: SliceModel = None,
    mask: np.ndarray | None = None,
    progress: bool = False,
) -> np.ndarray:
    """The image series of a perfect scan: no coils, no sampling, no noise.

    Each tissue of each voxel is simulated by itself; the signals add, weighted by volume and proton density.

    The slice is simulated as ``slice_profile`` says, None for a uniform one. With a ``mask``, bool, (y, x), its voxels
    alone are returned.

    Returns:
      (frames, y, x), or (frames, voxels) with a mask, complex64: the transverse magnetisation divided by ``-1j``, as
      `simulate` returns it, times the factor of the receive phase. Immediately after 90 degrees from equilibrium a
      voxel of CSF would have magnitude 1.
    """
    tissue, shape, filled = brain.tissue, brain.fractions.shape, brain.fractions > 0
    fields = {name: value for name, value in vars(tissue).items() if value is not None and value.ndim}
    fields = {name: np.broadcast_to(value, shape)[filled] for name, value in fields.items()}
    mixture = dataclasses.replace(tissue, **fields)
    # All tissues in one call, so that their voxels share numbers of states, and few programs are compiled.
    signals = simulate_many(sequence, mixture, slice_profile=slice_profile, progress=progress)
    weights = brain.proton_density[:, None, None] * brain.fractions * np.exp(1j * brain.phase)
    kept = np.ones(shape[1:], bool) if mask is None else mask
    images = np.zeros((sequence.n_frames, np.count_nonzero(kept)), np.complex64)
    parts = np.split(signals, np.cumsum(filled.sum(axis=(1, 2)))[:-1])
    for here, weight, part in zip(filled, weights, parts, strict=True):
        inside, of_part, weighed = here[kept], kept[here], weight[here & kept]
        for image, signal in zip(images, part.T, strict=True):
            image[inside] += weighed * signal[of_part]
    return images.reshape(-1, *shape[1:]) if mask is None else images


def add_noise(images: np.ndarray, snr: float, *, mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """Adds complex white Gaussian noise to images (frames, y, x), in their complex dtype.

    The ``snr`` is that of `noise_std` for the voxels of ``mask``, bool, (y, x), not empty. Voxels outside the mask get
    the same noise.

    Raises:
      ValueError: images that are not complex, an ``snr`` that is not positive, or a mask that does not fit.
    """
    require("snr", snr, lambda x: x > 0, "positive")
    require_whole("seed", seed, 0)
    images, mask = np.asarray(images), np.asarray(mask)
    if not np.iscomplexobj(images):
        raise ValueError(f"images must be complex; got dtype {images.dtype}")
    if mask.dtype != bool or mask.shape != images.shape[1:] or not mask.any():
        raise ValueError(
            f"mask must be bool, of shape {images.shape[1:]}, with a voxel at least; got {mask.dtype}, {mask.shape}, "
            f"{np.count_nonzero(mask)} voxels"
        )
    noisy = images.copy()
    for image, of_image in zip(noisy, _noise([image[mask] for image in images], snr, mask, seed), strict=True):
        image += of_image
    return noisy


def add_noise_in(signals: np.ndarray, snr: float, *, mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """What `add_noise` gives in the voxels of the mask, (frames, voxels), from the signals of these voxels alone."""
    noisy = signals.copy()
    for signal, of_image in zip(noisy, _noise(signals, snr, mask, seed), strict=True):
        signal += of_image[mask]
    return noisy


def noise_std(signals, snr: float) -> float:
    """The standard deviation of noise in the real part, and in the imaginary part, of signals (frames, voxels).

    The ``snr`` of a scan, above 0, is the root mean square of ``|signals|`` over the voxels of the brain and all frames
    divided by this standard deviation. The signals are without noise, in one array or frame by frame.
    """
    return float(np.sqrt(np.mean([np.mean(np.abs(signal) ** 2) for signal in signals]))) / snr


def _noise(signals, snr, mask, seed):
    """The noise of each image, (y, x): one at a time, since that of the whole series would double the memory."""
    std, rng, real = noise_std(signals, snr), np.random.default_rng(seed), signals[0].real.dtype
    for signal in signals:
        noise = rng.standard_normal((*mask.shape, 2), dtype=real).view(signal.dtype)[..., 0]
        yield real.type(std) * noise


def _slab_fractions():
    """Fractions (tissues, x, y) averaged over the slice in the centre of the slab; its affine; its centre, mm."""
    with importlib.resources.files("ganmrf.data").joinpath("mni152_slab.npz").open("rb") as file, np.load(file) as slab:
        head, grey, white = (slab[name].astype(float) / 255 for name in ("t1", "gm", "wm"))
        affine = slab["affine"]
    below = np.arange(head.shape[2]) - head.shape[2] / 2  # lower face of each slice, mm from the slab's centre
    overlap = np.clip(np.minimum(below + 1, _SLICE_MM / 2) - np.maximum(below, -_SLICE_MM / 2), 0, None)
    total = np.zeros((len(TISSUES), *head.shape[:2]))
    for index in np.flatnonzero(overlap):
        distance = _distance_outside(head[..., index] > 0)
        # The fraction of a voxel that lies inside a flat edge at this distance: it falls from 1 to 0 over one voxel.
        inside, skull, scalp = (np.clip(0.5 + edge - distance, 0, 1) for edge in (_CSF_MM, _SKULL_MM, _SCALP_MM))
        csf = np.clip(1 - white[..., index] - grey[..., index], 0, 1)
        # The maps are blurred, as means over 152 people. Squaring the fractions sharpens them, so that the cortex has
        # voxels of grey matter alone.
        brain = np.stack([white[..., index], grey[..., index], csf]) ** 2
        total[:3] += overlap[index] * inside * brain / brain.sum(axis=0)
        total[3:] += overlap[index] * np.stack([skull - inside, scalp - skull])
    return total / _SLICE_MM, affine, (affine @ [*((n - 1) / 2 for n in head.shape), 1])[:3]


def _distance_outside(mask):
    """Signed distance, mm, from the smooth outline of a mask of 1 mm voxels with its fissures closed."""
    margin = int(_CLOSING_MM) + 1
    grown = ndimage.distance_transform_edt(~np.pad(mask, margin)) <= _CLOSING_MM
    closed = (ndimage.distance_transform_edt(grown) > _CLOSING_MM)[margin:-margin, margin:-margin]
    distance = ndimage.distance_transform_edt(~closed) - ndimage.distance_transform_edt(closed)
    return ndimage.gaussian_filter(distance - 0.5 * np.sign(distance), 2.0)


def _image_affine(centre, size, voxel_mm):
    """Columns run from right to left, rows from anterior to posterior, about ``centre`` (RAS, mm)."""
    affine = np.zeros((4, 4))
    affine[0, 0] = affine[1, 1] = -voxel_mm
    affine[2, 2], affine[3, 3] = _SLICE_MM, 1
    affine[:3, 3] = centre - affine[:3, :2] @ np.full(2, (size - 1) / 2)
    return affine


def _resample(volumes, transform, size):
    """Means of maps over an image's voxels, (maps, y, x), float32; ``transform`` takes (column, row) to the slab."""
    matrix, offset = transform[:2, 1::-1], transform[:2, 3]  # of (row, column)
    points = max(1, int(np.ceil(2 * np.abs(matrix).max())))  # a voxel's edge, at half the slab's spacing or finer
    offset = offset + matrix @ np.full(2, (1 / points - 1) / 2)

    def resampled(volume):
        fine = ndimage.affine_transform(volume, matrix / points, offset, (size * points,) * 2, order=1)
        return fine.reshape(size, points, size, points).mean(axis=(1, 3)).astype(np.float32)

    return np.stack([resampled(volume) for volume in volumes])


def _smooth_fields(rng, count, position, length):
    """Yields Gaussian random fields (y, x) of unit variance and covariance exp(-d^2 / (2 length^2)), cut at ``_CLIP``.

    Each is a sum of 64 plane waves of random direction, so that its value at a place does not depend on the grid.
    """
    wave_y, wave_x = rng.standard_normal((2, count, 64, 1)) / length
    start = rng.uniform(0, 2 * np.pi, (count, 64, 1))
    waves = zip(np.exp(1j * (wave_y * position + start)), np.exp(1j * wave_x * position), strict=True)
    for rows, columns in waves:
        yield np.clip(np.sqrt(2 / 64) * (rows.T @ columns).real, -_CLIP, _CLIP)
