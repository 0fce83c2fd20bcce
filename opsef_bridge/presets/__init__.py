"""Configurations to start from, one file for each kind of sample.

``opsef new DIR --images SRC --preset NAME`` writes one. Seven are the workflows that OpSeF-IV
published, with the networks that come along in the place of its own, and three are general.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from opsef_bridge.errors import NotFoundError

__all__ = ["PRESETS", "SOURCE", "Preset", "preset_text", "preset_title"]

Preset = Literal[
    "fluorescence",
    "stained",
    "brightfield",
    "cobblestones",
    "leaves",
    "small-nuclei",
    "colon-3d",
    "epithelial",
    "muscle",
    "kidney-he",
]

PRESETS: tuple[str, ...] = get_args(Preset)
"""Names of the presets."""

SOURCE = "source: [data/*]"
"""Where the images are, in the file of every preset."""


def preset_text(name: str) -> str:
    """Return the text of an ``opsef.yaml``, whose images lie in ``data``.

    Where Cellpose is not installed its models are left out.

    Raises
    ------
    NotFoundError
        There is no such preset; the message lists those that there are.

    Examples
    --------
    >>> SOURCE in preset_text("muscle")
    True
    """
    lines = _file(name).read_text(encoding="utf-8").splitlines(keepends=True)
    if not find_spec("cellpose"):
        lines = [line for line in lines if "engine: cellpose" not in line]
    return "".join(lines)


def preset_title(name: str) -> str:
    """Return in a sentence for what a preset is made.

    Examples
    --------
    >>> preset_title("leaves")
    'Leaves: epidermis cells, bright walls around a dark inside.'
    """
    return _file(name).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _file(name: str) -> Path:
    if name not in PRESETS:
        raise NotFoundError(
            f"there is no preset {name!r}", hint=f"Choose from {', '.join(PRESETS)}"
        )
    return Path(__file__).parent / f"{name}.yaml"
