"""The zip and the JSON beside it."""

from __future__ import annotations

import numpy as np
import pytest

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.measure.fill import fill_rois
from opsef_bridge.rois import read_rois, read_sidecar, sidecar_path, write_roi_set

CROP = np.array([[0, 7], [9, 9]], np.uint16)


def test_crop_lies_in_the_pixels_of_the_source(tmp_path):
    path = tmp_path / "v0001" / "i00001-cell_ROIs.zip"
    assert write_roi_set(path, CROP, offset=(30, 50), info={"image": "i00001-cell"})
    whole = fill_rois(read_rois(path), (40, 60))
    np.testing.assert_array_equal(whole[30:32, 50:52], CROP)
    assert np.count_nonzero(whole) == 3
    assert read_sidecar(path) == {
        "image": "i00001-cell",
        "shape": [2, 2],
        "offset": [30, 50],
        "rois": {"0007": {"label": 7, "class": None}, "0009": {"label": 9, "class": None}},
    }


def test_no_objects_no_files_also_none_from_before(tmp_path):
    path = tmp_path / "a_ROIs.zip"
    assert write_roi_set(path, CROP)
    assert sidecar_path(path).exists()
    assert not write_roi_set(path, np.zeros_like(CROP))
    assert list(tmp_path.iterdir()) == []


def test_a_volume_has_rois_in_its_planes(tmp_path):
    path, volume = tmp_path / "a_ROIs.zip", np.stack([CROP, np.zeros_like(CROP), CROP * 2])
    for hyperstack in (False, True):
        assert write_roi_set(path, volume, offset=(3, 5), hyperstack=hyperstack)
        rois = read_rois(path)
        assert [roi.name for roi in rois] == ["0007-0001", "0009-0001", "0014-0003", "0018-0003"]
        shown = [(roi.position, roi.z_position) for roi in rois]
        planes = [1, 1, 3, 3]
        assert shown == [(0, z) if hyperstack else (z, 0) for z in planes]
    np.testing.assert_array_equal(fill_rois(rois, (3, 9, 9))[:, 3:5, 5:7], volume)
    np.testing.assert_array_equal(fill_rois(rois, volume.shape, offset=(3, 5)), volume)
    assert read_sidecar(path)["rois"]["0014-0003"] == {"label": 14, "class": None}
    for shape in ((2, 9, 9), (9, 9)):
        with pytest.raises(RoiError, match="0014-0003" if len(shape) == 3 else "no integers"):
            fill_rois(rois, shape)


def test_more_axes_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="plane"):
        write_roi_set(tmp_path / "a_ROIs.zip", CROP[None, None])
    assert list(tmp_path.iterdir()) == []
