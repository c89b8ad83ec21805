"""Signals of BART's phase graphs, where BART (``apt-get install bart``) is there: another program, the same signals."""

import shutil
import subprocess

import jax
import numpy as np
import pytest

from ganmrf.physics.sequences.blocks import Blocks, Delay, Train
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

pytestmark = [
    pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed"),
    pytest.mark.usefixtures("quick_compiler"),
]
FRAMES, REPETITION_TIME, DEGREES = 30, 0.01, 30.0
ANGLES = np.full(FRAMES, np.deg2rad(DEGREES))


def bart(folder, *flags):
    """The signal of ``bart epg``, (frames,), for T1 0.8 s and T2 0.08 s, read from its file."""
    settings = {"-1": 0.8, "-2": 0.08, "-r": REPETITION_TIME, "-e": REPETITION_TIME / 2, "-f": DEGREES, "-n": FRAMES}
    words = [str(word) for pair in settings.items() for word in pair]
    subprocess.run(["bart", "epg", *flags, *words, folder / "signal"], check=True)
    return np.fromfile(folder / "signal.cfl", np.complex64)


@pytest.mark.parametrize(
    ("flags", "sequence", "off_resonance"),
    [
        (["-B"], Bssfp(ANGLES, REPETITION_TIME), None),
        (["-B", "-o", "17"], Bssfp(ANGLES, REPETITION_TIME), 17.0),
        (["-B", "-o", "-41"], Bssfp(ANGLES, REPETITION_TIME), -41.0),
        # BART's echoes are as far apart as its echo time.
        (["-C"], MultiSpinEcho(np.full(FRAMES, np.pi), REPETITION_TIME / 2), None),
        # Ideally spoiled, and by gradient and a phase of 50 degrees; BART's signal is that right after the pulse.
        (["-F"], Blocks((Train(ANGLES[:1], REPETITION_TIME, 0.0), Delay(0.0, crushed=True)) * FRAMES), None),
        (["-F", "-s", "1"], SpoiledGradientEcho(ANGLES, REPETITION_TIME, 0.0, phase_increment=np.deg2rad(50)), None),
    ],
    ids=["bssfp", "bssfp at 17 Hz", "bssfp at -41 Hz", "cpmg", "flash", "rf spoiled"],
)
def test_bart_has_the_same_signal(tmp_path, flags, sequence, off_resonance):
    with jax.enable_x64(True):
        tissue = Tissue(np.float64(0.8), np.float64(0.08), off_resonance=off_resonance)
        found = np.asarray(simulate(jax.tree.map(lambda leaf: leaf.astype(float), sequence), tissue))
    expected = bart(tmp_path, *flags)
    # The magnitude; and the phase too, where BART's receiver follows the pulse as ours does.
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-6)
    if flags[0] == "-B":
        np.testing.assert_allclose(found, expected, atol=1e-6)
