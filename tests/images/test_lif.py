"""Leica files: planes bit for bit as readlif's, true axes, every kind of scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.errors import ImageError
from opsef_bridge.images import Image, Region, image_info, read_image, series_names
from opsef_bridge.testing.readers import ReaderSuite, assert_same, regions_of
from tests.images.lif_files import (
    EMISSION,
    TILES,
    Series,
    T,
    X,
    Y,
    Z,
    write_lif,
)

readlif = pytest.importorskip("readlif.reader")

ROOT = Path(__file__).parents[2]
SYNTHETIC = ROOT / "tests" / "data" / "lif" / "synthetic_cc0.lif"
RANDOM = np.random.default_rng(0)

ORDERS = {
    "synthetic_cc0.lif": ["ZCYX", "CYX", "TCYX"],
    "LeicaLASX_wavelength-sweep_example.lif": ["ScYX", "ScYX", "TSZcYX"],
    "testdata_2channel_xz.lif": ["TCYX", "YCZX", "CYX"],
}
"""Order of the planes that readlif gives, by series; S are wavelengths, c is no axis."""


def leica(name: str) -> Path:
    """Return a file that lies in the checkout or, as it may not be shipped, beside it."""
    for folder in (SYNTHETIC.parent, ROOT / "shared/data/lif", ROOT.parent / "shared/data/lif"):
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"{name} has no licence to ship; it is not beside this checkout")


def by_readlif(path: Path, series: int) -> np.ndarray:
    """Return all planes as readlif gives them: other dimensions outermost first, then C."""
    image = readlif.LifFile(str(path)).get_image(series)
    outer = [d for d in reversed(image.dims_n) if d not in image.display_dims]
    sizes = [*(image.dims_n[d] for d in outer), image.channels]
    planes = [
        np.asarray(image.get_plane(c=c, requested_dims=dict(zip(outer, at, strict=True))))
        for *at, c in np.ndindex(*sizes)
    ]
    return np.array(planes).reshape(*sizes, *planes[0].shape)


@pytest.mark.parametrize(
    ("name", "series"), [(name, i) for name, orders in ORDERS.items() for i in range(len(orders))]
)
def test_planes_are_those_of_readlif_bit_for_bit(name, series):
    path, letters = leica(name), ORDERS[name][series]
    expected = by_readlif(path, series)
    if "c" in letters:
        expected, letters = expected.take(0, letters.index("c")), letters.replace("c", "")
    letters = letters.replace("S", "C")
    order = [letters.index(axis) for axis in "TZCYX" if axis in letters]
    image = read_image(path, series)
    found = np.squeeze(image.data)
    np.testing.assert_array_equal(found, np.squeeze(expected.transpose(order)))
    assert found.dtype == expected.dtype
    for region in regions_of(image):
        assert_same(read_image(path, series, region=region), region.cut(image))


def test_frames_are_those_of_readlif_too():
    for series in range(3):
        lif = readlif.LifFile(str(SYNTHETIC)).get_image(series)
        image = read_image(SYNTHETIC, series)
        for t, z, c in np.ndindex(lif.nt, lif.nz, lif.channels):
            part = read_image(SYNTHETIC, series, region=Region(t=t, z=(z, z + 1), c=(c,)))
            np.testing.assert_array_equal(part.data, np.asarray(lif.get_frame(z, t, c)))
            assert part.data.dtype == image.data.dtype


def test_what_the_microscope_said_of_the_shipped_file():
    assert [name.split("_")[0] for name in series_names(SYNTHETIC)] == [
        "Series001",
        "Series002",
        "Series003",
    ]
    stack, plane, times = (image_info(SYNTHETIC, series) for series in range(3))
    assert (stack.axes, stack.shape, stack.series) == ("ZCYX", (7, 2, 256, 256), 3)
    assert stack.spacing == pytest.approx({"Z": 2.0, "Y": 0.65, "X": 0.65})
    assert stack.channels == ("Blue", "Green")
    assert (plane.dtype, plane.axes, times.axes, times.time_step) == ("uint16", "YX", "TYX", 1.0)


def test_real_scans_have_true_axes():
    path = leica("testdata_2channel_xz.lif")
    sections, volume, section = (image_info(path, series) for series in range(3))
    assert (sections.axes, sections.shape) == ("TCYX", (20, 2, 128, 128))
    assert sections.time_step == pytest.approx(10.07 / 19)
    assert sections.spacing["Y"] == pytest.approx(17.8154 / 127)  # of Z: the rows of a section
    assert (volume.axes, volume.shape) == ("ZCYX", (128, 2, 23, 128))
    assert (section.axes, section.channels) == ("CYX", ("Green", "Red"))
    path = leica("LeicaLASX_wavelength-sweep_example.lif")
    assert image_info(path, 2).axes == "TZCYX"
    assert image_info(path, 0).channels[::19] == ("Green 550 nm", "Green 740 nm")


def pixels(*shape: int, dtype: type = np.uint8, top: int = 255) -> np.ndarray:
    return RANDOM.integers(0, top, shape).astype(dtype)


STACK = pixels(2, 3, 2, 6, 11)
WIDE = pixels(9, 5, dtype=np.uint16, top=4095)
TWO = Series(
    "two", STACK, [(X, 11, 10e-6), (Y, 6, 2.5e-6), (Z, 3, 8e-6), (T, 2, 30)], ("Red", "Green")
)
TWELVE = Series("twelve", WIDE, [(X, 5, 1e-6), (Y, 9, 1e-6)], ("Gray",), bits=12)


class TestLif(ReaderSuite):
    flips = 300

    @pytest.fixture(params=["two.lif", "shipped.LIF", "twelve.lif"])
    def case(self, request, tmp_path):
        path = tmp_path / request.param
        if request.param == "two.lif":
            write_lif(path, [TWO, TWELVE])
            spacing = {"Z": 4.0, "Y": 0.5, "X": 1.0}
            return path, Image(STACK, "TZCYX", spacing, "um", ("Red", "Green"), 30.0)
        if request.param == "twelve.lif":
            write_lif(path, [TWELVE])
            return path, Image(WIDE, "YX", {"Y": 0.125, "X": 0.25}, "um", ("Gray",))
        path.write_bytes(SYNTHETIC.read_bytes())
        spacing = {"Z": 2.0, "Y": 0.65, "X": 0.65}
        return path, Image(by_readlif(path, 0), "ZCYX", spacing, "um", ("Blue", "Green"))


def test_tiles_of_a_mosaic_are_series(tmp_path):
    path = tmp_path / "a.lif"
    tiles = pixels(3, 2, 4, 6)
    dims = [(X, 6, 1e-6), (Y, 4, 1e-6), (TILES, 3, 0.0)]
    write_lif(path, [TWELVE, Series("mosaic", tiles, dims, ("Red", "Blue"))])
    assert series_names(path) == ["twelve", *(f"mosaic tile {i}" for i in range(3))]
    for i in range(3):
        image = read_image(path, 1 + i)
        assert (image.axes, image.channels) == ("CYX", ("Red", "Blue"))
        np.testing.assert_array_equal(image.data, tiles[i])
    with pytest.raises(ImageError, match="no series 4"):
        read_image(path, 4)


def test_wavelengths_of_several_channels_are_all_channels(tmp_path):
    path = tmp_path / "a.lif"
    data = pixels(3, 2, 4, 5)
    dims = [(X, 5, 1e-6), (Y, 4, 1e-6), (EMISSION, 3, 20e-9)]
    write_lif(path, [Series("a", data, dims, ("Red", "Blue"), origins={EMISSION: 500e-9})])
    image = read_image(path)
    np.testing.assert_array_equal(image.data, data.reshape(6, 4, 5))
    assert image.channels[:3] == ("Red 500 nm", "Blue 500 nm", "Red 510 nm")
    part = read_image(path, region=Region(c=(5, 0)))
    np.testing.assert_array_equal(part.data, data.reshape(6, 4, 5)[[5, 0]])


def test_a_colour_camera_gives_colours(tmp_path):
    path = tmp_path / "a.lif"
    data = pixels(2, 4, 7, 3)
    dims = [(X, 7, 1e-6), (Y, 4, 1e-6), (T, 2, 1)]
    write_lif(path, [Series("a", data, dims, ("Red", "Green", "Blue"), interleaved=True)])
    image = read_image(path)
    assert (image.axes, image.channels) == ("TYXS", ())
    np.testing.assert_array_equal(image.data, data)
    part = read_image(path, region=Region(t=1, x=(2, 5)))
    np.testing.assert_array_equal(part.data, data[1, :, 2:5])


def test_sections_and_lines_have_rows_called_y(tmp_path):
    path = tmp_path / "a.lif"
    section, volume, lines = pixels(4, 6), pixels(3, 4, 6), pixels(4, 6)
    write_lif(
        path,
        [
            Series("xz", section, [(X, 6, 5e-6), (Z, 4, 6e-6)]),
            Series("xzy", volume, [(X, 6, 5e-6), (Z, 4, 6e-6), (Y, 3, 8e-6)]),
            Series("xt", lines, [(X, 6, 5e-6), (T, 4, 6)]),
        ],
    )
    image = read_image(path)
    assert (image.axes, image.spacing) == ("YX", {"Y": 2.0, "X": 1.0})
    np.testing.assert_array_equal(image.data, section)
    image = read_image(path, 1)
    assert (image.axes, image.spacing) == ("ZYX", {"Z": 2.0, "Y": 4.0, "X": 1.0})
    np.testing.assert_array_equal(image.data, volume.transpose(1, 0, 2))
    # The caller may want each section as a plane: file order Y (outer), one channel, Z, X.
    image = read_image(path, 1, axes="ZYX")
    np.testing.assert_array_equal(image.data, volume)
    image = read_image(path, 2)
    assert (image.axes, image.spacing) == ("YX", {"X": 1.0})


def test_names_that_are_not_told_apart_are_none(tmp_path):
    path = tmp_path / "a.lif"
    write_lif(path, [Series("a", pixels(2, 4, 5), [(X, 5, 1e-6), (Y, 4, 1e-6)], ("Gray", "Gray"))])
    assert read_image(path).channels == ()


def test_a_file_that_ends_early_gives_no_blank_planes(tmp_path):
    """readlif itself warns and returns planes of zeros."""
    path = tmp_path / "a.lif"
    write_lif(path, [TWELVE, TWO])
    whole = path.read_bytes()
    for end in range(len(whole) - STACK.nbytes + 1, len(whole), 37):
        path.write_bytes(whole[:end])
        with pytest.raises(ImageError, match=r"ends before the pixels of series 1 \(two\)"):
            read_image(path, 1)
        np.testing.assert_array_equal(read_image(path, 0).data, WIDE)


def test_a_header_that_says_another_size_is_no_image(tmp_path):
    path = tmp_path / "a.lif"
    write_lif(path, [Series("a", pixels(4, 5), [(X, 5, 1e-6), (Y, 3, 1e-6)])])
    with pytest.raises(ImageError, match="20 bytes of pixels, its header says 15"):
        read_image(path)


def test_channels_of_different_depth_are_refused_by_name(tmp_path):
    path = tmp_path / "a.lif"
    write_lif(path, [Series("a", pixels(4, 5, dtype=np.float32), [(X, 5, 1), (Y, 4, 1)], bits=32)])
    with pytest.raises(ImageError, match=r"series 0 \(a\) has channels of \(32,\) bits"):
        read_image(path)


@pytest.mark.parametrize(
    "data",
    [b"II*\0 a TIFF by its head", b"p", bytes(64), b"\x70\0\0\0" + bytes(60), b"\x2a" * 64],
    ids=["tiff", "short", "zeros", "no block", "no magic"],
)
def test_a_file_that_is_no_lif_is_said_to_be_none(tmp_path, data):
    path = tmp_path / "a.lif"
    path.write_bytes(data)
    for read in (read_image, image_info, series_names):
        with pytest.raises(ImageError, match=r"a\.lif is no LIF file: it begins with b"):
            read(path)


def test_damage_between_blocks_is_said_as_such(tmp_path):
    path = tmp_path / "a.lif"
    data = SYNTHETIC.read_bytes()
    header = 13 + 2 * int.from_bytes(data[9:13], "little")
    assert data[header : header + 4] == data[:4]
    path.write_bytes(data[:header] + b"\xff" * 4 + data[header + 4 :])
    with pytest.raises(ImageError, match="a block of pixels is not where") as caught:
        read_image(path)
    assert "closed file" not in str(caught.value)
