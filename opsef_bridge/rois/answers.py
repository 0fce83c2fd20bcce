"""Answers: what a person said of single places that she was asked about.

A question shows one outline of a variant. The answer is that it is right, that the right
one is another (which the person drew), or that nothing is there. Answers are kept in
``truth/<image>.answers.json`` with the pixels themselves, so they outlive the run that was
asked about. A later answer on the same place replaces the earlier, which stays in the file.

`vouched` puts them together with the truth of revisions (`opsef_bridge.rois.truth`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.errors import InputError, NotFoundError, ProjectError
from opsef_bridge.files import patiently, read_json, write_json
from opsef_bridge.project import Project
from opsef_bridge.rois.places import Answer, Vouched, fold_answers, same_place, says_the_same
from opsef_bridge.rois.truth import Truth, read_truth

__all__ = [
    "Answer",
    "Vouched",
    "add_answer",
    "fold_answers",
    "list_answers",
    "read_answers",
    "vouched",
]

PATIENCE = 10.0
"""Seconds to wait for others who answer about the same image."""


def vouched(project: Project, image: str) -> Vouched | None:
    """Return what a person vouches for of an image, whether by revisions or by answers.

    Returns
    -------
    Vouched or None
        None where nothing is vouched for.

    Raises
    ------
    NotFoundError
        That cannot be the id of an image.
    ProjectError
        A record cannot be understood, or answers and truth are of images of other shapes.
    """
    shape, answers = read_answers(project, image)
    _check_image(project, image)
    truth: Truth | None = None
    if project.truth_file(image).is_file():
        truth = read_truth(project, image)
        if answers and truth.labels.shape != shape:
            raise _other_shape(project.answers_file(image), shape, truth.labels.shape)
    if truth is None:
        return fold_answers(answers, shape) if answers else None
    return fold_answers(answers, truth.labels.shape, truth.labels, truth.known)


def add_answer(
    project: Project, image: str, answer: Answer, shape: tuple[int, ...]
) -> list[Answer]:
    """Record an answer; an earlier one on the same place is marked as replaced.

    The same place is the same outline, or one that shares half of the union with what an
    earlier answer shows or draws. Two objects of which the one outline is the union both
    stand. What stands already is not recorded again.

    Parameters
    ----------
    project : Project
    image : str
        Id.
    answer : Answer
    shape : tuple of int
        Of the whole image, ([Z,] Y, X).

    Returns
    -------
    list of Answer
        All answers of the image, oldest first.

    Raises
    ------
    NotFoundError
        There is no such image.
    InputError
        Nobody answers, the answer has no pixel or pixels outside of the image, or something
        is drawn where nothing should be, or the reverse.
    ProjectError
        The record cannot be understood, or is of an image of another shape.
    LockedError
        Others add to it for more than ten seconds.
    """
    project.image(image)
    answer = _checked(answer, shape)
    file = project.answers_file(image)
    with patiently(project.truth_folder / f".{image}.answers.lock", PATIENCE):
        known, before = read_answers(project, image)
        if before and known != tuple(shape):
            raise _other_shape(file, known, tuple(shape))
        _check_image(project, image)
        if any(not old.replaced and says_the_same(answer, old) for old in before):
            return before
        kept = [
            replace(old, replaced=True) if not old.replaced and same_place(answer, old) else old
            for old in before
        ]
        answers = [*kept, answer]
        told = [one.to_json() for one in answers]
        made = {"image": image, "shape": list(shape), "of": _is_of(project, image)}
        write_json(file, made | {"answers": told})
    return answers


def read_answers(project: Project, image: str) -> tuple[tuple[int, ...], list[Answer]]:
    """Return the shape of the whole image and all answers, oldest first; () without any.

    Raises
    ------
    NotFoundError
        That cannot be the id of an image.
    ProjectError
        The record cannot be understood.
    """
    try:
        file = project.answers_file(image)
    except ValueError as error:
        raise NotFoundError(str(error)) from None
    return _read(file) if file.is_file() else ((), [])


def list_answers(project: Project) -> list[dict[str, Any]]:
    """Return of each image that has answers how many there are of each kind.

    Returns
    -------
    list of dict
        ``image``, ``answers`` (that stand), ``right``, ``drawn``, ``nothing``, ``replaced``
        and ``by``, the authors.
    """
    found = []
    for file in sorted(project.truth_folder.glob("*.answers.json")):
        _, answers = _read(file)
        standing = [one for one in answers if not one.replaced]
        kinds = {k: sum(a.answer == k for a in standing) for k in ("right", "drawn", "nothing")}
        found.append(
            {
                "image": file.name.removesuffix(".answers.json"),
                "answers": len(standing),
                **kinds,
                "replaced": len(answers) - len(standing),
                "by": list(dict.fromkeys(one.author for one in standing)),
            }
        )
    return found


def _checked(answer: Answer, shape: tuple[int, ...]) -> Answer:
    """Return the answer with its time and with pixels in order, or raise InputError."""
    author = answer.author.strip()
    if not author:
        raise InputError("nobody answers", hint="Give the name of the author")
    if (answer.answer == "drawn") != (answer.drawn is not None):
        raise InputError(
            "nothing is drawn" if answer.drawn is None else f"{answer.answer!r} draws an object",
            hint="Give the right object with the answer `drawn`, and with no other",
        )
    size = math.prod(shape)
    for name, pixels in (("outline", answer.outline), ("drawn object", answer.drawn)):
        if pixels is None:
            continue
        if not len(pixels) or pixels.min() < 0 or pixels.max() >= size:
            raise InputError(
                f"the {name} has {len(pixels)} pixels, not all in an image of shape {shape}",
                hint="Check that it is of this image",
            )
    return replace(
        answer,
        author=author,
        outline=np.unique(answer.outline),
        drawn=None if answer.drawn is None else np.unique(answer.drawn),
        at=answer.at or datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _read(file: Path) -> tuple[tuple[int, ...], list[Answer]]:
    try:
        record = read_json(file)
        shape = tuple(int(side) for side in record["shape"])
        answers = [Answer.from_json(value) for value in record["answers"]]
        for one in answers:
            for pixels in (one.outline, one.drawn):
                if pixels is not None and not (len(pixels) and pixels[-1] < math.prod(shape)):
                    raise ValueError("an outline has no pixel, or some outside of the image")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProjectError(
            f"{file} cannot be understood ({error})",
            hint="Correct it, or move it away and answer the questions again: opsef truth ask",
        ) from None
    return shape, answers


def _is_of(project: Project, image: str) -> dict[str, str]:
    """Return what decides which pixels of which file the places of an image are."""
    entry = project.image(image)
    return {"sha256": entry.sha256, "part": entry.region.text, "projection": entry.projection}


def _check_image(project: Project, image: str) -> None:
    """Refuse answers to another part of the file, or to another file of that name.

    Records of earlier versions do not say.
    """
    file = project.answers_file(image)
    told = read_json(file).get("of") if file.is_file() else None
    now = _is_of(project, image)
    if told is not None and told != now:
        changed = [name for name in now if told.get(name) != now[name]]
        name = changed[0]
        was = f"of {name} {told.get(name) or 'none'!r}, which is {now[name] or 'none'!r} now"
        what = "of another file than lies there now" if name == "sha256" else was
        raise ProjectError(
            f"{file} is {what}",
            hint="Segment the same part of it again (crop in images/index.csv), or move the file "
            "away and answer the questions again",
        )


def _other_shape(file: Path, shape: tuple[int, ...], now: tuple[int, ...]) -> ProjectError:
    return ProjectError(
        f"{file} is of an image of shape {shape}, which is of shape {now} now",
        hint="Segment the same part of it again (crop in images/index.csv), or move the file "
        "away and answer the questions again",
    )
