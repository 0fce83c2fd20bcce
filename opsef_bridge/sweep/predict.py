"""The ``predict`` unit: one model on a block of images, with all recipes and thresholds.

An image is read once; a recipe prefix is computed once (and shared through the cache);
a network pass is made once per image, recipe and scale; every threshold decodes from it.
Statistics for normalisation come from the whole image, also where only a box is worked
on. One thing that fails costs only what hangs on it: an unreadable image its variants, a
recipe that cannot work its own, one decoding itself.
"""

from __future__ import annotations

import os
import shutil
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
from opsef_bridge.files import atomic_path, file_sha256, key_of
from opsef_bridge.images import read_image, segment_plane, segment_samples, write_labels
from opsef_bridge.images.projection import project_volume
from opsef_bridge.postprocess import clean
from opsef_bridge.preprocess import apply_recipe, recipe_identity, recipe_scale
from opsef_bridge.project import ImageEntry, Project, Run
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.plan import STAGE, Box, Plan, PlannedImage, Variant

__all__ = [
    "box_shape",
    "cut_box",
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
) -> np.ndarray:
    """Return the plane (YX) or volume (ZYX) of an image that is segmented.

    With `colour` its samples or chosen channels are kept apart, in front: SYX or SZYX.

    Raises
    ------
    ImageError
        The file cannot be read; or it is not the one of that `sha256`, if one is given.
    """
    how = config.images
    file = project.source_file(entry)
    image = read_image(file, entry.series, axes=how.axes)
    if sha256 and not _is_planned(file, entry, sha256):
        raise ImageError(
            f"{file} has changed since it was planned",
            hint="`opsef sweep run` plans anew with the file that is there",
        )
    if colour:
        samples = segment_samples(image, how.segment.channels())
        return np.stack([project_volume(sample, how.projection) for sample in samples])
    return project_volume(segment_plane(image, how.segment.channels()[0]), how.projection)


def recipe_output(cache: ArrayCache, image_key: str, image: np.ndarray, steps: Any) -> np.ndarray:
    """Apply a recipe; every prefix that is in the cache is taken from there.

    Parameters
    ----------
    image_key : str
        Content key of `image`.
    steps : sequence of (str, dict)
        As `opsef_bridge.preprocess.normalise_recipe` returns them.
    """
    if not steps:
        return image
    key = key_of("steps", STAGE, image_key, recipe_identity(steps))
    found = cache.get(key)
    if found is not None:
        return found[0]["output"]
    before = recipe_output(cache, image_key, image, steps[:-1])
    output = apply_recipe(before, steps[-1:])
    cache.put(key, {"output": output}, {})
    return output


def wants_colour(engine: Engine, parameters: Parameters) -> bool:
    """Whether a pass of these parameters takes the samples of an image, axes YXS."""
    ask = getattr(engine, "wants_colour", None)
    return bool(ask(parameters)) if ask else "YXS" in engine.axes and "YX" not in engine.axes


def _is_planned(file: Path, entry: ImageEntry, sha256: str) -> bool:
    """Whether a file is the one of `sha256`; hashed only if its size or time are not known."""
    status = file.stat()
    if (entry.size, entry.mtime) == (status.st_size, status.st_mtime):
        return entry.sha256 == sha256
    return file_sha256(file) == sha256


@unit_kind("predict")
def predict(job: Job) -> Iterator[list[Outcome]]:
    """Segment the images of the unit by all its variants."""
    plan = Plan.from_json(job.plan)
    desk = _Desk(job, plan)
    variants = {variant.id: variant for variant in plan.variants}
    images = {image.id: image for image in plan.images}
    taken_over, makes = _reuse(job)
    yield taken_over
    for image_id in dict.fromkeys(image for image, _, _ in makes):
        job.report(image_id)
        mine = [variants[v] for image, v, _ in makes if image == image_id]
        for outcomes in desk.segment(images[image_id], mine):
            yield outcomes
            job.report(image_id)


def _reuse(job: Job) -> tuple[list[Outcome], list[tuple[str, str, str]]]:
    """Take over what earlier runs finished; return that, and what is left to make."""
    left = job.open_makes()
    wanted = {key for _, _, key in left}
    earlier: dict[str, tuple[Run, dict[str, Any]]] = {}
    for name in job.project.runs():
        run = job.project.run(name)
        if name != job.run.id:
            for outcome in run.outcomes():
                if outcome["key"] in wanted and outcome["status"] != "failed":
                    earlier[outcome["key"]] = (run, outcome)
    found: list[Outcome] = []
    rest: list[tuple[str, str, str]] = []
    for image, variant, key in left:
        run, outcome = earlier.get(key, (None, None))
        source = run.label_file(outcome["variant"], outcome["image"]) if run else None
        if source is None or not source.is_file():
            rest.append((image, variant, key))
            continue
        _link(source, job.run.label_file(variant, image))
        found.append(replace(Outcome(**outcome), image=image, variant=variant))
    return found, rest


def _link(source: Path, target: Path) -> None:
    """Give a label file a second name; label files are never changed in place."""
    with atomic_path(target) as partial:
        try:
            os.link(source, partial)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, partial)


class _Desk:
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
            array = self._read(image)
        except Exception as error:
            yield [_failed(error, image, variant) for variant in variants]
            return
        passes: dict[str, list[Variant]] = {}
        for variant in variants:
            passes.setdefault(variant.pass_key(image), []).append(variant)
        for key, sharing in passes.items():
            try:
                raw, seconds = self._pass(key, image, array, sharing[0])
            except Exception as error:
                yield [_failed(error, image, variant) for variant in sharing]
                continue
            shape = box_shape(array.shape, image.box)
            yield [self._decode(raw, seconds, shape, image, variant) for variant in sharing]

    def _read(self, image: PlannedImage, *, colour: bool = False) -> np.ndarray:
        return segmented_array(
            self.job.project, self.config, self.entries[image.id], image.sha256, colour=colour
        )

    def _pass(
        self, key: str, image: PlannedImage, array: np.ndarray, variant: Variant
    ) -> tuple[Raw, float]:
        """Return the result of a network pass and the seconds it took when it was made."""
        kept = self.cache.get(key)
        if kept is not None:
            maps, values = kept
            seconds = values.pop("_seconds")
            shape = tuple(int(values.pop(f"_shape{i}")) for i in range(int(values.pop("_ndim"))))
            return Raw(maps, shape, values), seconds
        loaded = self.loaded
        parameters = loaded.engine.Predict(**variant.predict)
        if wants_colour(loaded.engine, parameters):
            whole = self._colour_output(image, variant.steps)
        else:
            whole = recipe_output(self.cache, image.key, array, variant.steps)
        part = cut_box(whole, variant.steps, image.box)
        if wants_colour(loaded.engine, parameters):
            whole, part = (np.moveaxis(one, 0, -1) for one in (whole, part))
        start = time.perf_counter()
        raw = loaded.predict(part, parameters, reference=whole)
        seconds = time.perf_counter() - start
        record = self.job.record
        record["passes"] += 1
        loaded.note(record)
        form = {f"_shape{i}": side for i, side in enumerate(raw.shape)} | {"_ndim": len(raw.shape)}
        self.cache.put(key, raw.maps, raw.values | form | {"_seconds": seconds})
        return raw, seconds

    def _colour_output(self, image: PlannedImage, steps: Any) -> np.ndarray:
        """Return the samples of an image (SYX), each by itself through the recipe."""
        samples = self._read(image, colour=True)
        return np.stack(
            [
                recipe_output(self.cache, key_of(image.key, "sample", number), sample, steps)
                for number, sample in enumerate(samples)
            ]
        )

    def _decode(
        self,
        raw: Raw,
        seconds: float,
        shape: tuple[int, ...],
        image: PlannedImage,
        variant: Variant,
    ) -> Outcome:
        """Make, clean and write the labels of one variant."""
        start = time.perf_counter()
        try:
            engine = engine_class(variant.engine)
            labels = engine().decode(raw, engine.Decode(**variant.decode))
            labels = _checked(labels, grid_shape(shape, variant.steps, image.box), engine.name)
            labels = to_source(labels, variant.steps, shape, image.box)
            labels = clean(labels, **variant.postprocess)
            self._write(labels, image, variant)
        except Exception as error:
            return _failed(error, image, variant)
        decode_seconds = time.perf_counter() - start
        area = np.bincount(labels.ravel())[1:]
        diameter = _median_diameter(area, labels.ndim)
        return Outcome(
            image.id,
            variant.id,
            variant.label_key(image),
            "ok" if len(area) else "empty",
            objects=len(area),
            diameter=round(diameter, 2),
            seconds=round(seconds + decode_seconds, 4),
            decode_seconds=round(decode_seconds, 4),
            chosen={
                name.removeprefix(CHOSEN): round(value, 4)
                for name, value in raw.values.items()
                if name.startswith(CHOSEN)
            },
        )

    def _write(self, labels: np.ndarray, image: PlannedImage, variant: Variant) -> None:
        entry = self.entries[image.id]
        info = {"variant": variant.slug, "key": variant.label_key(image), "image": image.id}
        if image.box:
            info["box"] = "y {} x {} height {} width {}".format(*image.box)
        write_labels(
            self.job.run.label_file(variant.id, image.id),
            labels,
            spacing=entry.spacing,
            unit=entry.unit,
            info="\n".join(f"{key}: {value}" for key, value in info.items()),
        )


def _failed(error: Exception, image: PlannedImage, variant: Variant) -> Outcome:
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


def box_shape(shape: tuple[int, ...], box: Box | None) -> tuple[int, ...]:
    """Return the shape of the box of an image of `shape`."""
    return shape if box is None else (*shape[:-2], *box[2:])


def cut_box(output: np.ndarray, steps: Any, box: Box | None) -> np.ndarray:
    """Cut the box, in pixels of the source, from the output of a recipe that may bin."""
    if box is None:
        return output
    factor = _bin_factor(steps)
    y, x, height, width = box
    rows = slice(y // factor, -(-(y + height) // factor))
    return output[..., rows, slice(x // factor, -(-(x + width) // factor))]


def grid_shape(shape: tuple[int, ...], steps: Any, box: Box | None) -> tuple[int, ...]:
    """Return the shape of what `cut_box` cuts, for a source or box of `shape`."""
    factor = _bin_factor(steps)
    sides = [
        -(-(start + side) // factor) - start // factor
        for side, start in zip(shape[-2:], box[:2] if box else (0, 0), strict=True)
    ]
    return (*shape[:-2], *sides)


def to_source(
    labels: np.ndarray, steps: Any, shape: tuple[int, ...], box: Box | None
) -> np.ndarray:
    """Give every pixel of the source, or of its box, the label of the block it is in.

    Parameters
    ----------
    labels : ndarray
        On the grid of the recipe's output, as `cut_box` cut it.
    steps : recipe
    shape : tuple of int
        Shape of the source, or of its box.
    """
    factor = _bin_factor(steps)
    if factor == 1:
        return labels
    index = [
        (np.arange(side) + start) // factor - start // factor
        for side, start in zip(shape[-2:], box[:2] if box else (0, 0), strict=True)
    ]
    return labels[..., index[0][:, None], index[1]]


def _bin_factor(steps: Any) -> int:
    return round(1 / recipe_scale(steps))


def _median_diameter(area: np.ndarray, ndim: int) -> float:
    """Median diameter of the circles (spheres) of the same area (volume), in pixels."""
    if not len(area):
        return 0.0
    middle = float(np.median(area))
    return 2 * (middle / np.pi) ** 0.5 if ndim == 2 else 2 * (0.75 * middle / np.pi) ** (1 / 3)
