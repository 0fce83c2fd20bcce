"""`clean` for labels that are larger than the memory: piece by piece, the same result.

The border and areas are known of every object (`opsef_bridge.measure.stitch.Objects`);
holes and other properties are looked at in the boxes of the objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import scipy.ndimage

from opsef_bridge.errors import ConfigError, InputError
from opsef_bridge.measure.stitch import BLOCK, Objects, release
from opsef_bridge.postprocess.clean import Bounds, Postprocess

__all__ = ["check_postprocess", "clean_large"]

DONE_HERE = ("fill_holes", "clear_border", "keep")
"""Fields of `Postprocess` that `clean_large` knows."""

BY_PLACE = ("centroid", "bbox", "touches_border")
"""Properties that a piece of the image gives in coordinates of its own."""

LARGEST = 2**25
"""Pixels of the largest box of an object that is looked at."""


def check_postprocess(settings: Postprocess) -> None:
    """Refuse what can only be done with the whole image in memory.

    Raises
    ------
    ConfigError
        Names the setting.
    """
    wanted = settings.model_dump()
    for name, field in Postprocess.model_fields.items():
        if name not in DONE_HERE and wanted[name] != field.get_default(call_default_factory=True):
            raise ConfigError(
                f"postprocess.{name} needs whole images in memory, and some are worked on in tiles",
                hint="Leave it out, or use `images: {tiles: {separate: true}}`",
            )
    for bounds in settings.keep:
        for name in bounds:
            if name.startswith(BY_PLACE):
                raise ConfigError(
                    f"postprocess.keep: {name} depends on the place in the image, which is not "
                    "known where it is worked on in tiles",
                    hint="`clear_border: true` removes objects at the border of the image",
                )


def clean_large(
    canvas: np.ndarray,
    objects: Objects,
    *,
    fill_holes: bool = False,
    clear_border: bool = False,
    keep: Sequence[Mapping[str, Bounds]] = (),
    intensity: Callable[[tuple[slice, ...]], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Say what `opsef_bridge.postprocess.clean` would leave of labels.

    Parameters
    ----------
    canvas : ndarray or memmap of int32, axes YX or ZYX
        Labels 1..N without gaps; holes are filled in place.
    objects : Objects
        Of the canvas.
    fill_holes, clear_border, keep
        As those of `clean`.
    intensity : callable, optional
        Returns a part of the image in which intensities that `keep` names are measured, of
        one slice per axis of the canvas.

    Returns
    -------
    number : (N + 1,) ndarray of int32
        The new number of each old one, 0 for what goes: ``number[canvas]`` are the labels.
    areas : ndarray of int64
        Pixels of the objects that stay, in their order.

    Raises
    ------
    InputError
        A property is not one number per object, or needs an intensity image; or an object
        spans more than 2**25 pixels and has to be looked at.

    Examples
    --------
    >>> labels = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 2]], np.int32)
    >>> objects = Objects(np.array([8, 1]), np.array([[0, 0], [2, 3]]), np.array([[3, 3], [3, 4]]))
    >>> number, areas = clean_large(labels, objects, fill_holes=True, keep=[{"area": (9, None)}])
    >>> number, areas
    (array([0, 1, 0], dtype=int32), array([9]))
    """
    areas = objects.areas.copy()
    if fill_holes:
        _fill_holes(canvas, objects, areas)
    wrong = np.zeros(len(objects), bool)
    if clear_border:
        sides = np.array(canvas.shape[-2:])
        wrong |= (objects.low[:, -2:] == 0).any(axis=1)
        wrong |= (objects.high[:, -2:] == sides).any(axis=1)
    for bounds in keep:
        for name, (low, high) in bounds.items():
            values = areas if name == "area" else _measured(canvas, objects, name, intensity)
            if low is not None:
                wrong |= values < low
            if high is not None:
                wrong |= values > high
    number = np.zeros(len(objects) + 1, np.int32)
    number[1:][~wrong] = np.arange(1, np.count_nonzero(~wrong) + 1)
    return number, areas[~wrong]


def _fill_holes(canvas: np.ndarray, objects: Objects, areas: np.ndarray) -> None:
    """Fill in place, smallest box first, so that the inner of two rings wins."""
    extent = (objects.high - objects.low).prod(axis=1)
    for count, index in enumerate(np.argsort(extent, kind="stable")):
        box = _box(objects.low[index], objects.high[index])
        view = canvas[box]
        mask = view == index + 1
        hole = scipy.ndimage.binary_fill_holes(mask) & (view == 0)
        if hole.any():
            view[hole] = index + 1
            areas[index] += np.count_nonzero(hole)
        if count % 1000 == 0:
            release(canvas)
    release(canvas)


def _measured(
    canvas: np.ndarray,
    objects: Objects,
    name: str,
    intensity: Callable[[tuple[slice, ...]], np.ndarray] | None,
) -> np.ndarray:
    """Return one property of every object; NaN where it has no value."""
    from opsef_bridge.measure.regions import region_table  # brings numba

    needed = name.startswith("intensity_")
    if needed and intensity is None:
        raise InputError(
            f"{name!r} is measured in an image, and there is none",
            hint="Give `intensity`, which returns parts of it",
        )
    values = np.full(len(objects), np.nan)
    mine = np.zeros(len(objects) + 1, bool)
    for group in _groups(objects):
        box = _box(objects.low[group].min(axis=0), objects.high[group].max(axis=0))
        mine[group + 1] = True
        part = np.array(canvas[box])
        part[~mine[part]] = 0
        mine[group + 1] = False
        release(canvas)
        pixels = intensity(box) if needed and intensity is not None else None
        table = region_table(part, pixels, properties=[name])
        if name not in table:
            raise InputError(
                f"{name!r} is not one number per object",
                hint=f"Use one of its columns: {', '.join(c for c in table if c != 'label')}",
            )
        values[table["label"].to_numpy() - 1] = table[name].to_numpy()
    return values


def _groups(objects: Objects) -> Iterator[np.ndarray]:
    """Yield the indices of objects that lie near each other; large ones one by one."""
    if not len(objects):
        return
    steps = np.array(BLOCK[-objects.low.shape[1] :])
    large = ((objects.high - objects.low) > steps).any(axis=1)
    yield from (np.array([index]) for index in np.flatnonzero(large))
    small = np.flatnonzero(~large)
    place = objects.low[small] // steps
    order = np.lexsort(place.T[::-1])
    small, place = small[order], place[order]
    new = np.flatnonzero((place[1:] != place[:-1]).any(axis=1)) + 1
    yield from (group for group in np.split(small, new) if len(group))


def _box(low: np.ndarray, high: np.ndarray) -> tuple[slice, ...]:
    """Return the box of an object as an index; refuse one that may not fit into the memory."""
    if np.prod((high - low).astype(float)) > LARGEST:
        raise InputError(
            f"an object spans {' x '.join(map(str, high - low))} pixels, too many to fill its "
            "holes or to measure it",
            hint="Is it background? Choose another threshold, or leave out fill_holes and keep",
        )
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
