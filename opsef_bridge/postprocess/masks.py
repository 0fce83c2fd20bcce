"""Class masks: where they come from, and which objects lie in them.

A mask is a picture of regions (a tissue, a well, stained cells), painted by the user or made
from another channel. Objects inside of it are class 1, objects outside class 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from opsef_bridge.errors import InputError
from opsef_bridge.postprocess.ids import checked_labels, compact_labels
from opsef_bridge.postprocess.otsu import LARGEST_FILTER, LARGEST_RADIUS, Filter, auto_mask

__all__ = [
    "INSIDE",
    "OUTSIDE",
    "ClassMask",
    "classes_by_mask",
    "labels_of_class",
    "make_mask",
    "split_by_mask",
]

INSIDE, OUTSIDE = 1, 2

Rule = Literal["overlap", "centroid"]
Radius = Annotated[int, Field(ge=0, le=LARGEST_RADIUS)]


class ClassMask(BaseModel):
    """The ``class_mask`` block of ``opsef.yaml``: two classes of objects, by a mask.

    Examples
    --------
    >>> ClassMask(channel=1, factor=0.8).fraction
    0.5
    >>> ClassMask(source="masks/{stem}.tif").source_of("well_3")
    'masks/well_3.tif'
    >>> ClassMask(source="masks/{id}.tif").source_of("live", "i00002-live-t1")
    'masks/i00002-live-t1.tif'
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    source: str | None = None
    """File of the mask, relative to the project; ``{stem}`` is the name of the file of the image
    without its ending, ``{id}`` the id of the image, which tells series, time points and
    substacks of one file apart. What is above 0 is inside. Either this or ``channel``."""
    channel: Annotated[int, Field(ge=0)] | None = None
    """Number of the channel, from 0, that the mask is made from."""
    filter: Filter = "median"
    """What smooths the channel first."""
    radius: Radius = 2
    """Of the filter, in pixels; ``gaussian``: sigma."""
    factor: float = Field(0.6, gt=0, le=10)
    """What Otsu's threshold is multiplied by."""
    opening: Radius = 2
    """Radius in pixels: regions that such a disk does not fit into go."""
    closing: Radius = 0
    """Radius in pixels: gaps that such a disk does not fit into close."""
    erosion: Radius = 0
    """Pixels by which the regions shrink."""
    fill: bool = False
    """Fill the holes of the regions."""
    min_area: int = Field(0, ge=0)
    """Remove regions of fewer pixels."""
    legacy: bool = False
    """Scale the channel to 8 bit and take the lowest of Otsu's thresholds, as OpSeF did."""
    rule: Rule = "overlap"
    """``overlap``: an object is inside if enough of it is; ``centroid``: if its centre is."""
    fraction: float = Field(0.5, gt=0, le=1)
    """Share of an object, inclusive, that must be inside; for ``overlap``."""

    @model_validator(mode="after")
    def _one_origin(self) -> ClassMask:
        if (self.source is None) == (self.channel is None):
            raise ValueError("give either `source` (a file) or `channel` (a number)")
        fields = type(self).model_fields
        changed = [name for name in _AUTO if getattr(self, name) != fields[name].default]
        if self.source is not None and changed:
            raise ValueError(f"{changed[0]}: is for a mask from a `channel`; a `source` is ready")
        if self.rule != "overlap" and self.fraction != fields["fraction"].default:
            raise ValueError("fraction: is for the rule `overlap`")
        most = LARGEST_FILTER[self.filter]
        if self.radius > most:
            raise ValueError(f"radius: {self.radius} is above {most}, the most for {self.filter}")
        if self.source is not None:
            _check_template(self.source)
        return self

    def source_of(self, stem: str, id: str = "") -> str:
        """Return the file of the mask of an image.

        Parameters
        ----------
        stem : str
            Name of the file of the image, without its ending.
        id : str
            Of the image; needed where `source` has ``{id}``.

        Raises
        ------
        InputError
            The mask is made from a channel; or `source` has ``{id}``, and none is given.
        """
        if self.source is None:
            raise InputError("this mask is made from a channel", hint="Read the channel instead")
        if not id and "id" in _names_in(self.source):
            raise InputError(f"{self.source!r} needs the id of the image", hint="Give its id")
        return self.source.format(stem=stem, id=id)


_AUTO = (
    *("filter", "radius", "factor", "opening", "closing", "erosion", "fill", "min_area"),
    "legacy",
)


def _names_in(source: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(source) if name is not None}


def _check_template(source: str) -> None:
    try:
        names = _names_in(source)
        source.format(stem="", id="")
    except (ValueError, KeyError, IndexError, AttributeError):
        names = {"?"}
    if names - {"stem", "id"}:
        raise ValueError(f"source: {source!r}: the names in braces are {{stem}} and {{id}}")


def make_mask(picture: np.ndarray, how: ClassMask) -> NDArray[np.bool_]:
    """Return the mask that a ``class_mask`` block stands for.

    Parameters
    ----------
    picture : ndarray, axes YX or ZYX
        The user's mask (above 0 is inside) for a block with ``source``; the whole channel,
        not a crop of it, for one with ``channel``.
    how : ClassMask

    Examples
    --------
    >>> make_mask(np.array([[0, 255]]), ClassMask(source="mask.tif"))
    array([[False,  True]])
    """
    if how.source is not None:
        return np.asarray(picture) > 0
    return auto_mask(picture, **{name: getattr(how, name) for name in _AUTO})


def classes_by_mask(labels: np.ndarray, mask: np.ndarray, how: ClassMask) -> dict[int, int]:
    """Return the class of each object by the rule of a ``class_mask`` block.

    Parameters
    ----------
    labels : ndarray of int, axes YX or ZYX
    mask : ndarray
        Of the shape of `labels`, from `make_mask`; for labels of a crop, cut alike.
    how : ClassMask

    Returns
    -------
    dict of int to int
        By label: 1 inside, 2 outside. It fits into `opsef_bridge.rois.Objects`.
    """
    return split_by_mask(labels, mask, rule=how.rule, fraction=how.fraction)


def split_by_mask(
    labels: np.ndarray, mask: np.ndarray, *, rule: Rule = "overlap", fraction: float = 0.5
) -> dict[int, int]:
    """Sort objects into those inside of a mask (class 1) and those outside (class 2).

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X) or (Z, Y, X)
        0 is background.
    mask : ndarray
        Same shape; bool, labels or grey values. What is above 0 is inside.
    rule : {"overlap", "centroid"}
        ``overlap``: inside is an object of which at least `fraction` is inside.
        ``centroid``: inside is one whose centroid is, its fractions cut off, as OpSeF had
        it. The centroid of a crescent is not part of it.
    fraction : float
        Above 0 up to 1.

    Returns
    -------
    dict of int to int
        Class by label, ascending.

    Raises
    ------
    InputError
        The shapes differ, `labels` are no label image, or a value is out of range.

    Examples
    --------
    >>> labels = np.array([[4, 4, 4, 0, 7]])
    >>> split_by_mask(labels, np.array([[0, 255, 255, 255, 0]]))
    {4: 1, 7: 2}
    """
    from opsef_bridge.postprocess.loops import shares  # brings numba

    labels, mask = checked_labels(labels), np.asarray(mask)
    if rule not in get_args(Rule):
        raise InputError(f"rule {rule!r} is unknown", hint=f"Choose of {', '.join(get_args(Rule))}")
    if not 0 < fraction <= 1:
        raise InputError(f"fraction {fraction}", hint="Give a share above 0, up to 1")
    if labels.shape != mask.shape:
        raise InputError(
            f"the labels have the shape {labels.shape}, the mask {mask.shape}",
            hint="Give a mask of the image that was segmented, or cut both alike",
        )
    small, ids = compact_labels(labels)
    inside = mask > 0
    if rule == "centroid":
        numbers, within = _centres(small, inside)
    else:
        flat = np.ascontiguousarray(small).reshape(-1)
        pixels, shared = shares(flat, inside.reshape(-1), int(small.max()) + 1)
        numbers = np.flatnonzero(pixels[1:]) + 1
        # A quotient rounds as the number in a file does: 3 of 5 pixels are 0.6 of them.
        within = shared[numbers] / pixels[numbers] >= fraction
    classes = np.where(within, INSIDE, OUTSIDE)
    old = numbers if ids is None else ids[numbers]
    return dict(zip(old.tolist(), classes.tolist(), strict=True))


def labels_of_class(
    labels: np.ndarray, classes: Mapping[int, int], number: int
) -> NDArray[np.int32]:
    """Return the label image of the objects of one class; they keep their ids.

    Parameters
    ----------
    labels : ndarray of int
    classes : mapping of int to int
        Class by label, as `split_by_mask` returns it.
    number : int
        The class: 1 for inside, 2 for outside.

    Examples
    --------
    >>> labels_of_class(np.array([[4, 4, 0, 7]]), {4: 1, 7: 2}, 2)
    array([[0, 0, 0, 7]], dtype=int32)
    """
    chosen = [label for label, one in classes.items() if one == number]
    return np.where(np.isin(labels, chosen), labels, 0).astype(np.int32)


def _centres(labels: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids, and whether the centroid of each, its fractions cut off, is inside."""
    from opsef_bridge.postprocess.loops import sums

    solid = labels if labels.ndim == 3 else labels[None]
    pixels, total = sums(solid, int(labels.max()) + 1)
    numbers = np.flatnonzero(pixels)
    centre = total[numbers] // pixels[numbers, None]
    return numbers, inside.reshape(solid.shape)[tuple(centre.T)]
