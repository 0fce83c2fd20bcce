"""Decode values of new weights, chosen on validation images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from opsef_bridge.engines import engine_class, verify
from opsef_bridge.engines.base import Engine, Raw, Weights
from opsef_bridge.engines.memory import LoadedEngine
from opsef_bridge.engines.parameters import split_parameters, tuned
from opsef_bridge.errors import InputError
from opsef_bridge.train.data import UNKNOWN
from opsef_bridge.train.score import THRESHOLDS, pooled_f1

__all__ = ["AXES", "LARGEST", "Looked", "Tuned", "among_objects", "tune"]

AXES: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "unet": {
        "threshold": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "foreground": (None, 0.4, 0.5, 0.6, 0.7, 0.8),
        "prominence": (0.5, 0.75, 1.0, 1.5),
    },
    "stardist": {"prob": (0.3, 0.4, 0.5, 0.6, 0.7), "nms": (0.2, 0.3, 0.4, 0.5)},
    "cellpose": {"cellprob": (-2.0, -1.0, 0.0, 1.0, 2.0), "flow": (0.3, 0.4, 0.6, 0.8)},
    "fpn2ws": {
        "seed": (0.4, 0.5, 0.6, 0.7, 0.8),
        "foreground": (0.05, 0.1, 0.15, 0.2, 0.3),
    },
    "maskrcnn": {"score": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7), "mask": (0.4, 0.5, 0.6)},
}
"""What `tune` tries, by engine, one parameter after the other."""

LARGEST = 2**21
"""Voxels of a volume that are looked at: its maps take some 100 bytes for each."""

ROUNDS = 2
"""How often it goes through all parameters: a full grid would take many times as long."""


@dataclass(frozen=True)
class Looked:
    """A validation image as the engine takes it, not normalised, and its truth.

    Parameters
    ----------
    image : ndarray, shape (Y, X) or (Y, X, 3), or (Z, Y, X) for a network for volumes
    labels : ndarray of int32, shape (Y, X) or (Z, Y, X)
        `UNKNOWN` where nobody vouched: what is found there is neither right nor wrong.
    """

    image: np.ndarray
    labels: np.ndarray


def among_objects(one: Looked, most: int = LARGEST) -> Looked:
    """Return a box of at most `most` voxels of a volume, about the middle of its objects.

    All planes, as long as wide; the whole volume where it is not larger, or where there is no
    object in the box.

    Examples
    --------
    >>> labels = np.zeros((4, 50, 60), int)
    >>> labels[:, 30:40, 20:30] = 1
    >>> among_objects(Looked(labels, labels), 4 * 20 * 20).labels.shape
    (4, 20, 20)
    """
    if one.labels.size <= most or not (one.labels > 0).any():
        return one
    side = max(1, math.isqrt(most // len(one.labels)))
    box: list[slice] = [slice(None)]
    for places, extent in zip(np.nonzero(one.labels > 0)[1:], one.labels.shape[1:], strict=True):
        start = min(max(int(np.median(places)) - side // 2, 0), max(extent - side, 0))
        box.append(slice(start, start + side))
    cut = Looked(one.image[tuple(box)], one.labels[tuple(box)])
    return cut if (cut.labels > 0).any() else one


@dataclass(frozen=True)
class Tuned:
    """What was chosen.

    Parameters
    ----------
    values : dict
        Decode values for ``thresholds`` of the card; empty where nothing was found whatever
        the values: then those of the engine stay.
    f1 : tuple of float
        Pooled F1 at an IoU of 0.5, 0.7 and 0.9 with them.
    before : tuple of float
        With the engine's defaults.
    tried : int
        Combinations.
    """

    values: dict[str, Any]
    f1: tuple[float, ...]
    before: tuple[float, ...]
    tried: int


def tune(
    weights: Weights,
    images: Sequence[Looked],
    *,
    predict: Mapping[str, Any] | None = None,
    device: str = "auto",
    report: Callable[[str], None] = lambda message: None,
) -> Tuned:
    """Choose the decode values with the best mean F1 (IoU 0.5, 0.7, 0.9) on `images`.

    The network sees every image once; its maps are held in memory as half floats.

    Parameters
    ----------
    weights : Weights
        Of an engine in `AXES`.
    images : sequence of Looked
    predict : mapping, optional
        Parameters of the pass, e.g. ``scale``.
    device : {"auto", "cpu", "cuda"}
    report : callable
        Called with what is being tried.

    Raises
    ------
    InputError
        There is no image, no object in any, or the engine has nothing to tune.
    """
    if weights.engine not in AXES:
        raise InputError(
            f"nothing is known of what to tune for the engine {weights.engine!r}",
            hint=f"Known: {', '.join(AXES)}",
        )
    if not any((one.labels > 0).any() for one in images):
        raise InputError(
            f"no object in {len(images)} validation images", hint="Put some that have objects there"
        )
    kind = engine_class(weights.engine)
    verify(weights)
    passes, standard = split_parameters(kind, {**tuned(kind, weights), **(predict or {})})
    loaded = LoadedEngine.open(kind, weights, device)
    raws = []
    for number, one in enumerate(images, 1):
        report(f"image {number} of {len(images)}")
        raws.append(loaded.predict(one.image, passes))
    scores: dict[str, tuple[float, ...]] = {}

    def score(values: Mapping[str, Any]) -> tuple[float, ...]:
        decode = standard.model_copy(update=dict(values))
        key = decode.model_dump_json()
        if key not in scores:
            report(", ".join(f"{name} {value}" for name, value in values.items()) or "as it is")
            scores[key] = _f1(loaded.engine, raws, images, decode)
        return scores[key]

    before = score({})
    best: dict[str, Any] = {}
    for _ in range(ROUNDS):
        start = dict(best)
        for name, values in AXES[weights.engine].items():
            now = best.get(name, getattr(standard, name))
            ways = [{**best, name: value} for value in dict.fromkeys([now, *values])]
            ways = [way for way in ways if _is_possible(kind, standard.model_dump() | way)]
            # Of equal ones the first: what it is already.
            best = max(ways, key=lambda way: float(np.mean(score(way))))
        if best == start:
            break
    found = score(best)
    # An engine that reads its card itself has no values of its own to name (None).
    named = {name: value for name, value in best.items() if value is not None}
    return Tuned(named if any(found) else {}, found, before, len(scores))


def _is_possible(kind: type[Engine], values: Mapping[str, Any]) -> bool:
    """Whether the engine takes these values together."""
    try:
        kind.Decode(**values)
    except ValidationError:
        return False
    return True


def _f1(
    engine: Engine, raws: Sequence[Raw], images: Sequence[Looked], decode: Any
) -> tuple[float, ...]:
    from opsef_bridge.measure.quality import quality

    counts = [
        quality(one.labels.clip(0), engine.decode(raw, decode), THRESHOLDS, one.labels != UNKNOWN)[
            ["tp", "fp", "fn"]
        ].to_numpy()
        for raw, one in zip(raws, images, strict=True)
    ]
    return tuple(pooled_f1(np.array(counts)).tolist())
