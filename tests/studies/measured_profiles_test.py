"""Measured profiles: what a scan is of is found again, and real scans are those that Bloch's equation expects."""

import numpy as np
import pypulseq
import pytest
from scipy.spatial.transform import Rotation

from experiments.studies.measured_profiles import FITS, WITHIN, fits_of
from experiments.studies.measured_profiles_fit import fit
from experiments.studies.measured_profiles_scan import SpinEcho, read_scans, read_spin_echo
from ganmrf.physics.rf_pulse import windowed_sinc
from tests.shared import shared

FLIP_ANGLE, CENTRE, THICKNESS, COLUMNS, SIZE = 1.3, 1e-3, 0.03, 48, 0.12


def scanned(pulse, in_file):
    """A spin echo of three rows by two coils, of sensitivities that are parabolas, turned by matrices."""
    fine = SIZE * ((np.arange(960) + 0.5) / 960 - 0.5)
    magnetisation = np.zeros((len(fine), 3))
    magnetisation[:, 2] = 1
    turn = 2 * np.pi * pulse.time_bandwidth * (fine - CENTRE) / THICKNESS

    def about_z(angle):
        return Rotation.from_rotvec(angle[:, None] * [0, 0, 1])

    half_step = about_z(turn / (2 * pulse.samples.size))
    magnetisation = about_z(-turn / 2).apply(magnetisation)
    for sample in pulse.samples:
        magnetisation = half_step.apply(magnetisation)
        magnetisation = half_step.apply(Rotation.from_rotvec([FLIP_ANGLE * sample, 0, 0]).apply(magnetisation))
    magnetisation = about_z(-turn / 2).apply(magnetisation)
    transverse = np.conj(magnetisation[:, 0] + 1j * magnetisation[:, 1])  # what refocusing leaves
    k = (np.arange(COLUMNS) - COLUMNS / 2 + 0.5) / SIZE
    x, at = SIZE * (np.arange(COLUMNS) / COLUMNS - 0.5), fine / SIZE
    factors = np.random.default_rng(0).normal(size=(3, 2, 2)) @ [1, 1j]
    sensitivities = np.multiply.outer(factors, 1 + 0.4j * at - 0.6 * at**2)
    samples = (sensitivities * transverse) @ np.exp(2j * np.pi * np.outer(fine, k))
    images = samples @ np.exp(-2j * np.pi * np.outer(k, x))
    return SpinEcho(pulse, in_file, THICKNESS, k, x, np.array([-0.01, 0, 0.01]), images)


def test_flip_angle_and_centre_are_found_again():
    scan = scanned(windowed_sinc(4, "hann", 60), in_file=1.5)
    (found,) = fit([scan], "bloch", True, 2, WITHIN)
    assert found.flip_angle == pytest.approx(FLIP_ANGLE, rel=0.01)
    assert found.centre == pytest.approx(CENTRE, abs=1e-4)
    # What the resolution leaves of sensitivities that change within a column.
    assert found.difference.max() < 2e-3
    assert np.abs(found.position + found.centre).max() == pytest.approx(WITHIN * THICKNESS)


def test_other_flip_angles_and_models_do_not_fit():
    scan = scanned(windowed_sinc(4, "none", 60), in_file=0.7)
    fits = {
        which: fit([scan], *how, WITHIN)[0]
        for which, how in (("file", ("bloch", False, 2)), ("tip", ("small_tip", True, 2)))
    }
    assert min(found.difference.max() for found in fits.values()) > 0.01
    (uniform,) = fit([scan], "bloch", True, 0, WITHIN)
    assert uniform.difference.max() > 5e-3
    assert not np.iscomplexobj(uniform.measured)  # magnitudes, as coils have phases


def test_rows_are_a_band():
    scan = scanned(windowed_sinc(4, "hann", 20), in_file=1.0)
    assert scan.rows(0.01).images.shape == (1, 2, COLUMNS)
    np.testing.assert_array_equal(scan.rows(0.01).y, [0])


@pytest.mark.parametrize(("name", "largest"), [("gauss", 0.01), ("sinc_w_apod", 0.01), ("sinc_wo_apod", 0.02)])
def test_real_profiles_are_within_the_aim(name, largest):
    folder = shared(f"data/real/twix_{name}.dat").parent
    pytest.importorskip("twixtools")
    scan = read_spin_echo(folder / f"se_2D_{name}_spr.seq", folder / f"twix_{name}.dat").rows(0.07)
    assert scan.thickness == pytest.approx(0.03)
    assert fit([scan], "bloch", True, 2, WITHIN)[0].difference.max() < largest


def test_scans_of_one_object_are_fitted_together():
    """Their signals then tell flip angles apart that a single profile hardly does."""
    scans = [scanned(windowed_sinc(4, window, 40), in_file) for window, in_file in (("hann", 1.5), ("none", 1.1))]
    found = fit(scans, "bloch", True, 2, WITHIN)
    np.testing.assert_allclose([each.flip_angle for each in found], FLIP_ANGLE, rtol=1e-3)
    assert max(each.difference.max() for each in found) < 2e-3
    with pytest.raises(ValueError, match="images must be alike"):
        fit([scans[0], scans[1].rows(0.01)], "bloch", False, 2, WITHIN)


@pytest.mark.parametrize(("axis", "refocusing"), [("z", "x"), ("x", "x"), ("x", None)])
def test_other_scans_are_refused(tmp_path, axis, refocusing):
    played = pypulseq.Sequence()
    for along, degrees, use in ((axis, 90, "excitation"), (refocusing, 180, "refocusing")):
        if along is not None:
            rf, gz, _ = pypulseq.make_sinc_pulse(
                np.deg2rad(degrees), duration=2e-3, slice_thickness=0.03, return_gz=True, use=use
            )
            gz.channel = along
            played.add_block(rf, gz)
    played.add_block(pypulseq.make_adc(16, dwell=1e-5))
    played.write(str(tmp_path / "scan.seq"))
    with pytest.raises(ValueError, match=r"scan\.seq: (the excitation must select along x|a spin echo has)"):
        read_spin_echo(tmp_path / "scan.seq", tmp_path / "scan.dat")


def test_folders_without_scans_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no twix_NAME\.dat beside"):
        read_scans(tmp_path)


def test_every_fit_of_the_study_is_of_every_scan():
    scans = {window: scanned(windowed_sinc(4, window, 20), in_file=FLIP_ANGLE) for window in ("hann", "none")}
    fits = fits_of(scans)
    assert {name: [*by_name] for name, by_name in fits.items()} == {name: [*FITS] for name in scans}
    for by_name in fits.values():
        assert by_name["Bloch"].flip_angle == FLIP_ANGLE
        assert by_name["Bloch"].difference.max() < 2e-3 < by_name["small tip, flip angle fitted"].difference.max()
