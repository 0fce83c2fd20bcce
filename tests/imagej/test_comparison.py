"""Comparison stacks of volumes, time series, several channels and many bytes in ImageJ 1.54p."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import tifffile

from opsef_bridge.images import read_labels, write_planes
from opsef_bridge.project import Project, read_csv
from opsef_bridge.sweep import plan_sweep, run_plan
from opsef_bridge.sweep.comparing import Wish, compare_again
from tests.small_projects import Here, discs

CONFIG = """
opsef: 1
images: {source: [data/*], segment: {channel: 1}}
models: {classic: {engine: watershed, threshold: [otsu, 0.8]}}
sweep: {images: all, crop: none}
compare: {channels: all, rois: 0}
"""
DESCRIBE = """
import json
path = str(inputs["stack"])
outputs["told"] = np.array(json.dumps(ij1.describe(path)))
outputs["pixels"] = ij1.pixels(path)
"""
TIMES, DEPTH, SHAPE = 2, 3, (72, 80)
NAMES = ("DAPI", "GFP")


def series() -> np.ndarray:
    """A time series of volumes with two channels: TZCYX."""
    image = np.empty((TIMES, DEPTH, 2, *SHAPE), np.uint16)
    for t, z, c in np.ndindex(image.shape[:3]):
        image[t, z, c] = discs(10 * t + c, SHAPE) + 50 * z
    return image


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Project:
    root = tmp_path_factory.mktemp("series")
    (root / "data").mkdir()
    (root / "opsef.yaml").write_text(CONFIG)
    tifffile.imwrite(
        root / "data" / "series.tif", series(), imagej=True, resolution=(5.0, 5.0),
        metadata={"axes": "TZCYX", "unit": "um", "spacing": 1.5, "finterval": 30.0,
                  "Labels": list(NAMES) * (TIMES * DEPTH)},
    )  # fmt: skip
    project = Project(root)
    result = run_plan(project, plan_sweep(project), Here())
    assert (result.ok, result.failed) == (2 * TIMES, 0)
    return project


def test_each_time_point_of_a_series_has_a_stack_with_all_channels(in_imagej, swept):
    entries, rows = swept.images(), read_csv(swept.run().variants_file)
    assert len(entries) == TIMES and len({entry.parent for entry in entries}) == 1
    for t, entry in enumerate(entries):
        file = swept.run().compare_file(entry.id)
        found = in_imagej(DESCRIBE, stack=np.array(str(file)))
        told, pixels = json.loads(str(found["told"])), found["pixels"]
        assert pixels.shape == (len(rows), DEPTH, 6, *SHAPE) and pixels.dtype == np.uint8
        assert told["is_hyperstack"] and told["mode"] == "color"
        calibration = told["calibration"]
        sizes = [calibration[f"pixel_{name}"] for name in ("width", "height", "depth")]
        assert sizes == pytest.approx([0.2, 0.2, 1.5])
        assert calibration["frame_interval"] == 0, "T is the variant"
        assert told["ranges"] == [[0, 255]] * 6
        assert told["luts"] == [False, False, True, True, False, False]
        channels = ["base", "seen by the network", "outlines", "labels", *NAMES]
        captions = [text.rpartition(" | ")[2] for text in told["slice_labels"]]
        assert captions == channels * (DEPTH * len(rows))
        assert f"channels: {', '.join(channels)}" in told["info"]
        assert f"part: t={t}" in told["info"]
        np.testing.assert_array_equal(pixels[:, :, 0], pixels[:, :, 5])  # GFP is segmented
        assert (pixels[:, :, 4] != pixels[:, :, 5]).any()
        for frame, row in enumerate(rows):
            labels = read_labels(swept.run().label_file(row["id"], entry.id))
            np.testing.assert_array_equal(pixels[frame, :, 3] > 0, labels > 0)


def test_values_of_the_source_and_their_ranges(in_imagej, swept, tmp_path):
    [file] = compare_again(
        swept, wish=Wish(dtype="source", images=["i00001"], to=tmp_path)
    ).files.values()
    found = in_imagej(DESCRIBE, stack=np.array(str(file)))
    told, pixels = json.loads(str(found["told"])), found["pixels"]
    assert told["bit_depth"] == 16
    for frame in pixels:
        np.testing.assert_array_equal(frame[:, 0], series()[0, :, 1])
        np.testing.assert_array_equal(frame[:, 4:], series()[0])
    for channel, shown in enumerate(told["ranges"]):
        own = (
            [0, 255] if channel in (1, 2, 3) else np.percentile(pixels[:, :, channel], (0.1, 99.9))
        )
        assert shown == pytest.approx(list(own), abs=1.0)
    assert told["luts"] == [False, False, True, True, False, False]


VIRTUAL = """
from scyjava import jimport
image = jimport("ij.IJ").openVirtual(str(inputs["stack"]))
stack = image.getStack()
outputs["sizes"] = np.array([image.getWidth(), image.getHeight(), image.getNChannels(),
                             image.getNSlices(), image.getNFrames(), stack.isVirtual()])
places = [int(k) for k in inputs["places"]]
outputs["values"] = np.array([int(stack.getProcessor(k).get(3, 5)) for k in places])
outputs["ends"] = np.array([int(stack.getProcessor(k).get(0, 0)) for k in places])
outputs["labels"] = np.array([str(stack.getSliceLabel(k)) for k in places])
outputs["width"] = np.array(image.getCalibration().pixelWidth)
"""


@pytest.mark.slow
def test_a_stack_above_4_gb_opens_to_its_last_plane(in_imagej, tmp_path):
    """ImageJ reads planes one after the other where the file has room for one directory only."""
    side, frames, channels = 8192, 17, 4
    count = frames * channels
    assert count * side * side > 2**32
    file = tmp_path / "large.tif"

    def planes() -> Iterator[np.ndarray]:
        plane = np.zeros((side, side), np.uint8)
        for number in range(count):
            plane[5, 3], plane[-1, -1] = number + 1, 255 - number
            yield plane

    labels = [f"#1 v{number:04d} | base" for number in range(count)]
    write_planes(file, planes(), (frames, 1, channels, side, side), np.uint8, labels=labels,
                 spacing={"Y": 0.5, "X": 0.5}, ranges=[(0, 255)] * channels, mode="color",
                 info="words")  # fmt: skip
    try:
        with tifffile.TiffFile(file) as tiff:
            assert tiff.imagej_metadata["Labels"] == labels
            assert tiff.series[0].shape == (frames, channels, side, side)
        whole = tifffile.memmap(file, mode="r")
        assert whole.shape == (frames, channels, side, side)
        np.testing.assert_array_equal(whole[:, :, 5, 3].ravel(), np.arange(1, count + 1))
        np.testing.assert_array_equal(whole[:, :, -1, -1].ravel(), 255 - np.arange(count))
        del whole
        places = np.array([1, 2, 32, 33, count - 1, count])  # from 1; the 33rd is beyond 2 GB
        found = in_imagej(VIRTUAL, stack=np.array(str(file)), places=places)
        assert found["sizes"].tolist() == [side, side, channels, 1, frames, 1]
        np.testing.assert_array_equal(found["values"], places)
        assert found["labels"].tolist() == [labels[place - 1] for place in places]
        assert float(found["width"]) == 0.5
    finally:
        file.unlink(missing_ok=True)
