"""The networks of a training: what each is made of, and the key that this gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from opsef_bridge.files import key_of

__all__ = ["AXES", "ON_THE_FLY", "VERSION", "Network", "TrainPlan", "nested"]

VERSION = 3
"""Of what this package does around the loop: part of every key. 2: the warm-up of networks that
start from weights is shorter; sequential kinds share all steps. 3: bundled images are rehearsed
beside each of those kinds."""

ON_THE_FLY = ("opsef", "none")
"""Augmentations of the crops while a network learns; all others are regions, drawn before."""

AXES = ("network", "dataset", "start", "augmentation", "images", "cycles", "order", "seed")
"""In what the networks of a grid differ, as tables name it."""


@dataclass(frozen=True)
class Network:
    """A network that is trained and judged, or registered weights that are judged as they are.

    Parameters
    ----------
    id : str
        ``n0001``.
    label : str
        How the user calls it, in ``opsef.yaml``; of a baseline the name of the weights.
    engine : str
    dataset : str
        Id of the dataset: its val chooses, its test judges.
    content : str
        Key of that dataset.
    trained : bool
        False for a baseline.
    weights : str
        Name of the weights that it starts from, or that it is; empty for random ones.
    weights_key : str
        Content key of those.
    settings : dict
        Of the learner, without seed, device and augmentation.
    cycles : dict
        ``{"steps": n}``, ``{"minutes": m}`` or ``{"passes": p}``.
    augmentation : str
    regions : int
        How many, for presets that are not `ON_THE_FLY`.
    images : tuple of str
        Names of the samples that it learns from; of a baseline those of the split.
    all_images : bool
        Whether these are all of the split.
    order : {"joint", "sequential"}
    seed : int
    every : int
    patience : int or None
    predict : dict
        Values for the passes that are judged.
    judged : int
        How many images of the training split are judged.
    name : str
        Of the candidate; empty to derive one from the key.
    file : str
        Of weights that lie outside of the project; empty where their name says where they are.
    """

    id: str
    label: str
    engine: str
    dataset: str
    content: str
    trained: bool = True
    weights: str = ""
    weights_key: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    cycles: dict[str, float] = field(default_factory=dict)
    augmentation: str = "opsef"
    regions: int = 0
    images: tuple[str, ...] = ()
    all_images: bool = True
    order: str = "joint"
    seed: int = 0
    every: int = 100
    patience: int | None = None
    predict: dict[str, Any] = field(default_factory=dict)
    judged: int = 16
    name: str = ""
    file: str = ""

    @property
    def key(self) -> str:
        """Content key of the weights: equal networks are trained once."""
        if not self.trained:
            return key_of("weights", self.weights_key)
        # What the checkpoints are taken at decides which are chosen.
        told = {k: v for k, v in asdict(self).items() if k not in _NO_PART}
        return key_of("train", VERSION, told)

    @property
    def volumes(self) -> bool:
        """Whether it takes volumes as they are; else it is judged plane by plane."""
        return bool(self.settings.get("volumes"))

    @property
    def candidate(self) -> str:
        """Name of the weights that are judged."""
        if not self.trained:
            return self.weights
        return self.name or f"{self.label}-{self.dataset}-{self.key[:6]}"

    @property
    def caption(self) -> str:
        """What it is, in words that differ within a grid."""
        if not self.trained:
            return f"{self.weights} as it is"
        told = [f"from {self.weights}" if self.weights else "from random"]
        told += [f"{value:g} {name}" for name, value in self.cycles.items()]
        told += ["volumes"] if self.volumes else []
        told += [f"{name} {value}" for name, value in self.settings.items() if name not in _TOLD]
        told += [f"augmented {self.augmentation}"] if self.augmentation != "opsef" else []
        told += [] if self.all_images else [f"{len(self.images)} images"]
        told += ["one kind after the other"] if self.order == "sequential" else []
        told += [f"seed {self.seed}"] if self.seed else []
        return f"{self.label} {', '.join(told)}"

    def axes(self) -> dict[str, str]:
        """Return its value on each of `AXES`."""
        settings = " ".join(f"{k} {v}" for k, v in self.settings.items() if k not in _TOLD)
        shipped = f"nuclei-{self.engine}"
        return {
            "network": f"{self.label} {settings}".strip(),
            "dataset": self.dataset,
            "start": "shipped" if self.weights == shipped else self.weights or "random",
            "augmentation": self.augmentation,
            "images": f"{len(self.images)}" + (" (all)" if self.all_images else ""),
            "cycles": " ".join(f"{value:g} {name}" for name, value in self.cycles.items()),
            "order": self.order,
            "seed": str(self.seed),
        }

    def regions_key(self) -> str:
        """Content key of its regions; the empty string where crops are drawn on the fly."""
        if not self.trained or self.augmentation in ON_THE_FLY:
            return ""
        how = (self.augmentation, self.regions, self.seed)
        return key_of("regions", VERSION, self.content, self.images, *how)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Network:
        """Read what `dataclasses.asdict` wrote."""
        return cls(**{**value, "images": tuple(value["images"])})


_TOLD = {"steps", "volumes"}
"""Settings that a caption names in words of their own, or not at all."""

_NO_PART = {"id", "label", "dataset", "weights", "name", "judged", "all_images", "file"}
"""What does not decide the weights and their thresholds: where they come from is told by keys."""


@dataclass(frozen=True)
class TrainPlan:
    """What a training will do: its networks; the units follow from them.

    Parameters
    ----------
    key : str
        Equal plans have equal keys: running one again is the same training.
    purpose : {"training", "grid"}
    networks : tuple of Network
    device : {"auto", "cpu", "cuda"}
    tensorboard : bool
        Whether curves are written as event files, too.
    """

    key: str
    purpose: str
    networks: tuple[Network, ...]
    device: str = "auto"
    tensorboard: bool = False

    def network(self, id_: str) -> Network:
        """Return the network of that id."""
        return next(one for one in self.networks if one.id == id_)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrainPlan:
        """Read it from the parsed ``plan.json``."""
        networks = tuple(Network.from_json(one) for one in value["networks"])
        told = bool(value.get("tensorboard"))
        return cls(value["key"], value["purpose"], networks, value["device"], told)


def nested(samples: Sequence[Mapping[str, Any]], seed: int) -> list[str]:
    """Return names in an order of which every beginning is a fair, smaller set.

    Kinds take turns, so that also a small set has something of each.

    Parameters
    ----------
    samples : sequence of mapping
        With ``name`` and ``kind``.

    Examples
    --------
    >>> samples = [{"name": f"{kind}{n}", "kind": kind} for kind in "ab" for n in range(3)]
    >>> [name[0] for name in nested(samples, seed=0)]
    ['a', 'b', 'a', 'b', 'a', 'b']
    """
    by_kind: dict[str, list[str]] = {}
    for one in sorted(samples, key=lambda one: str(one["name"])):
        by_kind.setdefault(str(one["kind"]), []).append(str(one["name"]))
    rng = np.random.default_rng(seed)
    queues = [list(rng.permutation(by_kind[kind])) for kind in sorted(by_kind)]
    longest = max(map(len, queues), default=0)
    return [str(queue[n]) for n in range(longest) for queue in queues if n < len(queue)]
