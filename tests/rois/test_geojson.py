"""GeoJSON: exact to the pixel, and geometries that strict readers take."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from opsef_bridge.rois.geojson import to_geojson, write_geojson
from opsef_bridge.rois.objects import Objects

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
IMAGES = arrays(np.int32, SHAPES, elements=st.sampled_from([0, 0, 7, 7, 7, 300]))


def polygons_of(geometry: dict) -> list:
    if geometry["type"] == "Polygon":
        return [geometry["coordinates"]]
    assert geometry["type"] == "MultiPolygon" and len(geometry["coordinates"]) > 1
    return geometry["coordinates"]


def signed_area(ring: list) -> float:
    x, y = np.array(ring, float).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def inside(ring: list, shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre has an odd number of vertical edges to its left."""
    crossed = np.zeros((shape[0], shape[1] + 1), int)
    for (x, y), (x2, y2) in pairwise(ring):
        assert (x == x2) != (y == y2), "an edge along pixels"
        if x == x2:
            crossed[min(y, y2) : max(y, y2), x] += 1
    return np.cumsum(crossed, axis=1)[:, :-1] % 2 == 1


def connected_by_edges(mask: np.ndarray) -> bool:
    """Flood from one pixel."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    front = [left.pop()]
    while front:
        y, x = front.pop()
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if near in left:
                left.remove(near)
                front.append(near)
    return not left


def check_feature(feature: dict, mask: np.ndarray) -> None:
    """The geometry is `mask`; rings are simple, wound by RFC 7946, holes in their ring."""
    painted = np.zeros(mask.shape, int)
    for polygon in polygons_of(feature["geometry"]):
        for ring in polygon:
            assert ring[0] == ring[-1]
            assert len(set(map(tuple, ring))) == len(ring) - 1, "it touches itself"
            assert all(isinstance(value, int) for value in ring[0])
        assert [signed_area(ring) > 0 for ring in polygon] == [True] + [False] * (len(polygon) - 1)
        outer, *holes = (inside(ring, mask.shape) for ring in polygon)
        part = outer.copy()
        for hole in holes:
            assert (part[hole]).all(), "holes lie in their ring and not in one another"
            part &= ~hole
        assert sum(map(signed_area, polygon)) == part.sum()
        # Valid by OGC: the interior is connected, though holes may touch the ring at corners.
        assert connected_by_edges(part)
        painted += part
    np.testing.assert_array_equal(painted, mask)


@settings(max_examples=300, deadline=None)
@given(IMAGES)
def test_every_object_is_exact_and_valid(labels):
    objects = Objects(labels)
    features = to_geojson(objects)["features"]
    assert [feature["properties"]["label"] for feature in features] == objects.ids
    for feature in features:
        check_feature(feature, labels == feature["properties"]["label"])


@settings(max_examples=200, deadline=None)
@given(IMAGES)
def test_shapely_agrees(labels):
    for feature in to_geojson(Objects(labels))["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == np.count_nonzero(labels == feature["properties"]["label"])


DIAMOND = [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
CLOSED_AT_A_CORNER = [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 1, 0], [1, 1, 1, 0]]
TWO_HOLES_AT_A_CORNER = [[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]]
ISLAND = np.pad(np.pad([[1]], 1), 1, constant_values=1)


@pytest.mark.parametrize(
    ("picture", "rings"),
    [
        (DIAMOND, [1, 1, 1, 1]),
        (CLOSED_AT_A_CORNER, [2]),
        (TWO_HOLES_AT_A_CORNER, [3]),
        (ISLAND, [2, 1]),
        ([[1, 0, 1]], [1, 1]),
        ([[1]], [1]),
    ],
)
def test_hard_shapes(picture, rings):
    mask = np.array(picture, np.int32)
    (feature,) = to_geojson(Objects(mask * 12))["features"]
    check_feature(feature, mask > 0)
    assert [len(polygon) for polygon in polygons_of(feature["geometry"])] == rings


def test_labels_classes_and_names():
    objects = Objects(np.array([[12345, 0, 3], [0, 8, 0]]), {3: 2, 8: 12})
    collection = to_geojson(objects, class_names={2: "mitotic"}, image="i00001-a")
    assert collection["type"] == "FeatureCollection" and collection["image"] == "i00001-a"
    three, eight, large = (feature["properties"] for feature in collection["features"])
    assert three["objectType"] == "annotation"
    assert (three["name"], three["label"]) == ("0003", 3)
    assert three["classification"]["name"] == "mitotic"
    assert eight["classification"]["name"] == "Class_12"
    for properties in (three, eight):
        colour = properties["classification"]["color"]
        assert len(colour) == 3 and all(0 <= value <= 255 for value in colour)
    assert three["classification"]["color"] == [0, 255, 0]  # class 2 of AnnotatorJ is green
    assert large["name"] == "12345" and "classification" not in large


def test_a_volume_has_features_by_plane():
    volume = np.zeros((3, 2, 4), np.int32)
    volume[0, 0, 0] = volume[2, :, 1:3] = 5
    volume[1, 1, 3] = 2
    features = to_geojson(Objects(volume, {5: 1}))["features"]
    seen = [(f["properties"]["label"], f["geometry"]["plane"]) for f in features]
    assert seen == [(i, {"c": -1, "z": z, "t": 0}) for i, z in [(2, 1), (5, 0), (5, 2)]]
    for feature in features:
        z = feature["geometry"]["plane"]["z"]
        check_feature(feature, volume[z] == feature["properties"]["label"])
    assert "classification" in features[2]["properties"]
    flat = to_geojson(Objects(volume[0]))["features"][0]
    assert "plane" not in flat["geometry"]


def test_the_file_is_the_collection(tmp_path):
    objects = Objects(np.array([[4, 4], [0, 9]]), {9: 1})
    path = tmp_path / "new" / "a.geojson"
    write_geojson(path, objects, class_names={1: 'Größe "x"'}, image="i00001-a")
    expected = to_geojson(objects, class_names={1: 'Größe "x"'}, image="i00001-a")
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == expected
    assert len(text.splitlines()) == 2 + len(objects.ids)
    assert [file.name for file in path.parent.iterdir()] == ["a.geojson"]


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (0, 5)])
def test_no_objects_is_an_empty_collection(tmp_path, shape):
    path = tmp_path / "a.geojson"
    write_geojson(path, Objects(np.zeros(shape, np.int32)))
    assert json.loads(path.read_text()) == {"type": "FeatureCollection", "features": []}


def test_many_objects():
    labels = np.arange(1, 10_001, dtype=np.int32).reshape(100, 100).repeat(10, 0).repeat(10, 1)
    features = to_geojson(Objects(labels))["features"]
    assert [feature["properties"]["label"] for feature in features] == list(range(1, 10_001))
