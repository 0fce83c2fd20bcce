"""napari-annotatorj opens our zips, and we read what it saves.

napari-annotatorj (0.0.8, the newest on PyPI) reads and writes zips by the package roifile.
The functions here do with roifile what it was seen to do, so neither it nor napari is
needed. Its own loader and saver gave the same when they were run on such files: on
2026-11-22, under napari 0.9.2 and roifile 2026.2.10, offscreen, without TensorFlow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi, roiwrite

from opsef_bridge.errors import RoiError
from opsef_bridge.rois import Objects, paint, read_roi_set, read_rois, write_roi_set
from opsef_bridge.rois.annotatorj import read_annotation, write_annotation

PALETTE = ("red", "green", "blue", "cyan", "magenta", "yellow", "orange", "white", "black")
"""Of its classes 1 to 9."""

SHAPE = (60, 60)


def load(path: Path) -> list[tuple[NDArray[np.float64], int, str]]:
    """Return corners (row, column), name as a number and colour, as its loader gets them."""
    rois = ImagejRoi.fromfile(path)
    return [
        (
            np.array([[y, x] for x, y in roi.coordinates()], float),
            int(roi.name),
            PALETTE[roi.group - 1] if roi.group else "yellow",
        )
        for roi in (rois if isinstance(rois, list) else [rois])
    ]


def save(path: Path, shapes: list[tuple[NDArray[np.float64], int, int]], box: bool = False) -> None:
    """Save corners, number and class of each shape as its saver does."""
    rois = []
    for corners, number, group in shapes:
        roi = ImagejRoi.frompoints(np.array([[x, y] for y, x in corners]))
        roi.roitype = ROI_TYPE.FREEHAND
        if box:
            roi.roitype, roi.options, roi.n_coordinates = ROI_TYPE.RECT, ROI_OPTIONS(0), 0
            roi.subpixel_coordinates = roi.integer_coordinates = None
        roi.name, roi.group = f"{number:04d}", np.int64(group)
        roi.stroke_color = b"\xff\xff\xff\x00"
        roi.version = max(roi.version, 228)
        rois.append(roi)
    roiwrite(path, rois)


@pytest.fixture
def discs() -> Objects:
    """Nine discs; ids have gaps, classes go from 0 to 8."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    labels = np.zeros(SHAPE, np.int32)
    for k in range(9):
        labels[(y - 10 - 20 * (k // 3)) ** 2 + (x - 10 - 20 * (k % 3)) ** 2 < 60] = 4 * k + 3
    return Objects(labels, {4 * k + 3: k for k in range(1, 9)})


def test_our_zips_open_and_come_back(discs, tmp_path):
    path = write_annotation(tmp_path, "normal", "cells", discs)
    shapes = load(path)
    assert [number for _, number, _ in shapes] == list(range(1, 10))
    assert [colour for *_, colour in shapes] == ["yellow", *PALETTE[:8]]
    low = np.stack([corners.min(axis=0) for corners, *_ in shapes])
    high = np.stack([corners.max(axis=0) for corners, *_ in shapes])
    for k, label in enumerate(discs.ids):
        where = np.argwhere(discs.labels == label)
        assert low[k].tolist() == where.min(axis=0).tolist()
        assert high[k].tolist() == (where.max(axis=0) + 1).tolist()

    path.unlink()  # where a zip is there it saves beside: cells_ROIs_1.zip
    save(path, [(c, n, k) for k, (c, n, _) in enumerate(shapes)])
    assert {roi.version for roi in read_rois(path)} == {229}
    back, notes, _ = read_annotation(path, SHAPE)
    assert back.same_as(discs)
    assert notes.lines() == []


def test_the_second_save_is_read_with_the_ids_of_the_first(discs, tmp_path):
    path = write_annotation(tmp_path, "normal", "cells", discs)
    other = tmp_path / "masks" / "cells_ROIs_1.zip"
    other.parent.mkdir()
    save(other, [(c, n, k) for k, (c, n, _) in enumerate(load(path))])
    assert read_annotation(other, SHAPE)[0].same_as(discs)


def test_holes_and_parts_are_lost(discs, tmp_path):
    labels = discs.labels.copy()
    labels[9:12, 9:12] = 0  # a hole in object 3
    labels[58:60, 0:2] = 35  # a second part of object 35
    path = tmp_path / "cells_ROIs.zip"
    write_roi_set(path, Objects(labels, discs.classes), consecutive=True)
    save(tmp_path / "back.zip", [(c, n, k) for k, (c, n, _) in enumerate(load(path))])
    back, _, _ = read_roi_set(tmp_path / "back.zip", SHAPE, sidecar=tmp_path / "cells_ROIs.json")
    assert back.same_as(discs)


def test_what_it_cannot_open(discs, tmp_path):
    first = discs.ids[0]
    path = tmp_path / "cells_ROIs.zip"
    write_roi_set(path, Objects(discs.labels, {first: 9}))
    assert load(path)[0][2] == "black"
    write_roi_set(path, Objects(discs.labels, {first: 10}))
    with pytest.raises(IndexError):
        load(path)
    with pytest.raises(RoiError, match="classes 1 to 8"):  # so this is not handed over
        write_annotation(tmp_path, "normal", "cells", Objects(discs.labels, {first: 10}))
    write_roi_set(path, np.stack([discs.labels, discs.labels]))
    with pytest.raises(ValueError, match="0003-0001"):
        load(path)


def test_shapes_drawn_there_are_read(tmp_path):
    rng = np.random.default_rng(2)
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = rng.uniform(8, 13, 40)
    corners = np.stack([30 + radius * np.sin(angle), 25 + radius * np.cos(angle)], axis=1)
    save(tmp_path / "drawn.zip", [(corners, 1, 2), (corners + 20, 2, 0)])
    objects, notes = paint(read_rois(tmp_path / "drawn.zip"), SHAPE)
    assert objects.classes == {1: 2}
    assert notes.clipped == ("0002",)
    # Star-shaped: a pixel is in it if its centre is nearer to the middle than the outline.
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    inside = [_in_star(corners + move, y, x, 30 + move, 25 + move) for move in (0, 20)]
    expected = np.where(inside[1], 2, np.where(inside[0], 1, 0))
    assert np.array_equal(objects.labels, expected)


def _in_star(corners, y, x, middle_y, middle_x):
    dy, dx = y - middle_y, x - middle_x
    inside = np.zeros(y.shape, bool)
    for (ay, ax), (by, bx) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ay, ax, by, bx = ay - middle_y, ax - middle_x, by - middle_y, bx - middle_x
        area = ax * by - ay * bx
        s, t = (dx * by - dy * bx) / area, (ax * dy - ay * dx) / area
        inside |= (s >= 0) & (t >= 0) & (s + t <= 1)
    return inside


def test_boxes_drawn_there_are_a_pixel_too_large(tmp_path):
    corners = np.array([[5.0, 10.0], [5.0, 20.0], [15.0, 20.0], [15.0, 10.0]])
    save(tmp_path / "cells_bboxes.zip", [(corners, 4, 1)], box=True)
    (roi,) = read_rois(tmp_path / "cells_bboxes.zip")
    assert roi.roitype == ROI_TYPE.RECT
    objects, _ = paint([roi], SHAPE)
    expected = np.zeros(SHAPE, int)
    expected[5:16, 10:21] = 4
    assert np.array_equal(objects.labels, expected)
    assert objects.classes == {4: 1}
