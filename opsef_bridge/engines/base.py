"""The contract that every engine keeps, and the two things that pass through it.

An engine is one network family (or one classical method). It splits segmentation in two:

``predict``
    the costly pass. What it returns, a `Raw`, depends on the image, the weights and the
    engine's `Predict` parameters only.
``decode``
    the cheap rest, from a `Raw` and the engine's `Decode` parameters (thresholds) to
    labels. A sweep calls it once per threshold on the same `Raw`.

Which keys of ``opsef.yaml`` cost a network pass follows from these two models alone.
`opsef_bridge.testing.engines` is the conformance suite that every engine passes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from opsef_bridge.files import key_of

__all__ = ["Engine", "Parameters", "Raw", "Scaled", "Weights"]


class Parameters(BaseModel):
    """Base of the parameters of engines: unknown keys are errors, values do not change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML reads yes, no, on and off as true and false, which Python takes for 1 and 0.
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and kind is not bool:
            raise ValueError(f"{value} stands where a number or a word is needed")
        return value


class Scaled(Parameters):
    """Parameters of a pass over a resized image."""

    scale: float = Field(1.0, ge=0.05, le=20)
    """Factor by which the image is resized before the network; labels come back at 1."""


@dataclass(frozen=True)
class Weights:
    """A set of weights: where the file lies and what is known of it.

    Parameters
    ----------
    name : str
        Name in ``opsef.yaml``, e.g. ``"nuclei-unet"``.
    engine : str
        Name of the engine that loads it.
    path : Path or None
        The file; None for engines without weights.
    sha256 : str
        Of the file; the empty string without one.
    card : dict
        The model card: data, recipe, versions, scores, and what the engine needs to
        know (e.g. normalisation percentiles).
    """

    name: str
    engine: str
    path: Path | None = None
    sha256: str = ""
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """Who speaks: one voice in the ranking. ``engine:name``, unless the card says that
        this is another form of the same network."""
        own = f"{self.engine}:{self.name}" if self.name else self.engine
        return str(self.card.get("family") or own)

    @property
    def key(self) -> str:
        """Content key: of the file, and of what the card tells the engine about it."""
        told = {part: self.card[part] for part in ("input", "thresholds") if self.card.get(part)}
        return key_of(self.sha256, told) if told else self.sha256


@dataclass(frozen=True)
class Raw:
    """What one `predict` found, before any threshold.

    Maps are held as float16, the precision in which they are cached, so that labels are
    the same whether they were decoded at once or from the cache a month later.

    Parameters
    ----------
    maps : dict of str to ndarray of float16
        Maps by name, on the grid of the network.
    values : dict of str to float
        Single numbers (e.g. an Otsu threshold). What `predict` chose itself, for this image,
        has a name that starts with ``chosen_`` and is recorded with the outcome;
        ``chosen_scale`` is the factor by which the network saw this image enlarged.
    shape : tuple of int
        Shape of the labels that `decode` returns.
    """

    maps: dict[str, np.ndarray]
    shape: tuple[int, ...]
    values: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, data in self.maps.items():
            half = np.asarray(data).astype(np.float16)  # always a copy: maps are ours
            half.flags.writeable = False
            self.maps[name] = half


class Engine(Protocol):
    """One network family behind one contract.

    Attributes
    ----------
    name : str
        Name in ``opsef.yaml``.
    version : str
        Part of every content key: changes whenever the labels of the same input may.
    axes : frozenset of str
        Of ``"YX"``, ``"YXS"``, ``"ZYX"``: what `predict` takes. Colour images go to grey
        by luminance for an engine that does not take ``"YXS"``. Of an engine with weights:
        what these take.
    needs_weights : bool
        False for classical methods.
    Predict, Decode : type of Parameters
        Parameters that need, and do not need, a new network pass.

    Notes
    -----
    An engine may have more, and is asked for it where it matters:

    ``devices(weights=None)`` -> tuple of str, a class method
        Devices that its runtime (for these weights) can use on this machine, best first, e.g.
        ``("cuda", "cpu")``. Without it: the CPU only.
    ``lighten()`` -> str or None
        Make later passes need less memory without changing labels, and return what was done
        (see `opsef_bridge.engines.memory`); ``load`` does not undo it. Without it: nothing
        can be done.
    ``wants_colour(parameters)`` -> bool
        Whether a pass of these parameters takes the image with its samples, ``"YXS"``.
        Without it: an engine that takes ``"YXS"`` and not ``"YX"`` does.
    ``seen_scale(parameters, weights)`` -> float, a class method
        Factor by which the network sees an image enlarged. Without it: ``scale``.
    ``reads_thresholds``, a bool
        Whether it takes decode values that nobody named from the card of its weights itself.
        Without it: a plan does (see `opsef_bridge.engines.parameters.tuned`).
    ``ladder``, a mapping of str to list
        Values that a sweep tries for a parameter that ``opsef.yaml`` leaves out. One image
        alone is segmented with the default of the parameter. Without it: the default there, too.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    axes: ClassVar[frozenset[str]]
    needs_weights: ClassVar[bool]
    Predict: ClassVar[type[Parameters]]
    Decode: ClassVar[type[Parameters]]

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Make the engine ready; `weights` were verified against their sha256."""

    def predict(
        self, image: np.ndarray, parameters: Parameters, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Run the costly pass.

        Parameters
        ----------
        image : ndarray
            Any real dtype, finite, axes one of `axes`. Never changed.
        parameters : Predict
        reference : ndarray, optional
            The image whose statistics normalise `image`: the whole image where `image`
            is a crop or a tile of it, so that a sweep on crops and a batch on whole
            images agree. `image` itself by default.
        """

    def decode(self, raw: Raw, parameters: Parameters) -> np.ndarray:
        """Return int32 labels of ``raw.shape``: 0 background, 1..N without gaps."""
