"""New projects: from the user's images, and from the bundled ones."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from opsef_bridge.engines.store import convert
from opsef_bridge.errors import ProjectError
from opsef_bridge.files import write_text
from opsef_bridge.images.bundled import example_data
from opsef_bridge.presets import SOURCE, preset_text
from opsef_bridge.sweep.importing import find_files

__all__ = ["example_data", "make_demo", "make_project"]

_MODELS = """\
preprocess:                       # recipes by name; each an ordered list of steps
  raw: []
  smooth: [{median: {radius: 1}}]
  bright-field: [{invert: {}}, {clahe: {tiles: 8, clip: 0.01}}]
models:                           # a list where one value stands is tried value by value
  classic: {engine: watershed, scale: [0.5, 1.0, 2.0], threshold: [otsu, 0.8, local]}
  unet: {engine: unet, weights: nuclei-unet, scale: [0.5, 1.0, 2.0], threshold: [0.5, 0.6, 0.7]}
  stardist: {engine: stardist, scale: [0.5, 1.0, 2.0], prob: [0.4, 0.5, 0.6]}
  fpn2ws: {engine: fpn2ws, scale: [0.5, 1.0, 2.0], seed: [0.5, 0.6, 0.7]}
"""

_CELLPOSE = """\
  cellpose: {engine: cellpose, diameter: [12, 22, 45], cellprob: [-1, 0]}
"""

_MODELS_FULL = """\
  stardist-keras: {engine: stardist, weights: nuclei-stardist-tensorflow, scale: [0.5, 1.0, 2.0]}
  maskrcnn: {engine: maskrcnn, scale: [0.5, 1.0, 2.0], score: [0.3, 0.5, 0.7]}
"""

_NEW = """\
opsef: 1                          # version of this format
images:
  source: [{sources}]
  segment: {{channel: 0}}           # which channel is segmented
{models}postprocess: {{fill_holes: true}}
sweep: {{images: 8, crop: 512, seed: 0}}    # a sample; `opsef batch` does all images
"""

_DEMO = """\
# The bundled images: fluorescence of three sizes, stained tissue, a dark-on-bright smear.
opsef: 1
images:
  source: [data/*]
{models}postprocess: {{fill_holes: true}}
groups: {{small: "small_*", large: "large_*", u2os: "u2os_*", tissue: "tissue_*"}}
sweep: {{images: all, crop: 384, seed: 0}}
"""


def make_project(folder: Path, sources: list[str], preset: str | None = None) -> Path:
    """Write an ``opsef.yaml`` for images of the user and return its path.

    It names the core engines, and Cellpose where that is installed; or what the preset
    names (`opsef_bridge.presets`).

    Raises
    ------
    ProjectError
        There is one already.
    ConfigError
        A source finds no image.
    NotFoundError
        There is no such preset.
    """
    text = None if preset is None else preset_text(preset)
    file = Path(folder) / "opsef.yaml"
    if file.exists():
        raise ProjectError(f"there is a project in {folder} already", hint="Edit its opsef.yaml")
    find_files(Path.cwd(), sources)
    listed = ", ".join(_quoted(Path(source).absolute().as_posix()) for source in sources)
    if text is None:
        text = _NEW.format(sources=listed, models=_MODELS + _cellpose())
    write_text(file, text.replace(SOURCE, f"source: [{listed}]"))
    return file


def make_demo(folder: Path, *, full: bool = False) -> Path:
    """Make the demo project in `folder` and return `folder`; an older demo is kept as it is.

    With `full` it sweeps the engines of torch too, and StarDist once more by TensorFlow.
    """
    folder = Path(folder)
    file = folder / "opsef.yaml"
    if full and file.exists() and "maskrcnn" not in file.read_text(encoding="utf-8"):
        raise ProjectError(
            f"{folder} holds a demo of the core engines only", hint="Name another folder"
        )
    if not file.exists():
        for image in sorted((example_data() / "images").iterdir()):
            target = folder / "data" / image.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(image.read_bytes())
        if full:
            convert(["nuclei-stardist"], folder / "models", runtime="tensorflow")
        more = _MODELS_FULL + _cellpose() if full else ""
        write_text(file, _DEMO.format(models=_MODELS + more))
    return folder


def _cellpose() -> str:
    """Return the model of Cellpose, or nothing: Cellpose 3 is not made for Python 3.13."""
    return _CELLPOSE if find_spec("cellpose") else ""


def _quoted(text: str) -> str:
    """A YAML string that holds whatever a path may hold."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
