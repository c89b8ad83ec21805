"""ISMRMRD streams, as the ISMRMRD library writes them, are read as the same acquisitions in HDF5 are, or refused."""

import struct

import ismrmrd
import numpy as np
import pytest
from ismrmrd import xsd

from ganmrf.io.mrd import read_mrd
from tests.io.acquisitions import COILS, IN_ORDER, SAMPLES, header, numbers, one_line, save, scan

serialization = pytest.importorskip("ismrmrd.serialization")
HEAD = 340  # bytes of an acquisition's head; the number of its samples is at 34


def stream(path, *messages):
    with serialization.ProtocolSerializer(str(path)) as target:
        for message in messages:
            target.serialize(message)
    return path


def others():
    """Messages of every other kind."""
    image = ismrmrd.Image.from_array(np.ones((3, 4), np.complex64))
    image.meta = ismrmrd.Meta({"Colour": ["red"]})
    return [
        serialization.ConfigFile("default.xml"),
        serialization.ConfigText("<configuration/>"),
        "a line of text",
        image,
        ismrmrd.Image.from_array(np.ones((2, 2), np.uint16)),
        ismrmrd.Waveform.from_array(np.ones((2, 5), np.uint32)),
        np.ones((2, 3), np.float64),
    ]


@pytest.mark.parametrize("suffix", [".h5", ".mrd", ".ismrmrd"])
def test_a_stream_reads_as_the_same_acquisitions_in_hdf5(tmp_path, suffix):
    first, *rest = scan()
    path = stream(tmp_path / f"raw{suffix}", *others()[:2], header(), first, *others(), *rest)
    raw, expected = read_mrd(path), read_mrd(save(tmp_path / f"other{suffix}", scan()))
    assert numbers(raw) == IN_ORDER
    for name in ("kspace", "trajectory", "matrix", "field_of_view", "slice_thickness"):
        np.testing.assert_array_equal(getattr(raw, name), getattr(expected, name))


def test_a_header_may_come_from_another_file(tmp_path):
    path = stream(tmp_path / "raw.mrd", *scan())
    with pytest.raises(ValueError, match=r"raw\.mrd: no XML header: .* --header=FILE"):
        read_mrd(path)
    (tmp_path / "header.xml").write_text(xsd.ToXML(header()))
    for given in (
        tmp_path / "header.xml",
        str(tmp_path / "header.xml"),
        save(tmp_path / "header.h5", scan()[:1]),
        stream(tmp_path / "header.mrd", header()),
    ):
        assert numbers(read_mrd(path, header=given)) == IN_ORDER
    for damaged, words in (
        (b"<a", "xml: not an MRD header"),
        (bytes(2**24 + 1), "no MRD header: it has more than 167"),
    ):
        (tmp_path / "header.xml").write_bytes(damaged)
        with pytest.raises(ValueError, match=words) as error:
            read_mrd(path, header=tmp_path / "header.xml")
        assert one_line(error, tmp_path / "header.xml")
    with pytest.raises(ValueError, match=r"cannot read .*none\.xml: No such file"):
        read_mrd(path, header=tmp_path / "none.xml")


def test_a_stream_that_is_cut_off_inside_a_message_is_refused(tmp_path):
    path = stream(tmp_path / "raw.mrd", header(), *scan()[:2])
    whole = path.read_bytes()
    ends = {len(whole) - 2 - i * (2 + HEAD + 8 * SAMPLES * (1 + COILS)) for i in range(3)}  # between messages
    for end in {*range(3, len(whole), 41), len(whole) - 1, len(whole) - 3} - ends:
        path.write_bytes(whole[:end])
        with pytest.raises(
            ValueError, match=r"not a whole ISMRMRD stream \(the message at byte \d+ goes beyond"
        ) as error:
            read_mrd(path)
        assert one_line(error, path)


def test_a_stream_without_its_end_and_one_with_more_are_read_with_a_warning(tmp_path):
    path = stream(tmp_path / "raw.mrd", header(), *scan())
    whole = path.read_bytes()
    for content, told in (
        (whole[:-2], "no closing message: it may be cut off"),
        (whole + b"more", "4 bytes follow its"),
    ):
        path.write_bytes(content)
        with pytest.warns(UserWarning, match=told):
            assert numbers(read_mrd(path)) == IN_ORDER


def test_claims_of_huge_messages_and_unknown_ones_are_refused(tmp_path):
    path = stream(tmp_path / "raw.mrd", header(), scan()[0])
    whole = path.read_bytes()
    first = 6 + struct.unpack_from("<I", whole, 2)[0]
    for place, value in ((2, "<I"), (first + 2 + 34, "<H"), (first + 2 + 38, "<H")):
        damaged = bytearray(whole)
        struct.pack_into(value, damaged, place, 2 ** (8 * struct.calcsize(value)) - 1)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="goes beyond the end") as error:
            read_mrd(path)
        assert one_line(error, path)
    axes = struct.pack("<HHHH", 1030, 8, 0, 4) + struct.pack("<4Q", *[2**60] * 4)
    for message, words in ((axes, "goes beyond the end"), (b"\x99\x99", "a message of kind 39321")):
        path.write_bytes(whole[:-2] + message)
        with pytest.raises(ValueError, match=f"not a whole ISMRMRD stream .at? .*{words}|{words}") as error:
            read_mrd(path)
        assert one_line(error, path)


def test_groups(tmp_path):
    path = tmp_path / "raw.h5"
    with ismrmrd.Dataset(str(path), "visit/second") as dataset:
        dataset.write_xml_header(xsd.ToXML(header()).encode())
        for acquisition in scan():
            dataset.append_acquisition(acquisition)
    assert numbers(read_mrd(path, dataset="visit/second")) == IN_ORDER
    with pytest.raises(ValueError, match=r"no MRD raw data in 'second': the file holds visit$"):
        read_mrd(path, dataset="second")
    save(tmp_path / "header.h5", scan()[:1])
    assert numbers(read_mrd(path, dataset="visit/second", header=tmp_path / "header.h5")) == IN_ORDER
    with pytest.raises(ValueError, match="an ISMRMRD stream has no groups: leave out --dataset=first"):
        read_mrd(stream(path, header(), *scan()), dataset="first")
