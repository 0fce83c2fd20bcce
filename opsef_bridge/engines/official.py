"""The models that others publish under a known name: fetched when asked, never by themselves.

``official.json`` says which file each is and whose engine runs it, and the sha256 of those
that the ``stardist`` package (0.9.2) has pinned itself. It holds no address: a mirror, and
the sha256 of the others, which makes a mirror safe, are the user's to give.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from opsef_bridge.engines.untrusted import download
from opsef_bridge.errors import InputError, NotFoundError, WeightsError
from opsef_bridge.files import file_sha256, read_json

__all__ = ["fetch_file", "how_to_bring", "official_models"]


@cache
def official_models() -> dict[str, dict[str, Any]]:
    """Return what is known of the models that others publish.

    Each has ``engine``, ``file``, ``licence`` and ``description``; those of StarDist the
    ``sha256`` of the file, those of Cellpose the ``diameter`` in px that they learned from.
    """
    found: dict[str, dict[str, Any]] = read_json(Path(__file__).parent / "official.json")
    return found


def how_to_bring(name: str) -> str:
    """Say how an official model comes into a project; nothing is downloaded unasked."""
    entry = official_models()[name]
    pinned = "" if "sha256" in entry else " --sha256 HEX"
    return (
        f"Bring its file {entry['file']} from where {entry['engine']} publishes it and run "
        f"`opsef models add {entry['file']} --name {name}`; or, from a mirror of your institute, "
        f"`opsef models fetch {name} --mirror URL{pinned}`"
    )


def fetch_file(
    name: str, target: Path, *, mirror: str | None, sha256: str | None
) -> tuple[Path, dict[str, str]]:
    """Download the file of an official model into the folder `target`.

    Parameters
    ----------
    name : str
        One of ``official.json``.
    target : Path
    mirror : str
        Address, http or https, below which the file lies.
    sha256 : str or None
        Of the file, 64 hexadecimal digits: any other file is refused. None where
        ``official.json`` knows it.

    Returns
    -------
    file : Path
    facts : dict
        For the card: licence and source.

    Raises
    ------
    NotFoundError
        No official model has that name.
    InputError
        `mirror` is no such address; `sha256` is missing, is none, or is not the known one.
    WeightsError
        No mirror was given, it cannot be reached, or the file is another one.
    """
    entry = official_models().get(name)
    if entry is None:
        raise NotFoundError(
            f"there is no official model {name!r}",
            hint=f"Choose one of {', '.join(official_models())}",
        )
    if mirror is None:
        raise WeightsError(f"there is no mirror to fetch {name} from", hint=how_to_bring(name))
    place = re.fullmatch(r"https?://([^/@\s]+(?:/\S*)?)", mirror.rstrip("/"))
    if place is None:
        raise InputError(
            f"the mirror {mirror!r} is no address of the web",
            hint="It starts with https:// or http:// and names no user; for a file: "
            "opsef models add FILE",
        )
    wanted = _sha256(name, entry.get("sha256"), sha256)
    file = target / entry["file"]
    download(f"{mirror.rstrip('/')}/{file.name}", file)
    if (found := file_sha256(file)) != wanted:
        raise WeightsError(
            f"{file.name} from {place[1]} is another file: its sha256 is {found}, not {wanted}",
            hint="Nothing was kept. Ask who runs the mirror, or bring the file yourself",
        )
    source = f"{place[1]}/{file.name}, sha256 {wanted}"
    return file, {"licence": entry["licence"], "source": source}


def _sha256(name: str, known: str | None, given: str | None) -> str:
    """Return the sha256 that the file must have."""
    if given is not None and not re.fullmatch("[0-9a-fA-F]{64}", given):
        raise InputError(
            f"the sha256 {given!r} is not 64 hexadecimal digits", hint="Give all of it, or none"
        )
    if known is None and given is None:
        raise InputError(
            f"nobody has published the sha256 of {name}, so it must be given",
            hint="Give --sha256 HEX, from whoever vouches for the file, not from the mirror",
        )
    if known and given and known != given.lower():
        raise InputError(
            f"the sha256 of {name} is {known}, not {given.lower()}",
            hint="Leave --sha256 out; another file is added by opsef models add FILE --name OTHER",
        )
    return known or str(given).lower()
