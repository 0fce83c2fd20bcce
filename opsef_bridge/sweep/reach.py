"""How far the steps of a recipe look, and which look at the whole image.

A tile is preprocessed with so much rim that its inside is what the recipe makes of the
whole image. A step that looks at the whole image has a rim only if it can be told about it
(`opsef_bridge.preprocess.registry.Step.part`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, lcm, log, sqrt
from typing import Any

from opsef_bridge.errors import ConfigError
from opsef_bridge.preprocess import normalise_recipe
from opsef_bridge.preprocess.registry import find_step

__all__ = ["recipe_grid", "recipe_reach"]

Parameters = Mapping[str, Any]

SHRUNKEN = ((10, 1), (30, 2), (100, 4), (float("inf"), 8))
"""Radius of a ball up to which ImageJ (``ij.plugin.filter.BackgroundSubtracter``) makes so many
pixels a side one."""

UNSHRUNKEN = 4.5
"""Sigma up to which ImageJ's Gaussian (``ij.plugin.filter.GaussianBlur``) does not shrink the
image; beyond, what comes out depends on where the image begins."""

ACCURACY = 0.0002
"""Where the kernel of ImageJ's Gaussian ends, as part of its middle."""


def _gaussian(parameters: Parameters) -> int:
    return round(4 * float(parameters["sigma"]) + 0.5)


def _edges(parameters: Parameters) -> int:
    return 1 + (_gaussian(parameters) if parameters["filter"] == "log" else 0)


def _ball(parameters: Parameters) -> int | None:
    # A paraboloid reaches as far as it can rise from the darkest to the brightest pixel.
    if parameters.get("sliding"):
        return None
    # ImageJ shrinks the image by up to 8 and smooths it before it rolls the ball.
    return 2 * round(float(parameters["radius"])) + 16


def _shrunken(parameters: Parameters) -> int:
    """Return by how much ImageJ shrinks an image for its ball."""
    return next(size for limit, size in SHRUNKEN if parameters["radius"] <= limit)


def _imagej(parameters: Parameters) -> int | None:
    plugin = parameters["plugin"]
    if plugin == "rolling_ball":
        return _ball(parameters)
    if plugin in ("median", "mean", "minimum", "maximum", "variance"):
        return int(parameters["radius"]) + 1
    if plugin in ("gaussian", "unsharp_mask") and parameters["sigma"] <= UNSHRUNKEN:
        return ceil(float(parameters["sigma"]) * sqrt(-2 * log(ACCURACY))) + 1
    return None


def _denoise(parameters: Parameters) -> int | None:
    # Non-local means compares 5 x 5 pixels. Of total variation every pixel sees every other.
    radius = int(parameters["radius"])
    return {"tv": None, "bilateral": radius, "nl_means": radius + 3}[parameters["method"]]


def _flat_field(parameters: Parameters) -> int:
    return 0 if parameters["reference"] is not None else _gaussian(parameters)


REACH: dict[str, Callable[[Parameters], int | None]] = {
    "bin": lambda parameters: 0,
    # The tiles of a volume part its planes too, and are as large as they like.
    "clahe": lambda parameters: None if parameters.get("volume") else 0,
    "colour_deconvolution": lambda parameters: 0,
    "denoise": _denoise,
    "edges": _edges,
    "flat_field": _flat_field,
    "gaussian": _gaussian,
    "gaussian_background": _gaussian,
    "grey": lambda parameters: 0,
    "imagej": _imagej,
    "invert": lambda parameters: 0,
    "mean": lambda parameters: int(parameters["radius"]) + 1,
    "median": lambda parameters: int(parameters["radius"]) + 1,
    "normalise": lambda parameters: 0,
    "rolling_ball": _ball,
    "single_channel": lambda parameters: 0,
    "subtract": lambda parameters: 0,
    "to_8bit": lambda parameters: 0,
    "white_tophat": lambda parameters: 2 * int(parameters["radius"]),
}
"""Pixels, of the image that the step gets, by name; None where it looks at the whole."""


GRID: dict[str, Callable[[Parameters], int]] = {
    "imagej": lambda parameters: (
        _shrunken(parameters) if parameters["plugin"] == "rolling_ball" else 1
    ),
    "rolling_ball": lambda parameters: (
        _shrunken(parameters) if parameters["engine"] == "imagej" else 1
    ),
}
"""Side of the blocks that a step shrinks the image by while it works, by name; of others 1."""

WORKING = (
    "normalise, to_8bit, clahe (but of a volume), flat_field, denoise (but tv), the filters and "
    "backgrounds, and imagej with a radius or a sigma up to 4.5 (but sliding paraboloids)"
)


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
                hint=f"Leave out {name}: {WORKING} work in tiles; or use "
                "`images: {tiles: {separate: true}}`, where each tile is an image of its own",
            )
        reach += own * size
        size *= parameters[step.shrinks] if step.shrinks else 1
    return reach


def recipe_grid(steps: Any) -> int:
    """Return the side in pixels of the blocks that a part must begin at a multiple of.

    Examples
    --------
    >>> recipe_grid([{"bin": {"factor": 3}}, {"rolling_ball": {"engine": "imagej", "radius": 20}}])
    6
    """
    grid, size = 1, 1
    for name, parameters in normalise_recipe(steps):
        step = find_step(name)
        grid = lcm(grid, size * (GRID[name](parameters) if name in GRID else 1))
        size *= parameters[step.shrinks] if step.shrinks else 1
    return lcm(grid, size)
