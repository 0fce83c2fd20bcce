"""How good weights are on images with labels: scored, and written on their card.

Needs no torch, unless the engine does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from opsef_bridge.engines import engine_class, list_weights, verify
from opsef_bridge.engines.base import Engine, Parameters, Weights
from opsef_bridge.engines.cards import add_evaluation
from opsef_bridge.engines.memory import LoadedEngine
from opsef_bridge.engines.parameters import split_parameters, tuned
from opsef_bridge.engines.registry import refuse_broken
from opsef_bridge.engines.staging import today
from opsef_bridge.engines.store import own_copy
from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.execute import Event
from opsef_bridge.images import read_image, read_labels, segment_plane, segment_samples
from opsef_bridge.sweep.predict import wants_colour
from opsef_bridge.train.score import count_matches, score_entry

__all__ = ["Pair", "evaluate", "find_pairs", "read_values", "record"]

SUFFIXES = (".png", ".tif", ".tiff")


@dataclass(frozen=True)
class Pair:
    """The files of an image and of its labels."""

    image: Path
    labels: Path


def evaluate(
    name: str,
    folders: Iterable[Path],
    images: str | Path,
    labels: str | Path,
    values: Mapping[str, Any] | None = None,
    *,
    data: str = "",
    device: str = "auto",
    report: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Segment images by weights and score the result against labels.

    Parameters
    ----------
    name : str
        Of weights in `folders` or in the package.
    folders : iterable of Path
    images, labels : path
        Folders of PNG or TIFF files; an image and its labels have one name without suffix.
        Of images with channels the first is taken; those in colour go to grey, but for
        engines that take colour.
    values : mapping, optional
        Parameters of the engine; its defaults for the others.
    data : str
        What the images are, for the card.
    device : {"auto", "cpu", "cuda"}
    report : callable
        Called with the progress.

    Returns
    -------
    dict
        As it stands in a card: date, weights, parameters, data with their sha256, F1 over
        the objects of all images at an IoU of 0.5, 0.7 and 0.9, each with its 95 % interval.

    Raises
    ------
    NotFoundError
        There are no such weights or no such folder.
    InputError
        No image has labels, shapes differ, there is no object, or the engine has no such
        parameter or value.
    """
    weights = _weights(name, folders)
    kind = engine_class(weights.engine)
    predict, decode = split_parameters(kind, {**tuned(kind, weights), **(values or {})})
    pairs, lonely = find_pairs(images, labels)
    seen = _look(pairs)
    verify(weights)
    engine = kind()
    loaded = LoadedEngine.open(type(engine), weights, device)
    counts = count_matches(_segmented(pairs, loaded, predict, decode, report))
    return {
        "date": today(),
        "weights": weights.sha256,
        "predict": predict.model_dump(mode="json"),
        "decode": decode.model_dump(mode="json"),
        "device": loaded.device,
        "data": {**({"name": data} if data else {}), **seen, "without_labels": lonely},
        **score_entry(counts),
    }


def record(name: str, models: Path, entry: Mapping[str, Any]) -> tuple[Path, str]:
    """Write a score on the card of weights in the folder `models`.

    The package's own cards are not for writing on: the project then gets a copy of weights
    and card, which it finds first.

    Returns
    -------
    card : Path
    note : str
        Whether there is such a copy now.
    """
    weights = _weights(name, [models])
    mine = own_copy(weights, models)
    note = ""
    if mine.path != weights.path:
        note = (
            f"The project has a copy of {name} now, which it uses in place of the package's; "
            f"remove {mine.path.parent} to go back"
        )
    return add_evaluation(mine, entry), note


def read_values(words: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` as the values of ``opsef.yaml``.

    Examples
    --------
    >>> read_values(["scale=0.5", "diameter=auto", "published=true"])
    {'scale': 0.5, 'diameter': 'auto', 'published': True}
    """
    values = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InputError(f"{word!r} is no KEY=VALUE", hint="For example threshold=0.6")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            values[key] = value
    return values


def find_pairs(images: str | Path, labels: str | Path) -> tuple[list[Pair], int]:
    """Return images with their labels, by name, and how many images have none.

    Raises
    ------
    NotFoundError
        There is no such folder.
    InputError
        Two files have one name, or no image has labels.
    """
    found = [_by_stem(Path(folder)) for folder in (images, labels)]
    both = sorted(set(found[0]) & set(found[1]))
    if not both:
        raise InputError(
            f"none of the {len(found[0])} images in {images} has labels among the "
            f"{len(found[1])} files in {labels}",
            hint="Give labels the name of their image; PNG or TIFF",
        )
    return [Pair(found[0][stem], found[1][stem]) for stem in both], len(found[0]) - len(both)


def _weights(name: str, folders: Iterable[Path]) -> Weights:
    folders = list(folders)
    refuse_broken(name, folders)
    known = {weights.name: weights for weights in list_weights(folders)}
    if name not in known:
        raise NotFoundError(
            f"there are no weights {name!r}", hint=f"Choose one of {', '.join(known)}"
        )
    return known[name]


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by their name without suffix."""
    if not folder.is_dir():
        raise NotFoundError(f"there is no folder {folder}", hint="Name a folder of PNG or TIFF")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in SUFFIXES or file.name.startswith("."):
            continue
        if file.stem in found:
            raise InputError(
                f"{found[file.stem].name} and {file.name} in {folder} have one name",
                hint="Rename one, or take it out",
            )
        found[file.stem] = file
    return found


def _look(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Check all pairs before the first pass; return the sha256 of what they hold."""
    digest = hashlib.sha256()
    objects = 0
    for pair in pairs:
        image, truth = read_image(pair.image), read_labels(pair.labels)
        shape = segment_plane(image).shape
        if shape != truth.shape:
            raise InputError(
                f"{pair.image.name} is of shape {shape}, its labels are {truth.shape}",
                hint="Labels have the shape of their image",
            )
        digest.update(f"{pair.image.stem} {image.data.dtype} {image.data.shape}".encode())
        digest.update(np.ascontiguousarray(image.data).tobytes())
        digest.update(truth.tobytes())
        objects += len(np.unique(truth[truth > 0]))
    if not objects:
        raise InputError(
            f"the labels of all {len(pairs)} images are empty",
            hint="Without an object there is nothing to be found: bring images that have some",
        )
    return {"sha256": digest.hexdigest()}


def _segmented(
    pairs: Sequence[Pair],
    loaded: LoadedEngine,
    predict: Parameters,
    decode: Parameters,
    report: Callable[[Event], None],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the truth and the labels of every pair."""
    for number, pair in enumerate(pairs):
        report(Event(number, len(pairs), pair.image.stem))
        raw = loaded.predict(_array(pair.image, loaded.engine, predict), predict)
        yield read_labels(pair.labels), loaded.engine.decode(raw, decode)
    report(Event(len(pairs), len(pairs), "done"))


def _array(file: Path, engine: Engine, predict: Parameters) -> np.ndarray:
    """Return the image as `engine` takes it."""
    image = read_image(file)
    if wants_colour(engine, predict):
        return np.moveaxis(segment_samples(image), 0, -1)
    return segment_plane(image)
