"""The ``report`` unit: gathers a finished run and writes its ``report.html``."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import yaml

from opsef_bridge.compare import image_support, pairwise_f1
from opsef_bridge.compare.report import FIRST_ROWS, Drawing, Entry, Group, Page, Picture, render
from opsef_bridge.compare.report_pictures import (
    base_uri,
    outlines_uri,
    thumbnail_shape,
    view_shape,
)
from opsef_bridge.compare.votes import SILENT
from opsef_bridge.compare.words import Confidence
from opsef_bridge.config import Config
from opsef_bridge.errors import OpsefError
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.files import read_json, write_text
from opsef_bridge.images import Region, read_image, read_labels
from opsef_bridge.project import Project, Run, read_csv
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.parts import Whole, Windows
from opsef_bridge.sweep.plan import Plan, PlannedImage, Variant
from opsef_bridge.sweep.predict import box_shape, open_parts, to_source
from opsef_bridge.sweep.rank import median_chosen
from opsef_bridge.sweep.ranking import read_ranking, words_of_run
from opsef_bridge.sweep.remarks import first_of, remarks_of
from opsef_bridge.sweep.run import versions

__all__ = ["report", "variant_snippet"]

PICTURE_BYTES = 9_000_000
"""Of pictures in a page, so that it stays below 12 MB; each image has an equal share."""

MOST_IMAGES = 24
"""Columns of a group's contact sheet."""

MOST_VARIANTS = 60
"""Rows of a contact sheet, as far as the share of an image allows."""

MATRIX_SIDE = 24
"""Variants of the agreement matrix."""


@unit_kind("report")
def report(job: Job) -> Iterator[list[Outcome]]:
    """Write ``report.html``."""
    plan = Plan.from_json(job.plan)
    rows = read_csv(job.run.variants_file)
    outcomes = job.run.outcomes()
    by_group: dict[str, list[PlannedImage]] = {}
    for image in plan.images:
        by_group.setdefault(image.group, []).append(image)
    share = PICTURE_BYTES // sum(min(len(i), MOST_IMAGES) for i in by_group.values())
    groups = [
        _group(job, plan, name, images, [row for row in rows if row["group"] == name],
               outcomes, share)
        for name, images in by_group.items()
    ]  # fmt: skip
    planned = datetime.datetime.fromtimestamp(job.run.plan_file.stat().st_mtime)
    page = Page(
        job.project.root.name,
        job.run.id,
        f"started {planned:%Y-%m-%d %H:%M}",
        _facts(job.run, plan, outcomes),
        groups,
    )
    write_text(job.run.report_file, render(page))
    yield []


def variant_snippet(variant: Variant) -> str:
    """Return the part of an ``opsef.yaml`` that makes this variant and no other."""
    values = {**variant.predict, **variant.decode}
    if variant.family == SILENT:
        words = " ".join(f"--{name} {value:g}" for name, value in values.items())
        return f"# no file makes it, but a command: opsef consensus {words}\n"
    weights = {"weights": variant.weights} if variant.weights else {}
    model = {"engine": variant.engine, **weights, **{key: values[key] for key in variant.named}}
    steps = [{name: parameters} for name, parameters in variant.steps]
    blocks: dict[str, Any] = {
        "preprocess": {variant.recipe: steps},
        "models": {variant.model: model},
        "postprocess": variant.postprocess,
    }
    return yaml.safe_dump(blocks, sort_keys=False, default_flow_style=None, width=88)


def _group(
    job: Job,
    plan: Plan,
    name: str,
    images: Sequence[PlannedImage],
    rows: Sequence[Mapping[str, str]],
    outcomes: Sequence[Mapping[str, Any]],
    share: int,
) -> Group:
    """Gather a group: every label image that is drawn or compared is read once."""
    config = Config(**plan.config)
    variants = {variant.id: variant for variant in plan.variants}
    ids = {image.id for image in images}
    mine = [outcome for outcome in outcomes if outcome["image"] in ids]
    entries = [
        _entry(row, variants[row["id"]], [o for o in mine if o["variant"] == row["id"]])
        for row in rows
    ]
    drawings: dict[tuple[str, str], Drawing] = {}
    pictures, supports = [], []
    top = entries[:MATRIX_SIDE]
    for image in images[:MOST_IMAGES]:
        job.report(image.id)
        labels = {e.id: _labels(job.run, e.id, image.id) for e in entries[:MOST_VARIANTS]}
        picture = _picture(job.project, config, image, labels.values())
        pictures.append(picture)
        drawn = _drawings(labels, picture.shape, share - len(picture.uri))
        drawings |= {(image.id, variant): drawing for variant, drawing in drawn.items()}
        if any(labels[e.id] is not None for e in top):
            of_top = [labels[e.id] for e in top]
            supports.append(image_support(of_top, [e.family for e in top]))
    notes = first_of([one for one in remarks_of(job.run) if one.partition(":")[0] in ids])
    if len(images) > len(pictures):
        shown = f"Pictures and matrix show the first {MOST_IMAGES} of {len(images)} images."
        notes = [shown, *notes]
    told = read_ranking(job.run).get(name, {})
    return Group(
        name, entries, pictures, mine, drawings, pairwise_f1(supports),
        words=words_of_run(job.run).get(name, ()),
        confidence=_confidence(told.get("confidence")),
        answers=told.get("answers", 0),
        notes=notes,
    )  # fmt: skip


def _confidence(told: Mapping[str, Any] | None) -> Confidence | None:
    return Confidence(told["shares"], told["by"], told["count"]) if told else None


def _entry(
    row: Mapping[str, str], variant: Variant, outcomes: Sequence[Mapping[str, Any]]
) -> Entry:
    values = {**variant.predict, **variant.decode}
    named = {key: values[key] for key in variant.named}
    own = {key: value for key, value in named.items() if key != "scale"}
    knobs = {"recipe": variant.recipe, "model": variant.model}
    knobs |= {"scale": named["scale"]} if "scale" in named else {}
    knobs |= {f"{variant.model}: {key}": value for key, value in own.items()}
    medians = {
        f"{key} chosen (median)": f"{value:g}" for key, value in median_chosen(outcomes).items()
    }
    return Entry(
        rank=int(row["rank"]),
        id=variant.id,
        slug=variant.slug,
        caption=variant.caption(),
        family=variant.family,
        recipe=variant.recipe,
        scale=float(row["scale"]),
        parameters=own | medians,
        knobs=knobs,
        object_px=float(row["object_px"]),
        objects=int(row["objects"]),
        seconds=float(row["seconds"]),
        agreement=float(row["agreement"]),
        agreement_07=float(row["agreement_07"]),
        plain_mean=float(row["plain_mean"]),
        score=float(row["score"]),
        status=row["status"],
        snippet=variant_snippet(variant),
    )


def _labels(run: Run, variant: str, image: str) -> np.ndarray | None:
    """Labels of the plane that is shown; None where there are none."""
    file = run.label_file(variant, image)
    return read_labels(file) if file.is_file() else None


def _picture(project: Project, config: Config, image: PlannedImage, labels: Any) -> Picture:
    """The base picture of an image; an image that cannot be read has none."""
    entry = project.image(image.id)
    notes = [f"group {image.group}"]
    if image.box:
        notes.append("box y {}, x {}, {} x {} px".format(*image.box))
    try:
        cache = ArrayCache(project.cache_folder)
        parts = open_parts(project, config, entry, replace(image, sha256=""), cache)
        base = _base(project, config, image, parts)
    except OpsefError as error:  # its outcomes say so too
        found = next((found for found in labels if found is not None), np.zeros((1, 1)))
        return Picture(image.id, entry.source, str(error), found.shape[-2:], "")
    if len(parts.shape) == 3:
        notes.append(f"plane {parts.shape[0] // 2 + 1} of {parts.shape[0]}")
    sizes = " x ".join(f"{size:g}" for size in entry.spacing.values())
    notes += [f"pixel {' x '.join(entry.spacing)}: {sizes} {entry.unit}"] if sizes else []
    notes += [f"{name} {text}" for name, text in entry.origin().items()]
    return Picture(image.id, entry.source, ", ".join(notes), base.shape[:2], base_uri(base))


def _base(
    project: Project, config: Config, image: PlannedImage, parts: Whole | Windows
) -> np.ndarray:
    """The picture below the outlines, axes YX or, of a colour image, YXS."""
    steps = config.base_steps()
    entry = project.image(image.id)
    if not steps and entry.axes == "YXS":
        y, x, height, width = image.box or (0, 0, *parts.shape)
        region = Region(y=(y, y + height), x=(x, x + width)).within(entry.region)
        file, axes = project.source_file(entry), config.images.assumed_axes
        colour = read_image(file, entry.series, axes=axes, region=region).data
        if colour.dtype == np.uint8:  # stained tissue is judged by its colours
            return np.ascontiguousarray(colour)
    base = parts.part(steps, image.box)
    base = to_source(base, steps, box_shape(parts.shape, image.box), image.box)
    return _middle(base)


def _middle(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 2 else array[len(array) // 2]


def _drawings(
    labels: Mapping[str, np.ndarray | None], shape: tuple[int, int], allowed: int
) -> dict[str, Drawing]:
    """Draw thumbnails first, then enlarged outlines, in the order of rank, while they fit."""
    planes = {name: _middle(found) for name, found in labels.items() if found is not None}
    small: dict[str, str] = {}
    for name, plane in planes.items():
        uri = outlines_uri(plane, thumbnail_shape(shape))
        if len(small) >= FIRST_ROWS and allowed < len(uri):
            break
        small[name] = uri
        allowed -= len(uri)
    large: dict[str, str] = {}
    for name in small:
        uri = outlines_uri(planes[name], view_shape(shape))
        if allowed < len(uri):
            break
        large[name] = uri
        allowed -= len(uri)
    return {name: Drawing(uri, large.get(name, "")) for name, uri in small.items()}


def _facts(run: Run, plan: Plan, outcomes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    recipes = {variant.recipe: variant.steps for variant in plan.variants}
    models = dict.fromkeys(variant.model for variant in plan.variants)
    sizes = sorted({image.box[2:] for image in plan.images if image.box})
    counts = {s: sum(o["status"] == s for o in outcomes) for s in ("ok", "empty", "failed")}
    devices = {
        read_json(file).get("device", "") for file in (run.root / "units").glob("u*.json")
    } - {""}
    facts = {
        "Variants": f"{len(plan.variants)}: {len(recipes)} recipes, {len(models)} models",
        "Recipes": "; ".join(
            f"{name}: {' → '.join(map(_step, steps)) or 'the image as it is'}"
            for name, steps in recipes.items()
        ),
    }
    for model in models:
        facts[f"Model {model}"] = _model([v for v in plan.variants if v.model == model])
    boxes = ", ".join(f"{height} x {width} px" for height, width in sizes)
    facts["Images"] = f"{len(plan.images)}, " + (
        f"of large ones a box of {boxes}" if boxes else "whole"
    )
    facts["Results"] = "{ok} with objects, {empty} without, {failed} failed".format(**counts)
    facts["Device"] = ", ".join(sorted(devices)) or "not recorded"
    facts["Versions"] = ", ".join(f"{name} {version}" for name, version in versions().items())
    return facts


def _model(variants: Sequence[Variant]) -> str:
    """Return ``unet:nuclei-unet; scale 0.5, 1.0; threshold 0.4, 0.5``."""
    values = [{**v.predict, **v.decode} for v in variants]
    axes = (
        f"{key} {', '.join(dict.fromkeys(str(of[key]) for of in values))}"
        for key in variants[0].named
    )
    return "; ".join([variants[0].family, *axes])


def _step(step: tuple[str, Mapping[str, Any]]) -> str:
    name, parameters = step
    text = ", ".join(f"{key} {json.dumps(value)}" for key, value in parameters.items())
    return f"{name} ({text})" if text else name
