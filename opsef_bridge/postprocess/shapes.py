"""Change the shapes of objects: fill holes, open, part into pieces.

Each function takes int32 labels, YX or ZYX, and returns new ones in the same ids unless it
says otherwise. None loops over objects. Pixels of one object that touch at a corner belong
together; background is connected by sides only (so an outline of diagonal steps is closed).
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray
from scipy import sparse
from skimage.measure import label as label_components

from opsef_bridge.postprocess.loops import enclosing, number_by_place, surroundings, translated
from opsef_bridge.preprocess.disk import _extreme as disk_extreme

__all__ = ["fill_holes", "largest_pieces", "open_objects", "part_pieces"]

Labels = NDArray[np.int32]


def fill_holes(labels: Labels) -> Labels:
    """Give background that an object encloses to that object; where several do, the innermost.

    Enclosed is what has no way to the border of the image around the object, neither
    through background nor through other objects. Only background is given away. In a
    volume the border has six sides: a tube that is open above and below has no hole.

    Notes
    -----
    Background with one object around it is enclosed by that. For other background a graph is
    made of all regions that share sides; an object encloses what it parts from the outside
    there. So the time grows with the pixels, however the objects are nested.

    Examples
    --------
    >>> fill_holes(np.array([[7, 7, 7, 0], [7, 0, 7, 0], [7, 7, 7, 4]], np.int32))
    array([[7, 7, 7, 0],
           [7, 7, 7, 0],
           [7, 7, 7, 4]], dtype=int32)
    """
    regions, count = scipy.ndimage.label(labels == 0)
    flat = labels.ndim == 2
    solid = (regions[None], labels[None]) if flat else (regions, labels)
    low, high = surroundings(*solid, count, flat)
    given = np.where(low == high, low, 0)
    several = np.flatnonzero((low > 0) & (low < high))
    if several.size:
        given[several] = _around(regions, labels, count)[several]
    return labels + translated(regions.ravel(), given).reshape(labels.shape)


def open_objects(labels: Labels, radius: int) -> Labels:
    """Open each object by ImageJ's disk, in a volume plane by plane.

    Kept are the pixels that a disk covers which lies in the object as a whole: whiskers,
    spurs and bridges narrower than ``2 radius + 1`` pixels go. An object never grows, so
    none merge. The part of a disk beyond the border of the image does not count. What falls
    apart keeps its id.

    Examples
    --------
    >>> open_objects(np.array([[3, 3, 3, 0, 5], [3, 3, 3, 3, 5], [3, 3, 3, 5, 5]], np.int32), 1)
    array([[3, 3, 3, 0, 0],
           [3, 3, 3, 0, 0],
           [3, 3, 3, 0, 0]], dtype=int32)
    """
    if labels.ndim == 3:
        return np.stack([open_objects(plane, radius) for plane in labels])
    low, high = disk_extreme(labels, radius, np.minimum), disk_extreme(labels, radius, np.maximum)
    # A disk of one value lies in one object, so its pixels see no centre of another one.
    return disk_extreme(np.where(low == high, low, 0), radius, np.maximum)


def part_pieces(labels: Labels) -> Labels:
    """Make every piece an object, numbered from 1 in the order of the ids, then of place.

    Examples
    --------
    >>> part_pieces(np.array([[7, 0, 4, 0, 7]], np.int32))
    array([[2, 0, 1, 0, 3]], dtype=int32)
    """
    pieces, owners = _components(labels)
    number = np.zeros(len(owners) + 1, np.int32)
    number[np.argsort(owners, kind="stable") + 1] = np.arange(1, len(owners) + 1)
    return translated(pieces.ravel(), number).reshape(labels.shape)


def largest_pieces(labels: Labels) -> Labels:
    """Keep the largest piece of each object; of several the first.

    Examples
    --------
    >>> largest_pieces(np.array([[7, 0, 4, 0, 7, 7]], np.int32))
    array([[0, 0, 4, 0, 7, 7]], dtype=int32)
    """
    pieces, owners = _components(labels)
    areas = np.bincount(pieces.ravel(), minlength=len(owners) + 1)[1:]
    order = np.lexsort((-areas, owners))  # stable: of equal ones the first comes first
    first = np.diff(owners[order], prepend=0) > 0
    kept = np.zeros(len(owners) + 1, np.int32)
    kept[order[first] + 1] = owners[order[first]]
    return translated(pieces.ravel(), kept).reshape(labels.shape)


def _around(regions: Labels, labels: Labels, count: int) -> Labels:
    """Innermost object around each region of background, by its number; 0 for none."""
    objects, owners = _components(labels)
    nodes = regions + np.where(objects, objects + np.int32(count), 0)
    graph = _touching(nodes, count + len(owners))
    is_object = np.arange(graph.shape[0]) > count
    around = enclosing(graph.indptr, graph.indices, is_object)[: count + 1]
    return np.concatenate([np.zeros(count + 1, np.int32), owners])[around]


def _components(labels: Labels) -> tuple[Labels, Labels]:
    """Pieces of objects, numbered from 1 in the order of place, and the id of each."""
    pieces, count = label_components(labels, connectivity=labels.ndim, return_num=True)
    flat = np.ascontiguousarray(pieces, np.int32).reshape(-1)
    owners = number_by_place(flat, np.ascontiguousarray(labels).reshape(-1), count)
    return flat.reshape(labels.shape), owners


def _border(nodes: Labels) -> Labels:
    """Every value on the border."""
    sides = [nodes.take((0, -1), axis=axis).ravel() for axis in range(nodes.ndim)]
    return np.unique(np.concatenate(sides))


def _touching(nodes: Labels, count: int) -> sparse.csr_array:
    """Which of the nodes 1 to `count` share a side; those at the border do with node 0."""
    border = _border(nodes)
    one, two = [np.zeros_like(border)], [border]
    for axis in range(nodes.ndim):
        along = np.moveaxis(nodes, axis, 0)
        differ = along[1:] != along[:-1]
        i, j = along[1:][differ], along[:-1][differ]
        # Two regions share long lines: one pair is enough.
        new = np.append(True, (i[1:] != i[:-1]) | (j[1:] != j[:-1]))[: i.size]
        one.append(i[new])
        two.append(j[new])
    i, j = np.concatenate(one + two), np.concatenate(two + one)
    pairs = sparse.coo_array((np.ones(i.size, bool), (i, j)), shape=(count + 1, count + 1))
    return pairs.tocsr()
