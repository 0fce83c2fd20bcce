"""How the work of a plan is cut into units: one model on a block of images."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opsef_bridge.execute import Unit
from opsef_bridge.files import key_of

if TYPE_CHECKING:
    from opsef_bridge.sweep.plan import PlannedImage, Variant

__all__ = ["PASSES_PER_UNIT", "Numbers", "blocks", "predict_units"]

PASSES_PER_UNIT = 60
"""About how many network passes a unit groups: enough for jobs of minutes on a cluster."""


class Numbers:
    """Hands out unit ids in the order in which units are planned."""

    def __init__(self) -> None:
        self._last = 0

    def unit(self, kind: str, turn: str, **more: Any) -> Unit:
        """Return a unit with the next id."""
        self._last += 1
        return Unit(f"u{self._last:04d}", kind, turn, **more)


def predict_units(
    images: Sequence[PlannedImage],
    variants: Sequence[Variant],
    wanted: Mapping[str, Collection[str]],
    number: Numbers,
) -> Iterator[Unit]:
    """One model on a block of images, engine by engine; `wanted` are variants by image."""
    models = dict.fromkeys((v.engine, v.model, v.weights_key) for v in variants)
    for network in sorted(models, key=lambda one: one[0]):
        engine, model, _ = network
        mine = [v for v in variants if (v.engine, v.model, v.weights_key) == network]
        passes = len({(key_of(v.steps), key_of(v.predict)) for v in mine})
        mine_on = [image for image in images if any(v.id in wanted[image.id] for v in mine)]
        for block in blocks(mine_on, max(1, PASSES_PER_UNIT // passes)):
            makes = tuple(
                (image.id, v.id, v.label_key(image))
                for image in block
                for v in mine
                if v.id in wanted[image.id]
            )
            yield number.unit("predict", engine, inputs={"model": model}, makes=makes)


def blocks(images: Sequence[PlannedImage], size: int) -> Iterator[Sequence[PlannedImage]]:
    """Yield the images in blocks of at most `size`."""
    for start in range(0, len(images), size):
        yield images[start : start + size]
