"""Model cards: what stands beside weights, so that they can be judged and made again."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opsef_bridge.engines.unet import CLIP, MULTIPLE, PERCENTILES
from opsef_bridge.train.data import Sample, checksum, object_count

if TYPE_CHECKING:
    from opsef_bridge.train.loop import Settings

__all__ = ["GREY", "describe_data", "model_card", "unet_card"]

GREY: dict[str, Any] = {
    "axes": "YX",
    "channels": 1,
    "percentiles": list(PERCENTILES),
    "clip": list(CLIP),
}
"""What the card of a network for one grey plane says of its input."""


def model_card(
    name: str, engine: str, file: str, sha256: str, packages: Iterable[str], **parts: Any
) -> dict[str, Any]:
    """Return a card: whose network it is, `parts` in their order, and the versions behind it.

    Parameters
    ----------
    name, engine, file : str
        Of the weights, of who runs them, and of their file beside the card.
    sha256 : str
        Of the file.
    packages : iterable of str
        Those on which the weights depend.
    **parts
        ``input`` and ``output``, which the engine reads; ``data``, ``recipe`` and more.
    """
    return {
        "name": name,
        "engine": engine,
        "family": f"{engine}:{name}",
        "file": file,
        "sha256": sha256,
        "created": datetime.now(UTC).date().isoformat(),
        **parts,
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("opsef_bridge", *packages)},
        },
    }


def unet_card(name: str, settings: Settings, data: dict[str, Any], sha256: str) -> dict[str, Any]:
    """Return the card of a U-Net: what the engine needs to know, and how it came about."""
    return model_card(
        name,
        "unet",
        f"{name}.onnx",
        sha256,
        ("torch", "onnx", "onnxruntime", "numpy", "scipy", "scikit-image"),
        input={**GREY, "multiple": MULTIPLE},
        output=["background", "interior", "border"],
        data=data,
        recipe={
            "target": "border 1 px wide, inside the object",
            "loss": "weighted cross-entropy + mean Dice of interior and border",
            "optimiser": "AdamW, linear warm-up, cosine to 0",
            **asdict(settings),
        },
    )


def describe_data(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return how much was learned from, and the checksum that proves it."""
    return {
        "images": len(samples),
        "objects": sum(object_count(s.labels) for s in samples),
        "groups": len({s.group for s in samples}),
        "sha256": checksum(samples),
    }
