"""The zip and the JSON beside it."""

from __future__ import annotations

import numpy as np
import pytest

from opsef_bridge.errors import InputError
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


def test_volume_is_refused_and_writes_nothing(tmp_path):
    with pytest.raises(InputError, match="plane"):
        write_roi_set(tmp_path / "a_ROIs.zip", CROP[None])
    assert list(tmp_path.iterdir()) == []
