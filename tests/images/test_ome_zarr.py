"""OME-Zarr in both versions, collections and plates; written and read piece by piece."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from opsef_bridge.errors import ImageError, InputError
from opsef_bridge.images import (
    Image,
    Region,
    identity,
    image_info,
    is_image,
    read_image,
    read_labels,
    series_names,
    stamp,
    suffixes,
    write_zarr,
)
from opsef_bridge.testing.readers import ReaderSuite

zarr = pytest.importorskip("zarr")

RANDOM = np.random.default_rng(0)
STACK = RANDOM.integers(0, 60000, (2, 2, 3, 12, 20)).astype(np.uint16)
MICRO = {"Z": 2.0, "Y": 0.25, "X": 0.5}


def scales(axes, path="0", **more):
    """Return the metadata of one image in version 0.4."""
    units = {"z": "nanometer", "y": "nanometer", "x": "micrometer", "t": "millisecond"}
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    for axis in described:
        axis |= {"unit": units[axis["name"]]} if axis["name"] in units else {}
    factors = {"t": 1500.0, "c": 1.0, "z": 1000.0, "y": 125.0, "x": 0.25}
    return {
        "version": "0.4",
        "axes": described,
        "datasets": [
            {
                "path": path,
                "coordinateTransformations": [
                    {"type": "scale", "scale": [factors[a] for a in axes]},
                    {"type": "translation", "translation": [5.0 for _ in axes]},
                ],
            },
            {"path": "1", "coordinateTransformations": []},
        ],
        # Of all levels: here twice the size in space.
        "coordinateTransformations": [
            {"type": "scale", "scale": [2.0 if a in "zyx" else 1.0 for a in axes]}
        ],
        **more,
    }


def version_4(path):
    """The axes TCZYX of a file become TZCYX."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    array = group.create_array("0", shape=STACK.shape, dtype=">u2", chunks=(1, 2, 2, 8, 16))
    array[...] = STACK
    names = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    group.attrs.update({"multiscales": [scales("tczyx")], "omero": names})
    data = STACK.transpose(0, 2, 1, 3, 4)
    return Image(data, "TZCYX", MICRO, "um", ("DAPI", "GFP"), 1.5)


def version_5(path):
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    data = STACK[0, :, 0]
    group.create_array("full", data=data, chunks=(1, 6, 10), shards=(1, 12, 20))
    group.attrs["ome"] = {"version": "0.5", "multiscales": [scales("cyx", "full")]}
    return Image(data, "CYX", {"Y": 0.25, "X": 0.5}, "um")


def written(path):
    more = {"channels": ["DAPI", "GFP"], "time_step": 1.5, "chunk": 16}
    write_zarr(path, STACK, "TCZYX", (2.0, 0.25, 0.5), **more)
    return Image(STACK.transpose(0, 2, 1, 3, 4), "TZCYX", MICRO, "um", ("DAPI", "GFP"), 1.5)


CASES = {"four.ome.zarr": version_4, "five.zarr": version_5, "written.zarr": written}


class TestOmeZarr(ReaderSuite):
    cuts, flips = 8, 30

    @pytest.fixture(params=sorted(CASES))
    def case(self, request, tmp_path):
        path = tmp_path / request.param
        return path, CASES[request.param](path)


def test_images_of_a_collection_are_series(tmp_path):
    path = tmp_path / "a.zarr"
    root = zarr.open_group(str(path), mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    for i in range(2):
        group = root.create_group(str(i))
        group.create_array("0", data=STACK[i, 0])
        group.attrs["multiscales"] = [scales("zyx", name=f"scan {i}")]
    assert series_names(path) == ["scan 0", "scan 1"]
    assert image_info(path, 1).series == 2
    np.testing.assert_array_equal(read_image(path, 1).data, STACK[1, 0])
    order = root.create_group("OME")
    order.attrs["series"] = ["1", "0"]
    np.testing.assert_array_equal(read_image(path, 0).data, STACK[1, 0])


def test_fields_of_a_plate_are_series(tmp_path):
    path = tmp_path / "a.zarr"
    root = zarr.open_group(str(path), mode="w", zarr_format=3)
    wells = [{"path": "A/1"}, {"path": "B/2"}]
    root.attrs["ome"] = {"version": "0.5", "plate": {"wells": wells}}
    for w, well in enumerate(wells):
        group = root.create_group(well["path"])
        group.attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}, {"path": "1"}]}}
        for field in range(2):
            image = group.create_group(str(field))
            image.create_array("0", data=STACK[w, field])
            image.attrs["ome"] = {"version": "0.5", "multiscales": [scales("zyx")]}
    assert series_names(path) == ["A/1/0", "A/1/1", "B/2/0", "B/2/1"]
    np.testing.assert_array_equal(read_image(path, 2).data, STACK[1, 0])


def test_a_bare_array_asks_for_its_axes(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), data=STACK[0, 0], zarr_format=2)
    with pytest.raises(ImageError, match="axes='ZYX'"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, axes="ZYX").data, STACK[0, 0])
    shutil.rmtree(path)
    zarr.create_array(str(path), data=STACK[0, 0], dimension_names=["z", "y", "x"])
    assert read_image(path).axes == "ZYX"


def test_only_chunks_of_the_part_are_read(tmp_path):
    path = tmp_path / "a.zarr"
    write_zarr(path, STACK, "TCZYX", chunk=8)
    for file in (path / "0").rglob("*"):
        if file.is_file() and file.parent.name != "1" and not file.name.startswith("."):
            file.write_bytes(b"broken")
    # The chunks 0.0.0.1.x are whole: rows 8 to 12 of the first plane.
    part = read_image(path, region=Region(t=0, c=(0,), z=(0, 1), y=(8, 12)))
    np.testing.assert_array_equal(part.data, STACK[0, 0, 0, 8:12])
    with pytest.raises(ImageError):
        read_image(path, region=Region(t=0, c=(0,), z=(0, 1), y=(7, 12)))


def test_blocks_come_in_any_order_and_the_rest_is_background(tmp_path):
    path = tmp_path / "a.zarr"
    labels = RANDOM.integers(0, 2**30, (5, 40, 50)).astype(np.int32)
    labels[:, 30:, :20] = 0
    boxes = [(z, y, x) for z in (3, 0) for y in (20, 0) for x in (30, 0)]

    def blocks():
        for z, y, x in boxes:
            block = labels[z : z + (3 if z == 0 else 2), y : y + 20, x : x + 30]
            if (y, x) == (20, 0):
                yield (z, y, 20), labels[z : z + block.shape[0], y : y + 20, 20:30]
                yield (z, y, x), labels[z : z + block.shape[0], y:30, :20]
            else:
                yield (z, y, x), block

    write_zarr(path, blocks(), "ZYX", 0.5, shape=labels.shape, dtype=np.int32, chunk=16)
    np.testing.assert_array_equal(read_labels(path), labels)
    assert read_labels(path).dtype == np.int32
    region = Region(z=(2, 3), y=(5, 33), x=(11, 12))
    np.testing.assert_array_equal(read_labels(path, region), labels[2, 5:33, 11:12])
    assert image_info(path).spacing == dict.fromkeys("ZYX", 0.5)


def test_what_is_there_is_replaced_when_all_is_written(tmp_path):
    path = tmp_path / "a.zarr"
    write_zarr(path, STACK[0, 0], "ZYX")

    def broken():
        yield (0, 0, 0), STACK[0, 0, :1]
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        write_zarr(path, broken(), "ZYX", shape=(3, 12, 20), dtype="uint16")
    np.testing.assert_array_equal(read_image(path).data, STACK[0, 0])
    write_zarr(path, STACK[1, 0], "ZYX")
    np.testing.assert_array_equal(read_image(path).data, STACK[1, 0])
    assert [one.name for one in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize(
    ("axes", "more"),
    [
        ("YXZ", {}),
        ("ZY", {}),
        ("CZYX", {}),
        ("SYX", {}),
        ("ZYX", {"channels": ["a", "b"]}),
        ("ZYX", {"unit": "pixel", "spacing": (1, 2)}),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(tmp_path, axes, more):
    with pytest.raises(InputError):
        write_zarr(tmp_path / "a.zarr", STACK[0, 0], axes, **more)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("start", "block"),
    [
        ((0, 0), np.zeros((4, 7), "u1")),
        ((-1, 0), np.zeros((1, 1), "u1")),
        ((0,), np.zeros((1, 1), "u1")),
        ((0, 0), np.zeros(3, "u1")),
        ((0, 0), np.zeros((1, 1), "f4")),
    ],
    ids=str,
)
def test_blocks_that_do_not_fit_are_refused(tmp_path, start, block):
    with pytest.raises(InputError):
        write_zarr(tmp_path / "a.zarr", [(start, block)], "YX", shape=(4, 6), dtype="u1")
    with pytest.raises(InputError, match="dtype"):
        write_zarr(tmp_path / "a.zarr", [(start, block)], "YX", shape=(4, 6))
    assert not list(tmp_path.iterdir())


def test_nothing_else_is_overwritten(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.txt").write_text("do not lose me")
    with pytest.raises(InputError, match="cannot become"):
        write_zarr(tmp_path / "a.zarr", STACK[0, 0], "ZYX")
    with pytest.raises(InputError, match="cannot become"):
        write_zarr(tmp_path / "a.tif", STACK[0, 0], "ZYX")
    assert (tmp_path / "a.zarr" / "thesis.txt").is_file()


def test_claims_of_too_much_get_no_memory(tmp_path):
    path = tmp_path / "a.zarr"
    write_zarr(path, STACK[0, 0], "ZYX")
    header = path / "0" / ".zarray"
    for change in ({"shape": [3, 2**20, 2**20]}, {"chunks": [1, 2**17, 2**17]}):
        header.write_text(json.dumps(json.loads(header.read_text()) | change))
        with pytest.raises(ImageError, match=r"claims|too large"):
            read_image(path)


def test_identity_is_of_names_and_contents(tmp_path):
    path = tmp_path / "a.zarr"
    write_zarr(path, STACK[0, 0], "ZYX")
    digest, size, mtime = identity(path)
    assert (size, mtime) == stamp(path) and len(digest) == 64
    assert size == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    copy = tmp_path / "elsewhere.zarr"
    shutil.copytree(path, copy)
    assert identity(copy)[:2] == (digest, size)
    chunk = copy / "0" / "0" / "0" / "0"
    chunk.rename(chunk.with_name("7"))
    assert identity(copy)[0] != digest and identity(copy)[1] == size
    file = tmp_path / "a.txt"
    file.write_bytes(b"abc")
    assert identity(file)[0].startswith("ba7816bf") and identity(file)[1:] == stamp(file)
    with pytest.raises(OSError):
        stamp(tmp_path / "no")


def test_a_folder_is_an_image_a_file_of_that_name_is_none(tmp_path):
    assert ".zarr" in suffixes()
    write_zarr(tmp_path / "a.zarr", STACK[0, 0], "ZYX")
    (tmp_path / "b.zarr").write_bytes(b"x")
    (tmp_path / "c.tif").mkdir()
    assert [is_image(tmp_path / name) for name in ("a.zarr", "b.zarr", "c.tif", "no.zarr")] == [
        True,
        False,
        False,
        False,
    ]
