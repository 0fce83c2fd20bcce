"""JPEG: near the pixels that were saved; grey, colour, four inks."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from opsef_bridge.images import Image, image_info, read_image
from opsef_bridge.testing.readers import ReaderSuite

GREY = (np.add.outer(np.arange(40), np.arange(50)) * 2).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def saved(path, pixels, **options):
    PIL.Image.fromarray(pixels).save(path, format="JPEG", quality=95, **options)
    with PIL.Image.open(path) as file:
        return Image(np.asarray(file), "YXS"[: pixels.ndim])


class TestJpeg(ReaderSuite):
    @pytest.fixture(params=["grey.jpg", "colour.JPEG", "steps.jpg"])
    def case(self, request, tmp_path):
        path = tmp_path / request.param
        pixels = GREY if request.param == "grey.jpg" else COLOUR
        return path, saved(path, pixels, progressive=request.param == "steps.jpg")


def test_pixels_are_near_those_that_were_saved(tmp_path):
    for pixels in (GREY, COLOUR):
        saved(tmp_path / "a.jpg", pixels, subsampling=0)
        found = read_image(tmp_path / "a.jpg").data
        assert np.abs(found.astype(int) - pixels).max() < 12


def test_four_inks_become_three_colours(tmp_path):
    path = tmp_path / "a.jpg"
    PIL.Image.fromarray(COLOUR).convert("CMYK").save(path, quality=95)
    assert image_info(path).shape == (40, 50, 3)
    found = read_image(path)
    assert found.axes == "YXS" and np.abs(found.data.astype(int) - COLOUR).mean() < 5
