"""Cellpose 4 (Cellpose-SAM) as an engine of opsef_bridge, in an environment of its own.

This file and the packages ``cellpose>=4`` and ``appose`` are all that the other environment
needs; README.md says how to add it. Keys and the arguments of ``CellposeModel.eval`` (4.2):

============  ========  =====================================================================
``diameter``  a pass    ``diameter``; the image is resized by 30 / diameter. 30 leaves it as
                        it is, which is what the authors advise for most images
``tile_norm`` a pass    ``normalize={"tile_norm_blocksize": ...}``
``flow``      no pass   ``flow_threshold``
``cellprob``  no pass   ``cellprob_threshold``
``min_size``  no pass   ``min_size``
============  ========  =====================================================================

The pass is ``eval(compute_masks=False)``; the rest is what ``compute_masks=True`` adds. The
package answers a file that is missing by downloading another: here it is refused before.

References
----------
M. Pachitariu, M. Rariden, C. Stringer, "Cellpose-SAM: superhuman generalization for cellular
segmentation", bioRxiv 2025.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

OWN = 30.0
"""Diameter in px at which an image is not resized."""

STEPS = 200
"""Of a pixel along the flows, at that size."""

SAMPLES = 3
"""Colours or channels that the network can see."""


class CellposeSAM:
    """What `opsef_bridge.engines.external` asks for."""

    def __init__(self) -> None:
        self._model: Any = None

    def parameters(self) -> dict[str, Any]:
        """Return what this engine is; nothing heavy is imported for it."""

        def number(default: float, text: str, **limits: float) -> dict[str, Any]:
            kind = type(default).__name__
            return {"type": kind, "default": default, "description": text, **limits}

        return {
            "version": "1",
            "description": "Cellpose-SAM, by the package cellpose 4 in another environment. "
            "Each channel is normalised to its 1st and 99th percentile; of more than three the "
            "first three are seen.",
            "axes": ["YXS"],
            "needs_weights": True,
            "predict": {
                "diameter": number(
                    OWN,
                    "Mean diameter of the objects in px of the image, which is resized by 30 / "
                    "diameter. 30 leaves it as it is.",
                    ge=1,
                    le=2000,
                ),
                "tile_norm": number(
                    0,
                    "Side in px of blocks that are normalised each by itself, against uneven "
                    "light; 0 normalises the image as a whole.",
                    ge=0,
                    le=10000,
                ),
            },
            "decode": {
                "flow": number(
                    0.4,
                    "Largest mean squared difference between the flows found and those that the "
                    "outline of an object implies. 0 drops none.",
                    ge=0,
                    le=100,
                ),
                "cellprob": number(
                    0.0, "Logit above which a pixel belongs to an object.", ge=-20, le=20
                ),
                "min_size": number(15, "Smaller objects are dropped; pixels.", ge=0, le=10**9),
            },
        }

    def load(self, weights: str | None, device: str) -> None:
        """Load a file of Cellpose 4 (``cpsam``, ``cpsam_v2``, or fine-tuned); never download."""
        if weights is None or not Path(weights).is_file():
            raise FileNotFoundError(
                f"the weights are missing: {weights}. Bring the file cpsam_v2 (or your own) and "
                "add it by `opsef models add FILE --engine cpsam`; it is not downloaded"
            )
        import torch
        from cellpose.models import CellposeModel

        # Tensors only: no code of the file runs.
        state = torch.load(weights, map_location="cpu", weights_only=True, mmap=True)
        if "W2" not in state:
            raise ValueError(f"{weights} holds no network of Cellpose 4 (there is no tensor W2)")
        del state
        self._model = CellposeModel(pretrained_model=weights, device=torch.device(device))

    def predict(
        self, image: np.ndarray, parameters: dict[str, Any], reference: np.ndarray
    ) -> dict[str, Any]:
        """Return flows (2, Y, X) and the logit of belonging to an object (Y, X), in halves."""
        if self._model is None:
            raise RuntimeError("the weights were not loaded")
        shape, diameter = image.shape[:2], parameters["diameter"]
        if min(shape) * OWN / diameter < 1:
            raise ValueError(f"an image of {shape} px is too small for a diameter of {diameter} px")
        seen, blocks = image[..., :SAMPLES], parameters["tile_norm"]
        _, (_, flow, cellprob), _ = self._model.eval(
            seen.copy() if blocks else _normalised(seen, reference[..., :SAMPLES]),
            channel_axis=2,
            diameter=diameter,
            normalize={"tile_norm_blocksize": blocks} if blocks else False,
            compute_masks=False,
        )
        maps = {"flow": flow.reshape(2, *shape), "cellprob": cellprob.reshape(shape)}
        coarse = {name: data.astype(np.float16) for name, data in maps.items()}
        rest = {f"{name}_rest": maps[name] - coarse[name] for name in maps}
        return {**coarse, **rest, "diameter": diameter}

    def decode(self, raw: dict[str, Any], parameters: dict[str, Any]) -> np.ndarray:
        """Return the labels that follow from the flows."""
        from cellpose import dynamics

        flow, cellprob = (
            raw[name].astype(np.float32) + raw[f"{name}_rest"] for name in ("flow", "cellprob")
        )
        masks = dynamics.resize_and_compute_masks(
            flow,
            cellprob,
            niter=int(STEPS * raw["diameter"] / OWN),
            flow_threshold=parameters["flow"],
            cellprob_threshold=parameters["cellprob"],
            min_size=parameters["min_size"],
        )
        return masks.astype(np.int32)


def _normalised(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Map the 1st and 99th percentile of each channel of `reference` to 0 and 1.

    With the rounding of the package, which does so with those of `image`.
    """
    out = np.zeros(image.shape, np.float32)
    for s in range(image.shape[-1]):
        low, high = (np.float32(np.percentile(reference[..., s], q)) for q in (1, 99))
        if not high > low:
            low, high = reference[..., s].min(), reference[..., s].max()
        if high > low:
            out[..., s] = (image[..., s] - low) / (high - low)
    return out
