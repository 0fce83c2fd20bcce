"""How far the steps of a recipe look, and which look at the whole image.

A tile is preprocessed with so much rim that its inside is what the recipe makes of the
whole image. Of a step that takes statistics of the whole image there is no such rim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opsef_bridge.errors import ConfigError
from opsef_bridge.preprocess import normalise_recipe
from opsef_bridge.preprocess.registry import find_step

__all__ = ["recipe_reach"]

Parameters = Mapping[str, Any]


def _gaussian(parameters: Parameters) -> int:
    return round(4 * float(parameters["sigma"]) + 0.5)


def _edges(parameters: Parameters) -> int:
    return _gaussian(parameters) if parameters["filter"] == "log" else 1


def _ball(parameters: Parameters) -> int:
    # ImageJ shrinks the image by up to 8 and smooths it before it rolls the ball.
    return 2 * round(float(parameters["radius"])) + 16


REACH: dict[str, Callable[[Parameters], int | None]] = {
    "bin": lambda parameters: 0,
    "colour_deconvolution": lambda parameters: 0,
    "edges": _edges,
    "gaussian": _gaussian,
    "gaussian_background": _gaussian,
    "grey": lambda parameters: 0,
    "invert": lambda parameters: 0,
    "mean": lambda parameters: int(parameters["radius"]) + 1,
    "median": lambda parameters: int(parameters["radius"]) + 1,
    "rolling_ball": _ball,
    "single_channel": lambda parameters: 0,
    "subtract": lambda parameters: 0,
    "to_8bit": lambda parameters: 0 if parameters["scale"] == "none" else None,
    "white_tophat": lambda parameters: 2 * int(parameters["radius"]),
}
"""Pixels, of the image that the step gets, by name; None where it looks at the whole."""


def recipe_reach(steps: Any) -> int:
    """Return how many pixels around a place the output of a recipe may depend on.

    Raises
    ------
    ConfigError
        A step looks at the whole image, or is not known not to.

    Examples
    --------
    >>> recipe_reach([{"bin": {"factor": 2}}, {"gaussian": {"sigma": 1}}])
    8
    """
    reach, size = 0, 1
    for name, parameters in normalise_recipe(steps):
        step = find_step(name)
        own = REACH[name](parameters) if name in REACH else None
        if own is None:
            raise ConfigError(
                f"the step {name} looks at the whole image, and some are worked on in tiles",
                hint=f"Leave out {name}: engines normalise by the whole image themselves; or use "
                "`images: {tiles: {separate: true}}`, where each tile is an image of its own",
            )
        reach += own * size
        size *= parameters[step.shrinks] if step.shrinks else 1
    return reach
