"""Blind editing: the files say a token in place of the variant until the edit is saved."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from typing import Any

from opsef_bridge.errors import NotFoundError
from opsef_bridge.files import lock, read_json, write_json
from opsef_bridge.project import Project
from opsef_bridge.rois.revisions import Base

__all__ = ["draw", "hide", "reveal"]


def draw(choices: Sequence[Any]) -> Any:
    """Return one of `choices` by the system's own randomness, so that nobody can foretell it."""
    return random.SystemRandom().choice(choices)


def hide(project: Project, image: str, base: Base) -> str:
    """Keep what the objects of an image are made from, and return a token for it."""
    token = secrets.token_hex(8)
    with lock(project.blind_file.with_suffix(".lock")):
        known = read_json(project.blind_file) if project.blind_file.is_file() else {}
        write_json(project.blind_file, known | {token: {"image": image, "base": base.to_json()}})
    return token


def reveal(project: Project, token: str) -> Base:
    """Return what a token stands for.

    Raises
    ------
    NotFoundError
        The project does not know it.
    """
    known = read_json(project.blind_file) if project.blind_file.is_file() else {}
    if token not in known:
        raise NotFoundError(
            f"this project knows no blind token {token!r}",
            hint="The file is of another project, or name what it was made from: --base",
        )
    return Base.from_json(known[token]["base"])
