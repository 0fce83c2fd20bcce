"""A project for images that are sent: a preset, with sizes around the one that was measured."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from opsef_bridge.config import parse_config
from opsef_bridge.errors import InputError
from opsef_bridge.files import write_text
from opsef_bridge.presets import SOURCE, preset_text
from opsef_bridge.project import Project
from opsef_bridge.service.places import free_folder, key_file, project_id

__all__ = ["made_by", "make_project", "object_pixels"]

OWN_PIXELS = 24.0
"""Diameter of objects at which the shipped networks see them best: about the median of what
they were trained on."""

AROUND = (0.7, 1.0, 1.4)
"""Sizes that are tried around the one that was measured."""


def object_pixels(object_um: float | None, pixel_um: float | None) -> float | None:
    """Return the diameter of objects in pixels; None where it was not measured.

    Raises
    ------
    InputError
        Only one of the two is given; or objects of that size could not be seen.
    """
    if object_um is None:
        return None
    if pixel_um is None:
        raise InputError(
            "the size of the objects is given in um, but that of a pixel is not",
            hint="Calibrate the image (Image > Properties), or leave out the size of the objects",
        )
    pixels = object_um / pixel_um
    if not 2 <= pixels <= 400:
        raise InputError(
            f"objects of {object_um:g} um are {pixels:.3g} pixels of {pixel_um:g} um wide",
            hint="Check the calibration of the image: 2 to 400 pixels can be segmented",
        )
    return pixels


def make_project(
    root: Path,
    name: str,
    preset: str = "fluorescence",
    object_px: float | None = None,
    mark: str | None = None,
) -> Path:
    """Make a project in `root` and return its folder, whose name is the id.

    Parameters
    ----------
    root : Path
        The folder of projects.
    name : str
        What a person calls it; where the id is taken it gets a number.
    preset : str
        The kind of the sample: one of `opsef_bridge.presets.PRESETS`.
    object_px : float, optional
        Diameter of the objects in pixels. Without, the sizes of the preset are tried.
    mark : str, optional
        A word by which this project is known again (`made_by`).

    Raises
    ------
    InputError
        Nothing of `name` can be in an id.
    NotFoundError
        There is no such preset.
    """
    text = preset_text(preset).replace(SOURCE, "source: [data]")
    if object_px is not None:
        text = _sized(text, object_px)
    parse_config(text)
    folder = free_folder(root, project_id(name))
    try:
        (folder / "data").mkdir()
        if mark is not None:
            write_text(key_file(Project(folder)), mark)
        write_text(folder / "opsef.yaml", text)  # from here on it is a project
    except BaseException:  # of what is no project nobody would know why it has the name
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def made_by(mark: str, projects: Iterable[Project]) -> Path | None:
    """Return the folder of the project that was made with a mark; None where there is none."""
    for project in projects:
        with contextlib.suppress(OSError):
            if key_file(project).read_text("ascii", "replace") == mark:
                return project.root
    return None


def _sized(text: str, object_px: float) -> str:
    """Return a preset with other scales and diameters: those around a size of objects."""
    fitting = [OWN_PIXELS / object_px * step for step in AROUND]
    scale = _values(min(max(value, 0.05), 20.0) for value in fitting)
    diameter = _values(max(object_px * step, 1.0) for step in AROUND)
    text = re.sub(r"(engine: .*scale: )\[[^]]*\]", rf"\g<1>{scale}", text)
    return re.sub(r"(engine: .*diameter: )\[[^]]*\]", rf"\g<1>{diameter}", text)


def _values(numbers: Iterable[float]) -> str:
    unique = dict.fromkeys(f"{number:.3g}" for number in numbers)
    return f"[{', '.join(unique)}]"
