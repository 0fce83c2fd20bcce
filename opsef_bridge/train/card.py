"""Model cards: what stands beside weights, so that they can be judged and made again."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from opsef_bridge.engines.unet import CLIP, MULTIPLE, PERCENTILES
from opsef_bridge.train.data import Sample, checksum
from opsef_bridge.train.loop import Settings
from opsef_bridge.train.score import THRESHOLDS, bootstrap, pooled_f1

__all__ = ["describe_data", "score_entry", "unet_card"]


def unet_card(name: str, settings: Settings, data: dict[str, Any], sha256: str) -> dict[str, Any]:
    """Return the card of a U-Net: what the engine needs to know, and how it came about."""
    packages = ("torch", "onnx", "onnxruntime", "numpy", "scipy", "scikit-image")
    return {
        "name": name,
        "engine": "unet",
        "family": f"unet:{name}",
        "file": f"{name}.onnx",
        "sha256": sha256,
        "created": datetime.now(UTC).date().isoformat(),
        "input": {
            "axes": "YX",
            "channels": 1,
            "percentiles": list(PERCENTILES),
            "clip": list(CLIP),
            "multiple": MULTIPLE,
        },
        "output": ["background", "interior", "border"],
        "data": data,
        "recipe": {
            "target": "border 1 px wide, inside the object",
            "loss": "weighted cross-entropy + mean Dice of interior and border",
            "optimiser": "AdamW, linear warm-up, cosine to 0",
            **asdict(settings),
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }


def describe_data(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return how much was learned from, and the checksum that proves it."""
    return {
        "images": len(samples),
        "objects": int(sum(len(np.unique(s.labels)) - (0 in s.labels) for s in samples)),
        "groups": len({s.group for s in samples}),
        "sha256": checksum(samples),
    }


def score_entry(counts: np.ndarray) -> dict[str, Any]:
    """Return pooled F1 with its 95 % interval, as it stands in a card."""
    low, high = bootstrap(counts)
    return {
        "images": len(counts),
        "objects": int(counts[:, 0, [0, 2]].sum()),
        "f1": {
            str(threshold): {"value": round(v, 4), "interval": [round(a, 4), round(b, 4)]}
            for threshold, v, a, b in zip(
                THRESHOLDS, pooled_f1(counts).tolist(), low.tolist(), high.tolist(), strict=True
            )
        },
        "interval": "95 %, bootstrap over images",
    }
