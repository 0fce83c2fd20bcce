"""What a plan is made of: images, variants, units; pure data, with their content keys.

Everything that decides what labels look like goes into a content key: the image (its
bytes, channel, projection), the box, the recipe, the engine and its version, the weights,
the parameters, the post-processing, and `STAGE`, the version of what this package does
around them. A key that was finished once, in any run, is never computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from opsef_bridge.compare.votes import SILENT
from opsef_bridge.engines import engine_class
from opsef_bridge.errors import NotFoundError
from opsef_bridge.execute import Unit
from opsef_bridge.files import key_of
from opsef_bridge.images.tiles import tile_boxes
from opsef_bridge.preprocess import recipe_identity
from opsef_bridge.sweep.sample import Box

__all__ = [
    "STAGE",
    "Plan",
    "PlannedImage",
    "Variant",
    "find_variant",
    "short_value",
    "variant_key",
]

STAGE = "1"
"""Version of reading, cropping, resizing, post-processing: part of every key."""


@dataclass(frozen=True)
class PlannedImage:
    """An image of the run: its content key and the box that is worked on (None: all).

    `sha256` is that of the file when it was planned: a file that changed since must not
    be filed under the old key. `tiles` are size and overlap of the tiles of an image that is
    larger than one, and its height and width; None where it is worked on as a whole.
    """

    id: str
    key: str
    group: str
    box: Box | None
    sha256: str = ""
    tiles: tuple[int, int, int, int] | None = None

    def tile_boxes(self) -> list[Box]:
        """Return the tiles in which the image is segmented; none if it, or its box, is not."""
        if self.tiles is None or self.box is not None:
            return []
        size, overlap, *shape = self.tiles
        return tile_boxes(shape, size, overlap)


@dataclass(frozen=True)
class Variant:
    """Recipe, model, scale and parameter values: one way to get labels.

    Complete in itself: a variant that was adopted runs without the configuration it came
    from. `named` are the parameters that the configuration names, for captions; `predict`
    and `decode` hold all, defaults included. `scale` is the factor by which the network
    sees the image enlarged, whatever the engine's own parameter for it. `family` is engine
    and weights, one voice in the ranking, whatever the recipe; `weights_key` is the content
    key of the weights, with what their card tells the engine.
    """

    id: str
    slug: str
    recipe: str
    steps: tuple[Any, ...]
    model: str
    engine: str
    weights: str
    weights_sha256: str
    predict: dict[str, Any]
    decode: dict[str, Any]
    postprocess: dict[str, Any]
    named: tuple[str, ...]
    key: str
    family: str
    weights_key: str
    scale: float = 1.0

    def current_key(self) -> str:
        """Return the key that the installed versions of engine and steps would give."""
        return variant_key(
            self.engine, self.weights_key, self.steps, self.predict, self.decode,
            self.postprocess,
        )  # fmt: skip

    def caption(self) -> str:
        """Return ``median3 | unet | scale 0.5 threshold 0.6``."""
        values = {**self.predict, **self.decode}
        named = " ".join(f"{key} {short_value(values[key])}" for key in self.named)
        return f"{self.recipe} | {self.model} | {named or 'as it comes'}"

    def parameters(self) -> dict[str, Any]:
        """Parameters besides the scale."""
        shown = {**self.predict, **self.decode}
        shown.pop("scale", None)
        return shown

    def pass_key(self, image: PlannedImage) -> str:
        """Content key of the network pass, which all thresholds share."""
        network = (self.engine, engine_class(self.engine).version, self.weights_key)
        how = (recipe_identity(self.steps), *network, self.predict)
        return key_of("pass", STAGE, image.key, image.box, *how)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON holds of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Variant:
        """Read what `to_json` wrote."""
        steps = tuple((name, parameters) for name, parameters in value["steps"])
        # What was adopted before there were families and keys of cards goes on.
        name = value["weights"]
        older = {
            "family": f"{value['engine']}:{name}" if name else value["engine"],
            "weights_key": value["weights_sha256"],
        }
        return cls(**{**older, **value, "steps": steps, "named": tuple(value["named"])})

    def label_key(self, image: PlannedImage) -> str:
        """Content key of the labels of an image."""
        return key_of("labels", image.key, image.box, self.key)

    def tile_key(self, image: PlannedImage, tile: Box) -> str:
        """Content key of the labels of one tile of an image."""
        return key_of("tile", self.label_key(image), tile)


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Parameters
    ----------
    key : str
        Equal plans have equal keys: running one again is the same run.
    purpose : {"sweep", "refine", "consensus", "batch"}
        Many variants on a sample, more around the best of them (`opsef_bridge.sweep.refine`),
        they and the consensus of them (`opsef_bridge.sweep.consensus`), or the adopted ones on
        all images.
    """

    key: str
    purpose: str
    config: dict[str, Any]
    images: tuple[PlannedImage, ...]
    variants: tuple[Variant, ...]
    units: tuple[Unit, ...]

    def passes(self) -> int:
        """Return how many network passes the plan needs, if nothing was done before."""
        per_image = {
            (key_of(v.steps), v.model, key_of(v.predict))
            for v in self.variants
            if v.engine != SILENT
        }
        return len(per_image) * sum(len(image.tile_boxes()) or 1 for image in self.images)

    def to_json(self) -> dict[str, Any]:
        """Return what ``plan.json`` holds."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Read ``plan.json``; the inverse of `to_json`."""
        return cls(
            value["key"],
            value["purpose"],
            value["config"],
            tuple(
                PlannedImage(**image | {name: _pair(image.get(name)) for name in ("box", "tiles")})
                for image in value["images"]
            ),
            tuple(Variant.from_json(variant) for variant in value["variants"]),
            tuple(Unit.from_json(unit) for unit in value["units"]),
        )


def _pair(value: Any) -> Any:
    return tuple(value) if value else None


def find_variant(plan: Plan, variant: str, run: str) -> Variant:
    """Return the variant of that id or slug.

    Raises
    ------
    NotFoundError
        The run has none; the message says which it has.
    """
    for one in plan.variants:
        if variant in (one.id, one.slug):
            return one
    raise NotFoundError(
        f"{run} has no variant {variant!r}",
        hint=f"It has {plan.variants[0].id} to {plan.variants[-1].id}; plan.json lists them",
    )


def variant_key(engine: str, weights_key: str, steps: Any, *settings: Any) -> str:
    """The content key of a variant: all that decides its labels, but for the image."""
    network = (engine, engine_class(engine).version, weights_key)
    return key_of(STAGE, recipe_identity(steps), *network, *settings)


def short_value(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in text)
