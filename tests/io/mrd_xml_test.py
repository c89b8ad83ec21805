"""Headers as people write them: read for what is needed, one warning for the rest; overruled, or refused by name."""

import re

import ismrmrd
import numpy as np
import pytest
from ismrmrd import xsd

from ganmrf.io.mrd import read_mrd
from tests.io.acquisitions import EPS, FOV_X, FOV_Y, IN_ORDER, X, Y, header, numbers, one_line, save, scan

FULL = xsd.ToXML(
    header(
        acquisitionSystemInformation=xsd.acquisitionSystemInformationType(
            receiverChannels=3, coilLabel=[xsd.coilLabelType(coilNumber=1, coilName="head")]
        ),
        measurementInformation=xsd.measurementInformationType(patientPosition=xsd.patientPositionType.HFS),
        subjectInformation=xsd.subjectInformationType(patientGender="O"),
        sequenceParameters=xsd.sequenceParametersType(TR=[12], TE=[2], flipAngle_deg=[60]),
    )
)


def save_text(path, text, acquisitions=None):
    save(path, acquisitions or scan())
    with ismrmrd.Dataset(str(path)) as dataset:
        dataset.write_xml_header(text.encode())
    return path


def without(element):
    return re.sub(rf"<{element}>.*</{element}>|<{element}/>", "", FULL, flags=re.DOTALL)


def replaced(old, new):
    assert old in FULL
    return FULL.replace(old, new)


def test_a_header_as_mrd_has_it_is_read_without_a_warning(tmp_path):
    raw = read_mrd(save_text(tmp_path / "raw.h5", FULL))
    assert (numbers(raw), raw.matrix) == (IN_ORDER, (Y, X))
    np.testing.assert_allclose(raw.sequence.repetition_time, 0.012, rtol=EPS)
    later = replaced("<encoding>", "<colour>red</colour><encoding>")  # an element that a later version may have
    assert numbers(read_mrd(save_text(tmp_path / "raw.h5", later))) == IN_ORDER


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (without("patientPosition"), "measurementInformation/patientPosition missing"),
        (without("encodingLimits"), "encoding/encodingLimits missing"),
        (without("trajectory"), "encoding/trajectory missing"),
        (without("H1resonanceFrequency_Hz"), "H1resonanceFrequency_Hz missing"),
        (without("experimentalConditions"), "experimentalConditions missing"),
        (without("coilName"), "coilLabel/coilName missing"),
        (FULL.replace(' xmlns="http://www.ismrm.org/ISMRMRD"', ""), "the namespace missing"),
        (FULL.replace("www.ismrm.org", "www.ismrmrd.org"), "the namespace 'http://www"),
        (replaced("123456789", "123456789.5"), "H1resonanceFrequency_Hz '123456789.5'"),
        (replaced("<coilNumber>1<", "<coilNumber>false<"), "coilLabel/coilNumber 'false'"),
        (without("reconSpace"), "encoding/reconSpace missing"),  # as large as what is encoded
        (replaced("<x>8</x>", "<x>8.0</x>"), "encodedSpace/matrixSize/x '8.0', .*reconSpace/matrixSize/x '8.0'"),
        (replaced("<z>1</z>", "<z>false</z>"), "matrixSize/z 'false'"),
        (replaced(">spiral<", ">Spiral<"), "encoding/trajectory 'Spiral'"),
        (replaced(">spiral<", ">rosette<"), "encoding/trajectory 'rosette'"),
        (replaced(">HFS<", ">supine<"), "patientPosition 'supine'"),
        (replaced("<patientGender>", "<patientBirthdate>1980</patientBirthdate><patientGender>"), "Birthdate '1980'"),
        (
            replaced(
                "<encodingLimits/>", "<encodingLimits><repetition><maximum>x</maximum></repetition></encodingLimits>"
            ),
            "repetition/minimum missing, .*repetition/maximum 'x'",
        ),
        (replaced("<z>5.0</z>", "<z>0</z>"), "no slice thickness, .*: 1 mm is taken"),
    ],
)
def test_what_is_not_needed_is_left_with_one_warning(tmp_path, text, told):
    path = save_text(tmp_path / "raw.h5", text)
    with pytest.warns(UserWarning, match=told) as warned:
        raw = read_mrd(path)
    assert [str(path) in str(each.message) for each in warned] == [True]
    assert (numbers(raw), raw.matrix, raw.sequence.n_frames) == (IN_ORDER, (Y, X), 4)
    np.testing.assert_array_equal(raw.trajectory, read_mrd(save(path, scan())).trajectory)


def test_names_in_latin_1_and_blank_lines_do_no_harm(tmp_path):
    text = "\n" + replaced("<patientGender>", "<patientName>Müller</patientName><patientGender>") + "\n"
    (tmp_path / "header.xml").write_bytes(text.encode("latin-1"))
    raw = read_mrd(save(tmp_path / "raw.h5", scan()), header=tmp_path / "header.xml")
    assert (numbers(raw), raw.matrix) == (IN_ORDER, (Y, X))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<ismrmrdHeader", "xml: not an MRD header"),
        ("<html></html>", "xml: not an MRD header .it is <html>"),
        (
            replaced("<x>8</x>", "<x>eight</x>"),
            "encodedSpace/matrixSize/x must be .* 1 to 65535; got 'eight': .*--matrix=Y",
        ),
        (replaced("<x>8</x>", "<x>0</x>"), "encodedSpace/matrixSize/x must be a whole number, 1 to 65535; got 0"),
        (replaced("<x>8</x>", "<x>8.5</x>"), "matrixSize/x must be a whole number, 1 to 65535; got '8.5'"),
        (replaced("<x>8</x>", f"<x>{'9' * 400}</x>"), "encodedSpace/matrixSize/x must"),
        (
            replaced("<x>400.0</x>", "<x>INF</x>"),
            "fieldOfView_mm/x must be positive and finite; got inf: .*--field_of_vi",
        ),
        (
            FULL.replace("<x>400.0</x>", "<x>0.4</x>").replace("<y>240.0</y>", "<y>0.24</y>"),
            "reconSpace/fieldOfView_mm is 0.4, no size of an image in mm: give --field_of_view_mm=Y,X",
        ),
        (without("encodedSpace"), "encodedSpace/matrixSize/x must be .*; got nothing: give --matrix=Y,X"),
        (without("encoding"), "the header has 0 encodings: give --matrix=Y,X and --field_of_view_mm=Y,X"),
        (
            replaced("<TR>12<", "<TR>12 ms<"),
            "sequenceParameters/TR must be a number; got '12 ms': .* --header=FILE.xml",
        ),
        (
            '<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "' + 10**5 * "&b;" + '">]><a>' + 10**4 * "&c;" + "</a>",
            "xml: not an MRD",
        ),
    ],
)
def test_headers_without_what_is_needed_are_refused(tmp_path, text, words):
    path = save_text(tmp_path / "raw.h5", text)
    with pytest.raises(ValueError, match=words) as error:
        read_mrd(path)
    assert one_line(error, path)


def test_matrix_and_field_of_view_overrule_the_header(tmp_path):
    path, right = tmp_path / "raw.h5", read_mrd(save_text(tmp_path / "raw.h5", FULL))
    size = {"matrix": (Y, X), "field_of_view": (FOV_Y, FOV_X)}
    wrong = FULL.replace("<x>8</x>", "<x>99</x>").replace("<y>240.0</y>", "<y>1.0</y>")
    raws = [read_mrd(save_text(path, wrong), **size)]
    with pytest.warns(UserWarning, match="no slice thickness"):
        raws.append(read_mrd(save_text(path, without("encoding")), **size))
    for raw in raws:
        assert raw.matrix == right.matrix
        np.testing.assert_allclose(raw.field_of_view, right.field_of_view)
        np.testing.assert_allclose(raw.trajectory, right.trajectory, rtol=EPS)
    save_text(path, FULL)
    raw = read_mrd(path, matrix=10, field_of_view=0.5)
    assert (raw.matrix, raw.field_of_view) == ((10, 10), (0.5, 0.5))
    for change, words in (
        ({"matrix": 0}, r"--matrix must be a whole number, 1 to 65535: one number, or Y,X; got 0$"),
        ({"matrix": (8, 8, 8)}, "--matrix must be .*; got 8,8,8$"),
        ({"matrix": 8.5}, "--matrix must be .*; got 8.5$"),
        ({"field_of_view": (0.24, -1)}, "--field_of_view_mm must be positive and finite: .*; got 240,-1000$"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            read_mrd(path, **change)
        assert one_line(error, path)


def test_oversampling_stays_where_the_image_is_overruled(tmp_path):
    """A Cartesian readout, encoded over twice the image's field of view."""
    twice = FULL.replace("<x>400.0</x>", "<x>800.0</x>", 1).replace("<x>8</x>", "<x>16</x>", 1)
    lines = scan()
    for line in lines:
        line.resize(5, 3, 0)
    path = save_text(tmp_path / "raw.h5", twice.replace("spiral", "cartesian"), lines)
    kx = read_mrd(path).trajectory[0, :, 0]
    np.testing.assert_allclose(np.diff(kx[:5]), 1 / (2 * FOV_X), rtol=1e-6)
    kx = read_mrd(path, field_of_view=(FOV_Y, 0.5 * FOV_X)).trajectory[0, :, 0]
    np.testing.assert_allclose(np.diff(kx[:5]), 1 / FOV_X, rtol=1e-6)


def test_malformed_limits_do_not_place_lines(tmp_path):
    limits = (
        "<kspace_encoding_step_1><minimum>0</minimum><maximum>5</maximum><center>x</center></kspace_encoding_step_1>"
    )
    text = replaced("<encodingLimits/>", f"<encodingLimits>{limits}</encodingLimits>").replace("spiral", "cartesian")
    lines = scan()
    for line in lines:
        line.resize(5, 3, 0)
    with pytest.warns(UserWarning, match="kspace_encoding_step_1/center 'x'"):
        raw = read_mrd(save_text(tmp_path / "raw.h5", text, lines))
    assert raw.trajectory[0, 0, 1] == pytest.approx(-(Y // 2) / FOV_Y)
