"""Wrong flags of every kind are refused before any work: one line that names the flag, and nothing left behind."""

import pytest

from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import SliceConfig
from ganmrf.runs.training_config import TrainingConfig, TrainingJob
from ganmrf.runs.workdir import Workdir
from ganmrf.scan_settings import RawConfig, ReconstructionConfig
from tests.commands import run

# Command, flags, and what the line must tell.
USELESS = [
    ("simulate_dictionary", "--output=d.npz --grid=coarse --t1_ms=500 --t2_ms=50", "--t1_ms --grid"),
    ("simulate_dictionary", "--output=d.npz --states=20 --accuracy=1e-3", "--states --accuracy"),
    ("simulate_dictionary", "--output=d.npz --slice_model=none --window=none", "--window --slice_model"),
    ("train_anchored", "--workdir=w --spoiler_turns=2", "--spoiler_turns --slice_model"),
    ("simulate_dictionary", "--output=d.npz --rf_pulse=gauss --window=none", "--window --rf_pulse=sinc gauss"),
    (
        "simulate_dictionary",
        "--output=d.npz --slice_model=full --slice_nodes=12",
        "--slice_nodes --slice_model 12 full",
    ),
    ("simulate_dictionary", "--output=d.npz --slice_nodes=12 --slice_model=none", "--slice_nodes --slice_model none"),
    ("map_brain", "--output=w --slice_model=none --compare_slices", "--compare_slices --slice_model=full"),
    (
        "reconstruct_maps",
        "--input=i.h5 --output=w --dictionary=d.npz --spoiler_turns=2",
        "--dictionary --spoiler_turns",
    ),
    ("train", "--workdir=w --preset=paper --rank=8", "--rank head=svd"),
    ("train", "--workdir=w --adversarial_weight=0 --r1_weight=2", "--r1_weight --adversarial_weight"),
    ("train_anchored", "--workdir=w --kind=table --width=8", "--width kind=trunk"),
    ("train_anchored", "--workdir=w --grid=coarse", "--grid kind=table"),
    ("design_sequence", "--workdir=w --objective=separation --gain_t1=2", "--gain_t1 objective=bound"),
    ("reproduce", "--workdir=w --rotation=golden", "--rotation acquisition=kspace"),
    ("reconstruct_maps", "--input=i.npz --output=w --trajectory=k.npz", "--trajectory i.npz"),
    ("reconstruct_maps", "--input=i.h5 --output=w --variable=x", "--variable i.h5"),
    ("reconstruct_maps", "--input=i.h5 --output=w --dictionary=d.npz --frames=9", "--dictionary --frames"),
    ("reconstruct_maps", "--input=i.h5 --output=w --dictionary=d.npz --sequence=bssfp", "--dictionary --sequence"),
    ("reconstruct_maps", "--input=i.h5 --output=w --dictionary=d.npz --off_resonance_hz=5", "--off_resonance_hz"),
    ("reconstruct_maps", "--input=i.h5 --output=w --b0_scale=-1", "--b0_scale b0_map"),
    ("studies.compare_reconstructions", "--workdir=w --methods=gridding --threshold=1", "--threshold methods=low_rank"),
    ("evaluate", "--workdir=w --allow_extrapolation", "--allow_extrapolation --on"),
    ("simulate_dictionary", "--output=d.npz --rr_ms=900", "--rr_ms --sequence=cardiac"),
    ("simulate_dictionary", "--output=d.npz --sequence=tse --flip_angle_deg=9", "--flip_angle_deg --sequence=spgr"),
    ("simulate_dictionary", "--output=d.npz --sequence=cardiac --frames=9", "--frames --sequence=cardiac"),
    (
        "simulate_dictionary",
        "--output=d.npz --sequence=spgr --schedule=s.csv",
        "--schedule --sequence=fisp|bssfp|cardiac",
    ),
    ("map_brain", "--output=w --schedule_seed=1", "--schedule_seed --sequence=bssfp"),
    ("cardiac_dictionary", "--output=d.npz --rr_ms=900 --check", "--check --generator"),
    ("cardiac_dictionary", "--output=d.npz --rr_ms=900 --anchors=64", "--anchors --generator"),
]
# Commands that take some kinds of sequences alone, and grids on resonance alone, name those.
KINDS = [
    ("ablate", "--workdir=w --sequence=bssfp", "--sequence=bssfp <fisp>"),
    ("train_anchored", "--workdir=w --sequence=spgr", "--sequence=spgr <fisp|cardiac|bssfp>"),
    ("reproduce", "--workdir=w --sequence=tse", "--sequence=tse <fisp>"),
    ("sweep_lambda", "--workdir=w --sequence=spgr", "--sequence=spgr <fisp>"),
    ("train_anchored", "--workdir=w --sequence=tse", "--sequence=tse fisp|"),
    ("reproduce", "--workdir=w --grid=ma", "--grid=ma <paper|coarse|fine>"),
    ("design_sequence", "--workdir=w --sequence=bssfp", "--sequence=bssfp <fisp>"),
    ("export_pulseq", "--output=m.seq --sequence=bssfp", "--sequence=bssfp <fisp>"),
    ("cardiac_dictionary", "--output=d.npz --rr_ms=900 --sequence=bssfp", "--sequence=bssfp <cardiac>"),
    ("studies.hidden_b1", "--workdir=w --sequence=spgr", "--sequence=spgr <fisp>"),
    ("simulate_dictionary", "--output=d.npz --sequence=epi", "--sequence=epi fisp|cardiac|bssfp|spgr|tse"),
]
NO_FLAGS = [
    ("export_pulseq", "--output=m.seq --t1_ms=500", "--t1_ms simulate_dictionary"),
    ("design_sequence", "--workdir=w --grid=coarse", "--grid"),
    ("sweep_lambda", "--workdir=w --reconstruction_weight=3", "--reconstruction_weight"),
    ("ablate", "--workdir=w --seed=3", "--seed --seeds"),
    ("studies.compare_reconstructions", "--workdir=w --rotation=golden", "--rotation --rotations"),
]
OUT_OF_BOUNDS = [
    ("simulate_dictionary", "--output=d.npz --grid=bogus", "grid bogus coarse"),
    ("simulate_dictionary", "--output=d.npz --window=bogus", "window bogus hann"),
    ("simulate_dictionary", "--output=d.npz --off_resonance_hz=9:-9:1", "--off_resonance_hz 9:-9:1"),
    ("simulate_dictionary", "--output=d.npz --sequence=bssfp --echo_time_ms=20", "--echo_time_ms 20 ms"),
    ("simulate_dictionary", "--output=d.npz --sequence=cardiac --rr_ms=900,240,900", "--rr_ms beat 2 240 ms"),
    ("simulate_dictionary", "--output=d.npz --sequence=cardiac --preparations_ms=t3:5", "--preparations_ms t3:5"),
    ("map_brain", "--output=w --sequence=cardiac --rr_ms=800,150,800", "--rr_ms beat 2 150 ms"),
    ("map_brain", "--output=w --off_resonance_hz=-9e3:9e3:1e-7", "--off_resonance_hz GB"),
    ("map_brain", "--output=w --frames=9 --rank=10", "rank 10"),
    ("train_anchored", "--workdir=w --sequence=cardiac --frames=1", "--frames must be at least 2"),
    ("simulate_acquisition", "--output=s.h5 --truth=t --sequence=spgr --echo_time_ms=12", "--echo_time_ms 10 12 ms"),
    ("simulate_acquisition", "--output=s.h5 --truth=t --max_slew_rate_t_per_m_s=1e-9", "max_slew_rate_t_per_m_s"),
    ("evaluate", "--workdir=none --output=w", "none run"),
    ("evaluate_anchored", "--generator=none.npz --output=w", "none.npz"),
    ("cardiac_dictionary", "--output=d.npz", "--rr_ms required"),
    ("simulate_dictionary", "--output=d.npz --slice_nodes=1000000", "--slice_nodes 1000000"),
    ("simulate_dictionary", "--output=d.npz --slice_model=thin", "slice_model thin full"),
    ("simulate_dictionary", "--output=d.npz --slice_model=partitioned --spoiler_turns=0.5", "--spoiler_turns 0.5 full"),
    ("simulate_dictionary", "--output=d.npz --slice_nodes=12 --spoiler_turns=0.5", "--spoiler_turns 0.5 full"),
    ("simulate_dictionary", "--output=d.npz --spoiler_turns=-1", "--spoiler_turns -1"),
    ("map_brain", "--output=w --rf_pulse=sincc", "--rf_pulse sincc"),
    ("simulate_dictionary", "--output=d.npz --slice_nodes=12 --time_bandwidth=1e9", "--time_bandwidth 1000000000.0"),
    ("simulate_dictionary", "--output=d.npz --b1=-1e308:1e308:1", "--b1 -1e308:1e308:1"),
    ("simulate_dictionary", "--output=d.npz --states=0", "--states 0"),
    ("simulate_dictionary", "--output=d.mat --t1_ms=1000:2000:1 --t2_ms=20:560:1", "d.mat GiB .npz"),
    ("simulate_dictionary", "--output=d.zarr --coordinator=a:1 --processes=0 --process_id=0", "--processes 0"),
    ("train", "--workdir=w --learning_rate=1e30", "--learning_rate 1e+30"),
    ("train_anchored", "--workdir=w --t1_range_ms=1,2 --t2_range_ms=100,200", "--t2_range_ms t1_range_ms"),
    ("train_anchored", "--workdir=w --anchors=64 --candidates=32", "--candidates 64 32"),
    ("train", "--workdir=w --split=0.5,0.5,0.5", "--split 0.5,"),
    ("reproduce", "--workdir=w --b1=0.9:1.1:0.1", "--b1 0.9:1.1:0.1"),
    ("map_brain", "--output=w --size=8", "--size 16 8"),
    ("ablate", "--workdir=w --seeds=0.5", "--seeds 0.5"),
    ("ablate", "--workdir=w --seeds=", "--seeds"),
    ("design_sequence", "--workdir=w --flip_angle_deg=85,0", "--flip_angle_deg 85.0,0.0"),
    ("design_sequence", "--workdir=w --tissues=a:100/200", "--tissues a:100/200"),
    ("simulate_acquisition", "--output=s.h5 --b1_variation=2", "--b1_variation 2"),
    (
        "cardiac_dictionary",
        "--generator=g.npz --output=d.npz --rr_ms=800 --repetition_time_ms=0",
        "--repetition_time_ms",
    ),
]
# What a function further down refuses under the name of its argument.
NAMED = [
    ("simulate_dictionary", "--output=d.npz --frames=1001", "--frames 1001"),
    ("export_pulseq", "--output=m.seq --frames=5 --max_slew_rate_t_per_m_s=1e-9", "max_slew_rate_t_per_m_s"),
    ("export_pulseq", "--output=m.seq --frames=5 --pulse_duration_ms=0.0123", "--pulse_duration_ms"),
    ("export_pulseq", "--output=m.seq --frames=5 --slice_thickness_mm=1", "--max_gradient_mt_per_m"),
    ("export_pulseq", "--output=m.seq --frames=5 --spoiler_turns=90", "--inversion_time_ms"),
    ("design_sequence", "--workdir=w --frames=9 --rf_power=1e-9 --flip_angle_deg=5,9", "--rf_power 1e-09"),
    ("design_sequence", "--workdir=w --frames=9 --scan_time_s=1e9", "--scan_time_s 1e+09"),
]
FILES = [
    ("simulate_dictionary", "--output=d.npz --flagfile=/dev/zero", "--flagfile /dev/zero"),
    ("simulate_acquisition", "--output=s.h5 --truth=/proc/x", "/proc/x"),
    ("reconstruct_maps", f"--input=i.h5 --output=w --prefix={300 * 'x'}", "--prefix 300"),
    ("train_anchored", f"--workdir={__file__}", f"--workdir {__file__}"),
    ("map_brain", f"--output={__file__}/within", f"--output {__file__}"),
    ("benchmarks.dictionary", "--output=none/x.json", "--output none/x.json"),
]


@pytest.mark.parametrize(
    ("job", "flags", "told"),
    [*USELESS, *KINDS, *NO_FLAGS, *OUT_OF_BOUNDS, *NAMED, *FILES],
    ids=lambda value: value[-60:],
)
def test_a_wrong_flag_is_refused_before_any_work(tmp_path, monkeypatch, job, flags, told):
    monkeypatch.chdir(tmp_path)
    done = run(job, *flags.split())
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in told.split())
    assert not [*tmp_path.iterdir()]


def test_what_a_flag_goes_with_may_be_a_setting_of_the_folder_that_is_gone_on_with(tmp_path):
    folder = tmp_path / "run"
    with Workdir(folder, TrainingJob(training=TrainingConfig("paper"))) as workdir:  # whose head is tanh
        workdir.record({"step": 1, "seconds": 0.0, "core_seconds": 0.0})
    for flag, words in (("--fingerprint_scaling=each", "conflicts with set"), ("--rank=8", "goes with --head=svd")):
        done = run("train", f"--workdir={folder}", flag)
        assert done.returncode == 2
        assert words in done.stderr
        assert "goes with" in run("train", f"--workdir={tmp_path / 'new'}", "--fingerprint_scaling=each").stderr


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SimulationConfig(window="bogus"), "window"),
        (lambda: SimulationConfig(t1_ms="500"), "t2_ms"),
        (lambda: SimulationConfig(slice=SliceConfig(slice_model="full"), slice_nodes=4), "slice_nodes"),
        (lambda: SliceConfig(spoiler_turns=-1.0), "spoiler_turns"),
        (lambda: SimulationConfig(t1_ms="0", t2_ms="0"), "t1_ms"),
        (lambda: ReconstructionConfig(raw=RawConfig(slice=1)).check_reads("images.npz"), "slice"),
        (lambda: ReconstructionConfig("d.npz", "frames", rank=4).check_reads("images.npz"), "rank"),
    ],
)
def test_python_is_refused_the_same(make, words):
    with pytest.raises(ValueError, match=words):
        make()
