"""Where things of a service lie, and which files of a project may be shown."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import unicodedata
from pathlib import Path

from opsef_bridge.errors import InputError, LockedError, NotFoundError
from opsef_bridge.files import key_of, patiently, write_text
from opsef_bridge.project import Project
from opsef_bridge.service.people import service_folder

__all__ = [
    "file_name",
    "free_folder",
    "inside",
    "key_file",
    "project_id",
    "project_key",
    "uploads",
]


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

    It may hold letters of any language, blanks and most signs; others become ``-``.

    Raises
    ------
    InputError
        It is a path, is hidden, is too long, or is no TIFF or PNG.

    Examples
    --------
    >>> file_name("Zählung 3.tif")
    'Zählung 3.tif'
    >>> file_name("(5% O2?) a[1].tif")
    '5- O2-) a-1-.tif'
    """
    name = unicodedata.normalize("NFC", name)
    path = re.search(r"[/\\\x00-\x1f\x7f]|^\.", name)
    kept = re.sub(r"[^\w .,;()+=@#&~-]", "-", name)
    stem, dot, suffix = re.sub(r"^\W+", "", kept).rpartition(".")
    suffixes = ("tif", "tiff", "png")
    if path or not stem or suffix.lower() not in suffixes or len(kept.encode()) > 200:
        raise InputError(
            f"{name!r} cannot be the name of an image",
            hint="Name a .tif, .tiff or .png file, without a folder, of up to 200 bytes",
        )
    return f"{stem}{dot}{suffix}"


def project_key(root: Path, project: Project) -> str:
    """Return what tells a project of a service from all other projects, and all other services.

    It stays the same for the life of the project, also when the whole root is moved; it
    changes with the id. (Two services behind one tunnel have the same address, and maybe
    projects of the same id.) Where nothing can be written it may be less unique.
    """
    own, ours = key_file(project), service_folder(root) / "key"
    return key_of(_word_in(ours), _word_in(own), project.root.name)


def key_file(project: Project) -> Path:
    """Return the file whose content no other project has, but for copies of it."""
    return project.inbox_folder / "key"


def _word_in(file: Path) -> str:
    """Return the word in a file; a new one where there is none."""
    with contextlib.suppress(OSError, LockedError), patiently(file.with_name(".key.lock"), 5):
        if not file.is_file():
            write_text(file, secrets.token_hex(16))
        return file.read_text("ascii", "replace").strip()
    return ""


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
