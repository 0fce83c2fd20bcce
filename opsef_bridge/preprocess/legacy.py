"""OpSeF's pipelines with its own numbers and in its own order, as recipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opsef_bridge.errors import InputError

__all__ = ["legacy_recipe"]


def legacy_recipe(
    filter: str = "None",
    kernel: int = 0,
    subtract: float = 0,
    projection: str = "Max",
    clahe: bool = False,
    clahe_parameters: Sequence[Any] = ((18, 18), 3),
    edges: str = "no",
    invert: bool = False,
) -> list[dict[str, dict[str, Any]]]:
    """Return an entry of OpSeF's ``pre_list`` as the recipe that gives its grey values.

    In the order of its code: filter, subtract, (project,) 8 bits, edges, invert, CLAHE. (The
    figure of its paper has CLAHE before edges.) A volume is not projected by a recipe: give
    one plane, or what ``images.projection`` makes of the stack, which is projected before
    the filter and not after it.

    Parameters
    ----------
    filter, kernel
        ``"Median"`` (odd side of a square), ``"Mean"`` (radius of a disk) or ``"None"``. Its
        ``"Gaussian"`` made black images and is refused.
    subtract : float
        In grey levels.
    projection : str
        ``"Sum"`` was scaled to a maximum of 255; ``"Max"`` and ``"Median"`` wrapped above
        255.
    clahe, clahe_parameters
        Whether, and ``((tiles, tiles), clip limit)`` of OpenCV.
    edges : str
        ``"no"``, ``"sobel"`` or ``"roberts"``.
    invert : bool

    Raises
    ------
    InputError
        A filter, kernel, projection or grid of tiles that has no counterpart.

    Examples
    --------
    >>> for step in legacy_recipe("Median", 3, 50, "Max", edges="no", invert=True):
    ...     print(step)
    {'median': {'radius': 1, 'legacy': True}}
    {'subtract': {'value': 50}}
    {'to_8bit': {'scale': 'none', 'legacy': True}}
    {'invert': {}}
    """
    recipe = _filter(filter, kernel)
    if subtract:
        recipe.append({"subtract": {"value": subtract}})
    if projection not in ("Sum", "Max", "Median"):
        raise InputError(f"projection {projection!r} is unknown", hint="Choose Sum, Max or Median")
    scale = "max" if projection == "Sum" else "none"
    recipe.append({"to_8bit": {"scale": scale, "legacy": True}})
    if edges in ("sobel", "roberts"):
        recipe.append({"edges": {"filter": edges, "legacy": True}})
        recipe.append({"to_8bit": {"scale": "max", "legacy": True}})
    elif edges != "no":
        raise InputError(f"edges {edges!r} are unknown", hint="Choose no, sobel or roberts")
    if invert:
        recipe.append({"invert": {}})
    if clahe:
        (rows, columns), limit = clahe_parameters
        if rows != columns:
            raise InputError(
                f"{rows} x {columns} tiles of CLAHE have no counterpart", hint="Give a square grid"
            )
        recipe.append({"clahe": {"tiles": rows, "clip": limit / 256, "engine": "opencv"}})
    return recipe


def _filter(filter: str, kernel: int) -> list[dict[str, dict[str, Any]]]:
    if filter == "None":
        return []
    if filter == "Mean" and kernel >= 1:
        return [{"mean": {"radius": kernel, "legacy": True}}]
    if filter == "Median" and kernel % 2 == 1:
        radius = (kernel - 1) // 2
        return [{"median": {"radius": radius, "legacy": True}}] if radius else []
    raise InputError(
        f"the filter {filter!r} with kernel {kernel!r} has no counterpart",
        hint="Choose None, Mean, or Median with an odd kernel",
    )
