"""The conversions from the formats of others, by name: who does them, and what they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from opsef_bridge.errors import WeightsError

__all__ = ["converted"]

_WHO = {
    "stardist": "opsef_bridge.engines.stardist_files:convert_stardist",
    "stardist-tensorflow": "opsef_bridge.engines.stardist_files:pack_stardist",
    "unet": "opsef_bridge.engines.unet_files:convert_unet",
    "fpn2ws": "opsef_bridge.engines.fpn2ws_files:join_networks",
}
"""Functions from files to a folder for the weights and their card, whose path they return."""


def converted(kind: str, sources: Sequence[Path], target: Path, name: str) -> Path:
    """Convert `sources` into ``NAME`` in the folder `target` and return its card.

    Parameters
    ----------
    kind : {"stardist", "stardist-tensorflow", "unet", "fpn2ws"}
        What they are.

    Raises
    ------
    WeightsError
        They are not that, or a package that reads them is not installed.
    """
    module, _, function = _WHO[kind].partition(":")
    try:
        convert: Callable[..., Any] = getattr(import_module(module), function)
        return Path(convert(*sources, target, name=name))
    except ImportError as error:
        raise WeightsError(
            f"weights of this format are converted by {error.name}, which is not installed",
            hint="pip install 'opsef_bridge[train]'",
        ) from error
