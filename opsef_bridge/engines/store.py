"""Weights come into a folder and go out of it: whole, checked, and with their card.

A folder of weights (``models`` of a project, or one that an institute shares) has one folder
per name, with the card ``NAME.json`` and the file that the card names. What is new is made
ready in a hidden folder beside it and renamed: a name stands for weights that were checked,
or it does not exist.

What comes from elsewhere goes through `opsef_bridge.engines.untrusted`.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.official import fetch_file
from opsef_bridge.engines.registry import (
    list_weights,
    read_card,
    try_out,
    verify,
)
from opsef_bridge.engines.untrusted import (
    is_pickle,
    is_torch,
    look_into_torch,
    refuse_link,
    unpack,
    what_it_is,
)
from opsef_bridge.errors import InputError, NotFoundError, WeightsError
from opsef_bridge.files import atomic_path, file_sha256, write_json

__all__ = [
    "FACTS",
    "Added",
    "add",
    "add_from",
    "bundle",
    "fetch",
    "publish",
]

FACTS = ("licence", "source", "data")
"""What every card tells, if only that it is unknown; ``data``: what the weights learned from."""

_TAKEN = (
    "Taken are: an .onnx file with its card NAME.json beside it or with --engine, StarDist's "
    "model folder or a zip of it, a Cellpose network (torch, version 1 to 3), and what "
    "`opsef models bundle` wrote"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Added:
    """Weights that are in the folder now; `new` is False for those that were before."""

    weights: Weights
    new: bool
    note: str = ""


def add(
    source: str | Path,
    folder: str | Path,
    *,
    name: str | None = None,
    engine: str | None = None,
    facts: Mapping[str, str] | None = None,
) -> list[Added]:
    """Add what lies at `source` to the weights in `folder`.

    Parameters
    ----------
    source : path
        An .onnx file, a Cellpose network, StarDist's model folder or a zip of it, a bundle.
    folder : path
        ``models`` of a project.
    name : str, optional
        By default that of the card, else of the file.
    engine : str, optional
        Who runs an .onnx file that has no card.
    facts : mapping, optional
        Of `FACTS`, for the card.

    Raises
    ------
    WeightsError
        It is none of these, is broken or not safe, its engine cannot run it, or the name is
        that of other weights.
    """
    source, folder = Path(source), Path(folder)
    if not source.exists():
        raise NotFoundError(f"there is no file or folder {source}", hint=_TAKEN)
    with _stage(folder) as stage:
        place = _unpacked(source, stage)
        if not place.is_dir():
            staged, note = _stage_file(place, stage, name, engine, facts)
            return _settle([staged], folder, note)
        if weights := _weights_in(place):
            return _settle(_stage_all(weights, stage, name, facts), folder)
        configs = sorted(place.rglob("config.json"), key=lambda path: len(path.parts))
        if not configs:
            raise _refused(source, "holds neither a card nor StarDist's config.json")
        name = name or _slug(source.name.removesuffix(".zip"))
        return _settle([_stage_stardist(configs[0].parent, stage, name, facts)], folder)


def add_from(
    source: str | Path,
    folder: str | Path,
    names: Sequence[str] = (),
    *,
    name: str | None = None,
    facts: Mapping[str, str] | None = None,
) -> list[Added]:
    """Add weights, all or those of `names`, from a shared folder or a bundle.

    Parameters
    ----------
    source : path
        As `publish` or `bundle` wrote it.
    folder : path
        ``models`` of a project.
    names : sequence of str
        All without one.
    name : str, optional
        Another name for the one that is added.
    facts : mapping, optional
        Of `FACTS`, for the cards.

    Raises
    ------
    WeightsError
        A sha256 is not that of the card, or a name is that of other weights.
    NotFoundError
        There are no such weights.
    """
    source, folder = Path(source), Path(folder)
    if not source.exists():
        raise NotFoundError(
            f"there is no folder or bundle {source}",
            hint="`opsef models publish FOLDER` and `opsef models bundle FILE.zip` make them",
        )
    with _stage(folder) as stage:
        place = _unpacked(source, stage)
        weights = _chosen(_weights_in(place) if place.is_dir() else [], names, str(source))
        return _settle(_stage_all(weights, stage, name, facts), folder)


def bundle(target: str | Path, folders: Iterable[Path], names: Sequence[str] = ()) -> list[Weights]:
    """Write weights, all in `folders` and the package or those of `names`, to one zip."""
    chosen = _chosen(list_weights(folders), names, "the project")
    for weights in chosen:
        _check_name(weights.name)
        verify(weights)
    # Weights hardly shrink: packed as they are, the zip is written and read fast.
    with atomic_path(target) as partial, zipfile.ZipFile(partial, "w") as archive:
        for weights in chosen:
            file = _plain_file(weights)
            archive.write(file, f"{weights.name}/{file.name}")
            archive.writestr(f"{weights.name}/{weights.name}.json", _card_text(weights.card))
    return chosen


def publish(shared: str | Path, folders: Iterable[Path], names: Sequence[str] = ()) -> list[Added]:
    """Copy weights, all in `folders` and the package or those of `names`, to a shared folder."""
    shared = Path(shared)
    chosen = _chosen(list_weights(folders), names, "the project")
    with _stage(shared) as stage:
        return _settle(_stage_all(chosen, stage, None), shared, known=_weights_in(shared))


def fetch(name: str, folder: str | Path, *, mirror: str | None, sha256: str | None) -> Added:
    """Download an official model (see `fetch_file`) and add it to `folder`."""
    with _stage(Path(folder)) as stage:
        file, facts = fetch_file(name, stage, mirror=mirror, sha256=sha256)
        return add(file, folder, name=name, facts=facts)[0]


def _stage_file(
    file: Path, stage: Path, name: str | None, engine: str | None, facts: Mapping[str, str] | None
) -> tuple[Weights, str]:
    """Make one file ready; return it, and what a person should know of it."""
    note = ""
    card = _card_beside(file) if file.suffix == ".onnx" else None
    if card and engine not in (None, card["engine"]):
        raise InputError(
            f"the card of {file.name} is for the engine {card['engine']!r}, not {engine!r}",
            hint="Leave --engine out, or take the card away",
        )
    if file.suffix == ".onnx":
        engine = card["engine"] if card else engine
        if engine is None:
            raise WeightsError(
                f"{file} has no card {file.stem}.json beside it that says who runs it",
                hint="Name the engine with --engine",
            )
    elif is_torch(file):
        engine, note = look_into_torch(file, engine)
    else:
        raise _refused(file, what_it_is(file))
    card = card or {"name": _slug(file.stem), "engine": engine, "file": file.name}
    weights = Weights(
        card["name"], str(engine), file, str(card.get("sha256") or file_sha256(file)), card
    )
    verify(weights)
    if engine != "cellpose":
        try_out(weights)
    return _stage_weights(weights, stage, name, facts), note


def _stage_stardist(
    source: Path, stage: Path, name: str, facts: Mapping[str, str] | None
) -> Weights:
    """Convert a model folder of StarDist and let the engine try what comes out."""
    from opsef_bridge.engines.stardist_files import convert_stardist

    _check_name(name)
    try:
        card_file = convert_stardist(source, stage / ".converted", name=name)
    except ImportError as error:
        raise WeightsError(
            f"StarDist's models are converted by {error.name}, which is not installed",
            hint="pip install 'opsef_bridge[train]'",
        ) from error
    card = read_card(card_file) or {}
    weights = Weights(name, card["engine"], card_file.parent / card["file"], card["sha256"], card)
    try_out(weights)
    return _stage_weights(weights, stage, None, facts)


def _stage_all(
    weights: Sequence[Weights],
    stage: Path,
    name: str | None,
    facts: Mapping[str, str] | None = None,
) -> list[Weights]:
    """Make weights ready that have a card; only one can be given another name."""
    if name is not None and len(weights) != 1:
        raise InputError(
            f"{len(weights)} weights cannot all be named {name!r}",
            hint="Take one of them: opsef models add --from SOURCE NAME --name OTHER",
        )
    for one in weights:
        file = _plain_file(one)
        if is_torch(file):
            look_into_torch(file, one.engine)
        elif is_pickle(file):
            raise _refused(file, what_it_is(file))
    return [_stage_weights(one, stage, name, facts) for one in weights]


def _stage_weights(
    weights: Weights, stage: Path, name: str | None, facts: Mapping[str, str] | None
) -> Weights:
    """Copy the file, check the copy, and write the card beside it."""
    name = name or weights.name
    _check_name(name)
    file = _plain_file(weights)
    copy = stage / name / (file.name if file.suffix != ".json" else f"{name}.weights")
    copy.parent.mkdir()
    shutil.copyfile(file, copy)
    told = {key: value for key, value in (facts or {}).items() if value}
    here = {"name": name, "engine": weights.engine, "file": copy.name, "sha256": weights.sha256}
    card = {**dict.fromkeys(FACTS, "unknown"), **weights.card, **told, **here, "added": _today()}
    staged = Weights(name, weights.engine, copy, weights.sha256, card)
    if file_sha256(copy) != weights.sha256:
        verify(weights)  # says so, unless the file has changed since
        raise WeightsError(f"{file} has changed while it was copied", hint="Try again")
    write_json(copy.parent / f"{name}.json", card)
    return staged


def _settle(
    staged: Sequence[Weights],
    folder: Path,
    note: str = "",
    *,
    known: Iterable[Weights] | None = None,
) -> list[Added]:
    """Give what was staged its place in `folder`: all of it, or nothing."""
    there = {w.name: w for w in (list_weights([folder]) if known is None else known)}
    for weights in staged:
        other = there.get(weights.name)
        if other is not None and (other.sha256, other.engine) == (weights.sha256, weights.engine):
            continue
        if other is not None or (folder / weights.name).exists():
            what = f"sha256 {other.sha256[:12]}" if other else "a folder without a card"
            raise WeightsError(
                f"the name {weights.name!r} is taken by others ({what}), the new ones have sha256 "
                f"{weights.sha256[:12]}",
                hint="Choose another with --name; of several, take one at a time: "
                "opsef models add --from SOURCE NAME --name OTHER",
            )
    done = []
    for weights in staged:
        new = weights.name not in there
        if new:
            (weights.path.parent).rename(folder / weights.name)
        place = folder / weights.name / weights.path.name
        mine = Weights(weights.name, weights.engine, place, weights.sha256, weights.card)
        done.append(Added(mine if new else there[weights.name], new, note))
    return done


@contextlib.contextmanager
def _stage(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder in `folder`, which goes again, whatever is left in it."""
    stage = folder / f".{uuid.uuid4().hex[:8]}.partial"
    stage.mkdir(parents=True)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _unpacked(source: Path, stage: Path) -> Path:
    """Return `source`, or the folder into which it was unpacked if it is a zip."""
    if not (source.is_dir() or source.is_file()):
        raise _refused(source, "is a device or the like")
    if source.is_dir() or source.suffix == ".onnx" or is_torch(source):
        return source
    return unpack(source, stage / "unpacked") if zipfile.is_zipfile(source) else source


def _weights_in(folder: Path) -> list[Weights]:
    """Return the weights that have a card in `folder`."""
    return [w for w in list_weights([folder]) if w.path.is_relative_to(folder)]


def _chosen(weights: Sequence[Weights], names: Sequence[str], where: str) -> list[Weights]:
    """Return the weights of `names`, or all."""
    known = {one.name: one for one in weights}
    for name in names or [None] * (not known):
        if name not in known:
            raise NotFoundError(
                f"{where} has no weights" + (f" {name!r}" if name else ""),
                hint=f"It has {_listed(known)}",
            )
    return [known[name] for name in dict.fromkeys(names or known)]


def _card_beside(file: Path) -> dict[str, Any] | None:
    """Return the card in the folder of `file` that names it, NAME.json first."""
    others = sorted(file.parent.glob("*.json"))
    for card_file in [file.with_suffix(".json"), *others]:
        with contextlib.suppress(WeightsError, OSError):
            card = read_card(card_file)
            if card and card["file"] == file.name:
                return card
    return None


def _plain_file(weights: Weights) -> Path:
    """Return the file of `weights`; a card may name none outside its own folder."""
    file = str(weights.card.get("file", weights.path.name))
    if file != weights.path.name or file in ("", ".", "..") or not file.isprintable():
        raise WeightsError(
            f"the card of {weights.name!r} names the file {file!r}, which is not beside it",
            hint="Put the file into the folder of its card and name it there without a path",
        )
    return refuse_link(weights.path, weights.name)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of weights",
            hint="Give a --name of letters, digits, dots, - and _, at most 80, a letter or "
            "digit first",
        )


def _slug(text: str) -> str:
    """Return `text` as the name of weights."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:80] or "model"


def _refused(source: Path, why: str) -> WeightsError:
    return WeightsError(f"{source} {why}", hint=_TAKEN)


def _card_text(card: Mapping[str, Any]) -> str:
    return json.dumps(card, indent=1, ensure_ascii=False) + "\n"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
