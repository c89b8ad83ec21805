"""Volume fractions of components without exchange: errors beside their bound, and the bias by what was fixed.

Example::

    ganmrf studies.volume_fractions --output=volume_fractions.json --figure=volume_fractions.png

Voxels are mixtures of myelin water, intra- and extra-cellular water and free water, with noise. Their fractions are
fitted with these components; with a wrong T2 of the intra- and extra-cellular one; with a wrong B1; and, with none
known, with all atoms of a grid, in every voxel by itself or jointly sparse (SPIJN), whose T1 and T2 are then refined
between the atoms; a component is what lies in its window of T2.
"""

import jax
import numpy as np

from experiments.flags.command_line import command
from experiments.studies.errors import chosen
from experiments.studies.keeping import keep
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.fractions import component_name, fractions_of
from ganmrf.dictionary.grids import grid_of
from ganmrf.dictionary.joint_sparsity import joint_sparse_fractions
from ganmrf.dictionary.nonnegative import nonnegative_least_squares
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.tissue import Tissue
from ganmrf.report.fraction_figures import fraction_errors_figure
from ganmrf.report.html import Table
from ganmrf.settings import configuration, setting

# T1 and T2, s. Of myelin and of the other water of white matter the middle of the ranges of Whitaker et al. 2020,
# doi:10.1002/mrm.28259, whose T2 of the latter, 80 ms with 20 % to both sides, is here `Config.true_t2_ms`; of free
# water those of CSF: Rooney et al. 2007, doi:10.1002/mrm.21122, and Piechnik et al. 2009, Magn Reson Med 61:579.
MYELIN, CELLS, FREE = "myelin water", "intra/extra-cellular", "free water"
_T1 = {MYELIN: 0.4, CELLS: 1.0, FREE: 4.3}
_T2 = {MYELIN: 0.02, CELLS: None, FREE: 0.5}
# Of T2, s, between the components: myelin water has less than 40 ms (MacKay and Laule 2016, doi:10.3233/BPL-160033).
_WINDOWS = 0.04, 0.2
_MIXTURES = {
    "white matter": (0.15, 0.85, 0.0),
    "half the myelin": (0.075, 0.925, 0.0),
    "white matter, 40 % CSF": (0.09, 0.51, 0.4),
    "CSF": (0.0, 0.0, 1.0),
}
_GRID = np.geomspace(0.1, 5, 24), np.geomspace(0.01, 0.8, 24)  # s: steps of 19 and 21 %, no component among them
_RANK = 24  # of their basis, which leaves out 1e-7 of the energy


@configuration
class Config:
    """Noise, voxels and the T2 that is fixed."""

    frames: int = setting(1000, "of the published schedule", at_least=100, at_most=1000)
    snr: float = setting(100.0, "M0 over the standard deviation of the noise in a frame", above=0)
    voxels: int = setting(256, "of each mixture, for each seed", at_least=2)
    seeds: tuple[int, ...] = setting((0, 1, 2), "of the noise", at_least=0)
    true_t2_ms: float = setting(70.0, "T2 of intra- and extra-cellular water, ms", above=40, below=200)
    assumed_t2_ms: float = setting(80.0, "what is taken for it, ms", above=40, below=200)
    assumed_b1: float = setting(0.95, "what is taken for a B1 of 1", above=0.1, below=10)
    output: str | None = setting(None, "JSON file for the errors; default: none", suffixes=(".json",), kept=False)
    figure: str | None = setting(None, "PNG file for their figure; default: none", suffixes=(".png",), kept=False)


@command(Config)
def main(config: Config):
    """Prints the table, and writes it and its figure."""
    with jax.enable_x64(True):
        rows = measure(config)
    cells = []
    for mixture in _MIXTURES:
        for method in dict.fromkeys(row["method"] for row in rows):
            shown = []
            for component in _T1:
                found = chosen(rows, method=method, mixture=mixture, component=component)
                biases = [row["mean"] - row["truth"] for row in found]
                spread, bound = np.mean([row["spread"] for row in found]), found[0]["bound"]
                bound = "" if bound is None else f" ({bound:.3f})"
                shown.append(f"{min(biases):+z.3f} to {max(biases):+z.3f}, {spread:.3f}{bound}")
            cells.append((f"{mixture}: {method}", *shown))
    caption = (
        f"error of the mean fraction with {len(config.seeds)} seeds, standard deviation over the voxels, in brackets "
        f"its Cramer-Rao bound; M0 / noise {config.snr:g}"
    )
    print(Table(("Mixture: fitted with", *_T1), cells, caption).text())
    for row in chosen(rows, mixture="CSF", component=FREE):
        if row["components"]:
            print(f"{row['method']}, seed {row['seed']}: {'; '.join(row['components'])}")
    keep(config, rows, _figure)


def measure(config: Config) -> list[dict]:
    """Means, standard deviations and bounds of fractions, a row for each seed, method, mixture and component."""
    sequence, rows = mrf_fisp(config.frames), []
    known = _components(sequence, config.true_t2_ms)
    fixed = {"components known": known}
    fixed[f"T2 {config.assumed_t2_ms:g} for {config.true_t2_ms:g} ms"] = _components(sequence, config.assumed_t2_ms)
    fixed[f"B1 {config.assumed_b1:g} for 1"] = _components(sequence, config.true_t2_ms, config.assumed_b1)
    atoms, _ = compress(build_dictionary(sequence, grid_of(*_GRID)), _RANK)
    signals = np.asarray(known.fingerprints) * np.asarray(known.norms)[:, None]
    truth = np.array(list(_MIXTURES.values()))
    for seed in config.seeds:
        noise = np.random.default_rng(seed).standard_normal((config.frames, len(truth), config.voxels, 2)) @ [1, 1j]
        images = (truth @ signals).T[:, :, None] + noise / config.snr
        for method, found in _fits(fixed, atoms, images, 1 / config.snr).items():
            fractions, stds, components = found
            for place in np.ndindex(truth.shape):
                here = fractions[place[::-1]]
                facts = {"method": method, "mixture": list(_MIXTURES)[place[0]], "component": list(_T1)[place[1]]}
                facts |= {"seed": seed, "truth": float(truth[place]), "mean": float(here.mean())}
                bound = None if stds is None else float(stds[place[::-1]].mean())
                rows.append(facts | {"spread": float(here.std()), "bound": bound, "components": components})
    return rows


def _components(sequence, cells_t2_ms, b1=1.0):
    """The dictionary of the three components."""
    t2 = [1e-3 * cells_t2_ms if t2 is None else t2 for t2 in _T2.values()]
    return build_dictionary(sequence, Tissue(np.array(list(_T1.values())), np.array(t2), b1))


def _fits(fixed, atoms, images, noise):
    """Method -> fractions (components, mixtures, voxels), their bounds or None, and the components that were found."""
    found = {}
    for method, components in fixed.items():
        result = fractions_of(components, images, noise=noise)
        found[method] = (
            result.fractions,
            result.stds if not found else None,
            [],
        )  # those of the right ones, which come first
    found["all atoms"] = _in_windows(atoms.tissue.t2, _of_all_atoms(atoms, images)), None, []
    for method, refine in (("joint sparsity, atoms", False), ("joint sparsity, refined", True)):
        joint = joint_sparse_fractions(atoms, images, refine=refine)
        names = [component_name(joint.components, row) for row in range(len(joint.fractions))]
        found[method] = _in_windows(joint.components.t2, joint.fractions), None, names
    return found


def _in_windows(t2, fractions):
    """Fractions of atoms, (atoms, ...), summed over those whose T2 lies in the window of each component."""
    window = np.digitize(np.asarray(t2), _WINDOWS)
    return np.stack([fractions[window == number].sum(axis=0) for number in range(len(_T1))])


def _of_all_atoms(atoms, images):
    """Fractions of all atoms, (atoms, ...), each voxel fitted by itself; the phase, 0, is known."""
    signals = np.asarray(atoms.fingerprints) * np.asarray(atoms.norms)[:, None]
    data = images.real.reshape(len(images), -1).T @ atoms.basis
    weights = np.zeros((len(data), len(signals) + 1))
    np.put_along_axis(weights, *nonnegative_least_squares(signals, data), 1)
    weights = weights[:, :-1].T
    return (weights / weights.sum(axis=0)).reshape(-1, *images.shape[1:])


def _figure(rows, _):
    mixtures = {}
    for mixture, truth in _MIXTURES.items():
        methods = {}
        for method in dict.fromkeys(row["method"] for row in rows):
            found = [chosen(rows, method=method, mixture=mixture, component=component) for component in _T1]
            methods[method] = tuple(
                [np.mean([row[name] for row in one]) for one in found] for name in ("mean", "spread")
            )
        mixtures[mixture] = truth, methods
    return fraction_errors_figure(list(_T1), mixtures)


if __name__ == "__main__":
    main.run()
