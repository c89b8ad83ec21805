"""Which jobs there are, grouped as a user thinks."""

import ast
import os
import pathlib
import sys

GROUPS = {
    "simulate": ("simulate_dictionary", "simulate_acquisition", "map_brain"),
    "learn": (
        "reproduce",
        "train",
        "evaluate",
        "sweep_lambda",
        "ablate",
        "generate_dictionary",
        "train_anchored",
        "evaluate_anchored",
        "cardiac_dictionary",
    ),
    "map": ("reconstruct_maps", "map_fractions", "map_continuous"),
    "design": ("design_sequence", "export_pulseq"),
    "study": (
        "studies.hidden_b1",
        "studies.sequence_input",
        "studies.compare_reconstructions",
        "studies.slice_profile_accuracy",
        "studies.magnitude_series",
        "studies.prewhitening",
        "studies.cardiac_preparations",
        "studies.off_resonance",
        "studies.measured_profiles",
        "studies.slice_models",
        "studies.one_pool_bias",
        "studies.semisolid_maps",
        "studies.volume_fractions",
        "studies.design_signals",
        "studies.dear_physics_gan",
        "studies.pool_precision",
        "studies.arrhythmia",
        "studies.adaptive_scan",
        "studies.continuous_fit",
        "studies.generated_matching",
        "benchmarks.simulator",
        "benchmarks.dictionary",
        "benchmarks.generation",
    ),
}


def job_modules() -> list[str]:
    """Names of all jobs: ``experiments.NAME`` is the module of each."""
    return [job for jobs in GROUPS.values() for job in jobs]


def summary(job: str) -> str:
    """The first line of a job's docstring, read without importing the job."""
    path = pathlib.Path(__file__).parents[1].joinpath(*job.split(".")).with_suffix(".py")
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines()[0]


def refuse(message: str):
    """Ends the process for bad input: one line on stderr, and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def show(text: str):
    """Prints a page; a reader that has seen enough of it, as `head` has, ends it without a word."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
