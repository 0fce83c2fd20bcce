"""Labels written part by part: the file of `write_labels`, or a BigTIFF where that is too large."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from opsef_bridge.errors import InputError
from opsef_bridge.images import Region, image_info, read_labels, write_labels, write_planes
from opsef_bridge.images import large_labels as module
from opsef_bridge.images.large_labels import write_large_labels

SPACING = {"Z": 2.0, "Y": 0.25, "X": 0.5}


def labels(shape: tuple[int, ...], highest: int) -> np.ndarray:
    found = np.random.default_rng(0).integers(0, highest + 1, shape)
    found.flat[0] = highest
    return found.astype(np.int32)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60))
    | st.tuples(st.integers(2, 3), st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([0, 200, 65_535, 65_536, 2**24]), st.booleans(),
)  # fmt: skip
def test_labels_come_back(tmp_path_factory, shape, highest, large):
    data = labels(shape, highest)
    path = tmp_path_factory.mktemp("labels") / "a.tif"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", 16)
        patch.setattr(module, "TILE", 32)
        write_large_labels(
            path, lambda part: data[part], shape, highest, largest=1 if large else 10**9
        )
    assert np.array_equal(read_labels(path), data)


@pytest.mark.parametrize("shape", [(300, 70), (3, 280, 50)])
def test_up_to_2_gb_it_is_the_file_of_write_labels(tmp_path, shape):
    data = labels(shape, 500)
    spacing = {axis: SPACING[axis] for axis in "ZYX"[-len(shape) :]}
    how = {"spacing": spacing, "unit": "um", "info": "image: a"}
    write_labels(tmp_path / "whole.tif", data, **how)
    write_large_labels(tmp_path / "parts.tif", lambda part: data[part], shape, 500, **how)
    kept = []
    for name in ("whole", "parts"):
        with tifffile.TiffFile(tmp_path / f"{name}.tif") as tiff:
            assert tiff.is_imagej and not tiff.is_bigtiff
            tags = {"ImageDescription", "XResolution", "YResolution", "ColorMap", "Compression"}
            found = {tag.name: tag.value for tag in tiff.pages[0].tags if tag.name in tags}
            assert set(found) == tags
            kept.append((found, tiff.imagej_metadata, tiff.series[0].shape, tiff.series[0].dtype))
    assert repr(kept[0]) == repr(kept[1])


def test_above_2_gb_it_is_a_tiled_bigtiff_with_its_calibration(tmp_path):
    path, data = tmp_path / "a.tif", labels((700, 1100), 70_000)
    asked = []

    def read(part):
        asked.append(data[part].size)
        return data[part]

    write_large_labels(
        path, read, data.shape, 70_000, spacing={"Y": 0.25, "X": 0.5}, info="image: a", largest=1
    )
    assert max(asked) <= module.TILE**2
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff and tiff.is_ome and tiff.pages[0].is_tiled
        assert "image: a" in tiff.ome_metadata
    info = image_info(path)
    assert (info.spacing, info.unit) == ({"Y": 0.25, "X": 0.5}, "um")
    region = Region(y=(500, 650), x=(1000, 1100))
    assert np.array_equal(read_labels(path, region), data[500:650, 1000:1100])


def test_ids_above_those_of_float_need_a_bigtiff(tmp_path):
    data = np.array([[2**24 + 1, 5]], np.int32)
    with pytest.raises(InputError, match="16777217"):
        write_large_labels(tmp_path / "a.tif", lambda part: data[part], data.shape, 2**24 + 1)
    assert not list(tmp_path.iterdir())
    write_large_labels(tmp_path / "a.tif", lambda p: data[p], data.shape, 2**24 + 1, largest=1)
    assert np.array_equal(read_labels(tmp_path / "a.tif"), data)


def test_a_failure_leaves_no_file(tmp_path):
    def read(part):
        raise OSError("the disk is full")

    for largest in (1, 10**9):
        with pytest.raises(OSError, match="full"):
            write_large_labels(tmp_path / "a.tif", read, (50, 50), 5, largest=largest)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(5,), (2, 2, 2, 2)])
def test_other_shapes_are_refused(tmp_path, shape):
    with pytest.raises(InputError):
        write_large_labels(tmp_path / "a.tif", lambda part: np.zeros(1), shape, 1)


@pytest.mark.parametrize("heights", [[4, 4], [4, 4, 3], [5, 4, 1], []])
def test_strips_that_do_not_fit_are_refused(tmp_path, heights):
    strips = [np.zeros((height, 6), np.uint16) for height in heights]
    with pytest.raises(InputError, match="strip"):
        write_planes(tmp_path / "a.tif", strips, (1, 1, 1, 10, 6), np.uint16, compress=True, rows=4)
