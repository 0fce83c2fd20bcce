"""TIFF of every kind passes the reader suite; parts read no more than they need."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import PIL.Image
import pytest
import tifffile

from opsef_bridge.errors import ImageError
from opsef_bridge.images import (
    Image,
    Region,
    image_info,
    read_image,
    read_labels,
    series_names,
    write_hyperstack,
    write_labels,
)
from opsef_bridge.testing.readers import ReaderSuite, assert_same, regions_of

RANDOM = np.random.default_rng(0)
STACK = RANDOM.integers(0, 60000, (2, 3, 2, 20, 33)).astype(np.uint16)
COLOUR = RANDOM.integers(0, 255, (24, 37, 3)).astype(np.uint8)
SMOOTH = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)
MICRO = {"Z": 2.0, "Y": 0.25, "X": 0.5}
OME = {
    "axes": "TZCYX",
    "PhysicalSizeX": 0.5,
    "PhysicalSizeY": 0.25,
    "PhysicalSizeZ": 2,
    "TimeIncrement": 1500,
    "TimeIncrementUnit": "ms",
    "Channel": {"Name": ["DAPI", "GFP"]},
}
FULL = partial(
    Image, axes="TZCYX", spacing=MICRO, unit="um", channels=("DAPI", "GFP"), time_step=1.5
)


def hyperstack(path):
    options = {"spacing": MICRO, "time_step": 1.5, "channels": ("DAPI", "GFP")}
    write_hyperstack(path, STACK, "TZCYX", **options)
    return FULL(STACK)


def ome_tiled(path):
    tifffile.imwrite(path, STACK, ome=True, tile=(16, 16), compression="zstd", metadata=OME)
    return FULL(STACK)


def ome_big(path):
    tifffile.imwrite(path, STACK, bigtiff=True, ome=True, rowsperstrip=7, metadata=OME)
    return FULL(STACK)


def big_endian(path):
    options = {"imagej": True, "byteorder": ">", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(path, STACK[0, :, 0], **options)
    return Image(STACK[0, :, 0], "ZYX")


def lzw_strips(path):
    options = {"compression": "lzw", "predictor": True, "rowsperstrip": 6, "metadata": None}
    tifffile.imwrite(path, STACK[0, 0, 0], **options)
    return Image(STACK[0, 0, 0], "YX")


def colour_planes(path):
    planes = np.moveaxis(COLOUR, -1, 0)
    options = {"planarconfig": "separate", "compression": "zlib", "metadata": None}
    tifffile.imwrite(path, planes, photometric="rgb", tile=(16, 16), **options)
    return Image(COLOUR, "YXS")


def colour_stack(path):
    stack = np.stack([COLOUR, COLOUR[::-1]])
    options = {"photometric": "rgb", "compression": "zlib", "rowsperstrip": 5}
    tifffile.imwrite(path, stack, metadata={"axes": "ZYXS"}, **options)
    return Image(stack, "ZYXS")


def samples(path):
    data = RANDOM.integers(0, 255, (21, 30, 5)).astype(np.uint8)
    options = {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib"}
    tifffile.imwrite(path, data, tile=(16, 16), metadata=None, **options)
    return Image(np.moveaxis(data, -1, 0), "CYX")


def mask(path):
    data = STACK[0, 0, 0] > 30000
    tifffile.imwrite(path, data, photometric="minisblack", compression="packbits", metadata=None)
    return Image(data, "YX")


def floats(path):
    data = STACK[:, 0, 0].astype(np.float32) / 7
    options = {"compression": "zlib", "predictor": 3, "byteorder": ">"}
    tifffile.imwrite(path, data, metadata={"axes": "TYX"}, **options)
    return Image(data, "TYX")


CASES = {
    "hyperstack.tif": hyperstack,
    "tiled.ome.tif": ome_tiled,
    "big.ome.btf": ome_big,
    "imagej.tif": big_endian,
    "lzw.tiff": lzw_strips,
    "planes.tif": colour_planes,
    "stack.tif": colour_stack,
    "samples.tif": samples,
    "mask.tif": mask,
    "floats.tif": floats,
}


class TestTiff(ReaderSuite):
    cuts, flips = 15, 45

    @pytest.fixture(params=sorted(CASES))
    def case(self, request, tmp_path):
        path = tmp_path / request.param
        return path, CASES[request.param](path)


@pytest.mark.parametrize("codec", ["zlib", "lzw", "zstd", "packbits", "lzma", "lerc", "jpeg2000"])
def test_lossless_codecs_read_the_same_in_parts(tmp_path, codec):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SMOOTH, compression=codec, tile=(16, 32), metadata=None)
    whole = read_image(path)
    np.testing.assert_array_equal(whole.data, SMOOTH)
    for region in regions_of(whole):
        assert_same(read_image(path, region=region), region.cut(whole))


def test_a_lossy_slide_reads_the_same_in_parts(tmp_path):
    path = tmp_path / "a.tif"
    smooth = np.stack([SMOOTH, SMOOTH[::-1], 255 - SMOOTH], axis=-1)
    options = {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 2)}
    stored = np.asarray(PIL.Image.fromarray(smooth).convert("YCbCr"))
    tifffile.imwrite(path, stored, tile=(16, 32), metadata=None, **options)
    whole = read_image(path)
    assert whole.axes == "YXS" and np.abs(whole.data.astype(int) - smooth).mean() < 12
    for region in regions_of(whole):
        assert_same(read_image(path, region=region), region.cut(whole))


def test_of_a_pyramid_the_full_resolution_is_read(tmp_path):
    path = tmp_path / "a.ome.tif"
    levels = {"tile": (16, 16), "compression": "zlib"}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for name, picture in (("first", SMOOTH), ("second", SMOOTH[::-1, ::2])):
            metadata = {"axes": "YX", "Name": name, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            tiff.write(picture, subifds=2, metadata=metadata, **levels)
            for step in (2, 4):
                tiff.write(picture[::step, ::step], subfiletype=1, **levels)
    assert series_names(path) == ["first", "second"]
    assert [image_info(path, i).shape for i in range(2)] == [(40, 50), (40, 25)]
    image = read_image(path, 1, region=Region(y=(3, 30), x=(10, 25)))
    np.testing.assert_array_equal(image.data, SMOOTH[::-1, ::2][3:30, 10:])
    assert image.spacing == {"Y": 0.5, "X": 0.5}
    with pytest.raises(ImageError, match="It has 2"):
        read_image(path, 2)


def test_an_ome_set_of_several_files_is_read_in_parts(tmp_path):
    names = [f"a_{t}.ome.tif" for t in range(2)]
    planes = STACK[:, 0, 0]
    data = "".join(
        f'<TiffData FirstT="{t}" FirstZ="0" FirstC="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:0000000{t}-0000-0000-0000-000000000000</UUID></TiffData>'
        for t, name in enumerate(names)
    )
    for t, name in enumerate(names):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:0000000{t}-0000-0000-0000-000000000000"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="33" SizeY="20" '
            f'SizeC="1" SizeZ="1" SizeT="2">{data}</Pixels></Image></OME>'
        )
        options = {"description": xml, "compression": "zlib", "rowsperstrip": 8}
        tifffile.imwrite(tmp_path / name, planes[t], metadata=None, **options)
    for name in names:
        whole = read_image(tmp_path / name)
        np.testing.assert_array_equal(whole.data, planes)
        for region in regions_of(whole):
            assert_same(read_image(tmp_path / name, region=region), region.cut(whole))
    (tmp_path / names[1]).unlink()
    with pytest.raises(ImageError):
        read_image(tmp_path / names[0])


def test_an_imagej_stack_above_4_gb(tmp_path):
    """Such a file has one directory; its planes follow each other. Here most are holes."""
    path = tmp_path / "a.tif"
    plane, count = RANDOM.integers(0, 255, (2048, 2048)).astype(np.uint8), 1100
    description = f"ImageJ=1.54p\nimages={count}\nslices={count}\nunit=um\nspacing=2.0\n"
    options = {"description": description, "metadata": None, "software": False}
    tifffile.imwrite(path, plane, **options)
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].dataoffsets[0]
    try:
        os.truncate(path, start + count * plane.nbytes)
    except OSError:
        pytest.skip("this file system has no files with holes of 4 GB")
    with open(path, "r+b") as file:
        file.seek(start + (count - 1) * plane.nbytes)
        file.write(plane.tobytes())
    info = image_info(path)
    assert (info.axes, info.shape) == ("ZYX", (count, 2048, 2048))
    part = read_image(path, region=Region(z=(count - 2, count), y=(7, 2000), x=(3, 40)))
    np.testing.assert_array_equal(part.data, [np.zeros((1993, 37)), plane[7:2000, 3:40]])
    os.truncate(path, start + count * plane.nbytes - 1)
    with pytest.raises(ImageError):
        read_image(path, region=Region(z=(count - 1, count)))
    path.unlink()


def test_a_part_reads_only_what_it_needs(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    data = RANDOM.integers(0, 255, (512, 512)).astype(np.uint8)
    options = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(path, data, tile=(64, 64), compression="zlib", **options)
    wanted = []
    original = tifffile.FileHandle.read_segments

    def counted(self, offsets, bytecounts, *args, **more):
        wanted.append(len(offsets))
        return original(self, offsets, bytecounts, *args, **more)

    monkeypatch.setattr(tifffile.FileHandle, "read_segments", counted)
    part = read_image(path, region=Region(y=(100, 140), x=(60, 70)))
    np.testing.assert_array_equal(part.data, data[100:140, 60:70])
    assert sum(wanted) == 4  # of 64 tiles


def test_rows_of_a_plane_in_one_piece_are_read_alone(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SMOOTH, metadata=None)
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages[0].dataoffsets) == 1
        start = tiff.pages[0].dataoffsets[0]
    path.write_bytes(whole[: start + 25 * SMOOTH.shape[1]])
    try:
        part = read_image(path, region=Region(y=(5, 25))).data
    except ImageError:
        return  # the library may see before that the file is too short
    np.testing.assert_array_equal(part, SMOOTH[5:25])
    with pytest.raises(ImageError):
        read_image(path, region=Region(y=(5, 26)))


def test_a_compression_that_nobody_knows_is_named(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SMOOTH, compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["Compression"].overwrite(34676)  # SGI's logarithmic pixels
    for function in (read_image, image_info):
        with pytest.raises(ImageError, match=r"compressed by SGILOG.*imagecodecs"):
            function(path)


@pytest.mark.parametrize(
    ("metadata", "step"),
    [
        ({"finterval": 2.5}, 2.5),
        ({"finterval": 2, "tunit": "min"}, 120),
        ({"finterval": 0}, 0),
        ({"finterval": 3, "tunit": "sheep"}, 0),
        ({}, 0),
    ],
)
def test_the_time_step_of_imagej(tmp_path, metadata, step):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[:, 0, 0], imagej=True, metadata={"axes": "TYX", **metadata})
    assert read_image(path).time_step == step == image_info(path).time_step


def test_slice_labels_are_channel_names_only_where_they_name_channels(tmp_path):
    path = tmp_path / "a.tif"
    data = STACK[0]
    for labels, names in [
        (["a", "b"] * 3, ("a", "b")),
        (["a", "a"] * 3, ()),
        (["a", "b", "a", "b", "a", "c"], ()),
        (None, ()),
    ]:
        write_hyperstack(path, data, "ZCYX", labels=labels)
        assert read_image(path).channels == names
        assert read_image(path, region=Region(c=(1,))).channels == names[1:]


def test_labels_are_read_in_parts(tmp_path):
    path = tmp_path / "a.tif"
    labels = RANDOM.integers(0, 90000, (3, 20, 30)).astype(np.int32)
    write_labels(path, labels)
    region = Region(z=(1, 3), y=(4, 9))
    np.testing.assert_array_equal(read_labels(path, region), labels[1:3, 4:9])
    part = read_labels(path, Region(z=(2, 3), x=(0, 7)))
    np.testing.assert_array_equal(part, labels[2, :, :7])
    tifffile.imwrite(path, labels, photometric="minisblack", metadata=None)  # no axes named
    np.testing.assert_array_equal(read_labels(path, region), labels[1:3, 4:9])
    with pytest.raises(ImageError, match="z=0:3"):
        read_labels(path, Region(z=(2, 4)))
    write_labels(path, labels[0])
    with pytest.raises(ImageError, match="y=0:20"):
        read_labels(path, Region(y=(0, 21)))


def test_tiles_that_the_header_promises_and_the_file_lacks(tmp_path):
    """tifffile would fill them with zeros, one by one."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SMOOTH, tile=(16, 16), compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(20000)
    for region in (None, Region(x=(0, 10))):
        with pytest.raises(ImageError, match="it holds 12 of 3750 strips or tiles"):
            read_image(path, region=region)


def timed_planes(path, times, unit="s", *, channels=2, **more):
    """Write an OME-TIFF whose planes alone tell the time, the second channel 0.3 later."""
    data = np.zeros((len(times), channels, 8, 9), np.uint8)
    delta = [time + 0.3 * c for time in times for c in range(channels)]
    plane = {"DeltaT": delta, "DeltaTUnit": [unit] * len(delta)}
    metadata = {"axes": "TCYX", "Plane": plane, **more}
    tifffile.imwrite(path, data, ome=True, photometric="minisblack", metadata=metadata)


@pytest.mark.parametrize(
    ("times", "unit", "step"),
    [
        ([0.0, 10.0, 20.0, 30.0], "s", 10),
        ([0.4, 10.0, 20.4, 30.5], "s", 10.1),  # within 10 % of the median
        ([0.0, 500.0, 1000.0], "ms", 0.5),
        ([5.0, 7.0], "min", 120),
        ([0.0, 10.0, 20.0, 32.0], "s", 0),  # one is 20 % off
        ([0.0, 10.0, 15.0, 25.0], "s", 0),
        ([30.0, 20.0, 10.0], "s", 0),
        ([0.0, 0.0, 0.0], "s", 0),
        ([3.0], "s", 0),
        ([0.0, 10.0, 20.0], "pixel", 0),
        ([0.0, float("nan"), 20.0], "s", 0),
        ([0.0, float("inf"), 20.0], "s", 0),
    ],
)
def test_the_time_step_of_planes(tmp_path, times, unit, step):
    path = tmp_path / "a.ome.tif"
    timed_planes(path, times, unit)
    found = read_image(path).time_step, image_info(path).time_step
    assert found == pytest.approx((step, step))


def test_a_time_increment_wins_over_the_times_of_planes(tmp_path):
    path = tmp_path / "a.ome.tif"
    timed_planes(path, [0.0, 10.0, 20.0], TimeIncrement=7, TimeIncrementUnit="s")
    assert read_image(path).time_step == 7


def test_times_of_planes_that_are_no_numbers_are_none(tmp_path):
    path = tmp_path / "a.ome.tif"
    timed_planes(path, [10.0, 20.0, 30.0])
    with tifffile.TiffFile(path) as tiff:
        xml = tiff.ome_metadata
    assert xml.count('DeltaT="20.0"') == 1
    tifffile.tiffcomment(path, xml.replace('DeltaT="20.0"', 'DeltaT="soon"').encode())
    assert read_image(path).time_step == 0


@pytest.mark.parametrize("size", [1e305, 1e-320])
def test_a_length_that_no_float_holds_in_micrometres_is_none(tmp_path, size):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "TYX", "PhysicalSizeX": size, "PhysicalSizeXUnit": "m"}
    if size < 1:
        metadata["PhysicalSizeXUnit"] = "pm"
    metadata |= {"TimeIncrement": 1e305, "TimeIncrementUnit": "d"}
    tifffile.imwrite(path, np.zeros((2, 8, 9), np.uint8), ome=True, metadata=metadata)
    found = read_image(path)
    assert (found.spacing, found.unit, found.time_step) == ({}, "pixel", 0)
