"""The ``merge`` unit: from the labels of the tiles of an image to those of the image.

Nothing is held but a tile, a few numbers per object, and a few rows: the labels lie in a
scratch file (4 bytes a pixel, beside the tiles) until they are written.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.config import Config
from opsef_bridge.errors import OpsefError, WorkerError
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.files import read_json
from opsef_bridge.images import read_labels
from opsef_bridge.images.large_labels import write_large_labels
from opsef_bridge.measure.stitch import release, stitch_onto
from opsef_bridge.postprocess import Postprocess
from opsef_bridge.postprocess.large import clean_large
from opsef_bridge.sweep.label_files import label_info, reuse
from opsef_bridge.sweep.planned import Plan, PlannedImage, Variant
from opsef_bridge.sweep.predict import failed_outcome, median_diameter, segmented_array
from opsef_bridge.sweep.tiled import tile_id
from opsef_bridge.sweep.tiling import segmented_shape

__all__ = ["merge"]


@unit_kind("merge")
def merge(job: Job) -> Iterator[list[Outcome]]:
    """Merge the tiles of an image, for every variant of the unit."""
    plan = Plan.from_json(job.plan)
    images = {image.id: image for image in plan.images}
    variants = {variant.id: variant for variant in plan.variants}
    taken_over, makes = reuse(job)
    yield taken_over
    of_tiles = _outcomes_of_tiles(job)
    for image_id, variant_id, _ in makes:
        job.report(image_id)
        image, variant = images[image_id], variants[variant_id]
        try:
            outcome = _merged(job, plan, image, variant, of_tiles)
        except Exception as error:
            outcome = failed_outcome(error, image, variant)
        yield [outcome]
        if outcome.status != "failed":
            shutil.rmtree(_folder(job, image, variant), ignore_errors=True)


class TileError(OpsefError):
    """Tiles of an image failed: the code is that of the first."""

    exit_code = 1

    def __init__(self, message: str, hint: str, code: str) -> None:
        super().__init__(message, hint=hint)
        self.code = code


def _outcomes_of_tiles(job: Job) -> dict[str, dict[str, Any]]:
    """Return what became of the tiles of the image, by key."""
    files = [job.run.unit_file(unit) for unit in job.unit.needs]
    records = [read_json(file) for file in files if file.is_file()]
    return {outcome["key"]: outcome for record in records for outcome in record["outcomes"]}


def _folder(job: Job, image: PlannedImage, variant: Variant) -> Path:
    return job.run.tile_file(variant.id, image.id, "any").parent


def _merged(
    job: Job,
    plan: Plan,
    image: PlannedImage,
    variant: Variant,
    of_tiles: Mapping[str, Mapping[str, Any]],
) -> Outcome:
    """Merge, clean and write the labels of one image and variant."""
    boxes = image.tile_boxes()
    keys = [variant.tile_key(image, box) for box in boxes]
    outcomes = [of_tiles[key] for key in keys if key in of_tiles]
    _check(outcomes, len(boxes))
    config = Config(**plan.config)
    entry = job.project.image(image.id)
    shape = segmented_shape(entry, config)
    origins = [(*(0 for _ in shape[:-2]), *box[:2]) for box in boxes]
    files = [job.run.tile_file(variant.id, image.id, tile_id(box)) for box in boxes]

    def intensity(part: tuple[slice, ...]) -> np.ndarray:
        rows, columns = part[-2:]
        sides = (rows.stop - rows.start, columns.stop - columns.start)
        box = (rows.start, columns.start, *sides)
        return segmented_array(job.project, config, entry, box=box)[part[:-2]]

    with _scratch(_folder(job, image, variant), shape) as canvas:
        objects = stitch_onto(
            canvas, map(read_labels, files), origins, touching=config.images.tiles.overlap == 0
        )
        post = Postprocess(**variant.postprocess)
        number, areas = clean_large(
            canvas, objects, intensity=intensity if post.needs_intensity() else None,
            fill_holes=post.fill_holes, clear_border=post.clear_border, keep=post.keep,
        )  # fmt: skip

        def read(part: tuple[slice, ...]) -> np.ndarray:
            labels = number[canvas[part]]
            release(canvas)
            return labels

        write_large_labels(
            job.run.label_file(variant.id, image.id), read, shape, len(areas),
            spacing=entry.spacing, unit=entry.unit,
            info=label_info(entry, image, variant),
        )  # fmt: skip
    return Outcome(
        image.id,
        variant.id,
        variant.label_key(image),
        "ok" if len(areas) else "empty",
        objects=len(areas),
        diameter=round(median_diameter(areas, len(shape)), 2),
        seconds=round(sum(outcome["seconds"] for outcome in outcomes), 4),
        decode_seconds=round(sum(outcome["decode_seconds"] for outcome in outcomes), 4),
        chosen=_median_of(outcomes),
    )


def _check(outcomes: Sequence[Mapping[str, Any]], due: int) -> None:
    """Refuse to merge what is not all there."""
    failed = [outcome for outcome in outcomes if outcome["status"] == "failed"]
    if failed:
        first = failed[0]
        raise TileError(
            f"{len(failed)} of {due} tiles failed, the first: {first['message']}",
            first["hint"],
            first["code"],
        )
    if len(outcomes) < due:
        raise WorkerError(
            f"{due - len(outcomes)} of {due} tiles are not segmented",
            hint="`opsef sweep resume` does what is left",
        )


def _median_of(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what the engine chose itself, the median over the tiles."""
    names = dict.fromkeys(name for outcome in outcomes for name in outcome["chosen"])
    return {
        name: round(
            float(np.median([o["chosen"][name] for o in outcomes if name in o["chosen"]])), 4
        )
        for name in names
    }


@contextlib.contextmanager
def _scratch(folder: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield zeros of int32 in a file, which goes afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f".{uuid.uuid4().hex[:8]}.partial.labels"
    try:
        yield np.memmap(file, np.int32, "w+", shape=shape)
    finally:
        file.unlink(missing_ok=True)
