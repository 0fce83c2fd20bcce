"""Where things of a service lie, and which files of a project may be shown."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.project import Project
from opsef_bridge.service.people import service_folder

__all__ = ["file_name", "free_folder", "inside", "project_id", "uploads"]


def project_id(name: str) -> str:
    """Return the id of a project that a person calls `name`: the name of its folder.

    Raises
    ------
    InputError
        Nothing of it can be in an id.

    Examples
    --------
    >>> project_id("Zählung 3 (Ost)")
    'Zahlung-3-Ost'
    """
    text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    text = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:48].strip("-")
    if not text:
        raise InputError(f"{name!r} cannot be the name of a project", hint="Use letters or digits")
    return text


def free_folder(root: Path, name: str) -> Path:
    """Make and return a folder for a new project: `name`, or that with a number behind."""
    for number in range(1, 10_000):
        folder = root / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise InputError(f"there are too many projects called {name}", hint="Choose another name")


def file_name(name: str) -> str:
    """Return the name under which an image that was sent is kept.

    It may hold letters of any language and blanks, but leads nowhere.

    Raises
    ------
    InputError
        It is a path, is hidden, or is no TIFF or PNG.

    Examples
    --------
    >>> file_name("Zählung 3.tif")
    'Zählung 3.tif'
    """
    name = unicodedata.normalize("NFC", name)
    fine = re.fullmatch(r"\w[\w .,;()+=@#&~-]*", name) and len(name.encode()) <= 200
    if not fine or not name.lower().endswith((".tif", ".tiff", ".png")):
        raise InputError(
            f"{name!r} cannot be the name of an image",
            hint="Name a .tif, .tiff or .png file, without a folder",
        )
    return name


def uploads(root: Path) -> Path:
    """Return the folder where bodies are put while they come."""
    folder = service_folder(root) / "uploads"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def inside(project: Project, file: Path) -> Path:
    """Return `file` where it is a file of the project, also after links are followed.

    Raises
    ------
    NotFoundError
        It is not there, or a link leads out of the project.
    """
    real = Path(os.path.realpath(file))
    if not real.is_file() or not real.is_relative_to(project.root):
        raise NotFoundError(f"there is no {file.name}", hint="It may not be made yet")
    return real
