"""Axes by name: whose letters they are, what to do where a file does not say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from opsef_bridge.errors import ImageError
from opsef_bridge.images.image import AXES
from opsef_bridge.images.region import Region, part_index

__all__ = ["arrange", "arrange_part", "name_axes", "without_pixels"]


def name_axes(shape: tuple[int, ...], found: str, given: str | None, name: str) -> str:
    """Return one letter of ``TZCYXS`` for each dimension of `shape`.

    Parameters
    ----------
    shape : tuple of int
        Shape as the file has it.
    found : str
        Letters that the file gives; any letter that is not of ``TZCYXS`` is unknown.
    given : str or None
        Letters that the caller gives, for all dimensions or for those above 1. They win
        over the file: stacks whose slices are stored as time points are common. With a
        ``?`` before them they only count where the file does not say.
    name : str
        File name, for messages.

    Raises
    ------
    ImageError
        The file does not say, and neither does the caller; or the caller's letters do
        not fit.
    """
    unknown = any(a not in AXES and size > 1 for a, size in zip(found, shape, strict=True))
    if given is not None and given.startswith("?"):
        given = given[1:] if unknown else None
    if given is None:
        if unknown:
            raise _ambiguous(shape, found, name)
        return "".join(axis if axis in AXES else "?" for axis in found)
    large = [i for i, size in enumerate(shape) if size > 1]
    if len(given) == len(shape):
        letters = given
    elif len(given) == len(large):
        by_index = dict(zip(large, given, strict=True))
        letters = "".join(by_index.get(i, "?") for i in range(len(shape)))
    else:
        letters = ""
    if not _valid(letters):
        raise ImageError(
            f"axes {given!r} do not fit {name} of shape {shape}",
            hint=f"Name each dimension once with letters of {AXES}, Y and X among them",
        )
    return letters


def _valid(letters: str) -> bool:
    named = letters.replace("?", "")
    return {"Y", "X"} <= set(named) <= set(AXES) and len(set(named)) == len(named)


def _ambiguous(shape: tuple[int, ...], found: str, name: str) -> ImageError:
    sizes = " x ".join(str(size) for size in shape)
    free = [axis for axis in "ZCT" if axis not in found]
    words = {"Z": "slices of a volume", "C": "channels", "T": "time points", "S": "colours"}
    rest = "YXS" if found.endswith("S") else "YX"
    if sum(axis not in AXES for axis in found) == 1 and len(shape) == len(rest) + 1:
        if rest == "YX" and shape[0] == 3:
            free.append("S")
        choices = ", ".join(f"axes={axis + rest!r} for {words[axis]}" for axis in free)
    else:
        choices = f"axes={'TZCYX'[-len(shape) :]!r}, letters of {AXES} in the order of the file"
    return ImageError(
        f"{name} ({sizes}) does not say what its axes mean: {found.translate(_UNKNOWN)!r}",
        hint=f"Say it: {choices} (in opsef.yaml under images: axes)",
    )


_UNKNOWN = {ord(letter): "?" for letter in "ABDEFGHIJKLMNOPQRUVW"}


def arrange(data: np.ndarray, letters: str, *, colour: bool = False) -> tuple[np.ndarray, str]:
    """Return `data` with its axes in the order ``TZCYXS`` and singleton axes dropped.

    Samples that are no colour become channels; the fourth sample of a colour image
    (alpha) is dropped.

    Parameters
    ----------
    data : ndarray
    letters : str
        From `name_axes`; ``?`` marks singleton axes without a name.
    colour : bool
        The samples are red, green, blue (and alpha).

    Returns
    -------
    data : ndarray
        A view of `data`.
    axes : str

    Examples
    --------
    >>> data, axes = arrange(np.zeros((8, 9, 1, 3)), "YXTC")
    >>> data.shape, axes
    ((3, 8, 9), 'CYX')
    """
    keep = [i for i, axis in enumerate(letters) if axis in "YX" or data.shape[i] > 1]
    data = data[tuple(slice(None) if i in keep else 0 for i in range(data.ndim))]
    letters = "".join(letters[i] for i in keep)
    if "S" in letters:
        samples = data.shape[letters.index("S")]
        if colour and samples == 4:
            data = data[(slice(None),) * letters.index("S") + (slice(3),)]
        elif not (colour and samples == 3) and "C" not in letters:
            letters = letters.replace("S", "C")
        elif not colour or samples != 3:
            raise ImageError(
                f"{samples} samples a pixel beside {data.shape[letters.index('C')]} channels",
                hint="Save the image with one sample a pixel, or as RGB",
            )
    order = sorted(range(data.ndim), key=lambda i: AXES.index(letters[i]))
    return data.transpose(order), "".join(letters[i] for i in order)


def without_pixels(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Return an array of that shape and dtype that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), tuple(shape))


def arrange_part(
    load: Callable[[tuple[slice | list[int], ...]], np.ndarray],
    letters: str,
    shape: Sequence[int],
    region: Region | None,
    *,
    colour: bool = False,
) -> tuple[np.ndarray, str]:
    """Return a part of a file as `arrange` would give it, reading only that part.

    Parameters
    ----------
    load : callable
        Called once with what is wanted of each dimension of the file: slices of step 1,
        or a list of channels. Returns that part, all dimensions kept.
    letters, colour
        As those of `arrange`.
    shape : sequence of int
        Shape as the file has it.
    region : Region or None

    Returns
    -------
    data : ndarray
    axes : str

    Raises
    ------
    ImageError
        The region does not fit into the image.

    Examples
    --------
    >>> file = np.arange(24).reshape(2, 3, 4)
    >>> arrange_part(lambda index: file[index], "YXC", (2, 3, 4), Region(c=(3,), x=(1, 3)))
    (array([[ 7, 11],
           [19, 23]]), 'YX')
    """
    whole, axes = arrange(without_pixels(shape, np.uint8), letters, colour=colour)
    if region is None:
        return arrange(load(tuple(slice(0, size) for size in shape)), letters, colour=colour)
    region.shape(axes, whole.shape)
    if "S" not in axes:
        # What is left of samples that are channels must not be taken for colours.
        letters, colour = _samples_as_channels(letters, shape), False
    index = part_index(region, letters, shape)
    return arrange(load(index), letters, colour=colour)


def _samples_as_channels(letters: str, shape: Sequence[int]) -> str:
    if "S" not in letters or shape[letters.index("S")] == 1:
        return letters
    return letters.replace("C", "?").replace("S", "C")
