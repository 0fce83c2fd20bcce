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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.registry import list_weights, verify
from opsef_bridge.engines.untrusted import refuse_link
from opsef_bridge.errors import InputError, NotFoundError, WeightsError
from opsef_bridge.files import file_sha256, write_json

__all__ = [
    "FACTS",
    "Added",
    "check_name",
    "chosen",
    "plain_file",
    "settle",
    "slug",
    "stage",
    "stage_weights",
    "today",
    "weights_in",
]

FACTS = ("licence", "source", "data")
"""What every card tells, if only that it is unknown; ``data``: what the weights learned from."""

_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for itself."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Added:
    """Weights that are in the folder now; `new` is False for those that were before."""

    weights: Weights
    new: bool
    note: str = ""


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
    done = []
    for weights, note in zip(staged, notes or [""] * len(staged), strict=True):
        new = weights.name not in there
        if new:
            (weights.path.parent).rename(folder / weights.name)
        place = folder / weights.name / weights.path.name
        mine = Weights(weights.name, weights.engine, place, weights.sha256, weights.card)
        done.append(Added(mine if new else there[weights.name], new, note))
    return done


def weights_in(folder: Path) -> list[Weights]:
    """Return the weights that have a card in `folder`."""
    return [w for w in list_weights([folder]) if w.path.is_relative_to(folder)]


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
