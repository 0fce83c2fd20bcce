"""How large the objects of an image are, for the engine ``cellpose`` and ``diameter: auto``.

With a size model of the package: a linear regression tells the diameter from the style
vector of a pass, and the median diameter of the objects found at that size is the answer, as
in ``SizeModel.eval`` [1]_. Without: the objects found at the network's own size are measured.
Diameters are those of discs as large as the objects.

References
----------
.. [1] C. Stringer, T. Wang, M. Michaelos, M. Pachitariu, "Cellpose: a generalist algorithm
   for cellular segmentation", Nature Methods 18:100-106, 2021.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.cellpose_network import STEPS, STYLE
from opsef_bridge.errors import WeightsError

__all__ = [
    "Pass",
    "SizeModel",
    "estimate_diameter",
    "median_diameter",
    "read_size_model",
    "size_model_of",
]

LARGEST = 2**20
"""Bytes of a file with a size model; the official ones have 3 kB."""

LEAST = 5.0
"""Diameters in px that the regression tells are at least this, as in the package."""

LADDER = (1.0, 2.0, 4.0, 0.5)
"""Factors of the network's own diameter at which objects are looked for, until some are
found; large ones first, since passes for small ones take long."""

Pass = Callable[[float], tuple[np.ndarray, np.ndarray]]
"""From a scale to what the network finds ((1, M, N, 3), resized) and the style (1, 256)."""


@dataclass(frozen=True)
class SizeModel:
    """A linear regression from the style vector to the logarithm of the diameter.

    Parameters
    ----------
    slope, mean : (256,) ndarray of float64
        ``A`` and ``smean`` of the package.
    offset : float
        ``ymean`` of the package.
    diameter : float
        ``diam_mean`` of the package, in px.
    """

    slope: np.ndarray
    mean: np.ndarray
    offset: float
    diameter: float

    def diameter_of(self, style: np.ndarray) -> float:
        """Return the diameter in px that a style vector (256,) tells."""
        power = float(self.slope @ (style - self.mean)) + self.offset
        # A style unlike all that were learned from may lead anywhere.
        return max(LEAST, self.diameter * math.exp(min(power, 100.0)))


def estimate_diameter(
    package: SimpleNamespace,
    run: Pass,
    shape: tuple[int, int],
    *,
    own: float,
    labelled: float,
    model: SizeModel | None,
) -> float:
    """Return the diameter of the objects of a plane in px.

    Parameters
    ----------
    package : namespace
        Of `opsef_bridge.engines.cellpose_network.import_package`.
    run : callable
        A pass over the plane at a scale.
    shape : tuple of int
        Of the plane.
    own : float
        Diameter in px at which the network has seen objects in training.
    labelled : float
        Mean diameter in px of the objects of its training images, before they were resized:
        the regression was made on passes that suppose this size.
    model : SizeModel or None

    Returns
    -------
    float
        That of the regression model, or `own`, where no object is found.
    """

    def measure(scale: float) -> float:
        return median_diameter(_labels(package, run(scale)[0][0], shape))

    def fits(scale: float) -> bool:
        return min(shape) * scale >= 1

    if model is not None:
        start = own / labelled if fits(own / labelled) else 1.0
        told = model.diameter_of(run(start)[1][0])
        scale = model.diameter / told
        return (measure(scale) if fits(scale) else 0.0) or model.diameter
    tried = (measure(1 / factor) for factor in LADDER if fits(1 / factor))
    return next((found for found in tried if found), own)


def median_diameter(labels: np.ndarray) -> float:
    """Return the median over the objects of the diameter of a disc of their area; 0 for none.

    Examples
    --------
    >>> labels = np.repeat([0, 1, 2], [5, 100, 100])
    >>> round(median_diameter(labels), 2)
    11.28
    """
    area = np.bincount(labels.ravel())[1:]
    area = area[area > 0]
    return 2 * float(np.median(np.sqrt(area))) / math.sqrt(math.pi) if len(area) else 0.0


def _labels(package: SimpleNamespace, found: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return labels of `shape`, made on the small grid: what measuring needs, and no more."""
    labels: np.ndarray = package.dynamics.resize_and_compute_masks(
        np.moveaxis(found[..., :2], -1, 0),
        found[..., 2],
        niter=STEPS,
        interp=False,
        resize=None if found.shape[:2] == shape else list(shape),
    )
    return labels


def size_model_of(weights: Weights) -> SizeModel | None:
    """Return the size model that the card of `weights` holds under ``input.size_model``.

    Raises
    ------
    WeightsError
        It is incomplete, or not made of finite numbers.
    """
    told = weights.card.get("input", {}).get("size_model")
    return None if told is None else _size_model(told, f"the card of {weights.name!r}")


def read_size_model(path: str | Path) -> dict[str, Any]:
    """Read a size model of the package (``size_cyto3.npy``, ``*_size.npy``).

    Such a file is a pickle. It is read by a reader that knows numbers, lists, dictionaries
    and arrays of numpy, and refuses everything else: no code of the file runs.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict
        ``A`` and ``smean``, lists of 256 numbers; ``ymean`` and ``diam_mean``, numbers: as
        they go under ``input.size_model`` into the card of the weights.

    Raises
    ------
    WeightsError
        The file is missing, no size model, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"the size model is missing: {path}", hint="Give the path of a size_*.npy of Cellpose"
        )
    if path.stat().st_size > LARGEST:
        raise _no_size_model(path, f"it has {path.stat().st_size} bytes")
    try:
        with path.open("rb") as file:
            told = _read_npy_of_objects(file)
    except Exception as error:  # a pickle that is broken or refused has many classes
        raise _no_size_model(path, str(error) or type(error).__name__) from error
    model = _size_model(told, str(path))
    return {
        "A": model.slope.tolist(),
        "smean": model.mean.tolist(),
        "ymean": model.offset,
        "diam_mean": model.diameter,
    }


class _Dtype:
    """Stands for numpy's: a kind of number, and the order of its bytes."""

    def __init__(self, kind: str, *more: Any) -> None:
        self.kind, self.order = kind, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def numbers(self, data: bytes) -> np.ndarray:
        """Return what the bytes of an array hold."""
        if self.kind not in ("f2", "f4", "f8", "i4", "i8") or self.order not in ("<", ">"):
            raise pickle.UnpicklingError(f"it holds numbers of kind {self.order}{self.kind}")
        return np.frombuffer(data, self.order + self.kind)


class _Scalar:
    """Stands for the maker of numpy's numbers."""

    def __init__(self, dtype: _Dtype, data: bytes) -> None:
        self.dtype, self.data = dtype, data

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a number")


class _Array:
    """Stands for numpy's array, and for the maker of arrays."""

    def __init__(self, *more: Any) -> None:
        self.dtype, self.data = _Dtype(""), b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, _, self.dtype, _, self.data = state


class _Unpickler(pickle.Unpickler):
    """Reads text, numbers, lists and dictionaries, and keeps arrays as the bytes they are.

    numpy itself does not read any of it: it trusts what a pickle says of an array's memory.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            known: dict[str, Any] = {"_reconstruct": _Array, "scalar": _Scalar}
        else:
            known = {"ndarray": _Array, "dtype": _Dtype} if module == "numpy" else {}
        if name not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not admitted")
        return known[name]


def _read_npy_of_objects(file: BinaryIO) -> dict[str, Any]:
    """Return the one dictionary in a .npy file, with arrays for what stands for them."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"it is of version {version} of the format .npy")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if shape != () or dtype != np.dtype(object):
        raise ValueError(f"it is an array of {dtype} of shape {shape}")
    [told] = _Unpickler(file).load().data
    return {
        str(name): value.dtype.numbers(value.data)
        if isinstance(value, (_Array, _Scalar))
        else value
        for name, value in told.items()
    }


def _size_model(told: Any, where: str) -> SizeModel:
    try:
        slope, mean = (_numbers(told[name], (STYLE,)) for name in ("A", "smean"))
        offset, diameter = (float(_numbers(told[name], ())) for name in ("ymean", "diam_mean"))
        if not 1 <= diameter <= 2000:
            raise ValueError(f"diam_mean is {diameter:g}")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _no_size_model(where, f"{type(error).__name__}: {error}") from error
    return SizeModel(slope, mean, offset, diameter)


def _numbers(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.size != math.prod(shape):
        raise ValueError(f"{array.dtype} of shape {array.shape} where {shape} numbers are due")
    if not np.isfinite(array).all():
        raise ValueError("not all numbers are finite")
    return array.astype(np.float64).reshape(shape)


def _no_size_model(where: Path | str, why: str) -> WeightsError:
    return WeightsError(
        f"{where} holds no size model of Cellpose ({why})",
        hint="It needs A and smean (256 numbers each), ymean and diam_mean, as the package saves",
    )
