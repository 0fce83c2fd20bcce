"""OpSeF's ``pre_list`` as recipes, in the order of its code, not that of its paper's figure.

That is: filter, subtract, project, edges, invert, CLAHE. Here stacks are projected before
their recipe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from opsef_bridge.errors import InputError
from opsef_bridge.exchange.legacy_values import Said, number, tidy, word
from opsef_bridge.preprocess.disk import disk

__all__ = ["projection_of", "recipe_name", "recipes_of"]

_PIPELINE = ("None", 0, 0, "Sum", False, [(18, 18), 3], "no", False)
"""Filter, kernel, value to subtract, projection, CLAHE?, its parameters, edges, invert?"""

_PROJECTIONS = {"sum": "sum", "max": "max", "median": "median"}

_BINS = 256
"""Grey levels of OpenCV's CLAHE: its clip limit counts means of so many bins."""


def recipe_name(pipeline: int) -> str:
    """Return the name of the recipe of a pipeline, as it stands in the names of OpSeF's files.

    Examples
    --------
    >>> recipe_name(2)
    'p002'
    """
    return f"p{pipeline:03d}"


def recipes_of(
    pipelines: list[Any], say: Said
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Return recipes by name, and which recipe stands for each pipeline.

    Raises
    ------
    InputError
        An entry is no list, or a number in it is none.

    Examples
    --------
    >>> recipes_of([["Median", 3, 0, "Sum"], ["Median", 3, 0, "Max"]], Said())
    ({'p000': [{'median': {'radius': 1}}]}, {'p000': 'p000', 'p001': 'p000'})
    """
    recipes: dict[str, list[dict[str, Any]]] = {}
    same: dict[str, str] = {}
    for index, pipeline in enumerate(pipelines):
        name = recipe_name(index)
        if not isinstance(pipeline, list | tuple):
            raise InputError(f"pre_list: entry {index} is {pipeline!r}", hint="It must be a list")
        values = (*pipeline, *_PIPELINE[len(pipeline) :])[: len(_PIPELINE)]
        steps = _steps(values, name, say)
        twin = next((other for other, known in recipes.items() if known == steps), None)
        same[name] = twin or name
        if twin:
            say(f"{name} is left out: here it is the same as {twin}.")
        else:
            recipes[name] = steps
    return recipes or {"raw": []}, same


def _steps(values: Sequence[Any], name: str, say: Said) -> list[dict[str, Any]]:
    kind, kernel, value, _, clahe, parameters, edge, invert = values
    steps = _filter(word(kind).lower(), kernel, name, say)
    value = number(value, f"{name}: the value to subtract")
    if value > 0:
        steps.append({"subtract": {"value": tidy(value)}})
    elif value < 0:
        say(f"{name}: {tidy(value)} was to be subtracted; what adds light is left out.")
    edge = word(edge).lower()
    if edge in ("sobel", "roberts"):
        steps.append({"edges": {"filter": edge}})
    elif edge not in ("no", "none", "false"):
        say(f"{name}: edges {edge!r} are not known; the step is left out.")
    if invert is True or invert == 1:
        steps.append({"invert": {}})
    if clahe is True or clahe == 1:
        steps.append({"clahe": _clahe(parameters, name, say)})
    return steps


def _filter(kind: str, kernel: Any, name: str, say: Said) -> list[dict[str, Any]]:
    if kind in ("none", "no", "false"):
        return []
    if kind not in ("median", "mean", "gaussian"):
        say(f"{name}: the filter {kind!r} is not known; the step is left out.")
        return []
    size = number(kernel, f"{name}: the kernel")
    if kind == "gaussian":
        sigma = min(max(size, 0.1), 100)
        say(
            f"{name}: OpSeF's Gaussian filter gave a black image, because it put values from 0 "
            f"to 1 into integers; here it blurs (sigma {tidy(sigma)})."
        )
        return [{"gaussian": {"sigma": tidy(sigma)}}]
    if kind == "mean":
        radius = _within(round(size), 1, 100, f"{name}: the mean", say)
        say(
            f"Mean {tidy(size)} of OpSeF was a disk of that radius, {2 * radius + 1} px across; "
            "so it is here (ImageJ's disk, which has a few pixels more)."
        )
        return [{"mean": {"radius": radius}}]
    if size <= 1:
        return []
    # Half a pixel is rounded up: a square of 4 px covers more than a disk of radius 1.
    radius = _within(math.floor(size / 2), 1, 20, f"{name}: the median", say)
    if size != 3:
        say(
            f"Median {tidy(size)} of OpSeF was a square of {tidy(size)} x {tidy(size)} px; here "
            f"it is a disk of radius {radius} ({int(disk(radius).sum())} px)."
        )
    return [{"median": {"radius": radius}}]


def _within(value: int, low: int, high: int, what: str, say: Said) -> int:
    if not low <= value <= high:
        say(f"{what} of radius {value} is out of {low} to {high}; the nearest is taken.")
    return min(max(value, low), high)


def _clahe(parameters: Any, name: str, say: Said) -> dict[str, Any]:
    try:
        (first, second), limit = parameters
    except (TypeError, ValueError):
        raise InputError(
            f"{name}: the parameters of CLAHE are {parameters!r}",
            hint="They must be like [(18, 18), 3]",
        ) from None
    sides = [number(side, f"{name}: the tiles of CLAHE") for side in (first, second)]
    limit = number(limit, f"{name}: the clip limit of CLAHE")
    tiles = min(max(round(math.sqrt(max(sides[0] * sides[1], 1))), 1), 64)
    clip = tidy(min(max(limit / _BINS, 1e-4), 1.0))
    say(
        f"CLAHE was OpenCV's, {tidy(sides[0])} x {tidy(sides[1])} tiles and clip limit "
        f"{tidy(limit)}; here it is scikit-image's, {tiles} x {tiles} tiles and clip {clip} (the "
        f"limit / {_BINS}), whose grey values are similar, not equal."
    )
    return {"tiles": tiles, "clip": clip}


def projection_of(pipelines: list[Any], stacks: bool, projected: bool, say: Said) -> dict[str, str]:
    """Return ``images.projection`` where planes are still to be projected."""
    kinds = [word(p[3]).lower() for p in pipelines if isinstance(p, list | tuple) and len(p) > 3]
    kinds = [kind for kind in dict.fromkeys(kinds) if kind in _PROJECTIONS]
    if not stacks:
        return {}
    if projected:
        others = ", ".join(kind for kind in kinds if kind != "sum")
        say(
            "OpSeF filtered each plane of a stack and then projected"
            + (f" by {others}" if others else "")
            + "; the images here are its sums of the unfiltered planes. To do as it did, give "
            "images.source the stacks and set images.projection."
        )
        return {}
    if len(kinds) > 1:
        say(
            f"Pipelines projected by {', '.join(kinds)}; here one projection holds for all "
            f"recipes, and {kinds[0]} was taken. It is done before the filter, not after."
        )
    elif kinds:
        say("The projection is done before the filter and the subtraction, not after.")
    return {"projection": _PROJECTIONS[kinds[0]]} if kinds else {}
