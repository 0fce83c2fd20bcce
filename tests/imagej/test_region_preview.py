"""The preview of `opsef train augment`, opened by the real ImageJ 1.54p."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from opsef_bridge.train.data import UNKNOWN, Sample
from opsef_bridge.train.region_files import write_preview
from opsef_bridge.train.region_presets import Preset
from opsef_bridge.train.regions import Regions
from tests.imagej.test_stacks import DESCRIBE
from tests.train.labelled_project import squares


@pytest.mark.parametrize("colour", [False, True])
def test_regions_outlines_and_what_is_unknown_are_channels(in_imagej, tmp_path, colour):
    image, labels = squares(0)
    labels[:10] = UNKNOWN
    image = image.astype(np.float32) / 1400
    image = np.stack([image] * 3, axis=-1) if colour else image
    preset = Preset("none", size=24)
    regions = Regions([Sample("a", image, labels, "g", "HeLa")], 3, preset, 5)
    file = tmp_path / "preview.tif"
    write_preview(file, regions, preset, 5)
    found = in_imagej(DESCRIBE, stack=np.array(str(file)))
    told = json.loads(str(found["stack"]))
    channels = 5 if colour else 3
    assert (told["frames"], told["slices"], told["channels"]) == (3, 1, channels)
    assert told["is_hyperstack"] and told["bit_depth"] == 8
    assert "preset: none" in told["info"] and "seed: 5" in told["info"]
    assert told["slice_labels"][channels - 2] == "000000-a HeLa outlines"
    ours = tifffile.imread(file).reshape(found["stack pixels"].shape)
    np.testing.assert_array_equal(found["stack pixels"], ours)
