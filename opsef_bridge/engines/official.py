"""The models that others publish under a known name: fetched when asked, never by themselves.

``official.json`` says which file each is and whose engine runs it. It holds no address: a
mirror, and the sha256 that makes a mirror safe, are the user's to give.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from opsef_bridge.engines.untrusted import download
from opsef_bridge.errors import InputError, NotFoundError, WeightsError
from opsef_bridge.files import file_sha256, read_json

__all__ = ["fetch_file", "how_to_bring", "official_models"]


@cache
def official_models() -> dict[str, dict[str, str]]:
    """Return what is known of the models that others publish: engine, file, licence, words."""
    found: dict[str, dict[str, str]] = read_json(Path(__file__).parent / "official.json")
    return found


def how_to_bring(name: str) -> str:
    """Say how an official model comes into a project; nothing is downloaded unasked."""
    file = official_models()[name]["file"]
    return (
        f"Bring its file {file} from where {official_models()[name]['engine']} publishes it and "
        f"run `opsef models add {file} --name {name}`; or, from a mirror of your institute, "
        f"`opsef models fetch {name} --mirror URL --sha256 HEX`"
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
    sha256 : str
        Of the file, 64 hexadecimal digits: any other file is refused.

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
        `mirror` is no such address, or `sha256` is missing or none.
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
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256 or ""):
        raise InputError(
            f"the sha256 {sha256!r} is not 64 hexadecimal digits",
            hint="Give --sha256 HEX, from whoever vouches for the file, not from the mirror",
        )
    file, wanted = target / entry["file"], str(sha256).lower()
    download(f"{mirror.rstrip('/')}/{file.name}", file)
    if (found := file_sha256(file)) != wanted:
        raise WeightsError(
            f"{file.name} from {place[1]} is another file: its sha256 is {found}, not {wanted}",
            hint="Nothing was kept. Ask who runs the mirror, or bring the file yourself",
        )
    source = f"{place[1]}/{file.name}, sha256 {wanted}"
    return file, {"licence": entry["licence"], "source": source}
