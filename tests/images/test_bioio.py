"""Other formats by bioio: the real one, with its plug-in for TIFF and LSM."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tifffile

from opsef_bridge.errors import ImageError
from opsef_bridge.images import Region, image_info, is_image, read_image, series_names, suffixes
from opsef_bridge.images.by_bioio import PLUGINS, bioio_suffixes
from opsef_bridge.testing.readers import assert_same, regions_of

STACK = np.random.default_rng(0).integers(0, 60000, (3, 2, 4, 20, 33)).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".czi", ".vsi"])
def test_what_to_install_is_said(tmp_path, suffix):
    if suffix in suffixes():
        pytest.skip(f"{PLUGINS[suffix]} is installed")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x")
    assert not is_image(path)
    for function in (read_image, image_info, series_names):
        with pytest.raises(ImageError, match=f"pip install bioio {PLUGINS[suffix]}"):
            function(path)


def test_without_bioio_it_is_said_too(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioio", None)  # as if it were not installed
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    path = tmp_path / "a.lsm"
    path.write_bytes(b"x")
    assert bioio_suffixes() == ()
    with pytest.raises(ImageError, match="pip install bioio bioio-tifffile"):
        read_image(path)
    with pytest.raises(ImageError, match=r"\.foo.*Bring one of .*\.tif"):
        (tmp_path / "a.foo").write_bytes(b"x")
        read_image(tmp_path / "a.foo")


@pytest.fixture
def path(tmp_path):
    """A file of a suffix that only bioio's plug-in reads (its pixels are a TIFF's)."""
    pytest.importorskip("bioio")
    pytest.importorskip("bioio_tifffile")
    path = tmp_path / "a.lsm"
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata={"axes": "TCZYX"})
    return path


@pytest.mark.filterwarnings("ignore:Could not parse tiff pixel size")
def test_axes_pixels_and_parts(path):
    assert is_image(path) and ".lsm" in suffixes()
    image, info = read_image(path), image_info(path)
    assert (image.axes, image.channels, image.unit) == ("TZCYX", (), "pixel")
    np.testing.assert_array_equal(image.data, STACK.transpose(0, 2, 1, 3, 4))
    assert (info.axes, info.shape, info.dtype) == ("TZCYX", image.data.shape, "uint16")
    assert series_names(path) == [""] * info.series
    for region in regions_of(image):
        assert_same(read_image(path, region=region), region.cut(image))
    with pytest.raises(ImageError, match="no series 4"):
        read_image(path, 4)
    with pytest.raises(ImageError, match="t=0:3"):
        read_image(path, region=Region(t=3))


@pytest.mark.filterwarnings("ignore:Could not parse tiff pixel size")
def test_damage_is_an_image_error(path):
    whole = path.read_bytes()
    for end in (4, 100, 2000):
        path.write_bytes(whole[:end])
        with pytest.raises(ImageError):
            read_image(path)


@pytest.mark.filterwarnings("ignore:Could not parse tiff pixel size")
def test_a_kind_that_no_plug_in_knows(path):
    other = path.with_suffix(".foo")
    other.write_bytes(b"x")
    with pytest.raises(ImageError, match=r"\(\.foo\).*plug-in of bioio"):
        read_image(other)
