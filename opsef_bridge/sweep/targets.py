"""Where pictures may be written: not over what a project is made of."""

from __future__ import annotations

from pathlib import Path

from opsef_bridge.errors import InputError
from opsef_bridge.project import Project

__all__ = ["check_target"]

OWN = ("images", "runs", "cache", "annotations", "truth", "inbox", "models", "exchange")
"""Folders of a project that hold what it is made of."""

FILES = ("opsef.yaml", "adopted.json")


def check_target(project: Project, file: Path) -> None:
    """Refuse to write a picture where images are taken from, or over a file of the project.

    Parameters
    ----------
    project : Project
    file : Path
        That is to be written; ``runs/<run>/compare`` is for such files.

    Raises
    ------
    InputError
        It would take the place of an image or of a record; or lie in a folder of images, so that
        the next import would take it for one.
    """
    place = file.resolve()
    sources = {project.source_file(entry).resolve() for entry in project.images()}
    if place.parent in {source.parent for source in sources}:
        what = "is an image of the project" if place in sources else "would lie beside its images"
        raise InputError(
            f"{file} {what}, where the next import would take it for one",
            hint="Name another folder",
        )
    root = project.root.resolve()
    if not place.is_relative_to(root):
        return
    parts = place.relative_to(root).parts
    stack = len(parts) == 4 and parts[0] == "runs" and parts[2] == "compare"
    if parts[0] in FILES or (parts[0] in OWN and not stack):
        raise InputError(
            f"{file} lies among the files that the project is made of",
            hint="Name another folder, such as pictures/",
        )
