"""ROI zips: whole, repeatable, and safe to read."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import roifile

from opsef_bridge.errors import RoiError
from opsef_bridge.measure.fill import fill_rois
from opsef_bridge.measure.trace import trace_rois
from opsef_bridge.rois import read_rois, write_rois, zips

LABELS = np.kron([[1, 0, 3], [0, 70_000, 3]], np.ones((4, 4), int))
SAVED = Path(__file__).parents[2].parent / "shared" / "data" / "annotatorj" / "load_save"


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


def test_single_roi_file(tmp_path):
    (tmp_path / "0005.roi").write_bytes(ROI)
    assert [roi.name for roi in read_rois(tmp_path / "0005.roi")] == ["0005"]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_rois(tmp_path / "none.zip")


@pytest.mark.skipif(not SAVED.is_dir(), reason="../shared/data/annotatorj is not beside us")
@pytest.mark.parametrize("name", ["plain", "gap"])
def test_what_a_real_annotatorj_saved(name):
    import tifffile

    labels = tifffile.imread(SAVED / f"labels_{name}.tif")
    given, saved = (read_rois(SAVED / f"{name}.{way}.zip") for way in ("in", "out"))
    np.testing.assert_array_equal(fill_rois(given, labels.shape), labels)
    _, renumbered = np.unique(labels, return_inverse=True)
    back = fill_rois(saved, labels.shape)
    np.testing.assert_array_equal(back, renumbered.reshape(labels.shape))
