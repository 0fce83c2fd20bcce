"""The menu for Fiji and ImageJ: one zip to unpack, or copied into place.

A folder of ImageJ gets ``plugins/OpSeF/*.py`` (the commands of the menu) and
``jars/Lib/opsef_fiji/`` (their library). Nothing else of it is touched.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.files import atomic_path

__all__ = ["Installed", "bundle", "install", "scripts", "scripts_folder"]

OURS = ("plugins/OpSeF", "jars/Lib/opsef_fiji")
"""Folders that are ours alone: what else lies in them is of an older version."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time stamp of every entry of the zip: same scripts, same bytes."""


class Installed(NamedTuple):
    """What was done to a folder of ImageJ; paths relative to it."""

    added: list[str]
    changed: list[str]
    removed: list[str]


def scripts_folder() -> Path:
    """Return the folder of the scripts: in the package, or beside it in a checkout.

    Raises
    ------
    NotFoundError
        The package is not complete.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "fiji_scripts", package.parent / "fiji_scripts"):
        if (folder / OURS[0]).is_dir():
            return folder
    raise NotFoundError("the scripts for Fiji are missing", hint="Install the package again")


def scripts() -> dict[str, bytes]:
    """Return every script by its path in a folder of ImageJ."""
    folder = scripts_folder()
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for part in OURS
        for path in sorted((folder / part).rglob("*.py"))
    }


def bundle(path: str | os.PathLike[str]) -> Path:
    """Write the zip that is unpacked into the folder of Fiji or ImageJ, and return its path.

    Examples
    --------
    >>> import tempfile
    >>> names = zipfile.ZipFile(bundle(Path(tempfile.mkdtemp()) / "fiji.zip")).namelist()
    >>> "plugins/OpSeF/Connect.py" in names
    True
    """
    path = Path(path)
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, content in scripts().items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


def install(folder: str | os.PathLike[str]) -> Installed:
    """Copy the scripts into a folder of Fiji or ImageJ; those of an older version go.

    Raises
    ------
    InputError
        The folder has no ``plugins``: it is none of ImageJ.
    """
    folder = Path(folder)
    if not (folder / "plugins").is_dir():
        raise InputError(
            f"{folder} is no folder of Fiji or ImageJ: it has no folder plugins",
            hint="Name the folder that holds plugins/ (in Fiji: Help > About, or where you "
            "unpacked it; on a Mac Fiji.app)",
        )
    done = Installed([], [], [])
    wanted = scripts()
    for name, content in wanted.items():
        file = folder / name
        if file.is_file() and file.read_bytes() == content:
            continue
        (done.changed if file.exists() else done.added).append(name)
        with atomic_path(file) as partial:
            partial.write_bytes(content)
    for part in OURS:
        # Jython leaves compiled files beside the library; of an older one they would be used.
        for old in sorted((folder / part).rglob("*")):
            name = old.relative_to(folder).as_posix()
            if old.is_file() and old.suffix in (".py", ".class") and name not in wanted:
                old.unlink()
                if old.suffix == ".py":
                    done.removed.append(name)
    return done
