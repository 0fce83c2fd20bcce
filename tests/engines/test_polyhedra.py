"""Volumes of StarDist and Ctrl-C: it is heard, and no volume is cut short for it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.engines.polyhedra import paint_polyhedra
from opsef_bridge.workers import Worker

GEOMETRY = {"overlap": 0.3, "anisotropy": [2.0, 1.0, 1.0], "scale": [1.0, 1.0, 1.0]}
SHAPE = (8, 40, 40)

CHILD = """
import os, signal, time
from opsef_bridge.engines.polyhedra import paint_polyhedra
from tests.engines.test_polyhedra import GEOMETRY, SHAPE, balls

def interrupted(progress):
    paint_polyhedra(*balls(2), SHAPE, **GEOMETRY)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)  # another thread may take it
    return paint_polyhedra(*balls(3), SHAPE, **GEOMETRY).tolist()
"""


def balls(deep: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nine balls in a plane, each so often; the most probable suppresses the others."""
    y, x = (grid.ravel() for grid in np.mgrid[8:40:12, 8:40:12])
    points = np.stack([np.full(y.size, 4), y, x], 1).repeat(deep, 0)
    prob = np.linspace(0.9, 0.6, len(points), dtype=np.float32)
    return points, prob, np.full((len(points), 32), 4, np.float32)


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_is_heard_after_a_volume():
    labels = paint_polyhedra(*balls(2), SHAPE, **GEOMETRY)
    assert labels.dtype == np.int32 and labels.shape == SHAPE
    assert sorted(set(labels.flat)) == list(range(10))
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    np.testing.assert_array_equal(paint_polyhedra(*balls(3), SHAPE, **GEOMETRY), labels)


def test_ctrl_c_cuts_no_volume_of_a_worker_short(tmp_path):
    (tmp_path / "opsef_child.py").write_text(CHILD)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    with Worker(environment={"PYTHONPATH": path}) as worker:
        found = worker.call("opsef_child:interrupted", {})
    np.testing.assert_array_equal(found, paint_polyhedra(*balls(3), SHAPE, **GEOMETRY))


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_a_process_of_its_own_paints_as_the_package_does():
    from stardist.geometry import polyhedron_to_label
    from stardist.nms import non_maximum_suppression_3d_sparse
    from stardist.rays3d import Rays_GoldenSpiral

    points, prob, dist = balls(2)
    rays = Rays_GoldenSpiral(32, anisotropy=(2, 1, 1))
    points, prob, dist, _ = non_maximum_suppression_3d_sparse(
        dist, prob, points, rays, nms_thresh=0.3
    )
    expected = polyhedron_to_label(dist, points, rays, SHAPE, prob=prob, verbose=False)
    np.testing.assert_array_equal(paint_polyhedra(*balls(2), SHAPE, **GEOMETRY), expected)
