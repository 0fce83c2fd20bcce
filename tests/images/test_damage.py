"""Damaged files of every format, as Hypothesis thinks them up: typed error or pixels."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opsef_bridge.errors import ImageError
from opsef_bridge.images import Region, image_info, read_image, series_names, write_hyperstack
from opsef_bridge.testing.readers import members, replaced
from tests.images.lif_files import Series, T, X, Y, write_lif

DATA = np.random.default_rng(0).integers(0, 255, (2, 10, 14)).astype(np.uint8)


def tiff(path):
    write_hyperstack(path, DATA, "TYX", time_step=1, labels=["a", "b"])


def ome(path):
    metadata = {"axes": "TYX", "PhysicalSizeX": 1}
    tifffile.imwrite(path, DATA, ome=True, tile=(16, 16), compression="zlib", metadata=metadata)


def picture(path):
    PIL.Image.fromarray(DATA[0]).save(path)


def lif(path):
    pytest.importorskip("readlif")
    write_lif(path, [Series("a", DATA, [(X, 14, 1e-6), (Y, 10, 1e-6), (T, 2, 1.0)])])


def ome_zarr(path):
    pytest.importorskip("zarr")
    from opsef_bridge.images import write_zarr

    write_zarr(path, DATA, "TYX", chunk=8)


FORMATS = {
    "a.tif": tiff,
    "a.ome.tif": ome,
    "a.png": picture,
    "a.jpg": picture,
    "a.lif": lif,
    "a.zarr": ome_zarr,
}


@pytest.fixture(scope="module", params=sorted(FORMATS))
def image(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / request.param
    FORMATS[request.param](path)
    return path


@st.composite
def damages(draw):
    """Return (which file, what to do with its bytes); places are fractions of the file."""
    place = st.one_of(st.floats(0, 1), st.floats(0, 0.1), st.floats(0.9, 1))
    kind = draw(st.sampled_from(["bit", "byte", "cut", "hole", "insert"]))
    return draw(place), kind, draw(place), draw(st.integers(0, 255))


def damage(content, kind, place, value):
    at = min(int(place * len(content)), len(content) - 1)
    if kind == "cut":
        return content[:at]
    if kind == "hole":
        return content[:at] + content[at + 1 + value :]
    if kind == "insert":
        return content[:at] + bytes([value]) * 3 + content[at:]
    new = content[at] ^ (1 << value % 8) if kind == "bit" else value
    return content[:at] + bytes([new]) + content[at + 1 :]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(one=damages())
def test_damage_is_a_typed_error_or_pixels(image, one):
    which, kind, place, value = one
    files = members(image)
    file = files[min(int(which * len(files)), len(files) - 1)]
    with replaced(file, damage(file.read_bytes(), kind, place, value)):
        for read in (
            read_image,
            image_info,
            series_names,
            lambda path: read_image(path, region=Region(t=1, y=(2, 9))),
        ):
            try:
                read(image)
            except ImageError as error:
                assert error.hint
                assert image.name in str(error) or "outside" in str(error)


def test_what_is_optional_is_not_loaded_before_it_is_needed():
    code = (
        "import sys, opsef_bridge.images; opsef_bridge.images.suffixes(); "
        "print({'zarr', 'readlif', 'bioio', 'dask'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_a_folder_that_lost_its_description_is_no_image(tmp_path):
    pytest.importorskip("zarr")
    path = tmp_path / "a.zarr"
    ome_zarr(path)
    shutil.rmtree(path / "0")
    with pytest.raises(ImageError):
        read_image(path)
