"""Labels in, cleaner labels out: fill holes, open, clear the border, keep objects by property."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from opsef_bridge.errors import InputError
from opsef_bridge.postprocess.ids import checked_labels, compact_labels

__all__ = ["LARGEST_OPENING", "Postprocess", "clean"]

Bounds = tuple[float | None, float | None]

LARGEST_OPENING = 50
"""Largest radius of an opening, in pixels."""


class Postprocess(BaseModel):
    """The ``postprocess`` block of ``opsef.yaml``: the parameters of `clean`.

    Examples
    --------
    >>> Postprocess(keep=[{"area": [30, None]}]).keep
    ({'area': (30.0, None)},)
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    fill_holes: bool = False
    """Give background that an object encloses to that object."""
    open: int = Field(0, ge=0, le=LARGEST_OPENING)
    """Radius of a disk, in pixels: parts of an object that it does not fit into go. What falls
    apart becomes several objects, or the largest piece with ``largest_component``. 0: off."""
    largest_component: bool = False
    """Of an object in several pieces keep the largest."""
    clear_border: bool = False
    """Remove objects that touch the border."""
    keep: tuple[dict[str, Bounds], ...] = ()
    """Properties with a lowest and a highest value, inclusive; ``null`` is an open end."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Postprocess:
        for bounds in self.keep:
            for name, (low, high) in bounds.items():
                if low is not None and high is not None and low > high:
                    raise ValueError(f"{name}: {low:g} is above {high:g}")
        return self

    def needs_intensity(self) -> bool:
        """Whether `clean` needs the image that the labels were made from.

        Examples
        --------
        >>> Postprocess(keep=[{"intensity_mean": [90, None]}]).needs_intensity()
        True
        """
        return any(_is_intensity(name) for bounds in self.keep for name in bounds)


def clean(
    labels: np.ndarray,
    *,
    fill_holes: bool = False,
    open: int = 0,
    largest_component: bool = False,
    clear_border: bool = False,
    keep: Sequence[Mapping[str, Bounds | Sequence[float | None]]] = (),
    intensity: np.ndarray | None = None,
) -> np.ndarray:
    """Return `labels` cleaned, in this order, and renumbered.

    No step looks at the whole image for each object: the time grows with the pixels.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X) or (Z, Y, X)
        0 is background. Never changed.
    fill_holes : bool
        Give background that an object encloses to that object; where several do, to the
        innermost. Pixels of other objects are never taken. In a volume a hole is enclosed
        on all sides. See `opsef_bridge.postprocess.shapes.fill_holes`.
    open : int
        Radius in pixels, 0 (off) to 50. Open each object by ImageJ's disk, in a volume plane
        by plane; objects never merge. Of all objects that then are in several pieces every
        piece becomes an object of its own, unless `largest_component` is set.
    largest_component : bool
        Of an object in several pieces keep the largest. Pixels that touch at a corner belong
        together.
    clear_border : bool
        Remove objects that touch the border in Y or X (not in Z, where thin volumes cut
        nearly every object).
    keep : sequence of {property: (low, high)}
        Remove objects outside the bounds, which are inclusive; None is an open end.
        Properties are those of `opsef_bridge.measure.region_table` that have one column,
        measured after the steps above. What has no value (NaN) is kept.
    intensity : ndarray, optional
        Image in which the intensities that `keep` names are measured: the shape of `labels`,
        or one more axis, first or last, for channels (``intensity_mean_0``, ...). The raw
        image, so that bounds are in its grey levels and not in those of a recipe.

    Returns
    -------
    ndarray of int32
        The shape of `labels`; ids 1..N without gaps, in the order of the old ids, and of
        place where one object became several.

    Raises
    ------
    InputError
        `labels` are negative, no integers, no plane or volume; `open` is out of range; a
        property is unknown or needs an intensity image; or that has another shape.

    Examples
    --------
    >>> labels = np.array([[7, 7, 7, 0], [7, 0, 7, 0], [7, 7, 7, 4]])
    >>> clean(labels, fill_holes=True, keep=[{"area": (9, None)}])
    array([[1, 1, 1, 0],
           [1, 1, 1, 0],
           [1, 1, 1, 0]], dtype=int32)
    """
    from opsef_bridge.postprocess import shapes  # brings numba
    from opsef_bridge.postprocess.loops import present, translated

    if not 0 <= open <= LARGEST_OPENING:
        raise InputError(
            f"an opening of radius {open}", hint=f"Give 0 (off) to {LARGEST_OPENING} pixels"
        )
    labels, _ = compact_labels(checked_labels(labels))
    if fill_holes:
        labels = shapes.fill_holes(labels)
    if open:
        labels = shapes.open_objects(labels, open)
    if largest_component:
        labels = shapes.largest_pieces(labels)
    elif open:
        labels = shapes.part_pieces(labels)
    flat = np.ascontiguousarray(labels).reshape(-1)
    kept = _fit(labels, intensity, keep) if any(keep) else present(flat, int(labels.max()) + 1)
    if clear_border:
        for axis in (-2, -1):
            kept[labels.take((0, -1), axis=axis)] = False
    kept[0] = False
    number = np.where(kept, np.cumsum(kept, dtype=np.int32), 0)
    return translated(flat, number).reshape(labels.shape)


def _fit(
    labels: np.ndarray,
    intensity: np.ndarray | None,
    keep: Sequence[Mapping[str, Bounds | Sequence[float | None]]],
) -> np.ndarray:
    """Return which of the ids, up to the largest there is, are objects inside all bounds."""
    from opsef_bridge.measure.regions import region_table

    names = list(dict.fromkeys(name for bounds in keep for name in bounds))
    for name in names:
        if intensity is None and _is_intensity(name):
            raise InputError(
                f"{name!r} is measured in an image, and there is none",
                hint="Give `intensity`, an image of the shape of the labels",
            )
    needed = intensity if any(map(_is_intensity, names)) else None
    table = region_table(labels, needed, properties=names)
    fits = np.ones(len(table), bool)
    for bounds in keep:
        for name, (low, high) in bounds.items():
            if name not in table:
                raise InputError(
                    f"{name!r} is not one number per object",
                    hint=f"Use one of its columns: {_columns_of(name, table)}",
                )
            values = table[name].to_numpy()
            if low is not None:
                fits &= ~(values < low)
            if high is not None:
                fits &= ~(values > high)
    ids = table["label"].to_numpy()
    kept = np.zeros(int(ids.max(initial=0)) + 1, bool)
    kept[ids[fits]] = True
    return kept


def _is_intensity(name: str) -> bool:
    return name.startswith("intensity_")


def _columns_of(name: str, table: Mapping[str, object]) -> str:
    return ", ".join(column for column in table if column.startswith(f"{name}_"))
