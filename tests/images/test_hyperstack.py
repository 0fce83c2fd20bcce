"""Hyperstacks and label files out: read back identical, by tifffile and by us."""

import tracemalloc
from itertools import permutations

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.errors import InputError
from opsef_bridge.images import label_lut, read_image, write_hyperstack, write_planes

DATA = np.random.default_rng(0).integers(0, 9999, (2, 3, 4, 11, 13)).astype(np.uint16)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["TZCYX", "YX", "CYX", "XYC", "YXZT", "ZTCXY", "TYX"]),
    st.sampled_from(["u1", "u2", ">u2", "f4", ">f4"]),
    st.data(),
)
def test_what_is_written_is_read(tmp_path_factory, axes, dtype, data):
    shape = data.draw(hnp.array_shapes(min_dims=len(axes), max_dims=len(axes), max_side=4))
    array = data.draw(hnp.arrays(dtype, shape, unique=False))
    path = tmp_path_factory.mktemp("x") / "a.tif"
    write_hyperstack(path, array, axes)
    expected = np.einsum(f"{axes}->{''.join(sorted(axes, key='TZCYX'.index))}", array)
    found = read_image(path)
    np.testing.assert_array_equal(found.data.ravel(), expected.ravel())
    assert found.data.dtype == array.dtype.newbyteorder("=")
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_imagej


def test_labels_ranges_luts_calibration_and_info(tmp_path):
    path = tmp_path / "a.tif"
    labels = [f"#{i} v{i:04d} µ" for i in range(24)]
    luts = [label_lut()] * 4
    write_hyperstack(
        path,
        DATA,
        "TZCYX",
        {"Z": 1.5, "Y": 0.2, "X": 0.1},
        labels,
        [(0, 10 * i + 1) for i in range(4)],
        "id,score\nv0001,0.9\n",
        luts=luts,
    )
    with tifffile.TiffFile(path) as tiff:
        found = tiff.imagej_metadata
        assert tiff.series[0].axes == "TZCYX"
    assert found["Labels"] == labels
    assert found["Ranges"] == (0, 1, 0, 11, 0, 21, 0, 31)
    assert found["Info"] == "id,score\nv0001,0.9\n"
    assert (found["mode"], found["unit"], found["spacing"]) == ("composite", "um", 1.5)
    np.testing.assert_array_equal(found["LUTs"], luts)
    assert read_image(path).spacing == {"Z": 1.5, "Y": 0.2, "X": 0.1}


def test_every_order_of_axes_gives_the_same_bytes(tmp_path):
    write_hyperstack(tmp_path / "a.tif", DATA, "TZCYX")
    expected = (tmp_path / "a.tif").read_bytes()
    for order in list(permutations(range(5)))[::17]:
        axes = "".join("TZCYX"[i] for i in order)
        write_hyperstack(tmp_path / "b.tif", DATA.transpose(order), axes)
        assert (tmp_path / "b.tif").read_bytes() == expected


def test_planes_stream(tmp_path):
    """A stack of 60 planes is never in memory: at most three planes are."""
    path = tmp_path / "a.tif"
    planes = (np.full((512, 512), i, np.uint16) for i in range(60))
    tracemalloc.start()
    write_planes(path, planes, (10, 1, 6, 512, 512), np.uint16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 512 * 512 * 2 + 50_000  # and the directories of the file
    found = read_image(path)
    assert found.axes == "TCYX"
    np.testing.assert_array_equal(found.data[:, :, 0, 0].ravel(), np.arange(60))


def test_three_columns_are_no_colours(tmp_path):
    path = tmp_path / "a.tif"
    write_hyperstack(path, np.ones((2, 5, 3), np.uint8), "CYX")
    assert read_image(path).axes == "CYX"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": DATA.astype(np.int32)}, ["int32", "write_labels"]),
        ({"data": DATA > 3}, ["bool"]),
        ({"axes": "TZCY"}, ["TZCY"]),
        ({"axes": "TZSYX"}, ["TZSYX"]),
        ({"axes": "TTCYX"}, ["TTCYX"]),
        ({"labels": ["a"]}, ["1 slice labels", "24 planes"]),
        ({"ranges": [(0, 1)]}, ["1 display ranges", "4 channels"]),
        ({"luts": [np.zeros((256, 3), np.uint8)] * 4}, ["(256, 3)", "(3, 256)"]),
        ({"spacing": {"X": 0}}, ["X", "0"]),
        ({"spacing": (1, 2)}, ["2 values", "3"]),
        ({"spacing": {"X": 1}, "unit": "µm"}, ["µm", "um"]),
        ({"data": np.zeros((0, 1, 1, 4, 4), np.uint8)}, ["0"]),
        ({"data": np.zeros((8, 4, 4), np.uint8), "axes": "CYX", "mode": "composite"}, ["7", "8"]),
    ],
)
def test_what_imagej_cannot_hold_is_refused_and_nothing_stays(tmp_path, change, words):
    arguments = {"data": DATA, "axes": "TZCYX", **change}
    with pytest.raises(InputError) as caught:
        write_hyperstack(tmp_path / "a.tif", **arguments)
    assert all(word in str(caught.value) for word in words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "planes",
    [
        [np.zeros((4, 5), np.uint8)] * 3,
        [np.zeros((4, 5), np.uint8)] * 5,
        [np.zeros((4, 5), np.uint16)] * 4,
        [np.zeros((5, 4), np.uint8)] * 4,
    ],
    ids=["few", "many", "dtype", "shape"],
)
def test_planes_unlike_the_promise_leave_the_old_file(tmp_path, planes):
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")
    with pytest.raises(InputError):
        write_planes(path, iter(planes), (2, 1, 2, 4, 5), np.uint8)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("wrong", [{"time_step": -1.0}, {"time_step": np.nan}, {"channels": ["a"]}])
def test_time_steps_and_channel_names_that_do_not_fit(tmp_path, wrong):
    with pytest.raises(InputError):
        write_hyperstack(tmp_path / "a.tif", np.zeros((2, 3, 4), np.uint8), "CYX", **wrong)
    assert not list(tmp_path.iterdir())
