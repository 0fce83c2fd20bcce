"""What networks are judged on: images of a dataset as an engine takes them, with their truth."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.engines import Engine, LoadedEngine, Parameters
from opsef_bridge.images import to_grey
from opsef_bridge.images.tiles import tile_boxes
from opsef_bridge.measure.stitch import stitch
from opsef_bridge.sweep.predict import wants_colour
from opsef_bridge.train.dataset import read_entry
from opsef_bridge.train.tuning import Looked

__all__ = ["Item", "items_of", "read_item", "segment"]

TILE, OVERLAP = 1024, 64
"""Of images that are larger, as by default in a sweep."""


@dataclass(frozen=True)
class Item:
    """An image, a plane of a volume, or a volume, that networks are judged on.

    Parameters
    ----------
    name : str
        Of the sample, with the number of the plane.
    entry : mapping
        Of the card of the dataset.
    plane : int or None
        Of a volume; None for all of it.
    """

    name: str
    entry: Mapping[str, Any]
    plane: int | None = None

    @property
    def kind(self) -> str:
        """Cell type or condition."""
        return str(self.entry["kind"])

    @property
    def whole(self) -> bool:
        """Whether it is a volume, as it is."""
        return self.plane is None and len(self.entry["shape"]) == 3

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it another image."""
        return (str(self.entry["pixels_sha256"]), str(self.entry["labels_sha256"]), str(self.plane))


def items_of(
    card: Mapping[str, Any],
    split: str,
    names: Collection[str] | None = None,
    *,
    volumes: bool = False,
) -> list[Item]:
    """Return the items of a split, or those samples of it that are in `names`.

    Volumes are taken as they are for networks that take `volumes`; else plane by plane.
    """
    chosen = [
        one
        for one in card["samples"]
        if one["split"] == split and (names is None or one["name"] in names)
    ]
    return [
        Item(str(one["name"]) + ("" if plane is None else f"_z{plane + 1:04d}"), one, plane)
        for one in sorted(chosen, key=lambda one: str(one["name"]))
        for plane in ((not volumes and one.get("planes")) or [None])
    ]


def read_item(folder: Path, item: Item, colour: bool = False) -> Looked:
    """Read pixels and truth of an item of the dataset in `folder`.

    Parameters
    ----------
    colour : bool
        Give (Y, X, 3), of a grey image three times the same; else (Y, X). Volumes are grey:
        (Z, Y, X).

    Raises
    ------
    ProjectError
        A file is gone, was changed, or cannot be read.
    """
    pixels, labels = read_entry(folder, item.entry)
    is_colour = bool(item.entry["colour"])
    if item.plane is not None:
        pixels, labels = pixels[item.plane], labels[item.plane]
    if colour and not is_colour and not item.whole:
        pixels = np.stack([pixels] * 3, axis=-1)
    elif is_colour and (item.whole or not colour):
        pixels = to_grey(pixels)
    return Looked(pixels, labels)


def segment(
    loaded: LoadedEngine, folder: Path, item: Item, predict: Parameters, decode: Parameters
) -> np.ndarray:
    """Return the labels (int32, 0 background) of an item; large planes are stitched of tiles."""
    engine: Engine = loaded.engine
    image = read_item(folder, item, wants_colour(engine, predict)).image
    shape = image.shape[:2]
    if item.whole or max(shape) <= TILE:
        return engine.decode(loaded.predict(image, predict), decode)
    boxes = tile_boxes(shape, TILE, OVERLAP)
    tiles = []
    for y, x, height, width in boxes:
        cut = image[y : y + height, x : x + width]
        tiles.append(engine.decode(loaded.predict(cut, predict, reference=image), decode))
    return stitch(tiles, [box[:2] for box in boxes], shape)
