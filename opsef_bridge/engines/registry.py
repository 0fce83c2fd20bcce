"""Engines and weights by name: what is here, and what to do about what is not.

Engines of others are found through entry points (group ``opsef_bridge.engines``), so a new
network is one file and one line of somebody's ``pyproject.toml``. Weights are found
by their card, ``NAME.json`` beside the file it names, in the package and in the ``models``
folder of a project.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from opsef_bridge.engines.base import Engine, Weights
from opsef_bridge.engines.official import how_to_bring, official_models
from opsef_bridge.errors import (
    InputError,
    NotFoundError,
    OpsefError,
    WeightsError,
)
from opsef_bridge.files import file_sha256, read_json

__all__ = [
    "SHIPPED",
    "broken_cards",
    "engine_class",
    "engine_names",
    "find_weights",
    "installed_names",
    "list_weights",
    "read_card",
    "refuse_broken",
    "refuse_missing",
    "use_engine",
    "verify",
]

SHIPPED = Path(__file__).parent / "weights"
"""Folder of the weights that come with the package."""

_BUILT_IN = {
    "cellpose": "opsef_bridge.engines.cellpose:Cellpose",
    "fpn2ws": "opsef_bridge.engines.fpn2ws:FPN2WS",
    "maskrcnn": "opsef_bridge.engines.maskrcnn:MaskRCNN",
    "stardist": "opsef_bridge.engines.stardist:StarDist",
    "unet": "opsef_bridge.engines.unet:UNet",
    "watershed": "opsef_bridge.engines.watershed:Watershed",
}

_ADDED: dict[str, type[Engine]] = {}
"""Engines in other interpreters, as the projects of this process name them."""


def use_engine(name: str, kind: type[Engine]) -> None:
    """Let `kind` be found as the engine `name`, which no installed engine may have.

    Raises
    ------
    InputError
        An installed engine has that name.
    """
    if name in installed_names():
        raise InputError(
            f"{name!r} is the name of an engine that is installed here",
            hint="Choose another for the engine of the other interpreter",
        )
    _ADDED[name] = kind
    engine_class.cache_clear()


def engine_names() -> list[str]:
    """Return the names of all engines, installed or added, in alphabetical order."""
    return sorted(installed_names() | set(_ADDED))


def installed_names() -> set[str]:
    """Return the names of the engines that are installed in this environment."""
    others = {point.name for point in entry_points(group="opsef_bridge.engines")}
    return others | set(_BUILT_IN)


@cache
def engine_class(name: str) -> type[Engine]:
    """Return the class of the engine `name`.

    Raises
    ------
    NotFoundError
        No such engine; the message lists those that are installed.
    OpsefError
        The engine is there but cannot be imported.
    """
    from importlib.metadata import EntryPoint

    if name in _ADDED:
        return _ADDED[name]
    found = {point.name: point for point in entry_points(group="opsef_bridge.engines")}
    if name in _BUILT_IN:
        point = EntryPoint(name, _BUILT_IN[name], "opsef_bridge.engines")
    elif name in found:
        point = found[name]
    else:
        raise NotFoundError(
            f"there is no engine {name!r}",
            hint=f"Choose one of {', '.join(engine_names())}; an engine in another interpreter "
            "comes by `opsef engines add`",
        )
    try:
        return point.load()
    except Exception as error:  # a package of somebody else: it may break in any way
        raise OpsefError(
            f"the engine {name!r} cannot be imported ({type(error).__name__}: {error})",
            hint="`opsef doctor` says what it needs",
        ) from error


def list_weights(folders: Iterable[Path] = ()) -> list[Weights]:
    """Return all weights with a card in `folders` and in the package, by name.

    A card in an earlier folder hides one of the same name in a later folder. Hidden folders
    are passed over: in them weights are made ready; so are cards that cannot be read (see
    `broken_cards`).
    """
    found: dict[str, Weights] = {}
    for card_file, card in _cards((*folders, SHIPPED)):
        if not isinstance(card, WeightsError):
            weights = Weights(
                card["name"], card["engine"], card_file.parent / card["file"], card["sha256"], card
            )
            found.setdefault(weights.name, weights)
    return [found[name] for name in sorted(found)]


def broken_cards(folders: Iterable[Path]) -> dict[Path, WeightsError]:
    """Return the files in `folders` that would be cards but cannot be read, with the reason.

    `list_weights` passes them over: one bad file is no reason to stop for all others.
    """
    return {file: card for file, card in _cards(folders) if isinstance(card, WeightsError)}


def refuse_broken(name: str, folders: Iterable[Path]) -> None:
    """Raise the reason if the card of the weights `name` is there and cannot be read."""
    for file, error in broken_cards(folders).items():
        if name in (file.stem, file.parent.name):
            raise error


def _cards(folders: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any] | WeightsError]]:
    """Yield every card with its file, folder by folder; of a bad one the reason."""
    for folder in folders:
        for file in sorted(Path(folder).glob("**/*.json")):
            if any(part.startswith(".") for part in file.relative_to(folder).parts):
                continue
            try:
                card = read_card(file)
            except WeightsError as error:
                yield file, error
            else:
                if card is not None:
                    yield file, card


def read_card(path: Path) -> dict[str, Any] | None:
    """Return a model card, or None for some other JSON file.

    Raises
    ------
    WeightsError
        It is no JSON file, or cannot be read.
    """
    hint = "Correct it, or take it out of the folder"
    try:
        card = read_json(path)
    except (ValueError, RecursionError) as error:  # not UTF-8, or not JSON
        raise WeightsError(f"{path} is not valid JSON ({error})", hint=hint) from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror})", hint=hint) from None
    keys = ("name", "engine", "file", "sha256")
    known = isinstance(card, dict) and all(isinstance(card.get(key), str) for key in keys)
    return card if known else None


def find_weights(engine: str, name: str | None, folders: Iterable[Path] = ()) -> Weights:
    """Return the weights `name` for `engine`; with None, the shipped ``nuclei-ENGINE``.

    An engine without shipped weights has the first that there are for it.

    Raises
    ------
    WeightsError
        None of that name, their card cannot be read, or they are another engine's. The
        message lists the choices and says where a file goes.
    """
    if not engine_class(engine).needs_weights:
        if name is not None:
            raise WeightsError(
                f"the engine {engine!r} takes no weights, got {name!r}",
                hint=f"Leave out `weights: {name}`, or name the engine that these weights are for",
            )
        return Weights(name="", engine=engine)
    folders = list(folders)
    refuse_broken(name or f"nuclei-{engine}", folders)
    known = list_weights(folders)
    fitting = [weights for weights in known if weights.engine == engine]
    if name is None and fitting:
        return next((w for w in fitting if w.name == f"nuclei-{engine}"), fitting[0])
    for weights in fitting:
        if weights.name == name:
            return weights
    other = next((w for w in known if w.name == name), None)
    problem = (
        f"weights {name!r} are for the engine {other.engine!r}, not {engine!r}"
        if other
        else f"there are no weights {name!r} for the engine {engine!r}"
        if name
        else f"there are no weights for the engine {engine!r} yet"
    )
    choices = ", ".join(w.name for w in fitting) or "none yet"
    if official_models().get(name or "", {}).get("engine") == engine:
        raise WeightsError(problem, hint=f"{how_to_bring(str(name))}. Known: {choices}")
    raise WeightsError(
        problem,
        hint=f"Known: {choices}. `opsef models add FILE` puts others, with a card, into the "
        "folder models/NAME of the project",
    )


def verify(weights: Weights) -> None:
    """Check that the file of `weights` is there and is the one that the card describes.

    Raises
    ------
    WeightsError
        Missing, or of another sha256 (both are shown).
    """
    if weights.path is None:
        return
    refuse_missing(weights)
    found = file_sha256(weights.path)
    if found != weights.sha256:
        raise WeightsError(
            f"{weights.path} is not the file that its card describes: its sha256 is {found}, "
            f"the card says {weights.sha256}",
            hint="Bring the right file, or correct the card if you trust this one",
        )


def refuse_missing(weights: Weights) -> Path:
    """Return the file of `weights`.

    Raises
    ------
    WeightsError
        It is not there.
    """
    path = weights.path
    if path is not None and path.is_file():
        return path
    hint = f"Put it back, or add it again: opsef models add FILE --name {weights.name}; or remove "
    if path is not None and path.parent == SHIPPED:
        hint = "Put it back, or install the package again"
    elif path is not None and path.parent.name != weights.name:
        hint += f"its card in {path.parent}"
    else:
        hint += f"models/{weights.name}"
    raise WeightsError(f"the file of the weights {weights.name!r} is missing: {path}", hint=hint)
