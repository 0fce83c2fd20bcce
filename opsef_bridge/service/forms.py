"""The form of a request: its file, read and checked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.files import read_json
from opsef_bridge.project import Project
from opsef_bridge.service.kinds import KINDS
from opsef_bridge.service.states import Job

__all__ = [
    "Request",
    "checked",
    "entries_of",
    "files_of",
    "is_id",
    "new_id",
    "odd_names",
    "order_of",
    "read_request",
    "seen_of",
]

FORMAT = 1
LARGEST = 1_000_000
"""Bytes of a request without what is attached."""


@dataclass(frozen=True)
class Request:
    """What somebody asks for.

    Attributes
    ----------
    id, kind, author, at : str
        The name of its file; one of `KINDS`; who asks; when, ISO 8601.
    parameters : Mapping
        Those of its kind.
    attachment : str or None
        Name of the file that came along.
    sha256 : str or None
        Of that file; None where whoever wrote the request does not say. It outlives the file.
    """

    id: str
    kind: str
    author: str
    at: str
    parameters: Mapping[str, Any]
    attachment: str | None
    sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds."""
        told = {"opsef": FORMAT, **vars(self)}
        if self.sha256 is None:
            del told["sha256"]
        return told


def new_id() -> str:
    """Return an id that no request has: ``q20260131-235959-1a2b3c4d``."""
    return f"q{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def is_id(id: object) -> bool:
    """Tell whether a request can have this id: up to 64 letters, digits, ``-`` and ``_``."""
    return isinstance(id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", id) is not None


def checked(request: Request) -> BaseModel:
    """Return the parameters of a request; raise InputError where anything in it is wrong."""
    if not is_id(request.id):
        raise InputError(
            f"{request.id!r} is no id of a request",
            hint="Use up to 64 letters, digits, '-' and '_'",
        )
    kind = KINDS.get(request.kind)
    if kind is None:
        raise InputError(
            f"{request.kind!r} is no kind of request", hint=f"Choose of {', '.join(KINDS)}"
        )
    author = request.author.strip()
    if not author or len(author) > 100 or not author.isprintable():
        raise InputError(
            f"{request.author[:100]!r} is no name of an author", hint="Give a name, one line"
        )
    names = [f"{request.id}{suffix}" for suffix in kind.suffixes]
    if request.attachment is not None and request.attachment not in names:
        raise InputError(
            f"{request.attachment!r} cannot come along with {request.kind}",
            hint=f"Name the attachment {' or '.join(names)}" if names else "Send it without",
        )
    try:
        return kind.model.model_validate(request.parameters)
    except ValidationError as error:
        raise _wrong_parameters(request.kind, error) from None


def _wrong_parameters(kind: str, error: ValidationError) -> InputError:
    known = ", ".join(KINDS[kind].model.model_fields) or "none"
    first, *others = error.errors(include_url=False)
    place = ".".join(map(str, first["loc"]))
    what = f"{kind}: {place!r}: {first['msg']}" if place else f"{kind}: {first['msg']}"
    more = f" (and {len(others)} more)" if others else ""
    return InputError(f"{what}{more}", hint=f"Parameters of {kind}: {known}")


def read_request(project: Project, id: str) -> tuple[Request, Path | None]:
    """Return a request of the inbox, or one that is over, and the file that came along.

    Raises
    ------
    NotFoundError
        There is none.
    InputError
        It cannot be understood.
    """
    if not is_id(id):
        raise NotFoundError(f"there is no request {id!r}", hint="Send it first")
    file = project.request_file(id)
    with contextlib.suppress(NotFoundError):  # also where it is moved away right now
        return _read(file)
    return _read(project.inbox_folder / "done" / file.name)


def _read(file: Path) -> tuple[Request, Path | None]:
    try:
        if file.is_symlink() or file.stat().st_size > LARGEST:
            raise ValueError("it is a link, or too large")
        content = read_json(file)
        request = _of_json(content)
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no request {file.stem!r}", hint="It may never have arrived: send it again"
        ) from None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{file.name} is no request that can be understood ({error})",
            hint="Send it again, or remove the file",
        ) from None
    if request.id != file.stem:
        raise InputError(
            f"{file.name} says that it is the request {request.id!r}",
            hint="The file must have the name of its id: send it again",
        )
    checked(request)
    return request, None if request.attachment is None else file.with_name(request.attachment)


def _of_json(content: Any) -> Request:
    """Read the content of a file; raises ValueError, TypeError or AttributeError."""
    content = dict(content.items())
    version = content.pop("opsef", None)
    if version != FORMAT:
        raise ValueError(f"it is of format {version!r}, this program reads {FORMAT}")
    request = Request(**({"attachment": None} | content))
    for name in ("id", "kind", "author", "at"):
        if not isinstance(getattr(request, name), str):
            raise TypeError(f"{name} is no text")
    if not isinstance(request.parameters, dict):
        raise TypeError("parameters is no object")
    for name in ("attachment", "sha256"):
        if not isinstance(getattr(request, name), str | None):
            raise TypeError(f"{name} is no text")
    return request


def seen_of(project: Project, id: str) -> list[int]:
    """Return times and sizes of the files of a request, to see when they change."""
    found = []
    for file in files_of(project, id):
        with contextlib.suppress(OSError):
            facts = file.lstat()
            found += [facts.st_mtime_ns, facts.st_size]
    return found


def files_of(project: Project, id: str) -> list[Path]:
    """Return where the files of a request lie while it waits, the JSON last."""
    suffixes = {suffix for kind in KINDS.values() for suffix in kind.suffixes}
    return [project.inbox_folder / f"{id}{suffix}" for suffix in (*sorted(suffixes), ".json")]


def entries_of(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the JSON files of a folder whose names are ids."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".json") and is_id(entry.name[:-5]):
                yield entry


def odd_names(folder: Path) -> dict[str, str]:
    """Return the JSON files of a folder whose names are no ids, each by an id for its state.

    Names that begin with a dot are of files that are still being written.
    """
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.endswith(".json") and e.name[0] != "."]
        odd = [name for name in names if not is_id(name[:-5])]
        return {f"odd-{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}": name for name in odd}
    return {}


def order_of(job: Job) -> tuple[datetime, str]:
    """Return by what waiting requests are sorted: when they were made."""
    try:
        at = datetime.fromisoformat(job.at)
    except ValueError:
        at = datetime.now(UTC)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)), job.id
