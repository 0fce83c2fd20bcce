"""Train a small Mask R-CNN: boxes around nuclei, and in each box a mask.

The network, its sampling of boxes and its five losses are torchvision's. What is ours are the
crops, the boxes, which are wider than the objects, and a loop that counts steps, so that a
seed gives the same weights.

References
----------
.. [1] K. He, G. Gkioxari, P. Dollar, R. Girshick, "Mask R-CNN", ICCV 2017:2961-2969.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.maskrcnn_network import ANCHORS, RATIOS, WIDTHS, build, small_network
from opsef_bridge.engines.runtime import read_state
from opsef_bridge.engines.untrusted import first_line
from opsef_bridge.errors import InputError
from opsef_bridge.files import atomic_path
from opsef_bridge.train import loop, training
from opsef_bridge.train.augment import Augmentation, augment
from opsef_bridge.train.card import GREY, model_card
from opsef_bridge.train.data import Sample
from opsef_bridge.train.learner import Learner
from opsef_bridge.train.transfer import not_ours

__all__ = [
    "MaskRCNNLearner",
    "Settings",
    "batch_of",
    "export",
    "fit",
    "load",
    "maskrcnn_card",
    "targets",
]


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
    return training.fit(MaskRCNNLearner(), samples, settings, report)


class MaskRCNNLearner(Learner):
    """Mask R-CNN to the loop that all families share.

    A box that is found where nobody vouched would count as a wrong one: it learns from whole
    images only.
    """

    engine = "maskrcnn"
    Settings = Settings
    masks_loss = False

    def check(self, samples: Sequence[Sample], settings: Settings) -> None:
        super().check(samples, settings)
        if not any(sample.labels.any() for sample in samples):
            raise InputError("there is nothing to learn from: no sample has an object")

    def network(self, settings: Settings, examples: Sequence[Sample]) -> nn.Module:
        sizes = {"box": settings.box, "mask": settings.mask}
        return small_network(settings.widths, settings.pyramid, **sizes)

    def load(self, weights: Weights, settings: Settings) -> tuple[nn.Module, Settings]:
        return load(weights, settings)

    def rate(self, step: int, settings: Settings) -> float:
        schedule = loop.Settings(settings.steps, rate=settings.rate, warm_up=settings.warm_up)
        return loop.learning_rate(step, schedule)

    def batch(
        self, rng: np.random.Generator, examples: Sequence[Sample], settings: Settings
    ) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        return batch_of(rng, examples, settings)

    def loss(
        self,
        network: nn.Module,
        batch: tuple[list[Tensor], list[dict[str, Tensor]]],
        settings: Settings,
    ) -> Tensor:
        images, truth = batch
        with (
            _giving_losses(network),
            torch.autocast(settings.device, torch.bfloat16, enabled=settings.bfloat16),
        ):
            losses = network(images, truth)
        losses["loss_mask"] = losses["loss_mask"] * settings.mask_weight
        return torch.stack(list(losses.values())).sum()

    def save(self, network: nn.Module, settings: Settings, folder: Path, name: str) -> Path:
        path = folder / f"{name}.pt"
        export(network, path)
        return path

    def card(
        self, name: str, settings: Settings, data: dict[str, Any], sha256: str
    ) -> dict[str, Any]:
        return maskrcnn_card(name, settings, data, sha256)


@contextmanager
def _giving_losses(network: nn.Module) -> Iterator[None]:
    """Let the parts of a network that is in the mode to evaluate say their losses.

    torchvision's detectors have losses in the mode to train only; in that, normalisation
    would take the statistics of the batch, and learn them.
    """
    parts = [
        part
        for part in network.modules()
        if not part.training and not isinstance(part, nn.BatchNorm2d)
    ]
    try:
        for part in parts:
            part.training = True
        yield
    finally:
        for part in parts:
            part.training = False


def load(weights: Weights, settings: Settings) -> tuple[nn.Module, Settings]:
    """Return the network of a file, and the settings with its sizes.

    Raises
    ------
    WeightsError
        It is another network than `small_network`, or one of more than one class.
    """
    state = read_state(torch, weights)
    if not isinstance(state, dict) or "backbone.stem.0.weight" not in state:
        raise not_ours(weights, "it is not the small network that is trained here")
    try:
        network = build(state)
    except (KeyError, IndexError, AttributeError, TypeError, RuntimeError) as error:
        raise not_ours(weights, f"{type(error).__name__}: {first_line(error)}") from error
    classes = len(state["roi_heads.box_predictor.cls_score.weight"])
    if classes != 2:
        raise not_ours(weights, f"it knows {classes} classes, not object and background")
    sized = replace(
        settings,
        widths=tuple(len(stage[0].conv1.weight) for stage in network.backbone.stages),
        pyramid=network.backbone.out_channels,
        box=network.roi_heads.box_head.fc6.out_features,
        mask=tuple(
            part.out_channels
            for part in network.roi_heads.mask_head.modules()
            if isinstance(part, nn.Conv2d)
        ),
    )
    return network.eval(), sized


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
