"""Files in: every kind passes the reader suite; axes, calibration and dtypes are exact."""

from functools import partial

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.errors import ImageError
from opsef_bridge.images import (
    Image,
    Reader,
    image_info,
    read_image,
    register_reader,
    suffixes,
    write_hyperstack,
)
from opsef_bridge.images.read import _READERS
from opsef_bridge.testing.readers import ReaderSuite

RANDOM = np.random.default_rng(0)
STACK = RANDOM.integers(0, 4000, (4, 20, 30)).astype(np.uint16)
COLOUR = RANDOM.integers(0, 255, (20, 30, 3)).astype(np.uint8)
MICRO = {"Y": 0.25, "X": 0.25}


def plain(path):
    tifffile.imwrite(path, STACK[0], metadata=None)
    return Image(STACK[0], "YX")


def named(path):
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata={"axes": "CYX"})
    return Image(STACK, "CYX")


def imagej(path):
    write_hyperstack(path, STACK, "ZYX", spacing=(0.5, 0.25, 0.25), labels=list("abcd"))
    return Image(STACK, "ZYX", {"Z": 0.5, **MICRO}, "um")


def ome(path):
    metadata = {
        "axes": "CYX",
        "PhysicalSizeX": 250,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.25,
        "Channel": {"Name": ["DAPI", "GFP", "Cy3", "Cy5"]},
    }
    tifffile.imwrite(path, STACK, ome=True, metadata=metadata)
    return Image(STACK, "CYX", MICRO, "um", ("DAPI", "GFP", "Cy3", "Cy5"))


def deflated(path):
    tifffile.imwrite(path, STACK[1], compression="zlib", tile=(16, 16), byteorder=">")
    return Image(STACK[1], "YX")


def colour_tiff(path):
    tifffile.imwrite(path, COLOUR, photometric="rgb")
    return Image(COLOUR, "YXS")


def png_16(path):
    PIL.Image.fromarray(STACK[0]).save(path)
    return Image(STACK[0], "YX")


def png_rgba(path):
    alpha = np.full((20, 30, 1), 9, np.uint8)
    PIL.Image.fromarray(np.concatenate([COLOUR, alpha], axis=-1)).save(path)
    return Image(COLOUR, "YXS")


CASES = {
    "plain.tif": plain,
    "named.tiff": named,
    "imagej.TIF": imagej,
    "ome.ome.tif": ome,
    "deflated.tif": deflated,
    "colour.tif": colour_tiff,
    "grey.png": png_16,
    "alpha.PNG": png_rgba,
}


class TestReaders(ReaderSuite):
    @pytest.fixture(params=sorted(CASES))
    def case(self, request, tmp_path):
        path = tmp_path / request.param
        return path, CASES[request.param](path)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["?", "u1", "i1", "u2", "i2", ">u2", "u4", "i4", "f4", "f8"]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=None,
    )
)
def test_pixels_keep_dtype_and_value(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("x") / "a.tif"
    tifffile.imwrite(path, data, photometric="minisblack")
    found = read_image(path).data
    assert found.dtype == data.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, data)


@pytest.mark.parametrize("dtype", ["uint64", "int64", "float16", "complex64"])
def test_other_dtypes_are_refused_by_name(tmp_path, dtype):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 5), dtype))
    for function in (read_image, image_info):
        with pytest.raises(ImageError, match=f"{dtype}.*float"):
            function(path)


def pages(path, data):
    with tifffile.TiffWriter(path) as tiff:
        for plane in data:
            tiff.write(plane, metadata=None, contiguous=False)


def test_axes_that_a_file_does_not_say_are_asked_for(tmp_path):
    path = tmp_path / "stack.tif"
    for write in (pages, partial(tifffile.imwrite, photometric="minisblack")):
        write(path, STACK)
        for function in (read_image, image_info):
            with pytest.raises(ImageError) as caught:
                function(path)
            for choice in ("stack.tif", "4 x 20 x 30", "axes='ZYX'", "'CYX'", "'TYX'"):
                assert choice in str(caught.value)
        for axes in ("ZYX", "CYX", "TYX"):
            image = read_image(path, axes=axes)
            assert image.axes == axes == image_info(path, axes=axes).axes
            np.testing.assert_array_equal(image.data, STACK)
    assert read_image(path, axes="YXC").data.shape == (30, 4, 20)  # in the order of the file


def test_the_callers_axes_win_over_the_file(tmp_path):
    path = tmp_path / "a.tif"
    write_hyperstack(path, STACK, "TYX")
    assert read_image(path).axes == "TYX"
    assert read_image(path, axes="ZYX").axes == "ZYX"


def test_assumed_axes_count_only_where_a_file_does_not_say(tmp_path):
    plain, named, colour = (tmp_path / name for name in ("plain.tif", "named.tif", "colour.tif"))
    pages(plain, STACK)
    write_hyperstack(named, STACK, "TYX")
    tifffile.imwrite(colour, STACK.astype(np.uint8)[:3].transpose(1, 2, 0), photometric="rgb")
    for path, axes in ((plain, "ZYX"), (named, "TYX"), (colour, "YXS")):
        assert read_image(path, axes="?ZYX").axes == axes
        assert image_info(path, axes="?ZYX").axes == axes
    with pytest.raises(ImageError, match="do not fit"):
        read_image(plain, axes="?TZYX")


def test_singletons_go_and_the_order_is_fixed(tmp_path):
    path = tmp_path / "a.tif"
    data = STACK.reshape(1, 2, 20, 30, 2, 1)
    tifffile.imwrite(path, data, photometric="minisblack", metadata={"axes": "TZYXCS"})
    image = read_image(path)
    assert image.axes == "ZCYX" and image.data.shape == (2, 2, 20, 30)
    np.testing.assert_array_equal(image.data, data[0, ..., 0].transpose(0, 3, 1, 2))


def test_images_one_pixel_high_or_wide(tmp_path):
    for shape in ((1, 7), (7, 1), (1, 1)):
        tifffile.imwrite(tmp_path / "a.tif", np.ones(shape, np.uint8))
        assert read_image(tmp_path / "a.tif").data.shape == shape


def test_series_are_counted_and_chosen(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(STACK[0], metadata={"axes": "YX"})
        tiff.write(COLOUR, photometric="rgb")
    assert image_info(path).series == 2
    np.testing.assert_array_equal(read_image(path, 1).data, COLOUR)


@pytest.mark.parametrize(
    ("unit", "resolution", "expected"),
    [
        ("CENTIMETER", 1e4 / 0.65, 0.65),
        ("INCH", 25400 / 0.65, 0.65),
        ("INCH", 72, None),
        ("INCH", 300, None),
        ("INCH", 1200, None),
        ("NONE", 4, None),
    ],
)
def test_resolution_counts_where_a_microscope_wrote_it(tmp_path, unit, resolution, expected):
    path = tmp_path / "a.tif"
    kwargs = {"resolution": (resolution, resolution), "resolutionunit": unit}
    tifffile.imwrite(path, STACK[0], metadata=None, **kwargs)
    image = read_image(path)
    assert image.unit == ("pixel" if expected is None else "um")
    assert image.spacing == pytest.approx({} if expected is None else dict.fromkeys("YX", expected))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("micron", 1), ("\\u00B5m", 1), ("nm", 1e-3), ("mm", 1e3), ("pixel", None), ("", None)],
)
def test_imagej_units_become_micrometres(tmp_path, unit, factor):
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "unit": unit, "spacing": 2.0}
    tifffile.imwrite(path, STACK, imagej=True, resolution=(4, 2), metadata=metadata)
    image = read_image(path)
    expected = {} if factor is None else {"Z": 2 * factor, "Y": 0.5 * factor, "X": 0.25 * factor}
    assert image.spacing == pytest.approx(expected)
    assert image.unit == ("um" if expected else "pixel")


def test_more_samples_than_colours_are_channels(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.moveaxis(STACK, 0, -1), photometric="minisblack", planarconfig=1)
    image = read_image(path)
    assert image.axes == "CYX"
    np.testing.assert_array_equal(image.data, STACK)


def test_alpha_of_a_colour_tiff_is_dropped(tmp_path):
    path = tmp_path / "a.tif"
    rgba = np.concatenate([COLOUR, COLOUR[..., :1]], axis=-1)
    tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(path).data, COLOUR)
    assert image_info(path).shape == (20, 30, 3)


def test_png_of_every_kind(tmp_path):
    import imagecodecs

    path = tmp_path / "a.png"
    wide = COLOUR.astype(np.uint16) * 257 - 3
    path.write_bytes(imagecodecs.png_encode(wide))
    np.testing.assert_array_equal(read_image(path).data, wide)
    mask = STACK[0] > 2000
    PIL.Image.fromarray(mask).save(path)
    np.testing.assert_array_equal(read_image(path).data, mask)
    assert image_info(path).dtype == "bool"
    grey_alpha = PIL.Image.fromarray(COLOUR[..., 0]).convert("LA")
    grey_alpha.save(path)
    np.testing.assert_array_equal(read_image(path).data, COLOUR[..., 0])
    assert image_info(path).shape == (20, 30)
    palette = PIL.Image.fromarray(COLOUR).quantize(16)
    palette.save(path)
    np.testing.assert_array_equal(read_image(path).data, np.asarray(palette.convert("RGB")))
    assert image_info(path).axes == "YXS"
    PIL.Image.fromarray(COLOUR[..., 0]).convert("P").save(path)  # a palette of greys
    np.testing.assert_array_equal(read_image(path).data, COLOUR[..., 0])


def test_an_animation_is_refused(tmp_path):
    frames = [PIL.Image.fromarray(plane.astype(np.uint8)) for plane in STACK]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="4 frames"):
        read_image(tmp_path / "a.png")


def test_a_file_without_a_suffix_lists_what_can_be_read(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "a")
    assert all(suffix in str(caught.value) for suffix in suffixes())


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "no.tif", tmp_path):
        with pytest.raises(ImageError, match="not a file"):
            read_image(path)


def test_a_truncated_stack_of_pages_is_no_shorter_stack(tmp_path):
    path = tmp_path / "a.tif"
    pages(path, STACK)
    whole = path.read_bytes()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(ImageError):
            read_image(path, axes="ZYX")


def test_a_header_that_claims_too_much_gets_no_memory(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0], compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tiff.pages[0].tags[tag].overwrite(60000)
    with pytest.raises(ImageError, match="claims 7200000000 bytes"):
        read_image(path)


def test_a_reader_can_be_added(tmp_path):
    image = Image(STACK[0], "YX")
    try:
        register_reader(Reader("raw", (".raw",), lambda path, series, axes: image, None))
        (tmp_path / "a.RAW").write_bytes(b"x")
        assert read_image(tmp_path / "a.RAW") == image and ".raw" in suffixes()
    finally:
        _READERS.pop(".raw")


def test_three_planes_that_tifffile_wrote_as_colours_are_asked_for(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[:3], photometric="rgb", planarconfig="separate")
    with pytest.raises(ImageError, match=r"'ZYX'.*'SYX' for colours"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, axes="ZYX").data, STACK[:3])
    assert read_image(path, axes="SYX").axes == "YXS"
