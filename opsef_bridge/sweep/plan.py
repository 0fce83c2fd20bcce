"""The plan: configuration and images in, variants and units out. Pure: reads no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from opsef_bridge.config import Config, ModelSettings
from opsef_bridge.engines import Engine, Parameters, Weights, engine_class
from opsef_bridge.engines.parameters import tuned
from opsef_bridge.errors import ConfigError
from opsef_bridge.execute import Unit
from opsef_bridge.files import key_of
from opsef_bridge.postprocess.large import check_postprocess
from opsef_bridge.preprocess import takes_colour
from opsef_bridge.preprocess.step_files import map_variant_files
from opsef_bridge.project import ImageEntry
from opsef_bridge.sweep.planned import (
    STAGE,
    Plan,
    PlannedImage,
    Variant,
    short_value,
    variant_key,
)
from opsef_bridge.sweep.planned_units import (
    Numbers,
    ranking_units,
    segmenting_units,
)
from opsef_bridge.sweep.reach import recipe_reach
from opsef_bridge.sweep.sample import Box
from opsef_bridge.sweep.tiling import tiling

__all__ = ["left_out", "make_batch_plan", "make_plan"]

LARGEST_RANKED = 2**25
"""Pixels of the largest image that a sweep works on as a whole: ranking and comparison
stacks hold labels of all variants in memory."""


def make_plan(
    config: Config,
    images: Sequence[ImageEntry],
    weights: Mapping[str, Weights],
    boxes: Mapping[str, Box | None],
) -> Plan:
    """Plan a sweep: every variant of the configuration on every image.

    Parameters
    ----------
    config : Config
    images : sequence of ImageEntry
        The images of the run (see `sample_images`).
    weights : mapping of str to Weights
        By name of the entry of ``models``.
    boxes : mapping of str to Box or None
        The box of each image id that is worked on.

    Raises
    ------
    ConfigError
        No image is left; or one is worked on in tiles, which a recipe or the
        post-processing cannot, or is too large to be ranked.
    """
    planned = _planned(config, images, boxes)
    variants = tuple(_variants(config, weights))
    if not variants:
        raise ConfigError(
            "every recipe makes grey of colour, and every model takes colour",
            hint="Add a recipe without such a step, e.g. `raw: []`",
        )
    _check_tiles(config, planned, variants)
    _check_ranked(planned)
    wanted = {image.id: {variant.id for variant in variants} for image in planned}
    number = Numbers()
    predict = tuple(segmenting_units(planned, variants, wanted, number))
    ranking = ranking_units(planned, predict, number)
    return _plan("sweep", config, images, planned, variants, (*predict, *ranking))


def make_batch_plan(
    config: Config, images: Sequence[ImageEntry], adopted: Mapping[str, Variant]
) -> Plan:
    """Plan a batch: on every image, whole, the variant that its group adopted.

    Images of groups that adopted none are left out (see `left_out`).

    Raises
    ------
    ConfigError
        No image is left; or one is worked on in tiles, which a recipe or the
        post-processing cannot.
    """
    mine = [entry for entry in images if entry.group in adopted]
    if images and not mine:
        groups = ", ".join(dict.fromkeys(entry.group for entry in images))
        raise ConfigError(
            f"variants are adopted for {', '.join(adopted)}, the images are of {groups}",
            hint="Adopt one for these groups: opsef adopt VARIANT --group G",
        )
    planned = _planned(config, mine, {})
    # What was adopted is a way to get labels; what it gives today has today's key.
    adopted = {group: replace(v, key=v.current_key()) for group, v in adopted.items()}
    distinct = {variant.key: variant for variant in adopted.values()}
    variants = tuple(
        replace(variant, id=f"v{i:04d}") for i, variant in enumerate(distinct.values(), start=1)
    )
    ids = {variant.key: variant.id for variant in variants}
    wanted = {image.id: {ids[adopted[image.group].key]} for image in planned}
    _check_tiles(config, planned, variants)
    number = Numbers()
    predict = tuple(segmenting_units(planned, variants, wanted, number))
    batch = number.unit("batch", "batch", needs=tuple(unit.id for unit in predict))
    return _plan("batch", config, mine, planned, variants, (*predict, batch))


def left_out(plan: Plan, images: Sequence[ImageEntry]) -> dict[str, int]:
    """Return how many included images of each group a batch leaves out."""
    planned = {image.id for image in plan.images}
    groups = [e.group for e in images if e.include and not e.gone and e.id not in planned]
    return {group: groups.count(group) for group in dict.fromkeys(groups)}


def _planned(
    config: Config, images: Sequence[ImageEntry], boxes: Mapping[str, Box | None]
) -> tuple[PlannedImage, ...]:
    if not images:
        raise ConfigError(
            "no image is left to work on",
            hint="Set `include` to yes in images/index.csv; or ask for times and planes that "
            "the files have",
        )
    planned = []
    for entry in images:
        key, tiles = _image_key(entry, config), tiling(entry, config)
        key = key_of(key, tiles[:2]) if tiles else key
        box = boxes.get(entry.id)
        planned.append(PlannedImage(entry.id, key, entry.group, box, entry.sha256, tiles))
    return tuple(planned)


def _check_tiles(
    config: Config, images: Sequence[PlannedImage], variants: Sequence[Variant]
) -> None:
    """Refuse what cannot be done in tiles, before a hundred tiles fail for it."""
    if any(image.tiles for image in images):
        for variant in variants:
            recipe_reach(variant.steps)
    if any(image.tile_boxes() for image in images):
        check_postprocess(config.postprocess)


def _check_ranked(images: Sequence[PlannedImage]) -> None:
    for image in images:
        height, width = image.tiles[2:] if image.tiles and not image.box else (0, 0)
        if height * width > LARGEST_RANKED:
            raise ConfigError(
                f"{image.id} of {width} x {height} pixels is too large to be swept as a whole",
                hint="Set sweep.crop, e.g. 512, then adopt a variant: `opsef batch` does it whole",
            )


def _plan(
    purpose: str,
    config: Config,
    entries: Sequence[ImageEntry],
    images: tuple[PlannedImage, ...],
    variants: tuple[Variant, ...],
    units: tuple[Unit, ...],
) -> Plan:
    settings = config.model_dump(mode="json")
    # Where files lie that steps name is left out: what is in them is in the variant's key.
    named = [map_variant_files(asdict(one), lambda file: "") for one in variants]
    parts = [[asdict(one) for one in images], named, [one.identity() for one in units]]
    classes = [settings["class_mask"]] if settings["class_mask"] else []
    sizes = [told for told in map(_told, entries) if len(told) > 1]
    # What was added to `compare` later counts where it is given: else old plans stay the same.
    later = {name for name in ("channels", "dtype") if name not in config.compare.model_fields_set}
    shown = {name: value for name, value in settings["compare"].items() if name not in later}
    key = key_of("plan", STAGE, purpose, *parts, shown, *classes, sizes)
    return Plan(key, purpose, settings, images, variants, units)


def _told(entry: ImageEntry) -> list[Any]:
    """Return the id of an image and what a person may correct of it: that changes no label, but
    all that is written.
    """
    size = [entry.spacing, entry.unit] if entry.spacing else []
    more = {"time_step": entry.time_step, "channels": entry.channels}
    known = {name: value for name, value in more.items() if value}
    return [entry.id, *size, *([known] if known else [])]


def _image_key(entry: ImageEntry, config: Config) -> str:
    how = config.images
    axes = (how.axes, entry.axes)
    # Of an image that is no part the key is what it was before there were parts.
    part = [entry.region.text] if entry.region.text else []
    channel = entry.segment_channel or how.segment.channel
    projection = entry.projection or how.projection
    return key_of(entry.sha256, entry.series, axes, channel, projection, *part)


def _variants(config: Config, weights: Mapping[str, Weights]) -> Iterator[Variant]:
    """All variants in the order of the file; settings that come twice count once."""
    post = config.postprocess.model_dump(mode="json")
    seen: set[str] = set()
    slugs: dict[str, int] = {}
    models = config.model_settings()
    families = _families([weights[model.name] for model in models])
    for model in models:
        engine, used = engine_class(model.engine), weights[model.name]
        for recipe, steps in config.recipes().items():
            for predict, decode in model.combinations(tuned(engine, used)):
                if takes_colour(steps) and _sees_colour(engine, used, predict):
                    continue  # the recipe would leave it no colour to see
                settings = (predict.model_dump(mode="json"), decode.model_dump(mode="json"))
                key = variant_key(engine.name, used.key, steps, *settings, post)
                if key in seen:
                    continue
                seen.add(key)
                slug = _slug(recipe, model, *settings)
                slugs[slug] = slugs.get(slug, 0) + 1
                if slugs[slug] > 1:
                    slug = f"{slug}-{slugs[slug]}"
                yield Variant(
                    f"v{len(seen):04d}", slug, recipe, steps, model.name, engine.name,
                    used.name, used.sha256, *settings, post, tuple(model.axes), key,
                    families[used.name, used.engine], used.key,
                    _seen_scale(engine, used, predict),
                )  # fmt: skip


def _sees_colour(engine: type[Engine], weights: Weights, predict: Parameters) -> bool:
    """Whether a pass will take the samples of an image, by its parameters and the card."""
    ask = getattr(engine(), "wants_colour", None)
    if ask:
        return bool(ask(predict))
    told = (weights.card or {}).get("input", {})
    axes = {told["axes"]} if "axes" in told else engine.axes
    return "YXS" in axes and "YX" not in axes


def _families(weights: Sequence[Weights]) -> dict[tuple[str, str], str]:
    """Return the family of each of `weights`, by name and engine.

    One file under several names is one voice: that of the family which a card names, else of
    the first name.
    """
    voices: dict[str, str] = {}
    for one in sorted(weights, key=_is_own_family):  # stable: those of a card come first
        voices.setdefault(one.sha256, one.family)
    return {
        (one.name, one.engine): voices[one.sha256]
        if one.sha256 and _is_own_family(one)
        else one.family
        for one in weights
    }


def _is_own_family(weights: Weights) -> bool:
    """Whether no card says that this is another form of some other network."""
    return weights.family == f"{weights.engine}:{weights.name}"


def _seen_scale(engine: type[Engine], weights: Weights, predict: Parameters) -> float:
    """Ask an engine without `scale` how far it enlarges the image; most have `scale`."""
    ask = getattr(engine, "seen_scale", None)
    return float(ask(predict, weights) if ask else getattr(predict, "scale", 1.0))


def _slug(
    recipe: str, model: ModelSettings, predict: dict[str, Any], decode: dict[str, Any]
) -> str:
    """``median3_unet_scale-0.5_threshold-0.6``: the parameters that the file names."""
    values = {**predict, **decode}
    parts = [f"{key}-{short_value(values[key])}" for key in model.axes]
    return "_".join([recipe, model.name, *parts])
