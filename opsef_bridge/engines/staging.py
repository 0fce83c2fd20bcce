"""A folder of weights: what lies in it, and how something new comes into it whole.

There is one folder per name, with the card ``NAME.json`` and the file that the card names.
What is new is made ready in a hidden folder beside it and renamed: a name stands for
weights that were checked, or it does not exist.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.cards import card_file
from opsef_bridge.engines.registry import broken_cards, list_weights, refuse_broken, verify
from opsef_bridge.engines.untrusted import refuse_link
from opsef_bridge.errors import InputError, NotFoundError, OpsefError, WeightsError
from opsef_bridge.files import file_sha256, write_json

__all__ = [
    "FACTS",
    "Added",
    "Warn",
    "check_name",
    "chosen",
    "merged_scores",
    "pass_over",
    "plain_file",
    "settle",
    "slug",
    "sound",
    "stage",
    "stage_weights",
    "today",
    "weights_in",
]

FACTS = ("licence", "source", "data")
"""What every card tells, if only that it is unknown; ``data``: what the weights learned from."""

Warn = Callable[[OpsefError], None]
"""Is told of weights that are left out because they are broken."""

_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for itself."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Added:
    """Weights that are in the folder now; `new` is False for those that were before.

    `updated`: their card got scores that it did not have.
    """

    weights: Weights
    new: bool
    note: str = ""
    updated: bool = False


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder in `folder`, which goes again, whatever is left in it."""
    place = folder / f".{uuid.uuid4().hex[:8]}.partial"
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def stage_weights(
    weights: Weights, place: Path, name: str | None, facts: Mapping[str, str] | None
) -> Weights:
    """Copy the file to `place`, check the copy, and write the card beside it.

    Parameters
    ----------
    name : str or None
        Another name than that of `weights`.
    facts : mapping or None
        Of `FACTS`, over those of the card.
    """
    name = name or weights.name
    check_name(name)
    file = plain_file(weights)
    copy = place / name / (file.name if file.suffix != ".json" else f"{name}.weights")
    copy.parent.mkdir()
    shutil.copyfile(file, copy)
    told = {key: value for key, value in (facts or {}).items() if value}
    here = {"name": name, "engine": weights.engine, "file": copy.name, "sha256": weights.sha256}
    card = {**dict.fromkeys(FACTS, "unknown"), **weights.card, **told, **here, "added": today()}
    if card.get("family") == f"{weights.engine}:{weights.name}":  # its own name, not its origin
        card["family"] = f"{weights.engine}:{name}"
    staged = Weights(name, weights.engine, copy, weights.sha256, card)
    if file_sha256(copy) != weights.sha256:
        verify(weights)  # says so, unless the file has changed since
        raise WeightsError(f"{file} has changed while it was copied", hint="Try again")
    write_json(copy.parent / f"{name}.json", card)
    return staged


def settle(
    staged: Sequence[Weights],
    folder: Path,
    notes: Sequence[str] = (),
    *,
    known: Iterable[Weights] | None = None,
) -> list[Added]:
    """Give what was staged its place in `folder`: all of it, or nothing.

    Weights that are there already get the scores of the staged card that theirs lacks, and
    their file if it is missing or another by now.

    Parameters
    ----------
    notes : sequence of str
        What a person should know, of each; none by default.
    known : iterable of Weights, optional
        Whose names are taken; those of `folder` and of the package by default.
    """
    there = {w.name: w for w in (list_weights([folder]) if known is None else known)}
    for weights in staged:
        other = there.get(weights.name)
        if other is not None and (other.key, other.engine) == (weights.key, weights.engine):
            continue
        if other is None and not (folder / weights.name).exists():
            continue
        what = f"others (sha256 {other.sha256[:12]})" if other else "a folder without a card"
        if other is not None and other.sha256 == weights.sha256:
            what = "the same file with another card"
        raise WeightsError(
            f"the name {weights.name!r} is taken by {what}, the new ones have sha256 "
            f"{weights.sha256[:12]}",
            hint="Choose another with --name; of several, take one at a time: "
            "opsef models add --from SOURCE NAME --name OTHER",
        )
    return [
        _settled(weights, there.get(weights.name), folder, note)
        for weights, note in zip(staged, notes or [""] * len(staged), strict=True)
    ]


def _settled(weights: Weights, other: Weights | None, folder: Path, note: str) -> Added:
    """Give `weights` their place; `other` are the same, where they are known by now."""
    new = other is None
    scores = [] if other is None else merged_scores(other.card, weights.card)
    more = other is not None and scores != _scores(other.card)
    if other is not None and not other.path.is_relative_to(folder) and more:
        # The cards of the package are not for writing on: a copy takes the scores.
        new, more = not (folder / weights.name).exists(), False
        note = " ".join(filter(None, [note, "Its scores are new: the project has a copy now"]))
    if new:
        weights.path.parent.rename(folder / weights.name)
        return Added(replace(weights, path=folder / weights.name / weights.path.name), True, note)
    mended = other.path.is_relative_to(folder) and not _is_whole(other)
    if mended:
        weights.path.replace(other.path)
    if more:
        write_json(card_file(other), other.card | {"evaluations": scores})
        other = replace(other, card=other.card | {"evaluations": scores})
    return Added(other, mended, note, updated=more)


def merged_scores(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Any]:
    """Return the evaluations of two cards of one file, by date; each once.

    One that a card has twice was taken twice.

    Examples
    --------
    >>> first, second = {"date": "2026-01-31", "images": 3}, {"date": "2026-01-30", "images": 4}
    >>> merged_scores({"evaluations": [first]}, {"evaluations": [first, second]}) == [second, first]
    True
    """
    scores = _scores(mine)
    left = list(scores)
    for entry in _scores(theirs):
        if entry in left:
            left.remove(entry)
        else:
            scores.append(entry)
    if scores == _scores(mine):
        return scores
    return sorted(scores, key=lambda entry: str(dict(entry).get("date", "")))


def _scores(card: Mapping[str, Any]) -> list[Any]:
    told = card.get("evaluations")
    return [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []


def _is_whole(weights: Weights) -> bool:
    try:
        verify(weights)
    except WeightsError:
        return False
    return True


def weights_in(folder: Path, names: Sequence[str] = (), warn: Warn | None = None) -> list[Weights]:
    """Return the weights that have a card in `folder`.

    Parameters
    ----------
    names : sequence of str
        Those that are wanted, if not all: other cards may be broken.
    warn : callable, optional
        Told of cards that are broken. Without it one is an error.
    """
    pass_over([folder], names, warn)
    return [w for w in list_weights([folder]) if w.path.is_relative_to(folder)]


def pass_over(folders: Sequence[Path], names: Sequence[str], warn: Warn | None) -> None:
    """Warn of cards in `folders` that are broken; raise the reason for one of `names`."""
    for name in names:
        refuse_broken(name, folders)
    if not names:
        for error in broken_cards(folders).values():
            (warn or _refuse)(error)


def sound(weights: Sequence[Weights], names: Sequence[str], warn: Warn | None) -> list[Weights]:
    """Return those of `weights` whose file is the one of their card.

    Parameters
    ----------
    names : sequence of str
        Those that were asked for by name, of which none may be left out.
    warn : callable, optional
        Told of those that are left out. Without it one is an error.

    Raises
    ------
    WeightsError
        One of `names`, or every one, has another file or none.
    """
    kept, problems = [], []
    for one in weights:
        try:
            verify(one)
        except WeightsError as error:
            if names:
                raise
            problems.append(error)
        else:
            kept.append(one)
    for error in problems:
        (warn if warn and kept else _refuse)(error)
    return kept


def _refuse(error: OpsefError) -> None:
    raise error


def chosen(weights: Sequence[Weights], names: Sequence[str], where: str) -> list[Weights]:
    """Return the weights of `names`, or all.

    Raises
    ------
    NotFoundError
        `where` has none of that name, or none at all.
    """
    known = {one.name: one for one in weights}
    for name in names or [None] * (not known):
        if name not in known:
            raise NotFoundError(
                f"{where} has no weights" + (f" {name!r}" if name else ""),
                hint=f"It has {', '.join(known) or 'none'}",
            )
    return [known[name] for name in dict.fromkeys(names or known)]


def plain_file(weights: Weights) -> Path:
    """Return the file of `weights`; a card may name none outside its own folder."""
    file = str(weights.card.get("file", weights.path.name))
    if file != weights.path.name or file in ("", ".", "..") or not file.isprintable():
        raise WeightsError(
            f"the card of {weights.name!r} names the file {file!r}, which is not beside it",
            hint="Put the file into the folder of its card and name it there without a path",
        )
    return refuse_link(weights.path, weights.name)


def check_name(name: str) -> None:
    """Refuse a name that would be no folder on every system."""
    if not _NAME.fullmatch(name) or name.endswith(".") or _DEVICES.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of weights",
            hint="Give a --name of letters, digits, dots, - and _, at most 80, a letter or "
            "digit first",
        )


def slug(text: str) -> str:
    """Return `text` as the name of weights.

    Examples
    --------
    >>> slug("my best (2)")
    'my-best-2'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:80] or "model"


def today() -> str:
    """Return the date, of the whole world at once, as it stands in cards."""
    return datetime.now(UTC).date().isoformat()
