"""Arrays that two processes share: what they hold, and that nothing is left of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.workers import Worker, WorkerFailed, shared_arrays
from opsef_bridge.workers.shared_arrays import MEMORY, SharedArrays


def left() -> list[str]:
    """Shared memory that this process has made and not taken away."""
    return sorted(path.name for path in MEMORY.glob(f"opsef_{os.getpid()}_*"))


needs_linux = pytest.mark.skipif(not MEMORY.is_dir(), reason=f"{MEMORY} is not there")


@pytest.fixture(params=["memory", "files"])
def way(request, monkeypatch, tmp_path):
    """Through shared memory, and where there is none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "files":

        def none(size: int):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(shared_arrays, "_segment", none)
    yield request.param
    assert left() == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4).T,
        np.arange(6, dtype=">i4"),
        np.array([[True, False]]),
        np.float16([1, np.inf]),
        np.zeros((0, 3)),
        np.array(7),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_what_is_put_is_taken(way, array):
    with SharedArrays() as arrays:
        place = arrays.put(array)
        assert ("file" in place) == (way == "files")
        found = arrays.take(place)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


def test_what_is_taken_outlives_the_call(way):
    with SharedArrays() as arrays:
        found = arrays.take(arrays.put(np.arange(5)))
    found += 1
    assert found.tolist() == [1, 2, 3, 4, 5]


def test_nothing_is_left_after_an_error(way):
    with pytest.raises(ZeroDivisionError), SharedArrays() as arrays:
        arrays.put(np.arange(5))
        arrays.place("<f4", (3, 3))
        assert len(left()) == (2 if way == "memory" else 0) or not MEMORY.is_dir()
        raise ZeroDivisionError


@needs_linux
def test_an_array_that_shared_memory_cannot_hold_goes_through_a_file():
    """Linux would let it be made, and end the process that writes to it."""
    too_much = shutil.disk_usage(MEMORY).total + 2**20
    with SharedArrays() as arrays:
        place = arrays.place("|u1", (too_much,))
        assert Path(place["file"]).parent.is_dir()
        assert left() == []
        assert "segment" in arrays.put(np.arange(3)), "smaller ones still fit"
    assert left() == [] and not Path(place["file"]).parent.exists()


OTHER_PROCESS = """
from opsef_bridge.workers.shared_arrays import read_place, write_place

def double(progress, source, target):
    write_place(target, read_place(source) * 2)
"""


@pytest.fixture
def other(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("other")
    (folder / "other_process.py").write_text(OTHER_PROCESS)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with Worker() as worker:
        yield lambda **given: worker.call("other_process:double", given)


def test_another_process_reads_and_writes(way, other):
    array = np.arange(12, dtype=np.uint16).reshape(3, 4)
    with SharedArrays() as arrays:
        source, target = arrays.put(array), arrays.place("<u2", (3, 4))
        other(source=source, target=target)
        np.testing.assert_array_equal(arrays.take(target), array * 2)
        np.testing.assert_array_equal(arrays.take(source), array)


@pytest.mark.parametrize(("dtype", "shape"), [("<f4", (3, 4)), ("<u2", (4, 3)), ("<u2", (12,))])
def test_what_does_not_fit_its_place_is_not_written(way, other, dtype, shape):
    with SharedArrays() as arrays:
        source = arrays.put(np.ones((3, 4), np.uint16))
        with pytest.raises(WorkerFailed, match=r"<u2 and shape \(3, 4\)"):
            other(source=source, target=arrays.place(dtype, shape))
