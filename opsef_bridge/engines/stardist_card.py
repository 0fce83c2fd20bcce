"""What the cards of weights tell the engine ``stardist``: the network's input, thresholds."""

from __future__ import annotations

from pydantic import BaseModel, Field

from opsef_bridge.engines.base import Weights
from opsef_bridge.errors import WeightsError

__all__ = ["Card", "Thresholds", "read_card", "read_thresholds"]


class Card(BaseModel):
    """What the card of the weights says of the network, under ``input``."""

    axes: str = Field("YX", pattern="^(YX|YXS|ZYX)$")
    grid: tuple[int, ...] = (1, 1)
    """Step in px between two pixels of the maps, per spatial axis."""
    rays: int = Field(32, ge=3)
    multiple: tuple[int, ...]
    """Sides of the network's input are multiples of these."""
    margin: tuple[int, ...]
    """How far the network sees, in px, rounded up to `multiple`."""
    percentiles: tuple[float, float] = (1.0, 99.8)
    clip: tuple[float, float] = (-1e6, 1e6)
    """Bounds of normalised values; the default only keeps them from overflowing."""
    rim: int = Field(2, ge=0)
    """Width of the border of the maps in which no object has its middle, as in the package."""
    anisotropy: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Of the rays in a volume: size of a voxel along Z, Y and X, in any unit."""


class Thresholds(BaseModel):
    """What the card says under ``thresholds``: where parameters do not, these count."""

    prob: float = Field(0.5, ge=0, le=1, strict=True)
    nms: float = Field(0.4, ge=0, le=1, strict=True)


def read_card(weights: Weights) -> Card:
    """Return what the card says of the network.

    Raises
    ------
    WeightsError
        It cannot be right.
    """
    try:
        card = Card(**weights.card.get("input", {}))
        if {len(card.grid), len(card.multiple), len(card.margin)} != {
            3 if card.axes == "ZYX" else 2
        }:
            raise ValueError(f"grid, multiple and margin do not fit the axes {card.axes}")
    except (ValueError, TypeError) as error:
        raise WeightsError(
            f"the card of the weights {weights.name!r} does not describe a StarDist network "
            f"({error})",
            hint="Convert the model folder again, or bring the card that belongs to the file",
        ) from error
    return card


def read_thresholds(weights: Weights) -> Thresholds:
    """Return the thresholds of the card; those that it does not name are the package's.

    Raises
    ------
    WeightsError
        They cannot be right.
    """
    try:
        return Thresholds(**weights.card.get("thresholds", {}))
    except (ValueError, TypeError) as error:
        raise WeightsError(
            f"the card of the weights {weights.name!r} has thresholds that are none ({error})",
            hint="Correct prob and nms under `thresholds`, numbers from 0 to 1, or leave them out",
        ) from error
