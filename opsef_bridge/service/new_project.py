"""A project for images that are sent: which models are tried, at which sizes, by preset."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from opsef_bridge.config import parse_config
from opsef_bridge.errors import InputError
from opsef_bridge.files import write_text
from opsef_bridge.service.places import free_folder, project_id

__all__ = ["PRESETS", "Preset", "make_project", "object_pixels"]

Preset = Literal["fluorescence", "stained", "brightfield"]
PRESETS: tuple[Preset, ...] = ("fluorescence", "stained", "brightfield")

OWN_PIXELS = 24.0
"""Diameter of objects at which the shipped networks see them best: about the median of what
they were trained on."""

AROUND = (0.7, 1.0, 1.4)
"""Sizes that are tried around the one that was measured."""

_RECIPES: dict[str, str] = {
    "fluorescence": "  raw: []\n  smooth: [{median: {radius: 1}}]\n",
    "stained": "  raw: []\n  inverted: [{invert: {}}]\n",
    "brightfield": "  bright-field: [{invert: {}}, {clahe: {tiles: 8, clip: 0.01}}]\n"
    "  inverted: [{invert: {}}]\n",
}

_TEXT = """\
opsef: 1                          # version of this format
images:
  source: [data]                  # what is sent lands here
  segment: {{channel: 0}}           # which channel is segmented
preprocess:                       # recipes by name; each an ordered list of steps
{recipes}models:                           # a list where one value stands is tried value by value
{models}postprocess: {{fill_holes: true}}
sweep: {{images: 8, crop: 512, seed: 0}}    # a sample; a batch does all images
"""


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
    preset: Preset = "fluorescence",
    object_px: float | None = None,
) -> Path:
    """Make a project in `root` and return its folder, whose name is the id.

    Parameters
    ----------
    root : Path
        The folder of projects.
    name : str
        What a person calls it; where the id is taken it gets a number.
    preset : {"fluorescence", "stained", "brightfield"}
        The kind of the sample.
    object_px : float, optional
        Diameter of the objects in pixels. Without, a wide range of sizes is tried.

    Raises
    ------
    InputError
        Nothing of `name` can be in an id.
    """
    text = _TEXT.format(recipes=_RECIPES[preset], models=_models(preset, object_px))
    parse_config(text)
    folder = free_folder(root, project_id(name))
    (folder / "data").mkdir()
    write_text(folder / "opsef.yaml", text)
    return folder


def _models(preset: Preset, object_px: float | None) -> str:
    scale, diameter = "[0.5, 1.0, 2.0]", "[12, 22, 45]"
    if object_px is not None:
        fitting = [OWN_PIXELS / object_px * step for step in AROUND]
        scale = _values(min(max(value, 0.05), 20.0) for value in fitting)
        diameter = _values(max(object_px * step, 1.0) for step in AROUND)
    lines = [
        f"classic: {{engine: watershed, scale: {scale}, threshold: [otsu, 0.8, local]}}",
        f"unet: {{engine: unet, weights: nuclei-unet, scale: {scale}, threshold: [0.5, 0.7]}}",
        f"stardist: {{engine: stardist, weights: nuclei-stardist, scale: {scale}}}",
        f"fpn2ws: {{engine: fpn2ws, scale: {scale}, seed: [0.5, 0.7]}}",
    ]
    if preset == "stained":
        lines.insert(0, f"tissue: {{engine: stardist, weights: he-stardist, scale: {scale}}}")
    if find_spec("cellpose"):
        lines.append(f"cellpose: {{engine: cellpose, diameter: {diameter}}}")
    return "".join(f"  {line}\n" for line in lines)


def _values(numbers: Iterable[float]) -> str:
    unique = dict.fromkeys(f"{number:.3g}" for number in numbers)
    return f"[{', '.join(unique)}]"
