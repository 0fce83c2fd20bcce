"""Blind editing: the files say a token in place of the variant until the edit is saved."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from opsef_bridge.errors import NotFoundError
from opsef_bridge.files import lock, read_json, write_json
from opsef_bridge.project import Project
from opsef_bridge.rois.revisions import Base

__all__ = ["draw", "hidden", "new_token", "reveal"]


def draw(choices: Sequence[Any]) -> Any:
    """Return one of `choices` by the system's own randomness, so that nobody can foretell it."""
    return random.SystemRandom().choice(choices)


def new_token() -> str:
    """Return a token that was never given."""
    return secrets.token_hex(8)


def hidden(project: Project, record: Mapping[str, Any], base: Base) -> dict[str, Any]:
    """Return what goes out with objects, with a token in place of what they are made from."""
    token = new_token()
    with lock(project.blind_file.with_suffix(".lock")):
        known = read_json(project.blind_file) if project.blind_file.is_file() else {}
        told = {"image": record["image"], "base": base.to_json()}
        write_json(project.blind_file, known | {token: told})
    kept = ("image", "image_sha256", "source_shape", "calibration")
    return {**{key: record[key] for key in kept}, "blind": token}


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
