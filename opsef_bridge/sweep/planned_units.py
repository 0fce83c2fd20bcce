"""How the work of a plan is cut into units: one model on a block of images, or on a range of
tiles of one image, which a merge unit puts together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opsef_bridge.execute import Unit
from opsef_bridge.files import key_of

if TYPE_CHECKING:
    from opsef_bridge.sweep.planned import PlannedImage, Variant

__all__ = ["PASSES_PER_UNIT", "Numbers", "blocks", "ranking_units", "segmenting_units"]

PASSES_PER_UNIT = 60
"""About how many network passes a unit groups: enough for jobs of minutes on a cluster."""

TILE_PASSES_PER_UNIT = 16
"""As `PASSES_PER_UNIT`, of tiles: they are large, and one image should keep all cores busy."""


class Numbers:
    """Hands out unit ids in the order in which units are planned."""

    def __init__(self) -> None:
        self._last = 0

    def unit(self, kind: str, turn: str, **more: Any) -> Unit:
        """Return a unit with the next id."""
        self._last += 1
        return Unit(f"u{self._last:04d}", kind, turn, **more)


def segmenting_units(
    images: Sequence[PlannedImage],
    variants: Sequence[Variant],
    wanted: Mapping[str, Collection[str]],
    number: Numbers,
) -> Iterator[Unit]:
    """Yield all units that make labels, engine by engine; `wanted` are variants by image."""
    samples = {}
    for image in images:
        if image.tiles:
            samples[image.id] = number.unit("sample", "sample", inputs={"image": image.id})
    yield from samples.values()
    models = dict.fromkeys((v.engine, v.model, v.weights_key) for v in variants)
    merging: list[tuple[tuple[str, ...], Makes]] = []
    for network in sorted(models, key=lambda one: one[0]):
        mine = [v for v in variants if (v.engine, v.model, v.weights_key) == network]
        mine_on = [image for image in images if any(v.id in wanted[image.id] for v in mine)]
        whole = [image for image in mine_on if not image.tile_boxes()]
        yield from _on_images(whole, mine, wanted, samples, number)
        for image in mine_on:
            if image.tile_boxes():
                chosen = [v for v in mine if v.id in wanted[image.id]]
                units = list(_on_tiles(image, chosen, samples[image.id], number))
                yield from units
                makes = tuple((image.id, v.id, v.label_key(image)) for v in chosen)
                merging.append((tuple(unit.id for unit in units), makes))
    for needs, makes in merging:
        yield number.unit("merge", "merge", needs=needs, makes=makes)


def ranking_units(
    images: Sequence[PlannedImage], segmenting: Sequence[Unit], number: Numbers
) -> Iterator[Unit]:
    """Yield the units that rank what was segmented, draw it and report on it."""
    rank = number.unit("rank", "rank", needs=tuple(unit.id for unit in segmenting))
    yield rank
    stacks = tuple(
        number.unit(
            "compare", "compare", needs=(rank.id,), inputs={"images": [i.id for i in block]}
        )
        for block in blocks(images, 4)
    )
    yield from stacks
    yield number.unit("report", "report", needs=tuple(unit.id for unit in (rank, *stacks)))


Makes = tuple[tuple[str, str, str], ...]


def _passes(variants: Sequence[Variant]) -> int:
    """How many network passes the variants of one model need on an image."""
    return len({(key_of(v.steps), key_of(v.predict)) for v in variants})


def _on_images(
    images: Sequence[PlannedImage],
    variants: Sequence[Variant],
    wanted: Mapping[str, Collection[str]],
    samples: Mapping[str, Unit],
    number: Numbers,
) -> Iterator[Unit]:
    """One model on blocks of images."""
    for block in blocks(images, max(1, PASSES_PER_UNIT // _passes(variants))):
        makes = tuple(
            (image.id, v.id, v.label_key(image))
            for image in block
            for v in variants
            if v.id in wanted[image.id]
        )
        needs = tuple(samples[image.id].id for image in block if image.id in samples)
        yield number.unit(
            "predict", variants[0].engine, needs=needs, inputs={"model": variants[0].model},
            makes=makes,
        )  # fmt: skip


def _on_tiles(
    image: PlannedImage, variants: Sequence[Variant], sample: Unit, number: Numbers
) -> Iterator[Unit]:
    """One model on ranges of the tiles of one image."""
    boxes = image.tile_boxes()
    size = max(1, TILE_PASSES_PER_UNIT // _passes(variants))
    for start in range(0, len(boxes), size):
        stop = min(start + size, len(boxes))
        makes = tuple(
            (image.id, v.id, v.tile_key(image, box)) for box in boxes[start:stop] for v in variants
        )
        yield number.unit(
            "tiles", variants[0].engine, needs=(sample.id,), makes=makes,
            inputs={"model": variants[0].model, "tiles": [start, stop]},
        )  # fmt: skip


def blocks(images: Sequence[PlannedImage], size: int) -> Iterator[Sequence[PlannedImage]]:
    """Yield the images in blocks of at most `size`."""
    for start in range(0, len(images), size):
        yield images[start : start + size]
