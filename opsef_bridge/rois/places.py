"""What a person said of single places, on arrays alone.

Pixels are flat positions in the whole image, ascending, so that an answer means the same
whatever part of the image a run worked on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.measure.changes import present

__all__ = [
    "Answer",
    "Vouched",
    "What",
    "answered_places",
    "fold_answers",
    "iou_of",
    "pixels_of",
    "runs_text",
    "same_place",
    "says_the_same",
]

What = Literal["right", "drawn", "nothing"]

SAME = 0.5
"""IoU from which two answers are about the same place."""

LONGEST = 2**31
"""Pixels of the longest run: a slip in a number must not ask for all memory."""

LEFT = 0.5
"""Share of its pixels that an answer needs free of later answers and of truth to count."""


@dataclass(frozen=True)
class Answer:
    """An answer of a person about one outline.

    Parameters
    ----------
    answer : str
        ``right``: the outline is an object. ``drawn``: the object is another one, `drawn`.
        ``nothing``: there is no object in the outline.
    run, variant : str
        Whose outline was shown.
    label : int
        Its label there.
    author : str
    outline : (N,) ndarray of int64
        Pixels of what was shown: flat positions in the whole image, ascending.
    drawn : (M,) ndarray of int64 or None
        Pixels of what the person drew; only with ``drawn``.
    asked : bool
        Whether the place was chosen because the variants disagree there, rather than by the
        person.
    at : str
        When, in UTC; by default now.
    replaced : bool
        Whether a later answer on the same place counts instead.
    """

    answer: What
    run: str
    variant: str
    label: int
    author: str
    outline: NDArray[np.int64]
    drawn: NDArray[np.int64] | None = None
    asked: bool = True
    at: str = ""
    replaced: bool = False

    @property
    def object(self) -> NDArray[np.int64] | None:
        """Pixels of the object that the answer vouches for; None where nothing is."""
        if self.answer == "nothing":
            return None
        return self.outline if self.answer == "right" else self.drawn

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the file; pixels as `runs_text`."""
        return {
            "answer": self.answer,
            "run": self.run,
            "variant": self.variant,
            "label": self.label,
            "author": self.author,
            "at": self.at,
            "asked": self.asked,
            "replaced": self.replaced,
            "outline": runs_text(self.outline),
            "drawn": None if self.drawn is None else runs_text(self.drawn),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Answer:
        """Read an entry of the file; ValueError or KeyError where it is damaged."""
        if value["answer"] not in ("right", "drawn", "nothing"):
            raise ValueError(f"an answer is {value['answer']!r}")
        drawn = pixels_of(value["drawn"]) if value["answer"] == "drawn" else None
        read = {**value, "outline": pixels_of(value["outline"]), "drawn": drawn}
        try:
            return cls(**read)
        except TypeError as error:
            raise ValueError(str(error)) from None


class Vouched(NamedTuple):
    """What is vouched for of an image, by revisions and by answers.

    Attributes
    ----------
    labels : ([Z,] Y, X) int32 ndarray
        The vouched objects of the whole image. Those of truth have the ids of truth.
    known : ([Z,] Y, X) bool ndarray
        Where everything is vouched for: that of truth, and what is empty by an answer.
    empty : int
        How many answers say that nothing is there, and count.
    asked : bool
        Whether more answers to questions count than other vouched objects and answers.
    answers : int
        How many answers count.
    """

    labels: NDArray[np.int32]
    known: NDArray[np.bool_]
    empty: int
    asked: bool
    answers: int


def fold_answers(
    answers: Sequence[Answer],
    shape: tuple[int, ...],
    truth: NDArray[np.int32] | None = None,
    known: NDArray[np.bool_] | None = None,
) -> Vouched | None:
    """Put answers beside truth.

    Truth wins where both speak of a pixel, and a later answer over an earlier one. An answer
    of which less than half is left does not count: something else is said of its place.

    Parameters
    ----------
    answers : sequence of Answer
        In the order in which they were given; replaced ones do not count.
    shape : tuple of int
        Of the whole image, ([Z,] Y, X).
    truth, known : ndarray, optional
        Labels and mask of `opsef_bridge.rois.truth.Truth`.

    Returns
    -------
    Vouched or None
        None where nothing is vouched for.

    Examples
    --------
    >>> right = Answer("right", "run-0001", "v0003", 7, "me", np.array([1, 2]))
    >>> nothing = Answer("nothing", "run-0001", "v0001", 2, "me", np.array([4, 5]))
    >>> found = fold_answers([right, nothing], (1, 6))
    >>> found.labels.tolist(), found.known.astype(int).tolist(), found.empty
    ([[0, 1, 1, 0, 0, 0]], [[0, 0, 0, 0, 1, 1]], 1)
    """
    labels = np.zeros(shape, np.int32) if truth is None else np.array(truth, np.int32, order="C")
    empty_at = np.zeros(shape, bool) if known is None else np.array(known, bool, order="C")
    taken = ((labels != 0) | empty_at).reshape(-1)
    of_truth = len(present(labels))
    number, empty, counted = int(labels.max(initial=0)), 0, []
    for answer in reversed(answers):
        pixels = answer.outline if answer.object is None else answer.object
        free = pixels[~taken[pixels]]
        if answer.replaced or len(free) < LEFT * len(pixels):
            continue
        taken[free] = True
        counted.append(answer)
        if answer.object is None:
            empty_at.reshape(-1)[free] = True
            empty += 1
        else:
            number += 1
            labels.reshape(-1)[free] = number
    if not counted and not of_truth and not empty_at.any():
        return None
    asked = sum(answer.asked for answer in counted)
    others = of_truth + len(counted) - asked
    return Vouched(labels, empty_at, empty, asked > others, len(counted))


def answered_places(answers: Sequence[Answer]) -> list[NDArray[np.int64]]:
    """Return the pixels of all outlines that standing answers show or draw."""
    return [
        pixels
        for one in answers
        if not one.replaced
        for pixels in (one.outline, one.drawn)
        if pixels is not None
    ]


def runs_text(pixels: NDArray[np.int64]) -> str:
    """Write ascending flat positions as runs: first position and length of each.

    Examples
    --------
    >>> runs_text(np.array([3, 4, 5, 9]))
    '3:3 9:1'
    >>> pixels_of("3:3 9:1").tolist()
    [3, 4, 5, 9]
    """
    first = np.flatnonzero(np.diff(pixels, prepend=-2) != 1)
    lengths = np.diff(first, append=len(pixels))
    return " ".join(f"{pixels[i]}:{n}" for i, n in zip(first, lengths, strict=True))


def pixels_of(text: str) -> NDArray[np.int64]:
    """Read what `runs_text` wrote; ValueError where it is something else."""
    if not isinstance(text, str):
        raise ValueError(f"the pixels are {text!r}")
    runs = [tuple(map(int, run.split(":"))) for run in text.split()]
    if any(len(run) != 2 or run[0] < 0 or not 0 < run[1] <= LONGEST for run in runs):
        raise ValueError("pixels are written as start:length, one after the other")
    parts = [np.arange(start, start + length) for start, length in runs]
    pixels = np.concatenate([np.zeros(0, np.int64), *parts])
    if (np.diff(pixels) < 1).any():
        raise ValueError("the runs of pixels are not in order")
    return pixels


def says_the_same(new: Answer, old: Answer) -> bool:
    """Tell whether an answer says nothing that another of the same author does not say."""
    return (
        _same_question(new, old)
        and (new.answer, new.author, new.asked) == (old.answer, old.author, old.asked)
        and np.array_equal(new.outline, old.outline)
        and (new.drawn is None or np.array_equal(new.drawn, old.drawn))
    )


def same_place(new: Answer, old: Answer) -> bool:
    """Tell whether two answers are about the same place, of which only one can count.

    They are about the same outline, or what the one shows or draws shares half of the union
    with what the other does. But two objects without a common pixel can both be right, where
    the outline that was shown is the union of both.
    """
    if _same_question(new, old):
        return True
    mine, theirs = new.object, old.object
    if mine is not None and theirs is not None and not len(np.intersect1d(mine, theirs)):
        return False
    return any(iou_of(a, b) >= SAME for a in answered_places([new]) for b in answered_places([old]))


def _same_question(new: Answer, old: Answer) -> bool:
    """Where `runs/` was deleted, the same ids come again, and mean something else."""
    same = (new.run, new.variant, new.label) == (old.run, old.variant, old.label)
    return same and iou_of(new.outline, old.outline) >= SAME


def iou_of(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Return the IoU of two sets of pixels, ascending and not empty."""
    if a[-1] < b[0] or b[-1] < a[0]:
        return 0.0
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)
