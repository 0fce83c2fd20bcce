"""Colours of classes."""

from __future__ import annotations

import pytest

from opsef_bridge.errors import InputError
from opsef_bridge.rois.palette import PALETTE, colour_of, stroke_of


def test_the_eight_of_annotatorj():
    colours = ["ff0000", "00ff00", "0000ff", "00ffff", "ff00ff", "ffff00", "ffc800", "ffffff"]
    assert [bytes(colour_of(k)).hex() for k in range(1, 9)] == colours
    assert list(PALETTE) == list(range(1, 9))


def test_all_classes_differ():
    assert len({colour_of(k) for k in range(1, 256)}) == 255
    assert all(0 <= part <= 255 for k in range(1, 256) for part in colour_of(k))


def test_a_stroke_is_opaque_and_none_without_a_class():
    assert stroke_of(7) == bytes((255, 255, 200, 0))
    assert stroke_of(0) == bytes(4)


@pytest.mark.parametrize("number", [0, -1, 256])
def test_no_such_class(number):
    with pytest.raises(InputError, match="1 to 255"):
        colour_of(number)
