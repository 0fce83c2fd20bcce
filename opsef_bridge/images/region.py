"""A part of an image: which time point, planes, channels and box are wanted."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from opsef_bridge.errors import ImageError, InputError
from opsef_bridge.images.image import Image

__all__ = ["Region", "part_index"]

Range = tuple[int, int]

TEXT = re.compile(r"(?:t=(?P<t>\d+)|(?P<axis>[zyx])=(?P<start>\d+):(?P<stop>\d+)|c=(?P<c>[\d,]+))")


@dataclass(frozen=True)
class Region:
    """A part of an image; None takes everything along an axis.

    Indices count from 0 and are those of the image as it is read in whole; ranges are
    ``(start, stop)``, half open. An axis that the image does not have counts as one of
    size 1.

    Parameters
    ----------
    t : int, optional
        One time point: the axis ``T`` goes.
    z : tuple of int, optional
        Planes from start to before stop.
    c : tuple of int, optional
        Channels, in the order wanted. The samples of a colour image are no channels.
    y, x : tuple of int, optional
        Rows and columns.

    Raises
    ------
    InputError
        A number is negative or no integer, a range is empty, `c` is empty or names a
        channel twice.

    Examples
    --------
    >>> region = Region(t=3, z=(0, 5), x=(512, 1024))
    >>> region.text
    't=3 z=0:5 x=512:1024'
    >>> Region.from_text(region.text) == region
    True
    """

    t: int | None = None
    z: Range | None = None
    c: tuple[int, ...] | None = None
    y: Range | None = None
    x: Range | None = None

    def __post_init__(self) -> None:
        if self.t is not None:
            self._set("t", _numbers("t", [self.t])[0])
        if self.c is not None:
            self._set("c", _numbers("c", self.c))
            if not self.c or len(set(self.c)) < len(self.c):
                raise InputError(f"channels {self.c}", hint="Name each channel wanted once")
        for axis in "zyx":
            given = getattr(self, axis)
            if given is None:
                continue
            limits = _numbers(axis, given)
            if len(limits) != 2 or limits[0] >= limits[1]:
                raise InputError(
                    f"{axis} of a region is {tuple(given)}", hint="Give (start, stop), start below"
                )
            self._set(axis, limits)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def shape(self, axes: str, shape: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        """Return axes and shape of the part of an image.

        Parameters
        ----------
        axes, shape
            Of the whole image, as `opsef_bridge.images.read_image` gives it.

        Returns
        -------
        axes : str
            Without axes of size 1, but for Y and X.
        shape : tuple of int

        Raises
        ------
        ImageError
            The region does not fit into the image; the message says the limits.

        Examples
        --------
        >>> Region(t=1, c=(0,), y=(0, 64)).shape("TCYX", (5, 2, 100, 200))
        ('YX', (64, 200))
        """
        whole = dict(zip(axes, shape, strict=True))
        sizes = {}
        for axis in "TZCYX":
            size = whole.get(axis, 1)
            taken = self.along(axis, size)
            sizes[axis] = len(taken) if isinstance(taken, list) else taken.stop - taken.start
        sizes["S"] = whole.get("S", 1)
        kept = [axis for axis in axes if axis in "YX" or sizes[axis] > 1]
        return "".join(kept), tuple(sizes[axis] for axis in kept)

    def along(self, axis: str, size: int) -> slice | list[int]:
        """Return what is taken of one axis: a slice, or a list of channels.

        Raises
        ------
        ImageError
            It is outside of 0 to `size`.
        """
        given = getattr(self, axis.lower(), None)
        if given is None:
            return slice(0, size)
        if axis == "T":
            low, high = given, given + 1
        elif axis == "C":
            low, high = min(given), max(given) + 1
        else:
            low, high = given
        if high > size:
            raise ImageError(
                f"{axis.lower()}={_text(given, axis.lower())} is outside of the image, "
                f"which has {axis.lower()}=0:{size}",
                hint=f"Numbers count from 0, the last of {axis} is {size - 1}",
            )
        return list(given) if axis == "C" else slice(low, high)

    def names(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the channels taken, of those of all `channels`."""
        if self.c is None or max(self.c) >= len(channels):
            return channels
        return tuple(channels[i] for i in self.c)

    def cut(self, image: Image) -> Image:
        """Return the part of an image that was read in whole.

        Axes of size 1 are dropped as readers do (Y and X stay); channel names and
        spacing follow. The pixels are a view where no channels are chosen.

        Raises
        ------
        ImageError
            The region does not fit into the image.

        Examples
        --------
        >>> import numpy as np
        >>> image = Image(np.zeros((3, 8, 9)), "CYX", channels=("a", "b", "c"))
        >>> part = Region(c=(2, 0), y=(0, 4)).cut(image)
        >>> part.data.shape, part.channels
        ((2, 4, 9), ('c', 'a'))
        """
        axes, shape = self.shape(image.axes, image.data.shape)
        data = image.data
        for i, axis in enumerate(image.axes):
            taken = self.along(axis, data.shape[i]) if axis != "S" else slice(None)
            data = data[(slice(None),) * i + (taken,)]
        spacing = {axis: size for axis, size in image.spacing.items() if axis in axes}
        return Image(
            data.reshape(shape) if len(shape) < data.ndim else data,
            axes,
            spacing,
            image.unit if spacing else "pixel",
            self.names(image.channels),
            image.time_step,
        )

    def within(self, outer: Region) -> Region:
        """Return this part of the part `outer` as one region of the whole image.

        Examples
        --------
        >>> Region(y=(10, 20), c=(1,)).within(Region(t=4, c=(3, 5), y=(100, 200))).text
        't=4 c=5 y=110:120'

        Raises
        ------
        ImageError
            It does not fit into `outer`.
        """
        found: dict[str, Any] = {}
        for axis in "tzcyx":
            inner, around = getattr(self, axis), getattr(outer, axis)
            if inner is None or around is None:
                found[axis] = around if inner is None else inner
            elif axis == "t":
                self.along("T", 1)
                found[axis] = around
            elif axis == "c":
                found[axis] = tuple(around[i] for i in self.along("C", len(around)))
            else:
                self.along(axis.upper(), around[1] - around[0])
                found[axis] = (around[0] + inner[0], around[0] + inner[1])
        return Region(**found)

    @property
    def text(self) -> str:
        """The region in one line, as ``images/index.csv`` has it; empty for all."""
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return " ".join(
            f"{name}={_text(value, name)}" for name, value in given if value is not None
        )

    @classmethod
    def from_text(cls, text: str) -> Region:
        """Return the region of a line such as ``"t=3 z=0:5 c=0,2 y=0:512"``.

        Raises
        ------
        InputError
            The text has another form.
        """
        found: dict[str, Any] = {}
        for word in text.split():
            match = TEXT.fullmatch(word)
            axis = match and (match["axis"] or word[0])
            if match is None or axis in found:
                raise InputError(
                    f"region {text!r} cannot be understood at {word!r}",
                    hint="Write it like 't=3 z=0:5 c=0,2 y=0:512 x=512:1024'; each at most once",
                )
            if match["axis"]:
                found[axis] = (int(match["start"]), int(match["stop"]))
            elif match["c"]:
                found["c"] = tuple(int(number) for number in match["c"].split(",") if number)
            else:
                found["t"] = int(match["t"])
        return cls(**found)

    def to_json(self) -> dict[str, Any]:
        """Return what is given, as JSON values.

        Examples
        --------
        >>> Region(t=0, y=(1, 2)).to_json()
        {'t': 0, 'y': [1, 2]}
        """
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value is not None
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Region:
        """Return the region that `to_json` described; InputError for anything else."""
        unknown = set(value) - {field.name for field in fields(cls)}
        if unknown:
            raise InputError(f"a region has no {sorted(unknown)}", hint="It has t, z, c, y and x")
        return cls(**value)


def _numbers(name: str, values: Any) -> tuple[int, ...]:
    try:
        found = tuple(operator.index(value) for value in values)
    except TypeError:
        found = (-1,)
    if any(number < 0 for number in found):
        raise InputError(
            f"{name} of a region is {values!r}",
            hint="Give integers from 0; ranges as (start, stop)",
        )
    return found


def _text(value: Any, name: str = "") -> str:
    if isinstance(value, int):
        return str(value)
    return ("," if name == "c" else ":").join(str(number) for number in value)


def part_index(region: Region, letters: str, shape: Sequence[int]) -> tuple[slice | list[int], ...]:
    """Return what `region` takes of each dimension of a file, all dimensions kept.

    Parameters
    ----------
    region : Region
    letters : str
        One letter per dimension, in the order of the file; those that are none of
        ``TZCYX`` are taken whole.
    shape : sequence of int

    Returns
    -------
    tuple of slice or list of int
        Slices of step 1; a list for chosen channels.
    """
    return tuple(
        region.along(letter, size) if letter in "TZCYX" else slice(0, size)
        for letter, size in zip(letters, shape, strict=True)
    )
