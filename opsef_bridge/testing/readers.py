"""What every image reader keeps, as tests to inherit.

Register the reader, give files and what is in them, and run pytest::

    class TestLif(ReaderSuite):
        @pytest.fixture(params=["a.lif", "b.lif"])
        def case(self, request):
            return DATA / request.param, EXPECTED[request.param]
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsef_bridge.errors import ImageError
from opsef_bridge.images import Image, Region, image_info, is_image, read_image, series_names

__all__ = ["ReaderSuite", "assert_same", "members", "regions_of"]

OTHERS = {
    "text": b"these are not pixels\n" * 50,
    "zip": b"PK\x05\x06" + bytes(18),
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
    "zeros": bytes(4096),
}
"""What a file may hold that is not what its name says."""


def assert_same(found: Image, expected: Image) -> None:
    """Check that two images are equal in all that they hold."""
    assert found.data.dtype == expected.data.dtype
    np.testing.assert_array_equal(found.data, expected.data)
    assert (found.axes, found.unit) == (expected.axes, expected.unit)
    assert found.spacing == pytest.approx(expected.spacing, rel=1e-6)
    assert found.channels == expected.channels
    assert found.time_step == pytest.approx(expected.time_step, rel=1e-6)


def members(path: Path) -> list[Path]:
    """Return the files of an image: itself, or all of its folder."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def some(files: list[Path], count: int = 8) -> list[Path]:
    """Return some of the files of an image, always the same ones."""
    return files if len(files) <= count else sorted(random.Random(0).sample(files, count))


def copy_to(path: Path, target: Path) -> Path:
    """Copy an image, a file or a folder."""
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target)
    return target


def beside(folder: Path, path: Path) -> Path:
    """Return the same name in a new folder of `folder`."""
    (folder / "broken").mkdir()
    return folder / "broken" / path.name


@contextlib.contextmanager
def replaced(file: Path, content: bytes) -> Iterator[None]:
    """Give `file` another content for the block."""
    whole = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(whole)


def regions_of(image: Image, count: int = 10) -> list[Region]:
    """Return regions of an image: one of each kind that it has, and seeded ones."""
    sizes = dict(zip(image.axes, image.data.shape, strict=True))
    dice = random.Random(0)

    def part(axis: str) -> Any:
        size = sizes.get(axis, 1)
        if axis == "T":
            return dice.randrange(size)
        if axis == "C":
            return tuple(dice.sample(range(size), dice.randint(1, size)))
        start = dice.randrange(size)
        return start, dice.randint(start + 1, size)

    found = [Region(), Region(c=tuple(reversed(range(sizes.get("C", 1)))))]
    found += [Region(**{axis.lower(): part(axis)}) for axis in "TZCYX"]
    for _ in range(count):
        chosen = [axis for axis in "TZCYX" if dice.random() < 0.6]
        found.append(Region(**{axis.lower(): part(axis) for axis in chosen}))
    return found


class ReaderSuite:
    """Tests of one reader; a subclass has a fixture ``case``: an image on disk and its `Image`.

    Attributes
    ----------
    cuts, flips : int
        How many parts of a file, and how many files with one wrong bit, are tried.
    """

    cuts = 40
    flips = 120

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if not hasattr(cls, "case"):
            raise TypeError(f"{cls.__name__} needs a fixture `case`: a file and what is in it")

    def test_pixels_axes_and_calibration(self, case: tuple[Path, Image]) -> None:
        assert is_image(case[0])
        assert_same(read_image(case[0]), case[1])

    def test_info_agrees_with_every_series(self, case: tuple[Path, Image]) -> None:
        count = image_info(case[0]).series
        assert len(series_names(case[0])) == count
        for series in range(count):
            image, info = read_image(case[0], series), image_info(case[0], series)
            assert (info.axes, info.shape) == (image.axes, image.data.shape)
            assert (info.dtype, info.series) == (image.data.dtype.name, count)
            assert (info.spacing, info.unit) == (image.spacing, image.unit)
            assert (info.channels, info.time_step) == (image.channels, image.time_step)

    def test_a_region_is_the_whole_cut(self, case: tuple[Path, Image]) -> None:
        for series in range(min(image_info(case[0]).series, 3)):
            whole = read_image(case[0], series)
            for region in regions_of(whole):
                part = read_image(case[0], series, region=region)
                assert_same(part, region.cut(whole))
                assert (part.axes, part.data.shape) == region.shape(whole.axes, whole.data.shape)

    def test_a_region_outside_says_the_limits(self, case: tuple[Path, Image]) -> None:
        axes, shape = case[1].axes, case[1].data.shape
        sizes = dict(zip(axes, shape, strict=True))
        for axis in "TZCYX":
            size = sizes.get(axis, 1)
            beyond = {"T": size, "C": (0, size)}.get(axis, (0, size + 1))
            with pytest.raises(ImageError, match=f"{axis.lower()}=0:{size}"):
                read_image(case[0], region=Region(**{axis.lower(): beyond}))

    def test_blanks_and_umlauts_in_the_path(self, case: tuple[Path, Image], tmp_path: Path) -> None:
        path, expected = case
        copy = tmp_path / "Grüne Zellen µ" / f"Bild 1 äöü{''.join(path.suffixes)}"
        copy.parent.mkdir()
        copy_to(path, copy)
        np.testing.assert_array_equal(read_image(copy).data, expected.data)

    def test_threads_read_at_the_same_time(self, case: tuple[Path, Image]) -> None:
        with ThreadPoolExecutor(4) as pool:
            for image in pool.map(read_image, [case[0]] * 8):
                np.testing.assert_array_equal(image.data, case[1].data)

    def test_the_pixels_belong_to_the_caller(self, case: tuple[Path, Image]) -> None:
        """What is done to an image must not reach the file, nor the next reading."""
        image = read_image(case[0])
        if image.data.flags.writeable:
            image.data[...] = 0
        np.testing.assert_array_equal(read_image(case[0]).data, case[1].data)

    def test_a_series_that_is_not_there(self, case: tuple[Path, Image]) -> None:
        for series in (99, -1):
            with pytest.raises(ImageError, match=str(series)):
                read_image(case[0], series)

    def test_axes_that_do_not_fit(self, case: tuple[Path, Image]) -> None:
        for axes in ("TZCYXS", "QX", "YY", ""):
            with pytest.raises(ImageError):
                read_image(case[0], axes=axes)

    def test_what_is_not_what_its_name_says(self, case: tuple[Path, Image], tmp_path: Path) -> None:
        broken = beside(tmp_path, case[0])
        for content in (b"", *OTHERS.values()):
            if case[0].is_dir():
                shutil.rmtree(broken, ignore_errors=True)
                broken.mkdir()
                (broken / members(case[0])[0].name).write_bytes(content)
            else:
                broken.write_bytes(content)
            for function in (read_image, image_info):
                with pytest.raises(ImageError, match=r"\w") as caught:
                    function(broken)
                assert case[0].name in str(caught.value) and caught.value.hint

    def test_neither_missing_nor_of_the_wrong_kind(
        self, case: tuple[Path, Image], tmp_path: Path
    ) -> None:
        path = beside(tmp_path, case[0])
        for function in (read_image, image_info, series_names):
            with pytest.raises(ImageError, match="is not a f"):
                function(path)
        if case[0].is_dir():
            path.write_bytes(b"x")
        else:
            path.mkdir()
        assert not is_image(path)
        with pytest.raises(ImageError, match="is not a f"):
            read_image(path)

    def test_a_part_of_a_file_is_never_taken_for_the_whole(
        self, case: tuple[Path, Image], tmp_path: Path
    ) -> None:
        broken = copy_to(case[0], beside(tmp_path, case[0]))
        files = some(members(broken))
        for file in files:
            whole = file.read_bytes()
            cuts = max(self.cuts // len(files), 4)
            ends = {len(whole) * i // cuts for i in range(cuts)}
            ends |= set(range(max(len(whole) - 24 // len(files), 0), len(whole)))
            for end in ends:
                with replaced(file, whole[:end]):
                    self._error_or(broken, case[1])

    def test_damage_is_an_image_error_or_nothing(
        self, case: tuple[Path, Image], tmp_path: Path
    ) -> None:
        broken = copy_to(case[0], beside(tmp_path, case[0]))
        files = some(members(broken))
        dice = random.Random(0)
        for i in range(self.flips):
            file = files[i % len(files)]
            damaged = bytearray(file.read_bytes())
            near = dice.randrange(min(len(damaged), 1000))
            place = (near, -1 - near, dice.randrange(len(damaged)))[dice.randrange(3)]
            damaged[place] ^= 1 << dice.randrange(8)
            with replaced(file, bytes(damaged)):
                self._error_or(broken, None)

    def _error_or(self, path: Path, expected: Image | None) -> None:
        """Read a broken image: an `ImageError` that helps, or pixels; if given, these."""
        try:
            found = read_image(path).data
        except ImageError as error:
            assert error.hint
            assert path.name in str(error)
        else:
            if expected is not None:
                np.testing.assert_array_equal(found, expected.data)
