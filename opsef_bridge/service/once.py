"""What is done once, however often it is asked for by the same id, and is no job.

Jobs have their requests (`opsef_bridge.service.requests`). Making a project and taking an image
are no jobs; what was answered is kept here, so that a client which never got the answer can ask
again by the same id.

::

    .opsef/once/<id>.json       projects that were made
    inbox/once/<id>.json        images that were sent: {"asked", "status", "answer"}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from opsef_bridge.files import key_of, patiently, read_json, write_json
from opsef_bridge.project import Project
from opsef_bridge.service.ledger import ONCE, is_job
from opsef_bridge.service.requests import another_has

__all__ = ["once", "once_in"]

PATIENCE = 60.0
"""Seconds to wait for the first of two that ask for the same at once."""

Answer = tuple[int, dict[str, Any]]


def once(
    folder: Path, id: str | None, author: str, asked: Mapping[str, Any], do: Callable[[], Answer]
) -> Answer:
    """Do something, or return what was answered when it was asked for before.

    Parameters
    ----------
    folder : Path
        Where the records lie.
    id : str or None
        Of the request; None: it is done, and nothing is kept.
    author : str
        Who asks: the id of one person stands for nothing that another asks for.
    asked : Mapping
        What is asked for, as JSON can hold it; files by their sha256.
    do : callable
        Does it and returns the status of HTTP and the answer. It is called again where it
        failed, or was killed, the first time.

    Raises
    ------
    InputError
        Something else was asked for by this id, or by somebody else.
    LockedError
        Another still does it.
    """
    if id is None:
        return do()
    file = folder / f"{id}.json"
    key = key_of(author, asked)
    held = file.with_suffix(".lock")
    with patiently(held, PATIENCE):
        record = read_json(file) if file.is_file() else None
        if record is not None and record["asked"] != key:
            raise another_has(id)
        if record is not None and "answer" in record:
            return record["status"], record["answer"]
        write_json(file, {"asked": key})
        status, answer = do()
        write_json(file, {"asked": key, "status": status, "answer": answer})
        held.unlink(missing_ok=True)  # who waits for it finds the answer
    return status, answer


def once_in(
    project: Project,
    id: str | None,
    author: str,
    asked: Mapping[str, Any],
    do: Callable[[], Answer],
) -> Answer:
    """Do the same as `once` with the ids of a project, which those of jobs are among."""
    if id is not None and is_job(project, id):
        raise another_has(id)
    return once(project.inbox_folder / ONCE, id, author, asked, do)
