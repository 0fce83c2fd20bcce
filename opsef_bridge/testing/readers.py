"""What every image reader keeps, as tests to inherit.

Register the reader, give files and what is in them, and run pytest::

    class TestLif(ReaderSuite):
        @pytest.fixture(params=["a.lif", "b.lif"])
        def case(self, request):
            return DATA / request.param, EXPECTED[request.param]
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.errors import ImageError
from opsef_bridge.images import Image, image_info, read_image

__all__ = ["ReaderSuite"]


class ReaderSuite:
    """Tests of one reader; a subclass has a fixture ``case``: a file and its `Image`."""

    cuts = 40
    flips = 120

    @pytest.fixture
    def case(self) -> tuple[Path, Image]:
        raise NotImplementedError("a subclass gives a file and what is in it")

    def test_pixels_axes_and_calibration(self, case: tuple[Path, Image]) -> None:
        path, expected = case
        image = read_image(path)
        assert image.data.dtype == expected.data.dtype
        np.testing.assert_array_equal(image.data, expected.data)
        assert (image.axes, image.unit) == (expected.axes, expected.unit)
        assert image.spacing == pytest.approx(expected.spacing, rel=1e-6)
        assert image.channels == expected.channels

    def test_info_agrees_with_the_image(self, case: tuple[Path, Image]) -> None:
        image, info = read_image(case[0]), image_info(case[0])
        assert (info.axes, info.shape, info.dtype) == (
            image.axes,
            image.data.shape,
            image.data.dtype.name,
        )
        assert (info.spacing, info.unit, info.channels) == (
            image.spacing,
            image.unit,
            image.channels,
        )

    def test_blanks_and_umlauts_in_the_path(self, case: tuple[Path, Image], tmp_path: Path) -> None:
        path, expected = case
        copy = tmp_path / "Grüne Zellen µ" / f"Bild 1 äöü{''.join(path.suffixes)}"
        copy.parent.mkdir()
        copy.write_bytes(path.read_bytes())
        np.testing.assert_array_equal(read_image(copy).data, expected.data)

    def test_a_series_that_is_not_there(self, case: tuple[Path, Image]) -> None:
        for series in (99, -1):
            with pytest.raises(ImageError, match=str(series)):
                read_image(case[0], series)

    def test_axes_that_do_not_fit(self, case: tuple[Path, Image]) -> None:
        for axes in ("TZCYXS", "QX", "YY", ""):
            with pytest.raises(ImageError):
                read_image(case[0], axes=axes)

    def test_empty_and_mislabelled_files(self, case: tuple[Path, Image], tmp_path: Path) -> None:
        for content in (b"", b"these are not pixels\n" * 50):
            broken = tmp_path / case[0].name
            broken.write_bytes(content)
            for function in (read_image, image_info):
                with pytest.raises(ImageError, match=r"\w") as caught:
                    function(broken)
                assert case[0].name in str(caught.value) and caught.value.hint

    def test_a_part_of_a_file_is_never_taken_for_the_whole(
        self, case: tuple[Path, Image], tmp_path: Path
    ) -> None:
        whole = case[0].read_bytes()
        broken = tmp_path / case[0].name
        ends = {len(whole) * i // self.cuts for i in range(self.cuts)}
        for end in ends | set(range(max(len(whole) - 24, 0), len(whole))):
            broken.write_bytes(whole[:end])
            try:
                found = read_image(broken).data
            except ImageError as error:
                assert error.hint
            else:
                np.testing.assert_array_equal(found, case[1].data)

    def test_damage_is_an_image_error_or_nothing(
        self, case: tuple[Path, Image], tmp_path: Path
    ) -> None:
        whole = case[0].read_bytes()
        broken = tmp_path / case[0].name
        dice = random.Random(0)
        for i in range(self.flips):
            damaged = bytearray(whole)
            near = dice.randrange(min(len(whole), 1000))
            damaged[near if i % 2 else -1 - near] ^= 1 << dice.randrange(8)
            broken.write_bytes(damaged)
            try:
                read_image(broken)
            except ImageError as error:
                assert error.hint
