"""Train a small Mask R-CNN: boxes around nuclei, and in each box a mask.

The network, its sampling of boxes and its five losses are torchvision's. What is ours are the
crops, the boxes, which are wider than the objects, and a loop that counts steps, so that a
seed gives the same weights.

References
----------
.. [1] K. He, G. Gkioxari, P. Dollar, R. Girshick, "Mask R-CNN", ICCV 2017:2961-2969.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from opsef_bridge.engines.maskrcnn_network import ANCHORS, RATIOS, WIDTHS, small_network
from opsef_bridge.errors import InputError
from opsef_bridge.files import atomic_path
from opsef_bridge.train import loop
from opsef_bridge.train.augment import Augmentation, augment
from opsef_bridge.train.card import GREY, model_card
from opsef_bridge.train.data import Sample
from opsef_bridge.train.network import check_device

__all__ = ["Settings", "batch_of", "export", "fit", "maskrcnn_card", "targets"]


@dataclass(frozen=True)
class Settings:
    """Everything that, with the data, decides the weights."""

    steps: int = 1000
    batch: int = 4
    crop: int = 192
    widths: tuple[int, ...] = WIDTHS
    """Channels of the residual stages."""
    pyramid: int = 64
    """Channels of every level of the pyramid."""
    box: int = 128
    """Width of the two layers that judge a box."""
    mask: tuple[int, ...] = (64, 64)
    """Channels of the convolutions that draw a mask."""
    margin: float = 0.1
    """By which part of its side a box is wider than its object, on every side: a box that is
    found a bit too small would cut the mask."""
    rate: float = 1.5e-3
    warm_up: int = 50
    """Steps in which the learning rate rises; then it falls to 0 along a cosine."""
    weight_decay: float = 1e-4
    clip: float = 5.0
    """Largest norm of the gradient."""
    mask_weight: float = 1.0
    """Of the loss of the masks; the four other losses count 1."""
    bfloat16: bool = True
    seed: int = 0
    device: str = "cpu"
    """``"cpu"`` or ``"cuda"``. A GPU rounds otherwise: that a seed gives the same weights
    is tested on the CPU only."""
    augmentation: Augmentation = field(default_factory=Augmentation)


def fit(
    samples: Sequence[Sample],
    settings: Settings,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> nn.Module:
    """Train a network on `samples` and return it, ready to predict.

    Parameters
    ----------
    samples : sequence of Sample
    settings : Settings
    report : callable, optional
        Called after every step with its number (from 1) and its loss.

    Returns
    -------
    torchvision.models.detection.MaskRCNN

    Raises
    ------
    InputError
        There is no object to learn from.
    WorkerError
        torch cannot use the device.
    """
    if not any(sample.labels.any() for sample in samples):
        raise InputError("there is nothing to learn from: no sample has an object")
    check_device(settings.device)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    network = small_network(settings.widths, settings.pyramid, box=settings.box, mask=settings.mask)
    network = network.to(settings.device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay)
    schedule = loop.Settings(settings.steps, rate=settings.rate, warm_up=settings.warm_up)
    for step in range(settings.steps):
        images, truth = batch_of(rng, samples, settings)
        for group in optimiser.param_groups:
            group["lr"] = loop.learning_rate(step, schedule)
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bfloat16):
            losses = network(images, truth)
        losses["loss_mask"] = losses["loss_mask"] * settings.mask_weight
        value = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimiser.step()
        report(step + 1, value.item())
    return network.cpu().eval()


def batch_of(
    rng: np.random.Generator, samples: Sequence[Sample], settings: Settings
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Draw crops, of images by their area: (1, S, S) float32 each, and their `targets`."""
    area = np.array([sample.image.size for sample in samples])
    chosen = rng.choice(len(samples), size=settings.batch, p=area / area.sum())
    crops = [augment(rng, samples[i], settings.crop, settings.augmentation) for i in chosen]
    images = [torch.from_numpy(image[None]).to(settings.device) for image, _ in crops]
    truth = [targets(labels, settings.margin) for _, labels in crops]
    return images, [{name: t.to(settings.device) for name, t in one.items()} for one in truth]


def targets(labels: np.ndarray, margin: float) -> dict[str, Tensor]:
    """Return what the network has to find in `labels`.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
    margin : float
        By which part of its side a box is wider than its object, on every side.

    Returns
    -------
    dict of str to Tensor
        ``boxes`` (N, 4) float32, x and y of two corners. As where torchvision samples masks,
        whole numbers are the middles of pixels; boxes end at the image's edge.
        ``labels`` (N,) int64, all 1. ``masks`` (N, Y, X) uint8.
    """
    places = [(n, box) for n, box in enumerate(ndimage.find_objects(labels), 1) if box]
    height, width = labels.shape
    boxes = np.zeros((len(places), 4), np.float32)
    masks = np.zeros((len(places), height, width), np.uint8)
    for row, (number, box) in enumerate(places):
        masks[row][box] = labels[box] == number
        y, x = box
        wider, higher = (margin * (side.stop - side.start) + 0.5 for side in (x, y))
        boxes[row] = x.start - wider, y.start - higher, x.stop - 1 + wider, y.stop - 1 + higher
    boxes[:, ::2] = boxes[:, ::2].clip(0, width)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
    return {
        "boxes": torch.from_numpy(boxes),
        "labels": torch.ones(len(places), dtype=torch.int64),
        "masks": torch.from_numpy(masks),
    }


def export(network: nn.Module, path: Path) -> None:
    """Write the network's tensors in half precision: a plain dict, read without a pickle."""
    state = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    with atomic_path(path) as partial:
        torch.save(state, partial)


def maskrcnn_card(
    name: str, settings: Settings, data: dict[str, Any], sha256: str
) -> dict[str, Any]:
    """Return the card of a network: what the engine needs to know, and how it came about."""
    packages = ("torch", "torchvision", "numpy", "scipy", "scikit-image")
    return model_card(
        name,
        "maskrcnn",
        f"{name}.pt",
        sha256,
        packages,
        input=GREY,
        output=["boxes", "scores", "masks"],
        data=data,
        recipe={
            "target": "boxes wider than their objects, and masks",
            "images": "drawn by area",
            "loss": "torchvision's five: objectness, class, box (twice), mask",
            "optimiser": "AdamW, warm-up, cosine to 0, gradient clipped",
            "anchors": [list(sides) for sides in ANCHORS],
            "ratios": list(RATIOS),
            **asdict(settings),
        },
    )
