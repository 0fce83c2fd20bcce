"""ROI zips: whole, repeatable, and safe to read."""

from __future__ import annotations

import io
import stat
import struct
import tracemalloc
import zipfile
import zlib
from copy import copy
from pathlib import Path

import numpy as np
import pytest
import roifile

from opsef_bridge.errors import RoiError
from opsef_bridge.measure.fill import fill_rois
from opsef_bridge.measure.trace import trace_rois
from opsef_bridge.rois import read_rois, write_rois, zips

LABELS = np.kron([[1, 0, 3], [0, 70_000, 3]], np.ones((4, 4), int))
SAVED = Path(__file__).parents[1] / "data" / "annotatorj" / "load_save"


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "ä image" / "a_ROIs.zip"
    write_rois(path, trace_rois(LABELS))
    return path


def make_zip(path, entries, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in entries:
            archive.writestr(name, data)


ROI = trace_rois([[5]])[0].tobytes()


def test_round_trip(saved):
    rois = read_rois(saved)
    assert [roi.name for roi in rois] == ["0001", "0003", "70000"]
    np.testing.assert_array_equal(fill_rois(rois, LABELS.shape), LABELS)
    assert rois == roifile.roiread(saved)


def test_entries_bear_the_inner_name_and_are_deflated(saved):
    with zipfile.ZipFile(saved) as archive:
        for entry in archive.infolist():
            inner = roifile.ImagejRoi.frombytes(archive.read(entry)).name
            assert entry.filename == f"{inner}.roi"
            assert entry.compress_type == zipfile.ZIP_DEFLATED


def test_same_rois_same_bytes_and_nothing_appended(saved):
    before = saved.read_bytes()
    write_rois(saved, trace_rois(LABELS))
    assert saved.read_bytes() == before
    write_rois(saved, trace_rois([[2]]))
    assert [roi.name for roi in read_rois(saved)] == ["0002"]
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("count", [3, pytest.param(0x10000, marks=pytest.mark.slow)])
def test_the_bytes_are_those_of_zipfile(tmp_path, count):
    """Python's own writer is the peer; from 65,536 ROIs on both write zip64."""
    traced = trace_rois(LABELS)
    rois = [copy(traced[k % 3]) for k in range(count)]
    for k, roi in enumerate(rois):
        roi.name = f"nucleus ä{k}" if k == 1 else f"{k:04d}"
    write_rois(tmp_path / "ours.zip", rois)
    with zipfile.ZipFile(tmp_path / "peer.zip", "w") as archive:
        for roi in rois:
            entry = zipfile.ZipInfo(f"{roi.name}.roi", (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, roi.tobytes(), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "ours.zip").read_bytes() == (tmp_path / "peer.zip").read_bytes()


def test_too_large_to_be_read_again(saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(zips, "MAX_BYTES", 200)
    with pytest.raises(RoiError, match="would have more than 200 bytes"):
        write_rois(saved, trace_rois(LABELS))
    assert saved.read_bytes() == before and len(list(saved.parent.iterdir())) == 1


@pytest.mark.parametrize("names", [[], [""], ["a/b"], ["..\\b"], ["0001", "0001"]])
def test_refused_names_leave_the_old_file(saved, names):
    before = saved.read_bytes()
    rois = [roifile.ImagejRoi(name=name) for name in names]
    with pytest.raises(RoiError):
        write_rois(saved, rois)
    assert saved.read_bytes() == before


def test_every_truncation_is_an_error(saved):
    data = saved.read_bytes()
    for length in range(0, len(data), 7):
        saved.write_bytes(data[:length])
        with pytest.raises(RoiError, match="truncated or damaged"):
            read_rois(saved)


def test_a_changed_byte_in_the_data_is_an_error(saved):
    data = bytearray(saved.read_bytes())
    data[45] ^= 0xFF
    saved.write_bytes(data)
    with pytest.raises(RoiError, match="damaged"):
        read_rois(saved)


@pytest.mark.parametrize("name", ["../0001.roi", "/0001.roi", "a\\..\\0001.roi", "C:0001.roi"])
def test_names_that_point_out_of_the_zip(tmp_path, name):
    make_zip(tmp_path / "x.zip", [(name, ROI)])
    with pytest.raises(RoiError, match="points out of it"):
        read_rois(tmp_path / "x.zip")


def test_other_entries_are_passed_over_and_duplicates_kept(tmp_path):
    entries = [("a/", b""), ("a/0002.roi", ROI), (".DS_Store", b"x"), ("__MACOSX/._0002.roi", b"x")]
    with pytest.warns(UserWarning, match="Duplicate name"):
        make_zip(tmp_path / "x.zip", [*entries, ("0001.roi", ROI), ("0001.roi", ROI)])
    assert [roi.name for roi in read_rois(tmp_path / "x.zip")] == ["0002", "0001", "0001"]


def test_no_roi_at_all(tmp_path):
    make_zip(tmp_path / "x.zip", [("readme.txt", b"x")])
    with pytest.raises(RoiError, match="holds no ROI"):
        read_rois(tmp_path / "x.zip")


@pytest.mark.parametrize("data", [b"", b"Iout", b"x" * 99, ROI[:70], ROI[:64]])
def test_entry_that_is_no_roi(tmp_path, data):
    make_zip(tmp_path / "x.zip", [("0007.roi", data)])
    with pytest.raises(RoiError, match="'0007'"):
        read_rois(tmp_path / "x.zip")


def test_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch):
    make_zip(tmp_path / "x.zip", [("1.roi", bytes(10**6))], compression=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zips, "MAX_BYTES", 10**5)
    with pytest.raises(RoiError, match="unpacks to 1000000 bytes"):
        read_rois(tmp_path / "x.zip")


def test_bomb_that_lies_about_its_size(tmp_path):
    path = tmp_path / "x.zip"
    make_zip(path, [("1.roi", bytes(10**6))], compression=zipfile.ZIP_DEFLATED)
    true, lie = struct.pack("<L", 10**6), struct.pack("<L", 100)
    path.write_bytes(path.read_bytes().replace(true, lie))
    with pytest.raises(RoiError, match="damaged"):
        read_rois(path)


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", 10), ("MAX_ENTRIES", 2)])
def test_limits(saved, monkeypatch, limit, value):
    monkeypatch.setattr(zips, limit, value)
    with pytest.raises(RoiError, match=f"limit is {value}"):
        read_rois(saved)


def local(name, data):
    """What stands before the bytes of an entry, and they."""
    sizes = zlib.crc32(data), len(data), len(data), len(name), 0
    return struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, *sizes) + name + data


def listed(name, data, offset=0):
    """The entry in the list at the end."""
    sizes = zlib.crc32(data), len(data), len(data), len(name)
    fields = (20, 20, 0, 0, 0, 33, *sizes, 0, 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3L5H2L", b"PK\1\2", *fields) + name


def end(count, length, offset, comment=b""):
    fields = 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), length, offset, len(comment)
    return struct.pack("<4s4H2LH", b"PK\5\6", *fields) + comment


def end64(count, length, offset):
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, offset)
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, offset + length, 1)


def two(count=2, comment=b"", in_front=b"", zip64=False, shift=0):
    """A zip of two ROIs, made by hand."""
    parts = [local(b"1.roi", ROI), local(b"2.roi", ROI)]
    rows = listed(b"1.roi", ROI) + listed(b"2.roi", ROI, len(parts[0]))
    offset = len(parts[0]) + len(parts[1]) + shift
    long = end64(count, len(rows), offset) if zip64 else b""
    count = 0xFFFF if zip64 else count
    return in_front + b"".join(parts) + rows + long + end(count, len(rows), offset, comment)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"comment": b"made by hand"},
        {"comment": b"x" * 0xFFFF},
        {"comment": b"PK\5\6" * 9},
        {"comment": end(0, 0, 0) + b"x"},
        {"in_front": b"#!/bin/sh" * 99},
        {"zip64": True},
        {"zip64": True, "in_front": b"PK\5\6", "comment": b"x" * 0xFFFF},
    ],
)
def test_forms_of_the_same_zip(tmp_path, how):
    (tmp_path / "x.zip").write_bytes(two(**how))
    assert [roi.name for roi in read_rois(tmp_path / "x.zip")] == ["1", "2"]
    if b"PK\5\6" not in how.get("comment", b""):  # there Python's own reader goes wrong
        assert zipfile.ZipFile(tmp_path / "x.zip").namelist() == ["1.roi", "2.roi"]


def test_a_count_that_went_round(tmp_path):
    """As old writers left it, without zip64: 65,537 entries are 1."""
    name, other = b"x", local(b"x", b"")
    rows = b"".join(listed(name, b"", k * len(other)) for k in range(0x10000))
    rows += listed(b"1.roi", ROI, 0x10000 * len(other))
    front = other * 0x10000 + local(b"1.roi", ROI)
    (tmp_path / "x.zip").write_bytes(front + rows + end(1, len(rows), len(front)))
    assert [roi.name for roi in read_rois(tmp_path / "x.zip")] == ["1"]


@pytest.mark.parametrize(
    "how", [{"count": 1}, {"count": 3}, {"count": 0}, {"count": 3, "zip64": True}, {"shift": 1}]
)
def test_an_end_that_lies(tmp_path, how):
    (tmp_path / "x.zip").write_bytes(two(**how))
    with pytest.raises(RoiError, match="damaged"):
        read_rois(tmp_path / "x.zip")


@pytest.mark.parametrize("limit", ["ZIP64_LIMIT", "ZIP_FILECOUNT_LIMIT"])
def test_zip64_as_python_writes_it(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(zipfile, limit, 2)
    make_zip(tmp_path / "x.zip", [(f"{k}.roi", ROI) for k in range(4)])
    assert b"PK\6\6" in (tmp_path / "x.zip").read_bytes()
    assert len(read_rois(tmp_path / "x.zip")) == 4


def test_streamed_zips_have_sizes_in_the_list_only(tmp_path):
    """As Java writes them, and so ImageJ."""

    class Stream(io.BytesIO):
        def seekable(self):
            return False

        def tell(self):
            raise OSError("a stream")

    stream = Stream()
    make_zip(stream, [("ä.roi", ROI), ("2.roi", ROI)], compression=zipfile.ZIP_DEFLATED)
    (tmp_path / "x.zip").write_bytes(stream.getvalue())
    assert struct.unpack_from("<H", stream.getvalue(), 6)[0] & 8
    assert [roi.name for roi in read_rois(tmp_path / "x.zip")] == ["ä", "2"]


def peak_of_refusal(path, words):
    """Bytes that reading takes at most until it refuses."""
    tracemalloc.start()
    try:
        with pytest.raises(RoiError, match=words):
            read_rois(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("said", "name", "cap", "words"),
    [
        (10**6, b"1.roi", 2**20, "1000000 entries; the limit is 500000"),
        (16960, b"1.roi", 2**26, "1000000 entries; the limit is 500000"),  # 10**6 of 16 bits
        (1, b"1.roi", 2**26, "1000000 entries; the limit is 500000"),
        (1, b"x" * 26 + b".roi", 2**20, "76000000 bytes; the limit is 67108864"),
    ],
)
def test_a_million_entries_take_no_memory(tmp_path, said, name, cap, words):
    first, row = local(name, ROI), listed(name, ROI)
    with open(tmp_path / "x.zip", "wb") as file:
        file.write(first)
        for _ in range(100):
            file.write(row * 10**4)
        length = len(row) * 10**6
        if said > 0xFFFF:
            file.write(end64(said, length, len(first)))
        file.write(end(said, length, len(first)))
    assert peak_of_refusal(tmp_path / "x.zip", words) < cap


def test_a_bomb_takes_no_memory(tmp_path):
    zeros = [(f"{k}.roi", bytes(2**24)) for k in range(4)]
    make_zip(tmp_path / "x.zip", zeros, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    words = "unpacks to 67108864 bytes; the limit for its"
    assert peak_of_refusal(tmp_path / "x.zip", words) < 2**20


def test_entries_that_share_their_bytes(tmp_path):
    first, rows = local(b"1.roi", ROI), listed(b"1.roi", ROI) * 2
    (tmp_path / "x.zip").write_bytes(first + rows + end(2, len(rows), len(first)))
    with pytest.raises(RoiError, match="overlap"):
        read_rois(tmp_path / "x.zip")


@pytest.mark.parametrize("offset", [1, 10**6, 2**32 - 2])
def test_entries_that_are_elsewhere(tmp_path, offset):
    first, row = local(b"1.roi", ROI), listed(b"1.roi", ROI, offset)
    (tmp_path / "x.zip").write_bytes(first + row + end(1, len(row), len(first)))
    with pytest.raises(RoiError, match="damaged"):
        read_rois(tmp_path / "x.zip")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK])
@pytest.mark.parametrize("name", ["0001.roi", "other.txt"])
def test_links_are_refused(tmp_path, kind, name):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (kind | 0o777) << 16
    make_zip(tmp_path / "x.zip", [("0002.roi", ROI), (entry, b"/etc/hostname")])
    with pytest.raises(RoiError, match="is a link or no file"):
        read_rois(tmp_path / "x.zip")


def test_packed_otherwise(tmp_path):
    make_zip(tmp_path / "x.zip", [("1.roi", ROI)], compression=zipfile.ZIP_BZIP2)
    with pytest.raises(RoiError, match="method 12"):
        read_rois(tmp_path / "x.zip")
    data = bytearray(two())
    data[6] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(RoiError, match="encrypted"):
        read_rois(tmp_path / "x.zip")


def test_changed_bytes_never_give_a_part(saved):
    """All ROIs as they were (but for a name, which has no checksum), or an error."""
    good, random = saved.read_bytes(), np.random.default_rng(5)
    expected = [roi.tobytes()[:64] for roi in read_rois(saved)]
    refused = 0
    for _ in range(1500):
        data = bytearray(good)
        for at in random.integers(0, len(data), random.integers(1, 4)).tolist():
            data[at] = int(random.choice([0, 1, 255, random.integers(256)]))
        saved.write_bytes(data)
        try:
            assert [roi.tobytes()[:64] for roi in read_rois(saved)] == expected
        except RoiError:
            refused += 1
    assert 500 < refused < 1500


def test_single_roi_file(tmp_path):
    (tmp_path / "0005.roi").write_bytes(ROI)
    assert [roi.name for roi in read_rois(tmp_path / "0005.roi")] == ["0005"]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_rois(tmp_path / "none.zip")


@pytest.mark.parametrize("name", ["plain", "gap"])
def test_what_a_real_annotatorj_saved(name):
    import tifffile

    labels = tifffile.imread(SAVED / f"labels_{name}.tif")
    given, saved = (read_rois(SAVED / f"{name}.{way}.zip") for way in ("in", "out"))
    np.testing.assert_array_equal(fill_rois(given, labels.shape), labels)
    _, renumbered = np.unique(labels, return_inverse=True)
    back = fill_rois(saved, labels.shape)
    np.testing.assert_array_equal(back, renumbered.reshape(labels.shape))
