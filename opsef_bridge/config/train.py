"""The ``train`` section of ``opsef.yaml``: which networks are trained, how, on what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from opsef_bridge.config.images import Section

__all__ = ["Train"]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Several = BeforeValidator(_as_list)
Steps = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(gt=0)]
Order = Literal["joint", "sequential"]
Images = Annotated[int, Field(ge=1)] | Literal["all"]


class Train(Section):
    """What ``opsef train grid`` trains and compares. A list where one value stands is an axis."""

    networks: dict[str, dict[str, Any]] = Field(min_length=1)
    """Networks by name: ``engine``, and whatever the settings of its training are (``width``,
    ``rate``, ``batch``, ``crop``, ...; lists are axes). ``start`` takes the place of the one
    below; ``predict`` are values for the passes that are judged, such as ``{scale: 0.5}``."""
    dataset: Annotated[list[str], Several, Field(min_length=1)] = Field(["newest"])
    """Ids of datasets of ``opsef train dataset``, or ``newest``: manual against semi-automatic
    truth, or a split by field, well or plate, are datasets of their own."""
    start: Annotated[list[str], Several, Field(min_length=1)] = Field(["random"])
    """``random``; ``shipped``, the weights that come with the engine; the name of registered
    weights or of a candidate; or a file of weights with its card beside it."""
    augmentation: Annotated[list[str], Several, Field(min_length=1)] = Field(["opsef"])
    """``opsef``: every crop in another size and light, drawn while it learns. ``none``: crops
    at random places, turned and flipped. Other presets of ``opsef train augment`` are drawn
    once, as `regions`."""
    regions: int = Field(512, ge=1)
    """How many regions a preset such as ``zaki`` draws."""
    images: Annotated[list[Images], Several, Field(min_length=1)] = Field(["all"])
    """How many images are learned from; a smaller set is part of every larger one."""
    steps: Annotated[list[Steps], Several, Field(min_length=1)] | None = None
    """Training cycles: batches. By default those of the engine."""
    minutes: Annotated[list[Amount], Several, Field(min_length=1)] | None = None
    """In place of `steps`: as many as this time allows, measured once."""
    passes: Annotated[list[Amount], Several, Field(min_length=1)] | None = None
    """In place of `steps`: how often every image (or region) is drawn, on average."""
    order: Annotated[list[Order], Several, Field(min_length=1)] = Field(["joint"])
    """Learn from all kinds (cell types) at once, or from one after the other, by name."""
    seed: Annotated[list[int], Several, Field(min_length=1)] = Field([0])
    """Of first weights, crops, regions, and of which images a smaller set has."""
    baselines: Annotated[list[str], Several] = Field([])
    """Weights that are judged as they are, by name; those that networks start from always are."""
    train_images: int = Field(16, ge=0)
    """How many of the images learned from are judged too: what is better there than on the
    test images was learned by heart."""
    every: int = Field(100, ge=1)
    """Steps between checkpoints: as many may be lost when it is killed."""
    patience: int | Literal["none"] = "none"
    """End early after so many checkpoints without a smaller validation loss."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    tensorboard: bool = False
    """Write the curves as event files for TensorBoard, too (``pip install tensorboard``)."""

    @field_validator("networks")
    @classmethod
    def _entries(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, entry in value.items():
            if not name or not all(c.isalnum() or c in "-_" for c in name):
                raise ValueError(f"{name!r} is no name: use letters, digits, '-' and '_'")
            if not isinstance(entry.get("engine"), str):
                raise ValueError(f"{name}: the key 'engine' is missing, or is no name")
        return value

    @field_validator("minutes", "passes")
    @classmethod
    def _one_measure(cls, value: list[float] | None, info: Any) -> list[float] | None:
        others = [name for name in ("steps", "minutes") if info.data.get(name) is not None]
        if value is not None and others:
            raise ValueError(f"{info.field_name} and {others[0]} say the same: name one of them")
        return value

    @field_validator("patience")
    @classmethod
    def _some_patience(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("give 1 or more, or none")
        return value
