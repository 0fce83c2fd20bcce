"""Units for images that are larger than a tile.

``sample``
    takes from one image what engines normalise by, for all recipes, before any tile.
``tiles``
    one model on a range of the tiles of one image, with all recipes and thresholds. Of each
    tile no more is read than the tile and a rim: as far as the recipe looks, and one overlap
    for the network, so that an object at the border of a tile is seen whole. The rim is cut
    off; what is left are labels of the tile, in a file of their own.

`opsef_bridge.sweep.merge` puts the tiles together. Network maps of tiles are not cached: a
threshold that is added later runs the network again.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace

from opsef_bridge.config import Config
from opsef_bridge.engines import Raw, engine_class
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.images import write_labels
from opsef_bridge.images.tiles import grow_box
from opsef_bridge.sweep.boxes import bin_factor, box_shape
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.label_files import finished_before
from opsef_bridge.sweep.parts import Whole, Windows
from opsef_bridge.sweep.planned import Plan, PlannedImage, Variant
from opsef_bridge.sweep.predict import Desk, chosen_values, failed_outcome, open_parts, wants_colour
from opsef_bridge.sweep.sample import Box

__all__ = ["sample", "tile_id", "tiles"]


def tile_id(box: Sequence[int]) -> str:
    """Return the name of a tile: ``y00960-x01920``."""
    return f"y{box[0]:05d}-x{box[1]:05d}"


@unit_kind("sample")
def sample(job: Job) -> Iterator[list[Outcome]]:
    """Take the samples of one image, so that units beside each other need not.

    What fails is left to the units that need the sample: they say so in their outcomes.
    """
    plan = Plan.from_json(job.plan)
    image = next(one for one in plan.images if one.id == job.unit.inputs["image"])
    wanted = {variant for unit in plan.units for i, variant, _ in unit.makes if i == image.id}
    cache = ArrayCache(job.project.cache_folder)
    try:
        entry = job.project.image(image.id)
        parts = open_parts(job.project, Config(**plan.config), entry, image, cache)
        for variant in plan.variants:
            if variant.id in wanted:
                job.report(image.id)
                engine = engine_class(variant.engine)
                parameters = engine.Predict(**variant.predict)
                colour = wants_colour(engine(), parameters, variant.steps)
                parts.reference(variant.steps, colour=colour)
    except Exception as error:
        traceback.print_exception(error, file=sys.stderr)
    yield []


@unit_kind("tiles")
def tiles(job: Job) -> Iterator[list[Outcome]]:
    """Segment the tiles of the unit by all its variants."""
    plan = Plan.from_json(job.plan)
    desk = Desk(job, plan)
    image = next(one for one in plan.images if one.id == job.unit.makes[0][0])
    made = {variant for _, variant, _ in job.unit.makes}
    variants = [variant for variant in plan.variants if variant.id in made]
    start, stop = job.unit.inputs["tiles"]
    boxes = image.tile_boxes()[start:stop]
    waiting = {key for _, _, key in job.open_makes()}
    merged = finished_before(job, [variant.label_key(image) for variant in variants])
    parts: Whole | Windows | None = None
    for box in boxes:
        job.report(image.id)
        mine = [variant for variant in variants if variant.tile_key(image, box) in waiting]
        done = [variant for variant in mine if variant.label_key(image) in merged]
        left = [variant for variant in mine if variant not in done]
        outcomes = [_tile_outcome("ok", image, variant, box) for variant in done]
        try:
            parts = parts or (desk.open(image) if left else None)
        except Exception as error:
            outcomes += [_failed(error, image, variant, box) for variant in left]
            left = []
        if parts is not None and left:
            outcomes += _segment(desk, parts, image, box, left)
        yield outcomes


def _segment(
    desk: Desk,
    parts: Whole | Windows,
    image: PlannedImage,
    box: Box,
    variants: Sequence[Variant],
) -> list[Outcome]:
    """Segment one tile: a pass for all variants that share one."""
    assert image.tiles is not None
    passes: dict[str, list[Variant]] = {}
    for variant in variants:
        passes.setdefault(variant.pass_key(image), []).append(variant)
    outcomes = []
    for sharing in passes.values():
        grid = bin_factor(sharing[0].steps)
        seen = grow_box(box, image.tiles[1], parts.shape, grid=grid)
        try:
            raw, seconds = desk.network(parts, sharing[0], seen)
        except Exception as error:
            outcomes += [_failed(error, image, variant, box) for variant in sharing]
            continue
        shape = box_shape(parts.shape, seen)
        for variant in sharing:
            outcomes.append(_keep(desk, raw, seconds, variant, image, box, seen, shape))
    return outcomes


def _keep(
    desk: Desk,
    raw: Raw,
    seconds: float,
    variant: Variant,
    image: PlannedImage,
    box: Box,
    seen: Box,
    shape: tuple[int, ...],
) -> Outcome:
    """Make the labels of a tile from a pass over the tile and its rim, and write them."""
    start = time.perf_counter()
    try:
        labels = desk.decode(raw, variant, shape, seen)
        y, x = box[0] - seen[0], box[1] - seen[1]
        labels = labels[..., y : y + box[2], x : x + box[3]]
        write_labels(desk.job.run.tile_file(variant.id, image.id, tile_id(box)), labels)
    except Exception as error:
        return _failed(error, image, variant, box)
    spent = time.perf_counter() - start
    return replace(
        _tile_outcome("ok", image, variant, box),
        seconds=round(seconds + spent, 4),
        decode_seconds=round(spent, 4),
        chosen=chosen_values(raw),
    )


def _tile_outcome(status: str, image: PlannedImage, variant: Variant, box: Box) -> Outcome:
    return Outcome(image.id, variant.id, variant.tile_key(image, box), status)


def _failed(error: Exception, image: PlannedImage, variant: Variant, box: Box) -> Outcome:
    failed = failed_outcome(error, image, variant)
    message = f"tile {tile_id(box)}: {failed.message}"
    return replace(failed, key=variant.tile_key(image, box), message=message)
