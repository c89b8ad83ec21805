"""The report of `map_brain`: sequence and fingerprints, the maps, and their errors against the truth."""

import numpy as np

from ganmrf import Tissue, simulate
from ganmrf.metrics import TISSUE_COLUMNS, format_tissues
from ganmrf.report.figures import (
    REFERENCE_TIMES,
    agreement_figure,
    comparison_figure,
    fingerprint_figure,
    map_figure,
    profile_figure,
    schedule_figure,
)
from ganmrf.report.html import Picture, Section, Table, write_report

_DIFFERENCE = "{} where it has a truth: true, matched, and their difference with ten times the contrast."


def write_brain_report(path, config, results):
    """Writes the report.

    Args:
      path: the HTML file.
      config: the settings, `map_brain.Config`.
      results: `map_brain.Results`.
    """
    metrics = results.metrics
    noise = f"SNR {config.snr:g}" if config.snr else "no noise"
    write_report(
        path,
        title="T1 and T2 maps of a digital brain",
        summary=(
            f"A digital brain was scanned with {results.dictionary.sequence.n_frames} frames of MRF-FISP ({noise}) and "
            f"matched with {len(results.dictionary.norms)} atoms. In the voxels of the brain that hold one tissue, the "
            f"relative root-mean-square error is {100 * metrics['rrmse_t1']:.2f} % for T1 and "
            f"{100 * metrics['rrmse_t2']:.2f} % for T2; {100 * metrics['same_atom_as_without_noise']:.1f} % of them "
            "were matched to the atom that they match without noise."
        ),
        sections=[
            _sequence_section(results),
            _maps_section(results),
            _error_section(results),
        ],
        settings=config,
        facts=_run_facts(results),
    )


def maps_figure(results):
    """The matched maps side by side."""
    maps = results.maps
    return map_figure(maps.t1, maps.t2, maps.m0, mask=results.brain.mask, quality=maps.quality)


def _sequence_section(results):
    dictionary = results.dictionary
    times = [f"{name} {1e3 * t1:.0f}/{1e3 * t2:.0f} ms" for name, (t1, t2) in REFERENCE_TIMES.items()]
    tissue = Tissue(*np.transpose(list(REFERENCE_TIMES.values())))
    signals = simulate(dictionary.sequence, tissue, slice_profile=dictionary.slice_profile)
    pictures = [
        Picture(schedule_figure(dictionary.sequence), "Flip angle and repetition time of every frame."),
        Picture(
            fingerprint_figure(np.asarray(signals), times),
            "Fingerprints of white matter, grey matter and CSF (T1/T2), for M0 = 1.",
        ),
    ]
    if dictionary.slice_profile is not None:
        nodes, weights = dictionary.slice_profile.nodes, dictionary.slice_profile.weights
        pictures.append(Picture(profile_figure(nodes, weights), "Flip angles across the slice, and their weights."))
    return Section("Sequence and fingerprints", figures=pictures)


def _maps_section(results):
    return Section(
        "Maps",
        "Each voxel got the atom whose fingerprint has the largest normalised inner product with its signal.",
        figures=[
            Picture(
                maps_figure(results),
                "Matched T1, T2 and M0, and the match quality. The patient's right is on the left.",
            )
        ],
    )


def _error_section(results):
    maps, brain = results.maps, results.brain
    t1, t2 = brain.truth()
    true = np.isfinite(t1)
    brain_tissues = {label: name for label, name in enumerate(brain.tissue_names) if name not in ("skull", "scalp")}
    exact = [
        (name, f"{np.sum(here)}", f"{100 * np.mean((maps.index == results.noise_free.index)[here]):.1f}")
        for label, name in enumerate(brain.tissue_names)
        if (here := brain.labels == label).any()
    ]
    return Section(
        "Errors",
        "Truth exists where one tissue fills at least 95 % of a voxel: a mixed voxel has no single T1 or T2. The rest "
        "is black below.",
        figures=[
            Picture(
                comparison_figure(t1, maps.t1, mask=true, quantity="T1"),
                _DIFFERENCE.format("T1"),
            ),
            Picture(
                comparison_figure(t2, maps.t2, mask=true, quantity="T2"),
                _DIFFERENCE.format("T2"),
            ),
            Picture(
                agreement_figure(t1, maps.t1, t2, maps.t2, labels=brain.labels, names=brain_tissues),
                "Matched against true values, voxel by voxel, and their relative errors.",
            ),
        ],
        tables=[
            Table(TISSUE_COLUMNS, format_tissues(results.tissues), "Errors tissue by tissue"),
            Table(
                ("Tissue", "Voxels", "Same atom (%)"),
                exact,
                "Voxels matched to the atom of their noise-free signal",
            ),
        ],
    )


def _run_facts(results):
    """Energy outside the compressed basis, and times; these include compilation where no compiled program was kept."""
    kept = results.kept_energy
    energy = {} if kept is None else {"Energy the basis leaves out": f"{1 - kept:.1e}"}
    return energy | {f"Time for {name}": f"{value:.2f} s" for name, value in results.seconds.items()}
