"""Generators with anchors as commands take them: what is wrong with one is told with its flag and file."""

from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.anchors.generator_file import load_anchored


def anchored_for(path: str, *, families: tuple[str, ...] = (), tissue: str | None = None) -> AnchoredGenerator:
    """The generator of the flag ``--generator``, one of any tissue in its box.

    Args:
      path: the file.
      families: kinds of sequences that it may be of; all by default.
      tissue: the kind of tissue that it has to be of; any by default.

    Raises:
      ValueError: a file that holds no generator with anchors, a table, or one of another kind of sequence or tissue.
    """
    generator = load_anchored(path)
    if not generator.model.any_tissue:
        raise ValueError(
            f"generator must be a trunk or radial, whose weights are a function of tissue; {path} is a table, which "
            "has weights for its own atoms alone"
        )
    if families and generator.family not in families:
        wanted = " or ".join(families)
        raise ValueError(f"generator must be for sequences of kind {wanted}; {path} is for {generator.family}")
    if tissue not in (None, generator.box.kind):
        raise ValueError(f"generator must be for tissue of kind {tissue}; {path} is for {generator.box.kind}")
    return generator
