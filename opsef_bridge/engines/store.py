"""Weights come into a folder and go out of it: whole, checked, and with their card.

A folder of weights is ``models`` of a project, or one that an institute shares; see
`opsef_bridge.engines.staging`. What may come in is in `opsef_bridge.engines.formats`. Before
weights take their place their engine tries them, in a process of its own
(`opsef_bridge.engines.trial`).
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.converting import converted
from opsef_bridge.engines.formats import (
    How,
    check_percentiles,
    checked,
    of_card,
    read_source,
    unpacked,
)
from opsef_bridge.engines.official import fetch_file
from opsef_bridge.engines.registry import list_weights, read_card, verify
from opsef_bridge.engines.staging import (
    FACTS,
    Added,
    Warn,
    check_name,
    chosen,
    pass_over,
    plain_file,
    settle,
    slug,
    sound,
    stage,
    stage_weights,
    weights_in,
)
from opsef_bridge.engines.trial import try_out
from opsef_bridge.errors import InputError, NotFoundError, WeightsError
from opsef_bridge.files import atomic_path, file_sha256

__all__ = ["FACTS", "Added", "add", "add_from", "bundle", "convert", "fetch", "own_copy", "publish"]

_SUFFIX = re.compile(r"\.(zip|h5|hdf5|pt|pth|onnx)$")
"""Of a file, without which its name is that of the weights."""


def add(
    source: str | Path,
    folder: str | Path,
    *,
    name: str | None = None,
    engine: str | None = None,
    runtime: Literal["onnx", "tensorflow"] = "onnx",
    size: str | Path | None = None,
    percentiles: tuple[float, float] | None = None,
    facts: Mapping[str, str] | None = None,
) -> list[Added]:
    """Add what lies at `source` to the weights in `folder`.

    Parameters
    ----------
    source : path
        One of the table in `opsef_bridge.engines.formats`.
    folder : path
        ``models`` of a project.
    name : str, optional
        By default that of the card, else of the file.
    engine : str, optional
        Who runs a file that does not tell.
    runtime : {"onnx", "tensorflow"}
        Who runs a model of StarDist's own format.
    size : path, optional
        Cellpose's size model, which goes with its network.
    percentiles : (float, float), optional
        Of an image, in percent, that an .onnx file without a card wants mapped to 0 and 1;
        by default those of the engine.
    facts : mapping, optional
        Of `FACTS`, for the card.

    Raises
    ------
    WeightsError
        It is nothing that is taken, is broken or not safe, its engine cannot run it, or the
        name is that of other weights.
    """
    folder = Path(folder)
    how = How(name, engine, runtime, None if size is None else Path(size), percentiles)
    with stage(folder) as place:
        found = read_source(Path(source), place, how)
        staged = [stage_weights(one, place, name, facts) for one in found.weights]
        notes = list(found.notes) or [""] * len(staged)
        if not found.checked:
            notes = [_joined(n, try_out(w)) for n, w in zip(notes, staged, strict=True)]
        return settle(staged, folder, notes)


def add_from(
    source: str | Path,
    folder: str | Path,
    names: Sequence[str] = (),
    *,
    name: str | None = None,
    facts: Mapping[str, str] | None = None,
    warn: Warn | None = None,
) -> list[Added]:
    """Add weights, all or those of `names`, from a shared folder or a bundle.

    Those that are here get the scores that their card lacks.

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
    warn : callable, optional
        Told of those that are broken, where all are taken; without it one is an error.

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
    with stage(folder) as place:
        inside = unpacked(source, place)
        there = weights_in(inside, names, warn) if inside.is_dir() else []
        taken = checked(sound(chosen(there, names, str(source)), names, warn), name)
        return settle([stage_weights(one, place, name, facts) for one in taken], folder)


def convert(
    sources: Sequence[str | Path],
    folder: str | Path,
    *,
    name: str | None = None,
    engine: str | None = None,
    runtime: Literal["onnx", "tensorflow"] = "onnx",
    percentiles: tuple[float, float] | None = None,
) -> list[Added]:
    """Convert weights to ONNX, or StarDist's from it, and add them to `folder`.

    Parameters
    ----------
    sources : sequence of str or path
        Each the name of weights in `folder`, or a file or folder of a format that is
        converted; with the engine ``fpn2ws`` two ONNX files, of a network for the distance
        and of one for the border, which become one.
    folder : path
        ``models`` of a project.
    name : str, optional
        Of the new weights, of one; by default the old name with ``-onnx`` behind it, or
        ``-tensorflow``.
    engine : str, optional
        Who runs a file that does not tell.
    runtime : {"onnx", "tensorflow"}
        What runs the new weights. TensorFlow runs those of StarDist, in a zip of its own
        model folder, which the ``stardist`` package opens by itself.
    percentiles : (float, float), optional
        Of an image, in percent, that two networks that become one want mapped to 0 and 1; by
        default those of the engine. From the least to the largest value: (0, 100).

    Returns
    -------
    list of Added
        They are of the family of those that they were made of: one voice in a ranking.

    Raises
    ------
    WeightsError
        They are ONNX already, are of a format that is not converted, or do not run.
    InputError
        One `name` for several.
    """
    folder = Path(folder)
    joined = engine == "fpn2ws"
    if joined and len(sources) != 2:
        raise InputError(
            f"fpn2ws is made of two networks, got {len(sources)} files",
            hint="opsef models convert --engine fpn2ws DISTANCE.onnx BORDER.onnx --name NAME",
        )
    if name is not None and len(sources) > 1 and not joined:
        raise InputError(
            f"{len(sources)} weights cannot all be named {name!r}", hint="Convert one at a time"
        )
    if percentiles is not None and not joined:
        raise InputError(
            "--percentiles goes with two networks for --engine fpn2ws",
            hint="Other weights tell them: leave --percentiles out",
        )
    check_percentiles(percentiles)
    if runtime == "tensorflow":
        return [_twin(str(one), folder, name or f"{slug(str(one))}-tensorflow") for one in sources]
    groups = [list(sources)] if joined else [[source] for source in sources]
    done = []
    for group in groups:
        with stage(folder) as place:
            new = name or f"{slug(_SUFFIX.sub('', Path(str(group[0])).name))}-onnx"
            check_name(new)
            if joined:
                made = _join([Path(source) for source in group], place, new, percentiles)
            else:
                made = _converted(group[0], folder, place, new, engine)
            staged = stage_weights(made, place, new, None)
            done += settle([staged], folder, [try_out(staged)])
    return done


def bundle(
    target: str | Path,
    folders: Iterable[Path],
    names: Sequence[str] = (),
    *,
    warn: Warn | None = None,
) -> list[Weights]:
    """Write weights, all in `folders` and the package or those of `names`, to one zip.

    Where all are taken `warn` is told of those that are broken, and left out; without it one
    is an error.
    """
    taken = _of_project(folders, names, warn)
    for weights in taken:
        check_name(weights.name)
    # Weights hardly shrink: packed as they are, the zip is written and read fast.
    with atomic_path(target) as partial, zipfile.ZipFile(partial, "w") as archive:
        for weights in taken:
            file = plain_file(weights)
            archive.write(file, f"{weights.name}/{file.name}")
            archive.writestr(f"{weights.name}/{weights.name}.json", _card_text(weights.card))
    return taken


def publish(
    shared: str | Path,
    folders: Iterable[Path],
    names: Sequence[str] = (),
    *,
    warn: Warn | None = None,
) -> list[Added]:
    """Copy weights, all in `folders` and the package or those of `names`, to a shared folder.

    Weights that are there get the scores that their card lacks. `warn` as in `bundle`.
    """
    shared = Path(shared)
    taken = checked(_of_project(folders, names, warn))
    with stage(shared) as place:
        staged = [stage_weights(one, place, None, None) for one in taken]
        return settle(staged, shared, known=_known(shared))


def fetch(
    name: str,
    folder: str | Path,
    *,
    mirror: str | None,
    sha256: str | None,
    runtime: Literal["onnx", "tensorflow"] = "onnx",
) -> Added:
    """Download an official model (see `fetch_file`) and add it to `folder` (see `add`)."""
    with stage(Path(folder)) as place:
        file, facts = fetch_file(name, place, mirror=mirror, sha256=sha256)
        return add(file, folder, name=name, runtime=runtime, facts=facts)[0]


def own_copy(weights: Weights, folder: str | Path) -> Weights:
    """Return `weights` as they lie in `folder`, copied there if they lie elsewhere.

    The cards of the package are not for writing on. A copy in the project is found first.
    """
    folder = Path(folder)
    if weights.path.is_relative_to(folder):
        return weights
    with stage(folder) as place:
        staged = stage_weights(weights, place, None, None)
        return settle([staged], folder, known=_known(folder))[0].weights


def _known(folder: Path) -> list[Weights]:
    """Return what has a name in `folder`; that something else there is broken is no matter."""
    return weights_in(folder, warn=lambda error: None)


def _of_project(folders: Iterable[Path], names: Sequence[str], warn: Warn | None) -> list[Weights]:
    """Return the weights in `folders` and the package, all or those of `names`."""
    folders = list(folders)
    pass_over(folders, names, warn)
    return sound(chosen(list_weights(folders), names, "the project"), names, warn)


def _twin(source: str, folder: Path, name: str) -> Added:
    """Add StarDist weights of `folder` or the package in the form that TensorFlow runs."""
    from opsef_bridge.engines.stardist_export import keras_twin

    (weights,) = chosen(list_weights([folder]), [source], "the project")
    check_name(name)
    verify(weights)
    with stage(folder) as place:
        card_file = keras_twin(weights, place / ".converted", name=name)
        card = read_card(card_file)
        file = card_file.parent / card["file"]
        made = Weights(name, card["engine"], file, card["sha256"], card)
        staged = stage_weights(made, place, name, None)
        return settle([staged], folder, [try_out(staged)])[0]


def _converted(
    source: str | Path, folder: Path, place: Path, name: str, engine: str | None
) -> Weights:
    """Return ONNX weights made of weights in `folder`, or of a file or folder."""
    known = {weights.name: weights for weights in list_weights([folder])}.get(str(source))
    if known is None:
        path = Path(source)
        if not path.exists():
            raise NotFoundError(
                f"there are no weights and there is no file {str(source)!r}",
                hint="`opsef models list` names the weights of the project",
            )
        return _made(path, place, How(name, engine), {"file": path.name})
    verify(known)
    file = plain_file(known)
    facts = {key: known.card[key] for key in FACTS if known.card.get(key)}
    told = {"name": known.name, "sha256": known.sha256}
    made = _made(file, place, How(name, known.engine), told)
    card = {**made.card, **facts, "family": known.family}
    # What the card says and the file does not, e.g. of a package of bioimage.io.
    input_ = known.card.get("input", {})
    kept = {key: input_[key] for key in ("percentiles", "clip") if key in input_}
    card["input"] = {**card.get("input", {}), **kept}
    if "thresholds" in known.card:
        card["thresholds"] = known.card["thresholds"]
    return replace(made, card=card)


def _made(path: Path, place: Path, how: How, source: dict[str, Any]) -> Weights:
    """Return ONNX weights made of a file or folder, with a word on the card of what."""
    if path.suffix == ".onnx":
        raise WeightsError(f"{path.name} is ONNX already", hint="There is nothing to convert")
    if path.is_file():
        source = {"sha256": file_sha256(path), **source}
    made = read_source(path, place, how).weights
    if [one.path.suffix for one in made] != [".onnx"]:
        raise WeightsError(
            f"{path.name} is of a format that is not converted",
            hint="Converted are StarDist's models and, with --engine unet, U-Nets of "
            "CellProfiler's layout; networks of torch run as they are",
        )
    return replace(made[0], card={**made[0].card, "converted_from": source})


def _join(
    files: Sequence[Path], place: Path, name: str, percentiles: tuple[float, float] | None
) -> Weights:
    """Return one network made of two, of the distance and of the border."""
    for file in files:
        if not file.is_file():
            raise NotFoundError(f"there is no file {file}", hint="Name two ONNX files")
    made = of_card(converted("fpn2ws", files, place / ".converted", name))
    source = [{"file": file.name, "sha256": file_sha256(file)} for file in files]
    card = {**made.card, "converted_from": source}
    if percentiles is not None:
        card["input"] = {**card.get("input", {}), "percentiles": list(percentiles)}
    return replace(made, card=card)


def _joined(*notes: str) -> str:
    return " ".join(filter(None, notes))


def _card_text(card: Mapping[str, Any]) -> str:
    return json.dumps(card, indent=1, ensure_ascii=False) + "\n"
