"""What a comparison of an image shows: its base picture, the channels, the variants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from opsef_bridge.compare.stack import CHANNELS, Frame, display_range, source_dtype
from opsef_bridge.compare.words import order_note
from opsef_bridge.config import Compare, Config
from opsef_bridge.files import key_of
from opsef_bridge.project import ImageEntry, Project, Run
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.parts import Whole, Windows
from opsef_bridge.sweep.planned import Plan, PlannedImage, Variant
from opsef_bridge.sweep.predict import box_shape, open_parts, segmented_array, to_source
from opsef_bridge.sweep.rank import scale_seen
from opsef_bridge.sweep.sample import Box

__all__ = ["INFO_COLUMNS", "SAMPLES", "Shown", "base_config", "open_shown"]

INFO_COLUMNS = (
    "rank", "id", "slug", "objects", "score", "agreement", "agreement_07", "plain_mean", "status",
)  # fmt: skip
"""Of the table in the Info text."""

SAMPLES = ("red", "green", "blue")


@dataclass(frozen=True)
class Shown:
    """One image and some of its variants, ready to be drawn.

    Parameters
    ----------
    entry, image
        The image, of the project and of the plan.
    box : (y, x, height, width) or None
        What is shown of it, in pixels of the source; None for all.
    base : ndarray, axes YX or ZYX
        The base picture, and `base_name`, what it is.
    more : mapping of str to ndarray
        Further channels by name, each of the shape of `base`.
    rows : sequence of mapping
        Rows of ``variants.csv``, in the order in which they are shown.
    total : int
        How many variants there are to choose from.
    note : str
        What is to be said of that order.
    """

    run: Run
    entry: ImageEntry
    image: PlannedImage
    box: Box | None
    parts: Whole | Windows
    base: np.ndarray
    base_name: str
    more: Mapping[str, np.ndarray]
    rows: Sequence[Mapping[str, str]]
    variants: Mapping[str, Variant]
    outcomes: Mapping[str, Mapping[str, Any]]
    total: int
    note: str

    @property
    def depth(self) -> int:
        """How many planes of Z."""
        return 1 if self.base.ndim == 2 else len(self.base)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of the stack."""
        return (*CHANNELS, *self.more)

    @property
    def values_dtype(self) -> np.dtype:
        """What holds the values of the base picture and of all further channels."""
        return np.result_type(*map(source_dtype, (self.base, *self.more.values())))

    def first(self, count: int) -> Shown:
        """Return the same with the first rows only."""
        return replace(self, rows=self.rows[:count])

    def frames(self) -> Iterator[Frame]:
        """Yield the variants as `opsef_bridge.compare.stack.stack_planes` takes them."""
        for row in self.rows:
            variant, outcome = self.variants[row["id"]], self.outcomes[row["id"]]
            failed = outcome["status"] == "failed"
            yield Frame(
                self.labels(row["id"]),
                partial(self._seen, variant, self.base if failed else None),
                scale_seen(variant, outcome),
                None if failed else key_of(variant.steps),
            )

    def labels(self, variant: str) -> np.ndarray:
        """Return the labels of a variant, of the box that is shown; none where it failed."""
        if self.outcomes[variant]["status"] == "failed":
            return np.zeros(self.base.shape, np.int32)
        labels = self.run.labels(variant, self.image.id)
        if self.box == self.image.box or self.box is None:
            return labels
        y, x, height, width = self.box
        top, left = self.image.box[:2] if self.image.box else (0, 0)
        y, x = y - top, x - left
        return labels[..., y : y + height, x : x + width].copy()

    def _seen(self, variant: Variant, instead: np.ndarray | None) -> np.ndarray:
        """What the network saw; of a variant that failed, and only there, maybe `instead`."""
        try:
            return self.parts.part(variant.steps, self.box)
        except Exception:
            if instead is None:
                raise
            return instead

    def caption(self, row: Mapping[str, str]) -> str:
        """``#1 v0007 median3 | unet | scale 1 threshold 0.5 | 61 objects | agreement 0.930``

        Where a person answered, the score follows.
        """
        variant, outcome = self.variants[row["id"]], self.outcomes[row["id"]]
        chosen = outcome.get("chosen") or {}
        own = "".join(f" | {name} {value:.3g} chosen" for name, value in sorted(chosen.items()))
        return (
            f"#{row['rank']} {variant.id} {variant.caption()}{own} | {result_of(outcome)} | "
            f"{figures_of(row)}"
        )

    def slice_labels(self) -> list[str]:
        """Return the caption of each plane: channel fastest, then Z, then variants."""
        return [
            f"{text} | {channel}"
            for text in map(self.caption, self.rows)
            for _ in range(self.depth)
            for channel in self.channels
        ]

    def info(self) -> str:
        """Text of the Info property: where the stack comes from and the table of variants."""
        shown = {f"base: {self.base_name}": self.base}
        shown |= {f"channel {name}": array for name, array in self.more.items()}
        lines = [
            f"image: {self.entry.id}",
            f"source: {self.entry.source}",
            *(f"{name}: {text}" for name, text in self.entry.origin().items()),
            f"group: {self.image.group}",
            f"ranking: {self.note or 'by agreement'}",
            f"frames: {len(self.rows)} of {self.total} variants",
            *("{}, shown from {:g} to {:g}".format(name, *display_range(array))
              for name, array in shown.items()),
            f"channels: {', '.join(self.channels)}",
        ]  # fmt: skip
        if self.box:
            names = ("y", "x", "height", "width")
            lines.append("box: " + json.dumps(dict(zip(names, self.box, strict=True))))
        lines += ["", "\t".join(INFO_COLUMNS)]
        lines += ["\t".join(row[column] for column in INFO_COLUMNS) for row in self.rows]
        return "\n".join(lines)


def result_of(outcome: Mapping[str, Any]) -> str:
    """Return ``61 objects``, or why there are none."""
    failed = outcome["status"] == "failed"
    return f"failed: {outcome['message']}" if failed else f"{outcome['objects']} objects"


def figures_of(row: Mapping[str, str]) -> str:
    """Return ``agreement 0.930``, with the score where that is another."""
    score = f" | score {float(row['score']):.3f}" if row["score"] != row["agreement"] else ""
    return f"agreement {float(row['agreement']):.3f}{score}"


def base_config(config: Config, settings: Compare) -> Config:
    """Return the configuration of a run with other settings of comparisons."""
    return config.model_copy(update={"compare": settings})


def open_shown(
    project: Project,
    run: Run,
    plan: Plan,
    image: PlannedImage,
    rows: Sequence[Mapping[str, str]],
    remark: Callable[[str], None],
    *,
    settings: Compare | None = None,
    box: Box | None = None,
    note: str | None = None,
    total: int | None = None,
) -> Shown:
    """Open an image and some of its variants.

    Where the recipe of the base picture cannot be applied the plain image takes its place:
    `Shown.base_name` says so, and `remark` is told.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of ``variants.csv``, in the order in which they are shown.
    settings : Compare, optional
        Those of the run by default.
    box : (y, x, height, width), optional
        A part of what was segmented, in pixels of the source; all of it by default.
    note : str, optional
        What is to be said of the order; by default what the rows say of a ranking.
    total : int, optional
        How many variants there are to choose from; by default as many as `rows`.

    Raises
    ------
    ImageError
        The file cannot be read, or has changed since it was planned.
    """
    config = Config(**plan.config)
    config = base_config(config, settings or config.compare)
    entry = project.image(image.id)
    box = box or image.box
    parts = open_parts(project, config, entry, image, ArrayCache(project.cache_folder))
    base, name = _base(parts, config, image.id, box, remark)
    more = _channels(project, config, entry, box) if config.compare.channels == "all" else {}
    return Shown(
        run, entry, image, box, parts, base, name, more, rows,
        {variant.id: variant for variant in plan.variants},
        {o["variant"]: o for o in run.outcomes() if o["image"] == image.id},
        len(rows) if total is None else total,
        order_note(rows) if note is None else note,
    )  # fmt: skip


def _base(
    parts: Whole | Windows,
    config: Config,
    image: str,
    box: Box | None,
    remark: Callable[[str], None],
) -> tuple[np.ndarray, str]:
    """Return the base picture in pixels of the source, and what it is."""
    name, steps = config.compare.base, config.base_steps()
    try:
        made = parts.part(steps, box)
    except Exception as error:  # steps come from anywhere, and the labels are there
        plain = parts.part((), box)
        remark(
            f"{image}: compare.base {name!r} cannot be applied to it, its comparison stack "
            f"shows the plain image: {error}"
        )
        return plain, f"the plain image, since {name} cannot be applied to it"
    return to_source(made, steps, box_shape(parts.shape, box), box), name


def _channels(
    project: Project, config: Config, entry: ImageEntry, box: Box | None
) -> dict[str, np.ndarray]:
    """Return every channel of an image of several, or its samples, by name."""
    sizes = dict(zip(entry.axes, entry.shape, strict=True))
    if sizes.get("S", 1) > 1:
        samples = segmented_array(project, config, entry, colour=True, box=box)
        return dict(zip(SAMPLES, samples, strict=False))
    count = sizes.get("C", 1)
    names = entry.channels.split("|") if entry.channels else []
    if len(set(names)) != count or "" in names:
        names = [f"channel {number}" for number in range(count)]
    return {
        name: segmented_array(
            project, config, replace(entry, segment_channel=str(number)), box=box
        )
        for number, name in enumerate(names if count > 1 else [])
    }  # fmt: skip
