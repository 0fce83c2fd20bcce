"""Polyhedra of volumes: suppressed and painted by the compiled code of ``stardist``.

That code takes Ctrl-C for itself: it ends in the middle, and what it has made so far looks like
all there is; and once it has painted, Python hears no Ctrl-C any more, and the next volume is
cut short (stardist 0.9.2, ``my_signal_handler`` in ``stardist3d_impl.cpp``). So it runs in worker
processes only, whose threads all keep Ctrl-C out: in this one, or in one that is started for a
volume.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from opsef_bridge.workers import Progress, Worker, inside
from opsef_bridge.workers.shared_arrays import SharedArrays, read_place, write_place

__all__ = ["paint", "paint_polyhedra"]


def paint_polyhedra(
    points: np.ndarray, prob: np.ndarray, dist: np.ndarray, shape: tuple[int, ...], **geometry: Any
) -> np.ndarray:
    """Suppress candidates of a volume and fill the others, the most probable on top.

    Parameters
    ----------
    points : (N, 3) ndarray of int
        Middles of candidates in ZYX, in voxels of the volume that the network saw.
    prob : (N,) ndarray of float32
    dist : (N, rays) ndarray of float32
        Distances to the surface along the rays of ``Rays_GoldenSpiral``, in its voxels.
    shape : tuple of int
        Of the labels (Z, Y, X).
    **geometry
        ``overlap``, above which the less probable of two candidates goes (``nms_thresh``);
        ``anisotropy`` of the rays; ``scale`` by which the network's volume was made larger; the
        last two are lists in ZYX.

    Returns
    -------
    (Z, Y, X) ndarray of int32

    Raises
    ------
    WorkerError
        The process that was started for it died.
    KeyboardInterrupt
        Outside of a worker, after that process was ended.
    """
    if inside.serving:
        return _painted(points, prob, dist, shape, **geometry)
    with SharedArrays() as arrays, Worker() as worker:
        given = {"points": points, "prob": prob, "dist": dist}
        places = {name: arrays.put(array) for name, array in given.items()}
        labels = arrays.place(np.dtype(np.int32).str, shape)
        arguments = {"places": places, "labels": labels, "geometry": geometry}
        worker.call(f"{__name__}:paint", arguments)
        return arrays.take(labels)


def paint(
    progress: Progress,
    *,
    places: dict[str, dict[str, Any]],
    labels: dict[str, Any],
    geometry: dict[str, Any],
) -> None:
    """Do `paint_polyhedra` in a worker; arrays come and go by their places."""
    given = {name: read_place(place) for name, place in places.items()}
    write_place(labels, _painted(**given, shape=tuple(labels["shape"]), **geometry))


def _painted(
    points: np.ndarray,
    prob: np.ndarray,
    dist: np.ndarray,
    shape: tuple[int, ...],
    *,
    overlap: float,
    anisotropy: list[float],
    scale: list[float],
) -> np.ndarray:
    from stardist.geometry import polyhedron_to_label
    from stardist.nms import non_maximum_suppression_3d_sparse
    from stardist.rays3d import Rays_GoldenSpiral

    rays = Rays_GoldenSpiral(dist.shape[1], anisotropy=tuple(anisotropy))
    points, prob, dist, _ = non_maximum_suppression_3d_sparse(
        dist, prob, points, rays, nms_thresh=overlap
    )
    by = np.array(scale)
    centres = (points + 0.5) / by - 0.5
    rays = rays.copy(scale=1 / by)
    labels = polyhedron_to_label(dist, centres, rays, shape, prob=prob, verbose=False)
    return labels.astype(np.int32, copy=False)
