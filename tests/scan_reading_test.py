"""What belongs to a scan, from files: a trajectory without the sequence that it was played with."""

import numpy as np
import pypulseq
import pytest

from ganmrf.dictionary.grids import grid_of
from ganmrf.imaging.trajectory import design_spiral
from ganmrf.io.mrd import RawData, write_mrd
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.scan_settings import RawConfig, ReconstructionConfig
from ganmrf.scan_to_maps import map_scan

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_a_seq_file_that_cannot_be_simulated_gives_its_trajectory_to_a_given_sequence(tmp_path):
    """A T2 preparation before the frames: the sequence is refused where it is needed, and not where it is given."""
    frames, size = 4, 16
    spiral = design_spiral(matrix=size, field_of_view=0.24, interleaves=2)
    scan = pypulseq.Sequence(pypulseq.Opts(adc_dead_time=0))
    scan.add_block(pypulseq.make_block_pulse(np.pi / 2, duration=1e-3, use="preparation"))
    scan.add_block(pypulseq.make_delay(5e-3))
    gradients = [
        pypulseq.make_arbitrary_grad(axis, 42.577478518e6 * wave, first=0, last=0)
        for axis, wave in zip("xy", spiral.gradient.T, strict=True)
    ]
    readout = pypulseq.make_adc(len(spiral.k), dwell=spiral.dwell_time)
    for _ in range(frames):
        scan.add_block(pypulseq.make_block_pulse(0.3, duration=1e-3, use="excitation"))
        scan.add_block(*gradients, readout)
        scan.add_block(pypulseq.make_trapezoid("z", area=1000))
    scan.write(str(tmp_path / "prepared.seq"))
    kspace = np.ones((frames, 1, len(spiral.k)), np.complex64)
    place = {"matrix": (size, size), "field_of_view": (0.24, 0.24), "slice_thickness": 5e-3}
    write_mrd(tmp_path / "scan.h5", RawData(kspace, None, **place))
    config = ReconstructionConfig(rank=2, raw=RawConfig(trajectory=str(tmp_path / "prepared.seq")), refine=False)
    tissue = grid_of([0.5, 1.0], [0.05, 0.1])
    with pytest.raises(ValueError, match=r"prepared.seq: .*preparation.*give a --dictionary, or --schedule"):
        map_scan(tmp_path / "scan.h5", tissue=tissue, config=config)
    found = map_scan(tmp_path / "scan.h5", sequence=mrf_fisp(frames), tissue=tissue, config=config)
    assert found.trajectory.shape == (frames, len(spiral.k), 2)
