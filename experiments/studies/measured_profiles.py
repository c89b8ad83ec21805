"""Is the slice that is simulated the one that is played? Profiles measured on a scanner against those of Bloch.

Example::

    ganmrf studies.measured_profiles --folder=real --workdir=runs/profiles

Spin echoes whose excitation selects along the read axis show its profile in their image: ``se_2D_NAME_spr.seq`` is what
was played, ``twix_NAME.dat`` the raw data (github.com/pulseq/MR-Physics-with-Pulseq), read with
``pip install '.[twix]'``. ``profiles.json`` has the numbers and ``profiles.png`` the figure: points are measured, lines
expected. Points differ a little from model to model, since scale, centre and coil sensitivities are fitted with each.
"""

import pathlib

import numpy as np

from experiments.flags.command_line import command
from experiments.studies.measured_profiles_fit import Fit, fit
from experiments.studies.measured_profiles_scan import SpinEcho, read_scans
from ganmrf.files import replacing, write_json
from ganmrf.report.html import Table
from ganmrf.report.profile_figures import profiles_figure
from ganmrf.settings import configuration, setting, to_plain

WITHIN = 1.5  # thicknesses from the middle, where differences count
AIM = 2.0  # percent of the peak
FITS = {  # name -> whether all scans are fitted together; model, whether the flip angle is fitted, degree of coils
    "Bloch, uniform coils": (False, "bloch", False, 0),
    "Bloch": (False, "bloch", False, 2),
    "Bloch, flip angle fitted": (False, "bloch", True, 2),
    "Bloch, flip angle fitted, the same coils for all": (True, "bloch", True, 2),
    "small tip, flip angle fitted": (False, "small_tip", True, 2),
}
_SHOWN = "Bloch", "Bloch, flip angle fitted", "small tip, flip angle fitted"


@configuration
class Config:
    """The scans."""

    folder: str = setting(meaning="with se_2D_NAME_spr.seq and twix_NAME.dat of each scan", reads=True, folder=True)
    workdir: str = setting(meaning="folder for profiles.json and profiles.png", kept=False)
    across_mm: float = setting(70.0, "width of the band along the read axis that is used, mm", above=0)


@command(Config)
def main(config: Config):
    """Prints the table, and writes it and its figure."""
    fits = fits_of({name: scan.rows(1e-3 * config.across_mm) for name, scan in read_scans(config.folder).items()})
    rows = [
        {
            "pulse": pulse,
            "expected": name,
            "flip_angle_deg": float(np.rad2deg(found.flip_angle)),
            "centre_mm": float(1e3 * found.centre),
            "root_mean_square": float(np.sqrt(np.mean(found.difference**2))),
            "largest": float(found.difference.max()),
        }
        for pulse, by_name in fits.items()
        for name, found in by_name.items()
    ]
    cells = [
        (
            row["pulse"],
            row["expected"],
            f"{row['flip_angle_deg']:.1f}",
            f"{row['centre_mm']:z.2f}",
            *(f"{100 * row[key]:.2f}" for key in ("root_mean_square", "largest")),
        )
        for row in rows
    ]
    columns = "Pulse", "Expected", "Flip angle (deg)", "Centre (mm)", "RMS difference (%)", "Largest (%)"
    caption = (
        f"differences as shares of the peak, within {WITHIN:g} thicknesses; sensitivities of coils are parabolas along "
        "the slice, or uniform, where magnitudes are compared"
    )
    print(Table(columns, cells, caption).text())
    workdir = pathlib.Path(config.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "profiles.json", {"config": to_plain(config), "rows": rows})
    with replacing(workdir / "profiles.png") as picture:
        _figure(fits).savefig(picture, dpi=120)
    print(f"figure: {workdir / 'profiles.png'}")


def fits_of(scans: dict[str, SpinEcho]) -> dict[str, dict[str, Fit]]:
    """For each scan, the nearest profile of each of `FITS`."""
    fits = {pulse: {} for pulse in scans}
    for name, (together, *how) in FITS.items():
        for group in [list(scans)] if together else [[pulse] for pulse in scans]:
            found = fit([scans[pulse] for pulse in group], *how, WITHIN)
            for pulse, each in zip(group, found, strict=True):
                fits[pulse][name] = each
    return fits


def _figure(fits):
    shown = {
        pulse: {name: (by_fit[name].position, by_fit[name].measured, by_fit[name].expected) for name in _SHOWN}
        for pulse, by_fit in fits.items()
    }
    return profiles_figure(shown, AIM)


if __name__ == "__main__":
    main.run()
