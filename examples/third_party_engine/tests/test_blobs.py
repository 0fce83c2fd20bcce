"""The engine passes the suite that all engines pass, and is found by its name."""

from __future__ import annotations

import numpy as np
import pytest
from blobs_engine import Blobs

from opsef_bridge import segment
from opsef_bridge.engines import engine_names
from opsef_bridge.testing.engines import EngineSuite


class TestBlobs(EngineSuite):
    @pytest.fixture
    def engine(self):
        return Blobs()


def discs(centres: list[tuple[int, int]], radius: int) -> np.ndarray:
    y, x = np.mgrid[:64, :96]
    image = np.zeros((64, 96), np.uint8)
    for cy, cx in centres:
        image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = 200
    return image


def test_it_is_installed():
    assert "blobs" in engine_names(), "pip install this folder first"


@pytest.mark.parametrize(("threshold", "objects"), [(0.2, 2), (0.35, 3)])
def test_touching_discs_are_parted_above_the_dip(threshold, objects):
    image = discs([(30, 30), (30, 46), (50, 80)], 9)
    assert segment(image, "blobs", diameter=14, threshold=threshold).max() == objects


def test_blobs_of_another_size_answer_less():
    image = discs([(32, 48)], 9)
    assert segment(image, "blobs", diameter=18, threshold=0.5).max() == 1
    assert segment(image, "blobs", diameter=60, threshold=0.5).max() == 0
