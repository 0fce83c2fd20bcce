"""Label images as the postprocessing works on them: checked, int32, ids that index a table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.errors import InputError

__all__ = ["checked_labels", "compact_labels"]


def checked_labels(labels: np.ndarray) -> np.ndarray:
    """Return `labels` as an array, and refuse what is no label image.

    Raises
    ------
    InputError
        They are negative, no integers, no plane or volume, or have no pixel.
    """
    labels = np.asarray(labels)
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "iu" or labels.size == 0:
        raise InputError(
            f"labels of dtype {labels.dtype} and shape {labels.shape}",
            hint="Give integers with axes YX or ZYX",
        )
    if labels.min() < 0:
        raise InputError(f"a label is {labels.min()}", hint="Labels go from 0 (background) upwards")
    return labels


def compact_labels(labels: np.ndarray) -> tuple[NDArray[np.int32], NDArray[np.int64] | None]:
    """Return int32 labels that can index a table, and what they were, if they had to change.

    Returns
    -------
    labels : ndarray of int32
        The array itself where it is one already. The order of the ids stays.
    ids : ndarray of int64 or None
        The old id of each new one; None where they are the same.

    Examples
    --------
    >>> compact_labels(np.array([[0, 2**40, 7]]))
    (array([[0, 2, 1]], dtype=int32), array([            0,             7, 1099511627776]))
    """
    if int(labels.max()) <= 4 * labels.size + 255:  # a table is faster than sorting the pixels
        return labels.astype(np.int32, copy=False), None
    ids, index = np.unique(labels, return_inverse=True)
    if ids[0] != 0:
        ids, index = np.append(0, ids), index + 1
    return index.astype(np.int32).reshape(labels.shape), ids.astype(np.int64)
