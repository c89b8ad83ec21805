"""The flags of spiral readouts."""

from absl import flags

from ganmrf.runs.configs import SpiralConfig

_FLAGS = {
    "size": flags.DEFINE_integer("size", SpiralConfig.size, "rows and columns of the image", lower_bound=8),
    "field_of_view_mm": flags.DEFINE_float("field_of_view_mm", SpiralConfig.field_of_view_mm, "edge of the image"),
    "interleaves": flags.DEFINE_integer(
        "interleaves", SpiralConfig.interleaves, "spirals that sample k-space fully; a frame has one", lower_bound=1
    ),
    "rotation": flags.DEFINE_enum(
        "rotation", SpiralConfig.rotation, ["uniform", "golden"], "of the spiral from frame to frame"
    ),
    "centre_density": flags.DEFINE_float(
        "centre_density", SpiralConfig.centre_density, "how much denser the centre of k-space is sampled"
    ),
    "max_gradient_mt_per_m": flags.DEFINE_float(
        "max_gradient_mt_per_m", SpiralConfig.max_gradient_mt_per_m, "limit in any direction"
    ),
    "max_slew_rate_t_per_m_s": flags.DEFINE_float(
        "max_slew_rate_t_per_m_s", SpiralConfig.max_slew_rate_t_per_m_s, "limit in any direction"
    ),
    "dwell_time_us": flags.DEFINE_float("dwell_time_us", SpiralConfig.dwell_time_us, "between samples"),
}


def spiral_config() -> SpiralConfig:
    """The parsed flags."""
    return SpiralConfig(**{name: flag.value for name, flag in _FLAGS.items()})
