"""Recipes: ordered lists of steps, as ``opsef.yaml`` has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from opsef_bridge.errors import ConfigError, InputError
from opsef_bridge.images.image import Image
from opsef_bridge.images.plane import segment_plane
from opsef_bridge.preprocess.registry import find_step

__all__ = [
    "DEFAULT_ORDER",
    "apply_recipe",
    "default_order",
    "normalise_recipe",
    "recipe_identity",
    "recipe_scale",
    "to_source_grid",
]

Entry = str | Mapping[str, Mapping[str, Any] | None] | tuple[str, Mapping[str, Any]]
Recipe = Sequence[Entry]

DEFAULT_ORDER = (
    "bin",
    "subtract",
    "white_tophat",
    "median",
    "mean",
    "gaussian",
    "normalise",
    "clahe",
    "edges",
    "invert",
)
"""The order that is recommended where there is no reason for another: make smaller, remove
background, smooth, adjust contrast, find edges, invert. A recipe runs as it is written."""


def normalise_recipe(recipe: Recipe) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Return the steps of `recipe` with all parameters, defaults filled in.

    Parameters
    ----------
    recipe : sequence
        Of steps: ``{"median": {"radius": 1}}``, ``{"clahe": None}``, ``"clahe"``, or
        ``("clahe", {})`` as this function returns it.

    Raises
    ------
    ConfigError
        A step or parameter does not exist, or a value is out of its limits.

    Examples
    --------
    >>> normalise_recipe(["invert", {"clahe": {"tiles": 4}}])
    (('invert', {}), ('clahe', {'tiles': 4, 'clip': 0.01}))
    """
    if isinstance(recipe, str) or not isinstance(recipe, Sequence):
        raise ConfigError(
            f"recipe {recipe!r} is no list", hint="Write a list: [{median: {radius: 1}}, clahe]"
        )
    steps = []
    for entry in recipe:
        name, parameters = _name_and_parameters(entry)
        steps.append((name, find_step(name).validate(parameters)))
    return tuple(steps)


def _name_and_parameters(entry: Entry) -> tuple[str, Mapping[str, Any] | None]:
    if isinstance(entry, str):
        return entry, None
    if isinstance(entry, Mapping) and len(entry) == 1:
        entry = next(iter(entry.items()))
    if isinstance(entry, tuple) and len(entry) == 2:
        name, parameters = entry
        if isinstance(name, str) and isinstance(parameters, Mapping | None):
            return name, parameters
    raise ConfigError(
        f"{entry!r} is no step", hint="Write one name and its parameters: {median: {radius: 1}}"
    )


def recipe_identity(recipe: Recipe) -> list[list[Any]]:
    """Return what the result depends on beside the image, for content keys.

    Returns
    -------
    list of [name, version, parameters]
        Two recipes that share a beginning share the beginning of this list.

    Examples
    --------
    >>> recipe_identity(["invert"])
    [['invert', 1, {}]]
    """
    return [
        [name, find_step(name).version, parameters] for name, parameters in normalise_recipe(recipe)
    ]


def default_order(recipe: Recipe) -> list[Entry]:
    """Return the steps of `recipe` in the `DEFAULT_ORDER`; steps that it lacks come last.

    Examples
    --------
    >>> default_order(["invert", "clahe", {"median": {"radius": 2}}])
    [{'median': {'radius': 2}}, 'clahe', 'invert']
    """

    def place(entry: Entry) -> int:
        name, _ = _name_and_parameters(entry)
        return DEFAULT_ORDER.index(name) if name in DEFAULT_ORDER else len(DEFAULT_ORDER)

    return sorted(recipe, key=place)


def apply_recipe(image: np.ndarray | Image, recipe: Recipe) -> np.ndarray:
    """Apply the steps of `recipe` in their order.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX, or Image
        Any real dtype, finite, in any byte order or memory layout; never changed. Of an
        `Image` the first channel is taken, of a colour image its luminance
        (`opsef_bridge.images.segment_plane`).
    recipe : sequence
        See `normalise_recipe`.

    Returns
    -------
    ndarray
        In native byte order; bool becomes uint8. With an empty recipe it may be `image`
        itself. With `bin` in the recipe it is smaller: see `recipe_scale`.

    Raises
    ------
    ConfigError
        `recipe` is wrong.
    InputError
        `image` is no plane or volume of finite real numbers.

    Examples
    --------
    >>> apply_recipe(np.array([[1, 2], [3, 9]], np.uint8), [{"subtract": {"value": 2}}, "invert"])
    array([[255, 255],
           [254, 248]], dtype=uint8)
    """
    steps = normalise_recipe(recipe)
    result = _checked(segment_plane(image) if isinstance(image, Image) else np.asarray(image))
    for name, parameters in steps:
        result = find_step(name).function(result, **parameters)
    return result


def _checked(image: np.ndarray) -> np.ndarray:
    if image.ndim not in (2, 3) or image.size == 0 or image.dtype.kind not in "biuf":
        raise InputError(
            f"an image of shape {image.shape} and dtype {image.dtype} cannot be preprocessed",
            hint="Give real numbers with axes YX or ZYX",
        )
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise InputError(
            f"{int((~np.isfinite(image)).sum())} of {image.size} pixels are NaN or infinite",
            hint="Replace them first",
        )
    if image.dtype.kind == "b":
        return image.astype(np.uint8)
    return image.astype(image.dtype.newbyteorder("="), copy=False)


def _bin_factors(recipe: Recipe) -> list[int]:
    steps = [(find_step(name), parameters) for name, parameters in normalise_recipe(recipe)]
    return [parameters[step.shrinks] for step, parameters in steps if step.shrinks]


def recipe_scale(recipe: Recipe) -> float:
    """Return the size of the result in Y and X relative to the image.

    Examples
    --------
    >>> recipe_scale([{"bin": {"factor": 2}}, "clahe"])
    0.5
    """
    return 1 / float(np.prod(_bin_factors(recipe)))


def to_source_grid(labels: np.ndarray, recipe: Recipe, shape: tuple[int, ...]) -> np.ndarray:
    """Bring labels of the result of `recipe` back to the grid of its image.

    Every pixel gets the label of the block that it was binned into.

    Parameters
    ----------
    labels : ndarray, axes YX or ZYX
        In the shape of ``apply_recipe(image, recipe)``.
    recipe : sequence
    shape : tuple of int
        Shape of the image.

    Returns
    -------
    ndarray of `shape`

    Examples
    --------
    >>> to_source_grid(np.array([[1, 2]]), ["bin"], (2, 3))
    array([[1, 1, 2],
           [1, 1, 2]])
    """
    factors = _bin_factors(recipe)
    for axis in (-2, -1):
        index = np.arange(shape[axis])
        for factor in factors:
            index = index // factor
        labels = labels.take(index, axis=axis)
    if labels.shape != tuple(shape):
        raise InputError(
            f"labels become {labels.shape}, the image has {tuple(shape)}",
            hint="Give the labels that were made from the result of this recipe",
        )
    return labels
