"""Arrays that another process on this machine reads and writes while a call lasts.

They lie in shared memory, which this process makes and takes away: whoever of the two dies,
nothing is left. If the other one dies, the call ends here and cleans up; if this one does,
the resource tracker of Python, a process of its own, does it. Where there is too little
shared memory (a container may have 64 MB), arrays go through files.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SharedArrays", "read_place", "write_place"]

MEMORY = Path("/dev/shm")
"""Where Linux shows shared memory as files."""


class SharedArrays:
    """The arrays of one call; use as a context manager.

    A *place* is what the other process needs to know, as JSON: ``dtype``, ``shape``, and
    ``segment``, the name of the shared memory, or ``file``, the path of a .npy file.

    Examples
    --------
    >>> with SharedArrays() as arrays:
    ...     arrays.take(arrays.put(np.arange(3)))
    array([0, 1, 2])
    """

    def __init__(self) -> None:
        self._segments: dict[str, SharedMemory] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> SharedArrays:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for segment in self._segments.values():
            segment.close()
            segment.unlink()
        self._segments.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def place(self, dtype: str, shape: Sequence[int]) -> dict[str, Any]:
        """Return the place of an array that the other process will write.

        Parameters
        ----------
        dtype : str
            As numpy's ``dtype.str``, e.g. ``"<f4"``.
        shape : sequence of int
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        place: dict[str, Any] = {"dtype": dtype, "shape": list(shape)}
        try:
            segment = _segment(max(1, size))
        except OSError:  # too little, or none at all
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="opsef-")
            return place | {"file": str(Path(self._folder.name, f"{secrets.token_hex(8)}.npy"))}
        self._segments[segment.name] = segment
        return place | {"segment": segment.name}

    def put(self, array: np.ndarray) -> dict[str, Any]:
        """Copy an array of numbers to a new place and return that."""
        place = self.place(array.dtype.str, array.shape)
        if "file" in place:
            np.save(place["file"], array, allow_pickle=False)
        else:
            self._view(place)[...] = array
        return place

    def take(self, place: dict[str, Any]) -> np.ndarray:
        """Return a copy of the array in a place."""
        if "file" in place:
            read: np.ndarray = np.load(place["file"], allow_pickle=False)
            return read
        return self._view(place).copy()

    def _view(self, place: dict[str, Any]) -> np.ndarray:
        buffer = self._segments[place["segment"]].buf
        return np.ndarray(place["shape"], place["dtype"], buffer=buffer)


def read_place(place: dict[str, Any]) -> np.ndarray:
    """Return, in the other process, a copy of the array in a place."""
    if "file" in place:
        read: np.ndarray = np.load(place["file"], allow_pickle=False)
        return read
    with _attached(place) as array:
        return array.copy()


def write_place(place: dict[str, Any], array: np.ndarray) -> None:
    """Copy, in the other process, an array to its place.

    Raises
    ------
    ValueError
        It has another shape or dtype than the place.
    """
    if (array.dtype.str, list(array.shape)) != (place["dtype"], list(place["shape"])):
        raise ValueError(
            f"an array of {array.dtype.str} and shape {array.shape} is no "
            f"{place['dtype']} of shape {tuple(place['shape'])}"
        )
    if "file" in place:
        np.save(place["file"], array, allow_pickle=False)
        return
    with _attached(place) as shared:
        shared[...] = array


@contextlib.contextmanager
def _attached(place: dict[str, Any]) -> Iterator[np.ndarray]:
    # Appose's class, because it leaves the tracker of resources to the process that made it.
    from appose import SharedMemory as AttachedMemory

    segment = AttachedMemory(name=place["segment"])
    try:
        yield np.ndarray(place["shape"], place["dtype"], buffer=segment.buf)
    finally:
        segment.close()


def _segment(size: int) -> SharedMemory:
    """Return new shared memory of `size` bytes that are really there.

    Raises
    ------
    OSError
        There is not so much. Linux would else hand it out, and end the process that writes
        to what is not there.
    """
    # Not the class of Appose: in a worker it would keep the tracker from knowing of this one.
    segment = SharedMemory(f"opsef_{os.getpid()}_{secrets.token_hex(4)}", create=True, size=size)
    file = MEMORY / segment.name
    try:
        if file.exists():
            descriptor = os.open(file, os.O_RDWR)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
    except OSError:
        segment.close()
        with contextlib.suppress(FileNotFoundError):
            segment.unlink()
        raise
    return segment
