"""Labels in, cleaner labels out: fill holes, clear the border, keep objects by property."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.ndimage
from pydantic import BaseModel, ConfigDict, model_validator

from opsef_bridge.errors import InputError

__all__ = ["Postprocess", "clean"]

Bounds = tuple[float | None, float | None]


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


def clean(
    labels: np.ndarray,
    *,
    fill_holes: bool = False,
    clear_border: bool = False,
    keep: Sequence[Mapping[str, Bounds | Sequence[float | None]]] = (),
) -> np.ndarray:
    """Return `labels` cleaned, in this order, and renumbered.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X) or (Z, Y, X)
        0 is background. Never changed.
    fill_holes : bool
        Give background that an object encloses to that object; where several do, to the
        smallest. Pixels of other objects are never taken. In a volume a hole is enclosed
        on all sides.
    clear_border : bool
        Remove objects that touch the border in Y or X (not in Z, where thin volumes cut
        nearly every object).
    keep : sequence of {property: (low, high)}
        Remove objects outside the bounds, which are inclusive; None is an open end.
        Properties are those of `opsef_bridge.measure.region_table` that have one column
        and need no intensities. What has no value (NaN) is kept.

    Returns
    -------
    ndarray of int32
        The shape of `labels`; ids 1..N without gaps, in the order of the old ids.

    Raises
    ------
    InputError
        `labels` are negative, no integers, no plane or volume; or a property is unknown.

    Examples
    --------
    >>> labels = np.array([[7, 7, 7, 0], [7, 0, 7, 0], [7, 7, 7, 4]])
    >>> clean(labels, fill_holes=True, keep=[{"area": (9, None)}])
    array([[1, 1, 1, 0],
           [1, 1, 1, 0],
           [1, 1, 1, 0]], dtype=int32)
    """
    labels = _renumbered(_checked(labels))
    if fill_holes:
        _fill_holes(labels)
    wrong = np.zeros(int(labels.max()) + 1, bool)
    if clear_border:
        for axis in (-2, -1):
            wrong[labels.take((0, -1), axis=axis)] = True
    for bounds in keep:
        for name, (low, high) in bounds.items():
            objects, values = _property(labels, name)
            wrong[objects[_outside(values, low, high)]] = True
    wrong[0] = False
    return _renumbered(np.where(wrong[labels], 0, labels)) if wrong.any() else labels


def _checked(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "iu" or labels.size == 0:
        raise InputError(
            f"labels of dtype {labels.dtype} and shape {labels.shape}",
            hint="Give integers with axes YX or ZYX",
        )
    if labels.min() < 0:
        raise InputError(f"a label is {labels.min()}", hint="Labels go from 0 (background) upwards")
    return labels


def _renumbered(labels: np.ndarray) -> np.ndarray:
    """Return int32 labels 1..N in the order of the old ids; always a copy."""
    high = int(labels.max())
    if high <= 4 * labels.size + 255:  # a table is faster than sorting the pixels
        present = np.zeros(high + 1, bool)
        present[labels] = True
        present[0] = False
        return np.cumsum(present, dtype=np.int32)[labels]
    ids, index = np.unique(labels, return_inverse=True)
    first = 0 if ids[0] == 0 else 1
    return (index + first).astype(np.int32).reshape(labels.shape)


def _fill_holes(labels: np.ndarray) -> None:
    """Fill in place, smallest object first, so that the inner of two rings wins."""
    areas = np.bincount(labels.ravel())
    boxes = scipy.ndimage.find_objects(labels)
    for label in np.argsort(areas[1:], kind="stable") + 1:
        view = labels[boxes[label - 1]]
        mask = view == label
        filled = scipy.ndimage.binary_fill_holes(mask)
        view[filled & (view == 0)] = label


def _property(labels: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and the value of one property for each."""
    if name == "area":
        areas = np.bincount(labels.ravel())[1:]
        return np.arange(1, areas.size + 1), areas
    from opsef_bridge.measure.regions import region_table

    table = region_table(labels, properties=[name])
    if name not in table:
        raise InputError(
            f"{name!r} is not one number per object",
            hint=f"Use one of its columns: {', '.join(c for c in table if c != 'label')}",
        )
    return table["label"].to_numpy(), table[name].to_numpy()


def _outside(values: np.ndarray, low: float | None, high: float | None) -> np.ndarray:
    outside = np.zeros(values.shape, bool)
    if low is not None:
        outside |= values < low
    if high is not None:
        outside |= values > high
    return outside
