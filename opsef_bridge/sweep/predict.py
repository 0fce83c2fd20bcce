"""The ``predict`` unit: one model on a block of images, with all recipes and thresholds.

An image is read once; a recipe prefix is computed once (and shared through the cache);
a network pass is made once per image, recipe and scale; every threshold decodes from it.
Statistics for normalisation come from the whole image, also where only a box is worked
on. One thing that fails costs only what hangs on it: an unreadable image its variants, a
recipe that cannot work its own, one decoding itself.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.config import Config
from opsef_bridge.engines import (
    Engine,
    LoadedEngine,
    Parameters,
    Raw,
    engine_class,
    find_weights,
    verify,
)
from opsef_bridge.errors import ImageError, OpsefError, ProjectError, WeightsError, WorkerError
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.images import (
    Region,
    read_image,
    segment_plane,
    segment_samples,
    write_labels,
)
from opsef_bridge.images.identity import identity, stamp
from opsef_bridge.images.projection import project_volume
from opsef_bridge.postprocess import Postprocess, clean
from opsef_bridge.preprocess import takes_colour
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.sweep.boxes import box_shape, cut_box, grid_shape, to_source
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.label_files import label_info, reuse
from opsef_bridge.sweep.parts import Whole, Windows, recipe_output
from opsef_bridge.sweep.planned import Plan, PlannedImage, Variant
from opsef_bridge.sweep.sample import Box
from opsef_bridge.sweep.tiling import segmented_shape

__all__ = [
    "Desk",
    "box_shape",
    "chosen_values",
    "cut_box",
    "failed_outcome",
    "median_diameter",
    "open_parts",
    "predict",
    "recipe_output",
    "segmented_array",
    "to_source",
    "wants_colour",
]

CHOSEN = "chosen_"
"""Start of the names of those values of `Raw` that a pass chose itself, for its image."""


def segmented_array(
    project: Project,
    config: Config,
    entry: ImageEntry,
    sha256: str = "",
    *,
    colour: bool = False,
    box: Box | None = None,
) -> np.ndarray:
    """Return the plane (YX) or volume (ZYX) of an image that is segmented.

    With `colour` its samples or chosen channels are kept apart, in front: SYX or SZYX. With
    a `box` no more than that is read.

    Raises
    ------
    ImageError
        The file cannot be read; or it is not the one of that `sha256`, if one is given.
    """
    how = config.images
    file = project.source_file(entry)
    region, channels = _wanted(entry, how.segment.channels(), colour, box)
    image = read_image(file, entry.series, axes=how.assumed_axes, region=region)
    if sha256:
        _check_planned(file, entry, sha256)
    projection = entry.projection or how.projection
    if colour:
        samples = segment_samples(image, channels)
        return np.stack([project_volume(sample, projection) for sample in samples])
    return project_volume(segment_plane(image, channels[0]), projection)


def _wanted(
    entry: ImageEntry, channels: list[int], colour: bool, box: Box | None
) -> tuple[Region, list[int]]:
    """Return what is read of an image, and the numbers of the channels in that."""
    channels = entry.channel_numbers() or channels
    channels = channels if colour else channels[:1]
    part = Region(y=(box[0], box[0] + box[2]), x=(box[1], box[1] + box[3])) if box else Region()
    count = entry.shape[entry.axes.index("C")] if "C" in entry.axes else 1
    if 1 < count > max(channels):  # else what follows says that there is no such channel
        part, channels = replace(part, c=tuple(channels)), list(range(len(channels)))
    return part.within(entry.region), channels


def wants_colour(engine: Engine, parameters: Parameters, steps: Any = ()) -> bool:
    """Whether a pass of these parameters takes the samples of an image, axes YXS.

    None are left by a recipe that makes grey of colour.
    """
    if takes_colour(steps):
        return False
    ask = getattr(engine, "wants_colour", None)
    return bool(ask(parameters)) if ask else "YXS" in engine.axes and "YX" not in engine.axes


def _check_planned(file: Path, entry: ImageEntry, sha256: str) -> None:
    """Refuse another file than that of `sha256`; hashed only if size or time are not known."""
    known = (entry.size, entry.mtime) == stamp(file)
    if (entry.sha256 if known else identity(file)[0]) != sha256:
        raise ImageError(
            f"{file} has changed since it was planned",
            hint="`opsef sweep run` plans anew with the file that is there",
        )


def open_parts(
    project: Project,
    config: Config,
    entry: ImageEntry,
    image: PlannedImage,
    cache: ArrayCache,
) -> Whole | Windows:
    """Open an image: whole, or, if it is larger than a tile, to be read part by part.

    Raises
    ------
    ImageError
        As `segmented_array`.
    """
    if not image.tiles:
        return Whole(
            segmented_array(project, config, entry, image.sha256),
            lambda: segmented_array(project, config, entry, image.sha256, colour=True),
            image.key,
            cache,
        )
    if image.sha256:
        _check_planned(project.source_file(entry), entry, image.sha256)

    def read(box: Box, colour: bool) -> np.ndarray:
        return segmented_array(project, config, entry, colour=colour, box=box)

    return Windows(read, segmented_shape(entry, config), image.key, cache)


@unit_kind("predict")
def predict(job: Job) -> Iterator[list[Outcome]]:
    """Segment the images of the unit by all its variants."""
    plan = Plan.from_json(job.plan)
    desk = Desk(job, plan)
    variants = {variant.id: variant for variant in plan.variants}
    images = {image.id: image for image in plan.images}
    taken_over, makes = reuse(job)
    yield taken_over
    for image_id in dict.fromkeys(image for image, _, _ in makes):
        job.report(image_id)
        mine = [variants[v] for image, v, _ in makes if image == image_id]
        for outcomes in desk.segment(images[image_id], mine):
            yield outcomes
            job.report(image_id)


class Desk:
    """What stays on the desk while a unit works: configuration, cache, the loaded engine."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self.job = job
        self.config = Config(**plan.config)
        self.entries = {entry.id: entry for entry in job.project.images()}
        self.cache = ArrayCache(job.project.cache_folder)
        made = {variant for _, variant, _ in job.unit.makes}
        mine = [variant for variant in plan.variants if variant.id in made]
        if any(variant.key != variant.current_key() for variant in mine):
            raise ProjectError(
                f"{job.unit.id} was planned with another version of its engine or steps",
                hint="`opsef sweep run` plans anew with the versions that are installed",
            )
        self.variant = mine[0]

    @cached_property
    def loaded(self) -> LoadedEngine:
        """The engine, loaded when the first pass is really needed."""
        name = self.variant.weights or None
        weights = find_weights(self.variant.engine, name, [self.job.project.models_folder])
        if weights.key != self.variant.weights_key:
            raise WeightsError(
                f"the weights {name!r} or what their card tells are not those of the plan: their "
                f"sha256 is {weights.sha256}, the plan says {self.variant.weights_sha256}",
                hint="`opsef sweep run` plans anew with the weights that are there",
            )
        verify(weights)
        kind = engine_class(self.variant.engine)
        return LoadedEngine.open(kind, weights, self.config.sweep.device)

    def segment(self, image: PlannedImage, variants: list[Variant]) -> Iterator[list[Outcome]]:
        """Yield the outcomes of one image, network pass by network pass."""
        try:
            parts = self.open(image)
        except Exception as error:
            yield [failed_outcome(error, image, variant) for variant in variants]
            return
        passes: dict[str, list[Variant]] = {}
        for variant in variants:
            passes.setdefault(variant.pass_key(image), []).append(variant)
        for key, sharing in passes.items():
            try:
                raw, seconds = self._pass(key, image, parts, sharing[0])
            except Exception as error:
                yield [failed_outcome(error, image, variant) for variant in sharing]
                continue
            yield [self._decode(raw, seconds, parts, image, variant) for variant in sharing]

    def open(self, image: PlannedImage) -> Whole | Windows:
        """Open an image of the plan."""
        return open_parts(self.job.project, self.config, self.entries[image.id], image, self.cache)

    def _pass(
        self, key: str, image: PlannedImage, parts: Whole | Windows, variant: Variant
    ) -> tuple[Raw, float]:
        """Return the result of a network pass and the seconds it took when it was made."""
        kept = self.cache.get(key)
        if kept is not None:
            maps, values = kept
            seconds = values.pop("_seconds")
            shape = tuple(int(values.pop(f"_shape{i}")) for i in range(int(values.pop("_ndim"))))
            return Raw(maps, shape, values), seconds
        raw, seconds = self.network(parts, variant, image.box)
        form = {f"_shape{i}": side for i, side in enumerate(raw.shape)} | {"_ndim": len(raw.shape)}
        self.cache.put(key, raw.maps, raw.values | form | {"_seconds": seconds})
        return raw, seconds

    def network(
        self, parts: Whole | Windows, variant: Variant, box: Box | None
    ) -> tuple[Raw, float]:
        """Run the network on a box of an image; return what it found and the seconds it took."""
        loaded = self.loaded
        parameters = loaded.engine.Predict(**variant.predict)
        colour = wants_colour(loaded.engine, parameters, variant.steps)
        whole = parts.reference(variant.steps, colour=colour)
        part = parts.part(variant.steps, box, colour=colour)
        if colour:
            whole, part = (np.moveaxis(one, 0, -1) for one in (whole, part))
        start = time.perf_counter()
        raw = loaded.predict(part, parameters, reference=whole)
        seconds = time.perf_counter() - start
        self.job.record["passes"] += 1
        loaded.note(self.job.record)
        return raw, seconds

    @staticmethod
    def decode(raw: Raw, variant: Variant, shape: tuple[int, ...], box: Box | None) -> np.ndarray:
        """Return the labels of a box of `shape`, in pixels of the source, not cleaned."""
        engine = engine_class(variant.engine)
        labels = engine().decode(raw, engine.Decode(**variant.decode))
        labels = _checked(labels, grid_shape(shape, variant.steps, box), engine.name)
        return to_source(labels, variant.steps, shape, box)

    def _decode(
        self,
        raw: Raw,
        seconds: float,
        parts: Whole | Windows,
        image: PlannedImage,
        variant: Variant,
    ) -> Outcome:
        """Make, clean and write the labels of one variant."""
        start = time.perf_counter()
        try:
            labels = self.decode(raw, variant, box_shape(parts.shape, image.box), image.box)
            wanted = Postprocess(**variant.postprocess).needs_intensity()
            intensity = parts.part((), image.box) if wanted else None
            labels = clean(labels, **variant.postprocess, intensity=intensity)
            self._write(labels, image, variant)
        except Exception as error:
            return failed_outcome(error, image, variant)
        decode_seconds = time.perf_counter() - start
        area = np.bincount(labels.ravel())[1:]
        diameter = median_diameter(area, labels.ndim)
        return Outcome(
            image.id,
            variant.id,
            variant.label_key(image),
            "ok" if len(area) else "empty",
            objects=len(area),
            diameter=round(diameter, 2),
            seconds=round(seconds + decode_seconds, 4),
            decode_seconds=round(decode_seconds, 4),
            chosen=chosen_values(raw),
        )

    def _write(self, labels: np.ndarray, image: PlannedImage, variant: Variant) -> None:
        entry = self.entries[image.id]
        write_labels(
            self.job.run.label_file(variant.id, image.id),
            labels,
            spacing=entry.spacing,
            unit=entry.unit,
            info=label_info(entry, image, variant),
        )


def chosen_values(raw: Raw) -> dict[str, float]:
    """Return what a pass chose itself, by name."""
    return {
        name.removeprefix(CHOSEN): round(value, 4)
        for name, value in raw.values.items()
        if name.startswith(CHOSEN)
    }


def failed_outcome(error: Exception, image: PlannedImage, variant: Variant) -> Outcome:
    """An outcome from any error: what one image breaks must not take the others along."""
    if not isinstance(error, OpsefError):
        traceback.print_exception(error, file=sys.stderr)  # into the unit's log
        text = f"{type(error).__name__}: {error}"
        error = WorkerError(text, hint="The log of the unit holds the traceback")
    return Outcome.failed(error, image.id, variant.id, variant.label_key(image))


class BadLabels(WorkerError):
    """An engine returned something that is no label image of its input."""

    code = "bad-labels"


def _checked(labels: Any, shape: tuple[int, ...], engine: str) -> np.ndarray:
    """Hold an engine to its contract: what breaks it must not pass for a result."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu" or labels.shape != shape or labels.min(initial=0) < 0:
        raise BadLabels(
            f"the engine {engine!r} returned {labels.dtype} of shape {labels.shape} with values "
            f"from {labels.min(initial=0)} where labels of shape {shape} are due",
            hint="This is an error of the engine: labels are int32 from 0 in the image's shape",
        )
    return labels


def median_diameter(area: np.ndarray, ndim: int) -> float:
    """Median diameter of the circles (spheres) of the same area (volume), in pixels."""
    if not len(area):
        return 0.0
    middle = float(np.median(area))
    return 2 * (middle / np.pi) ** 0.5 if ndim == 2 else 2 * (0.75 * middle / np.pi) ** (1 / 3)
