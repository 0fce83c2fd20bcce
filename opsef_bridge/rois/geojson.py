"""Objects as GeoJSON (RFC 7946): polygons along pixel edges, as QuPath reads them.

Coordinates are those of ImageJ and QuPath: pixels, x to the right and y down from the top
left corner of the image, so pixel (x, y) covers x..x+1 and y..y+1. Nothing is smoothed: the
area of a geometry is the number of pixels of its object.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.files import write_text
from opsef_bridge.measure.trace import trace_loops
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.palette import colour_of

__all__ = ["to_geojson", "trace_polygons", "write_geojson"]

Rings = list[list[list[int]]]
"""A polygon: the outer ring, then its holes; the first corner of a ring is repeated."""


def to_geojson(
    objects: Objects,
    *,
    class_names: Mapping[int, str] | None = None,
    image: str = "",
    members: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return objects as a GeoJSON FeatureCollection, exact to the pixel.

    Each object is one feature: a Polygon, or a MultiPolygon where it has several parts.
    Parts that touch at a corner only are parts of their own, and no ring touches itself, so
    that the geometries are valid by the rules of OGC (those of JTS in QuPath, and shapely).
    By their numbers outer rings run counter-clockwise and holes clockwise, as RFC 7946
    wants it; on the screen, where y points down, it looks the other way round.

    Of a volume an object has one feature per plane that it reaches. As QuPath writes it,
    the geometry then has a member ``plane`` with ``z``, counted from 0.

    Parameters
    ----------
    objects : Objects
        Labels (Y, X) or (Z, Y, X), and classes.
    class_names : mapping of int to str, optional
        Names of classes; those without one are called ``Class_01`` and so on.
    image : str
        Id of the image, kept as a member of the collection that readers pass over.
    members : mapping, optional
        Other members of that kind, such as the pixel size: GeoJSON itself has no place for it.

    Returns
    -------
    dict
        JSON values only. Properties of a feature: ``objectType`` (annotation), ``name``
        (the label with at least four digits, which QuPath keeps), ``label`` (as a number)
        and, of classified objects, ``classification`` with ``name`` and ``color``.

    See Also
    --------
    opsef_bridge.measure.trace.trace_rois : the same for ImageJ.

    Examples
    --------
    >>> collection = to_geojson(Objects(np.array([[0, 7, 7], [0, 0, 0]]), {7: 1}))
    >>> feature = collection["features"][0]
    >>> feature["geometry"]
    {'type': 'Polygon', 'coordinates': [[[1, 0], [3, 0], [3, 1], [1, 1], [1, 0]]]}
    >>> feature["properties"]["name"], feature["properties"]["classification"]["name"]
    ('0007', 'Class_01')
    """
    labels = objects.labels
    flat = labels.ndim == 2
    found = [
        (label, z, polygons)
        for z, plane in enumerate(labels[np.newaxis] if flat else labels)
        for label, polygons in trace_polygons(plane).items()
    ]
    found.sort(key=lambda one: one[:2])
    features = []
    for label, z, polygons in found:
        geometry = _geometry(polygons)
        if not flat:
            geometry["plane"] = {"c": -1, "z": z, "t": 0}
        properties = _properties(label, objects.classes.get(label, 0), class_names or {})
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    named = ({"image": image} if image else {}) | dict(members or {})
    return {"type": "FeatureCollection", **named, "features": features}


def write_geojson(
    path: str | os.PathLike[str],
    objects: Objects,
    *,
    class_names: Mapping[int, str] | None = None,
    image: str = "",
    members: Mapping[str, Any] | None = None,
) -> None:
    """Write objects to a GeoJSON file, one feature per line; see `to_geojson`.

    Without objects the file holds an empty collection. It is put in place by a rename.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "cells.geojson"
    >>> write_geojson(path, Objects(np.array([[0, 7], [0, 0]])), image="i00001-cells")
    >>> json.loads(path.read_text())["image"]
    'i00001-cells'
    """
    collection = to_geojson(objects, class_names=class_names, image=image, members=members)
    features = collection.pop("features")
    head = json.dumps(collection, ensure_ascii=False)[:-1]
    lines = ",\n".join(
        json.dumps(feature, ensure_ascii=False, separators=(",", ":")) for feature in features
    )
    write_text(path, f'{head}, "features": [\n{lines}\n]}}\n')


def _properties(label: int, number: int, class_names: Mapping[int, str]) -> dict[str, Any]:
    """Return the properties of a feature; class 0 is none."""
    properties: dict[str, Any] = {
        "objectType": "annotation",
        "name": f"{label:04d}",
        "label": label,
    }
    if number:
        properties["classification"] = {
            "name": class_names.get(number) or f"Class_{number:02d}",
            "color": [int(value) for value in colour_of(number)],
        }
    return properties


def _geometry(polygons: list[Rings]) -> dict[str, Any]:
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def trace_polygons(labels: NDArray[np.int32]) -> dict[int, list[Rings]]:
    """Return the polygons of each object of a (Y, X) label image, by ascending label.

    Examples
    --------
    >>> ring = np.array([[5, 5, 5], [5, 0, 5], [5, 5, 5]])
    >>> [[len(ring) for ring in polygon] for polygon in trace_polygons(ring)[5]]
    [[5, 5]]
    """
    # Imported here: scikit-image takes a while, and most commands trace no polygons.
    from skimage.measure import label as connected

    # `trace_loops` passes a corner that two diagonal pixels share on the side of the
    # background. A loop comes to a corner twice only where nothing but that corner joins two
    # pieces. A part whose pixels hang together by edges has no such corner: its loops are
    # simple, the first is its outer ring and all others are its holes.
    parts = connected(labels, background=0, connectivity=1)
    vertices, starts, owners = trace_loops(parts)
    x, y = vertices[starts[:-1]].T
    values = labels[y, x].tolist()  # a loop begins at the top left of a pixel of its object
    corners, bounds = vertices.tolist(), starts.tolist()
    outer = np.diff(owners, prepend=0).tolist()
    polygons: dict[int, list[Rings]] = {}
    for loop, value in enumerate(values):
        ring = corners[bounds[loop] : bounds[loop + 1]]
        ring.append(ring[0].copy())
        if outer[loop]:
            polygons.setdefault(value, []).append([ring])
        else:
            polygons[value][-1].append(ring)
    return dict(sorted(polygons.items()))
