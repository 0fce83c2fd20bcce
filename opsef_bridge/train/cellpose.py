"""Train Cellpose's network, smaller than the official ones, on flows computed once.

The package's own training reads what it needs from its own files, draws from numpy's global
generator and stops by epochs. Here every number is drawn from one generator and the loop
counts steps, so that a seed gives the same weights; network, flows and loss are Cellpose's.

References
----------
.. [1] C. Stringer, T. Wang, M. Michaelos, M. Pachitariu, "Cellpose: a generalist algorithm
   for cellular segmentation", Nature Methods 18:100-106, 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.cellpose_network import build_network, import_package
from opsef_bridge.engines.runtime import read_state
from opsef_bridge.engines.scaling import normalise, percentiles
from opsef_bridge.errors import InputError
from opsef_bridge.files import atomic_path
from opsef_bridge.train import training
from opsef_bridge.train.augment import Augmentation, relight
from opsef_bridge.train.card import model_card
from opsef_bridge.train.data import Sample
from opsef_bridge.train.learner import Learner
from opsef_bridge.train.loop import one_cycle
from opsef_bridge.train.transfer import not_ours

__all__ = [
    "DIAMETER",
    "CellposeLearner",
    "Example",
    "Settings",
    "batch_of",
    "cellpose_card",
    "examples_of",
    "export",
    "fit",
    "load",
    "loss",
    "mean_diameter",
]

DIAMETER = 30.0
"""Mean diameter in px at which the network sees the objects of an image."""

LEAST = 5.0
"""Images of smaller objects are enlarged as if they were of this diameter."""


@dataclass(frozen=True)
class Settings:
    """Everything that, with the data, decides the weights."""

    steps: int = 600
    batch: int = 8
    crop: int = 192
    channels: tuple[int, ...] = (16, 32, 64, 128)
    """Of the four levels; the official networks have 32, 64, 128, 256."""
    rate: float = 2e-3
    warm_up: int = 50
    weight_decay: float = 1e-4
    with_objects: float = 0.9
    """Part of the crops that must show an object, as far as ten draws find one."""
    bfloat16: bool = True
    seed: int = 0
    device: str = "cpu"
    """``"cpu"`` or ``"cuda"``. A GPU rounds otherwise: that a seed gives the same weights
    is tested on the CPU only."""
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(scale=(0.65, 1.6)))
    """Scales are relative to `DIAMETER`. A ladder of diameters in steps of 2 misses an object
    by up to 1.41, and the objects of an image are not all alike."""


@dataclass(frozen=True)
class Example:
    """One image with what the network has to say of it.

    Parameters
    ----------
    image : ndarray of float32, shape (Y, X)
        Its 1st and 99th percentile are 0 and 1.
    flows : ndarray of float32, shape (3, Y, X)
        Unit vectors to the middle of the object in Y and in X; 1 in objects, 0 elsewhere,
        -1 where nobody vouched.
    diameter : float
        Mean of the objects, px.
    """

    image: np.ndarray
    flows: np.ndarray
    diameter: float


def examples_of(samples: Sequence[Sample]) -> list[Example]:
    """Compute diameters and flows; samples without objects are left out.

    A sample that stands there several times is computed once.
    """
    made: dict[int, tuple[Sample, Example]] = {}  # with the sample, so that its id stays its own
    found = []
    for sample in samples:
        if (sample.labels > 0).any():
            if id(sample) not in made:
                made[id(sample)] = (sample, _example(sample))
            found.append(made[id(sample)][1])
    return found


def mean_diameter(labels: np.ndarray) -> float:
    """Return the mean diameter in px of discs with the areas of the objects; 0 without any.

    Examples
    --------
    >>> round(mean_diameter(np.repeat([0, 1, 2], 100)), 2)
    11.28
    """
    areas = np.bincount(labels.ravel().clip(0))[1:]
    areas = areas[areas > 0]
    return float(np.mean(2 * np.sqrt(areas / np.pi))) if len(areas) else 0.0


def _example(sample: Sample) -> Example:
    from cellpose.dynamics import masks_to_flows

    known = sample.labels.clip(0)
    _, labels = np.unique(known, return_inverse=True)
    labels = labels.reshape(known.shape) + (0 if (known == 0).any() else 1)
    vectors = masks_to_flows(labels)
    image = normalise(sample.image, percentiles(sample.image, 1, 99))
    flows = np.concatenate([vectors, labels[None] > 0]).astype(np.float32)
    flows[2, sample.labels < 0] = -1
    return Example(image, flows, max(LEAST, mean_diameter(labels)))


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
    cellpose.resnet_torch.CPnet
        ``diam_labels`` is the mean diameter of the images, as in the package's files.

    Raises
    ------
    InputError
        There is no object to learn from, or the crop does not fit the poolings.
    WorkerError
        torch cannot use the device.
    """
    return training.fit(CellposeLearner(), samples, settings, report)


class CellposeLearner(Learner):
    """Cellpose's network to the loop that all families share."""

    engine = "cellpose"
    Settings = Settings

    def check(self, samples: Sequence[Sample], settings: Settings) -> None:
        super().check(samples, settings)
        if not any((sample.labels > 0).any() for sample in samples):
            raise InputError("there is nothing to learn from: no sample has an object")
        multiple = 2 ** (len(settings.channels) - 1)
        if settings.crop % multiple:
            raise InputError(
                f"crop {settings.crop} is no multiple of {multiple}",
                hint=f"{len(settings.channels) - 1} poolings halve it so often",
            )

    def examples(self, samples: Sequence[Sample]) -> list[Example]:
        return examples_of(samples)

    def network(self, settings: Settings, examples: Sequence[Example]) -> nn.Module:
        from cellpose.resnet_torch import CPnet

        network: nn.Module = CPnet([2, *settings.channels], 3, sz=3, diam_mean=DIAMETER)
        network.diam_labels.fill_(float(np.mean([one.diameter for one in examples])))
        return network

    def load(self, weights: Weights, settings: Settings) -> tuple[nn.Module, Settings]:
        return load(weights, settings)

    def rate(self, step: int, settings: Settings) -> float:
        part = min(0.5, settings.warm_up / settings.steps)
        return one_cycle(step, settings.steps, settings.rate, part)

    def batch(
        self, rng: np.random.Generator, examples: Sequence[Example], settings: Settings
    ) -> tuple[Tensor, Tensor]:
        return batch_of(rng, examples, settings)

    def loss(self, network: nn.Module, batch: tuple[Tensor, Tensor], settings: Settings) -> Tensor:
        images, flows = batch
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bfloat16):
            found = network(images)[0]
        return loss(found.float(), flows)

    def save(self, network: nn.Module, settings: Settings, folder: Path, name: str) -> Path:
        path = folder / f"{name}.pt"
        export(network, path)
        return path

    def card(
        self, name: str, settings: Settings, data: dict[str, Any], sha256: str
    ) -> dict[str, Any]:
        return cellpose_card(name, settings, data, sha256)


def load(weights: Weights, settings: Settings) -> tuple[nn.Module, Settings]:
    """Return the network of a file of Cellpose 1 to 3, and the settings with its sizes.

    Raises
    ------
    WeightsError
        It holds another kind of network, or one of other objects than 30 px.
    """
    from cellpose.resnet_torch import CPnet

    state = read_state(torch, weights)
    built = build_network(import_package(), state, weights, mkldnn=False)
    _, *channels = built.nbase
    if built.sz != 3:
        raise not_ours(weights, f"its kernels are {built.sz} px wide, not 3")
    diameter = weights.card.get("input", {}).get("diameter") or float(built.diam_mean)
    if diameter != DIAMETER:
        raise not_ours(weights, f"it sees objects at {diameter:g} px, not at {DIAMETER:g}")
    network: nn.Module = CPnet([2, *channels], 3, sz=3, diam_mean=DIAMETER)
    network.load_state_dict(built.state_dict())
    return network.eval(), replace(settings, channels=tuple(channels))


def batch_of(
    rng: np.random.Generator, examples: Sequence[Example], settings: Settings
) -> tuple[Tensor, Tensor]:
    """Draw crops: images (N, 2, S, S), the second channel zero, and flows (N, 3, S, S).

    Images are drawn in proportion to their side as the network sees it: one of many small
    objects has more to teach than one of few large ones, but not by its area.
    """
    sides = np.array([np.sqrt(one.image.size) / one.diameter for one in examples])
    chosen = rng.choice(len(examples), size=settings.batch, p=sides / sides.sum())
    crops = [_draw(rng, examples[i], settings) for i in chosen]
    images = torch.from_numpy(np.stack([np.stack([image, 0 * image]) for image, _ in crops]))
    flows = torch.from_numpy(np.stack([flows for _, flows in crops]))
    images = images.contiguous(memory_format=torch.channels_last)
    return images.to(settings.device), flows.to(settings.device)


def _draw(
    rng: np.random.Generator, example: Example, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a crop; of one that must show an object, up to ten."""
    tries = 10 if rng.random() < settings.with_objects else 1
    for _ in range(tries):
        image, flows = _crop(rng, example, settings.crop, settings.augmentation)
        if (flows[2] > 0).any():
            break
    return image, flows


def _crop(
    rng: np.random.Generator, example: Example, size: int, how: Augmentation
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a square, bring its objects to `DIAMETER` or thereabouts, turn, flip, relight.

    Resized like the package resizes before the network, linearly and without smoothing;
    outside the image are zeros, like there.
    """
    import cv2

    factor = DIAMETER / example.diameter * np.exp(rng.uniform(*np.log(how.scale)))
    unknown = example.flows[2] < 0
    planes = [example.image, *example.flows[:2], ~unknown * example.flows[2], unknown]
    stack = _square(rng, np.stack(planes, dtype=np.float32), size, factor)
    sized = [cv2.resize(plane, (size, size), interpolation=cv2.INTER_LINEAR) for plane in stack]
    image, y, x, inside, unknown = np.rot90(sized, turns := int(rng.integers(4)), axes=(1, 2))
    for _ in range(turns):  # what pointed right points up, what pointed down points right
        y, x = -x, y
    if rng.random() < 0.5:
        image, y, x, inside, unknown = (part[:, ::-1] for part in (image, y, -x, inside, unknown))
    inside = np.where(unknown > 0, -1, inside > 0.5)
    return relight(rng, image, how), np.stack([y, x, inside]).astype(np.float32)


def _square(rng: np.random.Generator, stack: np.ndarray, size: int, factor: float) -> np.ndarray:
    """Cut a square at a random place that makes `size` when enlarged by `factor`."""
    side = max(1, round(size / factor))
    out = np.zeros((len(stack), side, side), np.float32)
    source, target = [], []
    for extent in stack.shape[1:]:
        start = int(rng.integers(abs(extent - side) + 1))
        length = min(extent, side)
        source.append(slice(start, start + length) if extent > side else slice(0, length))
        target.append(slice(start, start + length) if extent < side else slice(0, length))
    out[:, *target] = stack[:, *source]
    return out


def loss(found: Tensor, flows: Tensor) -> Tensor:
    """Half the squared error of the flows, five times as long, plus the cross-entropy.

    Parameters
    ----------
    found : Tensor of float32, shape (N, 3, Y, X)
        Flows in Y and X, logit of being in an object.
    flows : Tensor of float32, shape (N, 3, Y, X)
        As in `Example`: where nobody vouched nothing counts.
    """
    known = flows[:, 2] >= 0
    if not known.any():
        return found.sum() * 0
    if not known.all():  # else in one piece: another order of adding rounds otherwise
        found, flows = (maps.permute(0, 2, 3, 1)[known][..., None] for maps in (found, flows))
    error = functional.mse_loss(found[:, :2], 5 * flows[:, :2]) / 2
    return error + functional.binary_cross_entropy_with_logits(found[:, 2], flows[:, 2])


def export(network: nn.Module, path: Path) -> None:
    """Store the weights of `network` as float16: tensors by name, in torch's format."""
    with atomic_path(path) as file:
        torch.save({name: value.half() for name, value in network.state_dict().items()}, file)


def cellpose_card(
    name: str, settings: Settings, data: dict[str, Any], sha256: str
) -> dict[str, Any]:
    """Return the card of a network: what the engine needs to know, and how it came about."""
    packages = ("cellpose", "torch", "numpy", "scipy", "opencv-python-headless")
    return model_card(
        name,
        "cellpose",
        f"{name}.pt",
        sha256,
        packages,
        input={"axes": "YX", "channels": 1, "percentiles": [1, 99], "diameter": DIAMETER},
        output=["flow in Y", "flow in X", "logit of being in an object"],
        data=data,
        recipe={
            "target": f"crops resized to a mean diameter of {DIAMETER:g} px, flows computed once",
            "loss": "MSE(5 x flows) / 2 + binary cross-entropy",
            "optimiser": "AdamW, warm-up, cosine to 0",
            **asdict(settings),
        },
    )
