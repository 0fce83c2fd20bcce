"""A folder of arrays by content key, kept under a size: the least recently used go first.

Only what can be computed again lies here. Entries are written atomically and never
changed, so several processes may share the folder; one that finds a broken entry
computes it anew.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np

from opsef_bridge.files import atomic_path

__all__ = ["ArrayCache"]


class ArrayCache:
    """Named arrays and a few numbers under a key.

    Parameters
    ----------
    folder : Path
        Made when the first entry is written.
    limit : int
        Bytes. Checked whenever a process has written a part of it; a thirty-second may be
        over.
    """

    def __init__(self, folder: Path, limit: int = 4 << 30) -> None:
        self._folder = folder
        self._limit = limit
        self._written = 0  # since the folder was last looked through

    def get(self, key: str) -> tuple[dict[str, np.ndarray], dict[str, float]] | None:
        """Return the arrays and numbers under `key`, or None."""
        file = self._file(key)
        try:
            with np.load(file, allow_pickle=False) as entry:
                arrays = {name: entry[name] for name in entry.files if name != "values"}
                values = json.loads(str(entry["values"]))
            os.utime(file)  # used just now
        except Exception:  # damage shows as an error of zipfile, zlib, struct, numpy, json ...
            return None
        return arrays, values

    def put(self, key: str, arrays: dict[str, np.ndarray], values: dict[str, float]) -> None:
        """Keep arrays and numbers under `key`; a full disk loses the entry, not the run."""
        try:
            with (
                atomic_path(self._file(key)) as partial,
                zipfile.ZipFile(
                    # The fastest level: maps shrink by half at a third of the time of the default.
                    partial,
                    "w",
                    zipfile.ZIP_DEFLATED,
                    compresslevel=1,
                ) as archive,
            ):
                for name, array in {**arrays, "values": np.array(json.dumps(values))}.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
            self._written += self._file(key).stat().st_size
        except OSError:
            return
        if self._written * 32 >= self._limit:  # looking through the folder takes time
            self._written = 0
            self._shrink()

    def _file(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.npz"

    def _shrink(self) -> None:
        """Delete the entries that were not used for longest until the limit is kept."""
        entries = []
        for file in self._folder.glob("*/*.npz"):
            try:
                status = file.stat()
            except OSError:  # another process deleted it
                continue
            entries.append((status.st_mtime, status.st_size, file))
        total = sum(size for _, size, _ in entries)
        for _, size, file in sorted(entries):
            if total <= self._limit:
                return
            file.unlink(missing_ok=True)
            total -= size
