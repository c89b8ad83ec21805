"""Configuration of a sequence's preparation by a generator with anchors."""

from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.settings import configuration, naming_fields, setting


@configuration
class PreparationConfig:
    """Anchors of a sequence, and the error of what is generated from them."""

    anchors: int | None = setting(None, "anchors to simulate; default: all that the generator has", at_least=1)
    accuracy: float | None = setting(
        None,
        "in place of --anchors: largest error of the tissues that are checked",
        above=0,
        instead_of=("anchors",),
    )
    allow_error: float | None = setting(
        None,
        "largest error that is put up with; default: --accuracy, or 0.01, with a warning above 0.001; where the "
        "generator is of another kind than the sequence 0.001",
        above=0,
    )

    def prepare(self, generator, sequence: PulseSequence, **changes):
        """`ganmrf.anchors.prepared.prepare` as the fields say, but for ``changes`` of its arguments."""
        from ganmrf.anchors.prepared import prepare  # here: most jobs prepare nothing

        own = {"n_anchors": self.anchors, "accuracy": self.accuracy, "allow_error": self.allow_error}
        with naming_fields(n_anchors="anchors"):
            return prepare(generator, sequence, **own | changes)
