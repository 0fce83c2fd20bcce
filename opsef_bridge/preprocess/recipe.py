"""Recipes: ordered lists of steps, as ``opsef.yaml`` has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.errors import ConfigError, InputError
from opsef_bridge.files import file_sha256
from opsef_bridge.images.image import Image
from opsef_bridge.images.plane import segment_plane, segment_samples
from opsef_bridge.preprocess.imagej_steps import fiji_of
from opsef_bridge.preprocess.registry import Step, find_step
from opsef_bridge.preprocess.whole import Place

__all__ = [
    "DEFAULT_ORDER",
    "apply_recipe",
    "default_order",
    "normalise_recipe",
    "recipe_identity",
    "recipe_scale",
    "resolve_files",
    "takes_colour",
    "to_source_grid",
]

Entry = str | Mapping[str, Mapping[str, Any] | None] | tuple[str, Mapping[str, Any]]
Recipe = Sequence[Entry]

DEFAULT_ORDER = (
    "colour_deconvolution",
    "colour_deconvolution_fiji",
    "single_channel",
    "grey",
    "bin",
    "flat_field",
    "subtract",
    "rolling_ball",
    "gaussian_background",
    "white_tophat",
    "median",
    "mean",
    "gaussian",
    "denoise",
    "normalise",
    "clahe",
    "clahe_fiji",
    "edges",
    "invert",
    "to_8bit",
)
"""The order that is recommended where there is no reason for another: choose of colour, make
smaller, remove background, smooth, adjust contrast, find edges, invert, reduce to 8 bits. A
recipe runs as it is written. (The step `imagej` has no place: it does what it is told.)"""


def normalise_recipe(recipe: Recipe) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Return the steps of `recipe` with their parameters, defaults filled in.

    (But for parameters that came later than the step: see `Step`.)

    Parameters
    ----------
    recipe : sequence
        Of steps: ``{"median": {"radius": 1}}``, ``{"clahe": None}``, ``"clahe"``, or
        ``("clahe", {})`` as this function returns it.

    Raises
    ------
    ConfigError
        A step or parameter does not exist, or a value is out of its limits; or two steps
        make grey of colour.

    Examples
    --------
    >>> normalise_recipe(["invert", {"subtract": {"value": 4}}])
    (('invert', {}), ('subtract', {'value': 4.0}))
    """
    if isinstance(recipe, str) or not isinstance(recipe, Sequence):
        raise ConfigError(
            f"recipe {recipe!r} is no list", hint="Write a list: [{median: {radius: 1}}, clahe]"
        )
    steps = []
    for entry in recipe:
        name, parameters = _name_and_parameters(entry)
        steps.append((name, find_step(name).validate(parameters)))
    colour = [name for name, _ in steps if find_step(name).colour]
    if len(colour) > 1:
        raise ConfigError(
            f"a recipe with {' and '.join(colour)}: the second would find no colour any more",
            hint="Leave one, or make two recipes of it",
        )
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

    Of a file that a step names it is what is in it, wherever it lies. What a local Fiji
    computes depends on the versions in it too.

    Returns
    -------
    list of [name, version, parameters] or [name, version, parameters, Fiji]
        Two recipes that share a beginning share the beginning of this list.

    Examples
    --------
    >>> recipe_identity(["invert"])
    [['invert', 1, {}]]
    """
    return [
        [
            name,
            find_step(name).version,
            _with_contents(name, parameters),
            *fiji_of(name, parameters),
        ]
        for name, parameters in normalise_recipe(recipe)
    ]


def _with_contents(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    named = {key: parameters[key] for key in find_step(name).files if parameters[key] is not None}
    return parameters | {key: f"sha256:{_sha256(name, file)}" for key, file in named.items()}


def _sha256(name: str, file: str) -> str:
    try:
        status = Path(file).stat()
        return _sha256_of(file, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise InputError(
            f"step {name}: {file} cannot be read: {error.strerror}",
            hint="Check its path",
        ) from None


@lru_cache(maxsize=64)
def _sha256_of(file: str, mtime: int, size: int) -> str:
    return file_sha256(file)


def resolve_files(recipe: Recipe, folder: str | Path) -> list[Entry]:
    """Return `recipe` with the files that its steps name as whole paths.

    Parameters
    ----------
    recipe : sequence
    folder : path
        What their paths are relative to, such as that of the project.

    Examples
    --------
    >>> resolve_files(["invert", {"flat_field": {"reference": "/flat.tif"}}], "project")
    ['invert', {'flat_field': {'reference': '/flat.tif'}}]
    """
    resolved: list[Entry] = []
    for entry in recipe:
        name, given = _name_and_parameters(entry)
        parameters = dict(given or {})
        files = [key for key in find_step(name).files if parameters.get(key) is not None]
        for key in files:
            parameters[key] = str(Path(folder, parameters[key]).absolute())
        resolved.append({name: parameters} if files else entry)
    return resolved


def takes_colour(recipe: Recipe) -> bool:
    """Return whether `recipe` takes the samples of a colour image, not its luminance.

    Examples
    --------
    >>> takes_colour(["bin", "colour_deconvolution"]), takes_colour(["bin"])
    (True, False)
    """
    return any(find_step(name).colour for name, _ in normalise_recipe(recipe))


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


def apply_recipe(
    image: np.ndarray | Image,
    recipe: Recipe,
    *,
    samples: bool | None = None,
    place: Callable[[int, int | None], Place] | None = None,
) -> np.ndarray:
    """Apply the steps of `recipe` in their order.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX, or Image
        Any real dtype, finite, in any byte order or memory layout; never changed. Of an
        `Image` the first channel is taken, of a colour image its luminance
        (`opsef_bridge.images.segment_plane`), or, if the recipe takes colour, its samples.
    recipe : sequence
        See `normalise_recipe`.
    samples : bool, optional
        Whether the last axis of an array is its samples: YXS or ZYXS. By default it is if
        the recipe takes colour (`takes_colour`). Steps before the one that makes grey, or
        all if there is none, work on each sample by itself.
    place : callable, optional
        Where `image` is a part of an image: ``place(number, sample)`` returns what the step
        of that number (from 0) is told of the whole, of the sample of that number, or of
        all where that is None. Only steps with a `Step.part` are.

    Returns
    -------
    ndarray
        In native byte order; bool becomes uint8. With an empty recipe it may be `image`
        itself. With `bin` in the recipe it is smaller: see `recipe_scale`. Samples are left
        only of an array with samples, by a recipe that does not take colour.

    Raises
    ------
    ConfigError
        `recipe` is wrong.
    InputError
        `image` is no plane or volume of finite real numbers; or no colour image, which the
        recipe takes.

    Examples
    --------
    >>> apply_recipe(np.array([[1, 2], [3, 9]], np.uint8), [{"subtract": {"value": 2}}, "invert"])
    array([[255, 255],
           [254, 248]], dtype=uint8)
    """
    steps = normalise_recipe(recipe)
    colour = takes_colour(steps)
    samples = colour if samples is None else samples
    if isinstance(image, Image):
        samples = colour
        image = np.moveaxis(segment_samples(image), 0, -1) if colour else segment_plane(image)
    result = _checked(np.asarray(image), samples)
    if colour and (not samples or result.shape[-1] != 3):
        count = result.shape[-1] if samples else 0
        raise InputError(
            f"the recipe takes a colour image with 3 samples, this one has {count or 'none'}",
            hint="Leave out the step that makes grey of colour",
        )
    for number, (name, parameters) in enumerate(steps):
        step = find_step(name)
        told = partial(place, number) if place and step.part else None
        if samples and not step.colour:
            parts = [
                _applied(step, part, parameters, told and told(sample))
                for sample, part in enumerate(np.moveaxis(result, -1, 0))
            ]
            result = np.stack(parts, axis=-1)
        else:
            result = _applied(step, result, parameters, told and told(None))
            samples = False
    return result


def _applied(
    step: Step, image: np.ndarray, parameters: Mapping[str, Any], place: Place | None
) -> np.ndarray:
    if place is None or step.part is None:
        return step.function(image, **parameters)
    return step.part(image, place, **parameters)


def _checked(image: np.ndarray, samples: bool) -> np.ndarray:
    if image.ndim - samples not in (2, 3) or image.size == 0 or image.dtype.kind not in "biuf":
        raise InputError(
            f"an image of shape {image.shape} and dtype {image.dtype} cannot be preprocessed",
            hint=f"Give real numbers with axes {'YXS or ZYXS' if samples else 'YX or ZYX'}",
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
