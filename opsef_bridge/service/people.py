"""Who may use the service: one token for each invitation, and the file that invites.

::

    .opsef/people.json      name, sha256 of a token, since when, revoked when; 0600
    NAME.opsef              what the person opens in Fiji: address, pin and the token; 0600

A token is 256 random bits, so its plain sha256 cannot be guessed back. The token itself is in
the invitation only.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import threading
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opsef_bridge.errors import InputError, NotFoundError, ProjectError
from opsef_bridge.files import atomic_path, lock, read_json

__all__ = [
    "People",
    "checked_name",
    "invitation",
    "invite",
    "known_address",
    "list_people",
    "revoke",
    "service_folder",
    "token_count",
    "write_invitation",
    "write_private",
]

_NAME = re.compile(r"\w(?:[\w .@+-]{0,62}[\w+-])?")


def service_folder(root: Path) -> Path:
    """Return ``ROOT/.opsef``, what the service keeps for itself; only its owner may look in."""
    folder = Path(root) / ".opsef"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def checked_name(name: str) -> str:
    """Return a person's name as it is written in records.

    Raises
    ------
    InputError
        It is empty, longer than 64 characters, or could not be a file name.

    Examples
    --------
    >>> checked_name(" Ada Lovelace ")
    'Ada Lovelace'
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a person",
            hint="Use up to 64 letters, digits, blanks and . @ + - _, a letter or digit first",
        )
    return name


def invite(root: Path, name: str) -> tuple[dict[str, Any], str]:
    """Give a person a token; earlier ones, as of the same person's laptop, go on working.

    Returns
    -------
    record : dict
        What ``people.json`` has of the token: ``name``, its ``sha256``, ``since``. The name
        is spelled so in the records of the person's other tokens from now on.
    token : str
        Nobody can get it back from the record.

    Raises
    ------
    InputError
        `name` can be no name.
    """
    name = checked_name(name)
    token = secrets.token_urlsafe(32)
    record = {"name": name, "sha256": _digest(token), "since": _now()}
    with lock(service_folder(root) / "people.lock"):
        kept = []
        for one in list_people(root):
            if not _same(one["name"], name):
                kept.append(one)
            elif one.get("sha256"):  # with two spellings it would be two authors
                kept.append({**one, "name": name})
        _write_people(root, [*kept, record])
    return record, token


def token_count(root: Path, name: str) -> int:
    """Return how many invitations of a person are good."""
    people = list_people(root)
    return sum(1 for one in people if one.get("sha256") and _same(name, one["name"]))


def revoke(root: Path, name: str) -> dict[str, Any]:
    """Take all tokens of a person away, also from a service that runs.

    Returns
    -------
    dict
        The record of the newest of them.

    Raises
    ------
    NotFoundError
        Nobody of that name has a token.
    """
    with lock(service_folder(root) / "people.lock"):
        people = list_people(root)
        theirs = [one for one in people if _same(name, one["name"]) and one.get("sha256")]
        for one in theirs:
            one["sha256"] = None
            one["revoked"] = _now()
        if theirs:
            _write_people(root, people)
            return theirs[-1]
    known = ", ".join(dict.fromkeys(one["name"] for one in people if one.get("sha256")))
    raise NotFoundError(
        f"{name!r} has no token", hint=f"These have: {known}" if known else "Nobody has one"
    )


def list_people(root: Path) -> list[dict[str, Any]]:
    """Return the records of all tokens of all people, revoked ones too.

    Raises
    ------
    ProjectError
        ``people.json`` cannot be understood.
    """
    file = _people_file(root)
    if not file.is_file():
        return []
    try:
        people = read_json(file)["people"]
        if not all(isinstance(one["name"], str) for one in people):
            raise TypeError("a name is no text")
    except (ValueError, KeyError, TypeError) as error:
        raise ProjectError(
            f"{file} cannot be understood ({error})",
            hint="Get it back from a backup, or delete it and invite everybody again",
        ) from None
    return people


class People:
    """Tells whose token it is; sees at once when ``people.json`` changes.

    Parameters
    ----------
    root : Path
        The folder of projects that is served.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._lock = threading.Lock()
        self._state: tuple[Any, list[tuple[bytes, str]]] = (None, [])

    def who(self, token: str) -> str | None:
        """Return the name of the person with that token; None where nobody has it.

        Takes as long for a wrong token as for a right one, whosever it is.
        """
        digest = _digest(token).encode()
        found = None
        for known, name in self._tokens():
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _tokens(self) -> list[tuple[bytes, str]]:
        try:
            status = os.stat(_people_file(self.root))
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        except FileNotFoundError:
            return []
        with self._lock:
            if self._state[0] != stamp:
                known = list_people(self.root)
                tokens = [(p["sha256"].encode(), p["name"]) for p in known if p.get("sha256")]
                self._state = (stamp, tokens)
            return self._state[1]


def invitation(
    name: str,
    token: str,
    *,
    address: str = "127.0.0.1",
    port: int,
    tls: bool = False,
    pin: str | None = None,
) -> dict[str, Any]:
    """Return what an invitation holds.

    Parameters
    ----------
    address, port
        Where the person's computer reaches the service.
    tls : bool
    pin : str, optional
        sha256 of the certificate, needed with `tls`: nobody else vouches for it.

    Raises
    ------
    InputError
        With TLS the pin is missing, or is no sha256.
    """
    if tls and not re.fullmatch(r"[0-9a-f]{64}", pin or ""):
        raise InputError(f"{pin!r} is no pin", hint="Give the sha256 of the certificate")
    return {
        "opsef": 1,
        "address": address,
        "port": port,
        "tls": tls,
        "pin": pin if tls else None,
        "name": name,
        "token": token,
    }


def known_address(root: Path) -> dict[str, Any] | None:
    """Return where the service of a folder listens, or listened last; None if it never did."""
    file = Path(root) / ".opsef" / "service.json"
    return read_json(file) if file.is_file() else None


def write_invitation(folder: Path, value: dict[str, Any]) -> Path:
    """Write ``NAME.opsef``, which only its owner can read, and return its path."""
    file = Path(folder) / f"{checked_name(value['name'])}.opsef"
    write_private(file, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    return file


def write_private(path: Path, text: str) -> None:
    """Write text atomically to a file that only its owner can read, from the first byte on."""
    with atomic_path(path) as partial:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(partial, flags, 0o600), "w", encoding="utf-8", newline="\n") as file:
            file.write(text)


def _people_file(root: Path) -> Path:
    return Path(root) / ".opsef" / "people.json"


def _write_people(root: Path, people: list[dict[str, Any]]) -> None:
    text = json.dumps({"opsef": 1, "people": people}, indent=1, ensure_ascii=False)
    write_private(_people_file(root), text + "\n")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _same(name: str, other: str) -> bool:
    return unicodedata.normalize("NFC", name).strip().casefold() == other.casefold()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
