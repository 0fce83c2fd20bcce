"""What the variants of one image say of each other's objects: compared once, summed by voices.

The label images of an image are compared with each other once (`compare_images`), in any
process. `support_of` then sums up what the families say of each object; the say of each
variant in its family may change without comparing anything again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from opsef_bridge.errors import InputError
from opsef_bridge.measure.overlap import Runs, best_iou, iou_pairs, label_runs, reaches

__all__ = [
    "BEST",
    "LEVELS",
    "MEAN",
    "SHARE",
    "SHARE_07",
    "SILENT",
    "Compared",
    "ImageSupport",
    "Labels",
    "add_votes",
    "compare_images",
    "distinct_runs",
    "image_support",
    "support_by",
    "support_of",
    "voting",
]

LEVELS = (0.5, 0.7)
SHARE, SHARE_07, BEST, MEAN = range(4)
SILENT = "consensus"
"""Family that is judged by the others and has no voice: it is made of them."""

NOTHING = 1e-12
"""A sum of voices below it is what subtraction leaves of none."""
Labels = Sequence[np.ndarray | None]


@dataclass(frozen=True)
class Compared:
    """All label images of one image compared with each other: what no voice changes.

    Parameters
    ----------
    labels : list of (n_k,) ndarray of int64
        Labels of the objects of each different label image, ascending.
    which : (V,) ndarray of int64
        Which of them each variant is; -1 for one that failed.
    best : list of (n_k, K) ndarray of float32
        Largest IoU of each object with an object of each of the K label images.
    matched : (2, K + 1, K + 1) ndarray of int64
        Matched pairs of each two at IoU 0.5 and 0.7; the last row and column are 0.
    """

    labels: list[np.ndarray]
    which: np.ndarray
    best: list[np.ndarray]
    matched: np.ndarray


@dataclass(frozen=True)
class ImageSupport:
    """What one image says about its variants: small arrays that can be sent and stored.

    Parameters
    ----------
    labels : list of (n_v,) ndarray of int64
        Label of each object of each variant; empty for a variant that failed.
    others, own : list of (n_v, 4) ndarray of float32
        Support of each object by the other families, and by the other variants of its
        own: the share that holds it at IoU 0.5 and at 0.7, the largest and the mean IoU.
    matched : (2, V, V) ndarray of int64
        Matched pairs of each two variants at IoU 0.5 and 0.7.
    present : (V,) ndarray of bool
        Whether the variant has labels of this image.
    """

    labels: list[np.ndarray]
    others: list[np.ndarray]
    own: list[np.ndarray]
    matched: np.ndarray
    present: np.ndarray


def image_support(
    labels: Labels, families: Sequence[str], weights: np.ndarray | None = None
) -> ImageSupport:
    """Compare all variants of one image and sum up what they say of each object.

    Parameters
    ----------
    labels : sequence over variants of ndarray of int, or None
        As in `agreement`, for one image. Equal label images are compared once.
    families : sequence of str
        Family of each variant.
    weights : (V,) ndarray of float, optional
        Say of each variant in its family, `voices`; the same for all by default.

    Returns
    -------
    ImageSupport
        About 40 bytes per object, and 16 per pair of variants.
    """
    if len(labels) != len(families):
        raise _not_as_many(len(labels), families)
    return support_of(compare_images(labels), families, weights)


def compare_images(labels: Labels) -> Compared:
    """Compare all variants of one image with each other.

    Parameters
    ----------
    labels : sequence over variants of ndarray of int, or None
        As in `agreement`, for one image. Equal label images are compared once.

    Returns
    -------
    Compared
        4 bytes for each object and different label image.

    Examples
    --------
    >>> one, two = np.array([[1, 1, 0, 2]]), np.array([[5, 0, 0, 5]])
    >>> compare_images([one, two, one]).best
    [array([[1.        , 0.33333334],
           [1.        , 0.5       ]], dtype=float32), array([[0.5, 1. ]], dtype=float32)]
    """
    distinct, which = distinct_runs(labels)
    best = [np.ones((len(runs), len(distinct)), np.float32) for runs in distinct]
    # One row and column more, of zeros: where the index -1 of a failed variant leads.
    matched = np.zeros((2, len(distinct) + 1, len(distinct) + 1), np.int64)
    for p, a in enumerate(distinct):
        matched[:, p, p] = len(a)
        for q in range(p):
            pairs = iou_pairs(a, distinct[q])
            best[p][:, q], best[q][:, p] = best_a, best_b = best_iou(pairs)
            for level, threshold in enumerate(LEVELS):
                # From 0.5 on, competing pairs form stars of one match each, and a forest
                # has as many trees as it has nodes more than edges.
                nodes = reaches(best_a, threshold).sum() + reaches(best_b, threshold).sum()
                edges = reaches(pairs.iou, threshold).sum()
                matched[level, p, q] = matched[level, q, p] = nodes - edges
    return Compared([runs.labels for runs in distinct], which, best, matched)


def support_of(
    image: Compared, families: Sequence[str], weights: np.ndarray | None = None
) -> ImageSupport:
    """Sum up what the variants of one image say of each object, by their voices.

    Parameters
    ----------
    image : Compared
    families : sequence of str
        Family of each variant.
    weights : (V,) ndarray of float, optional
        Say of each variant in its family, above 0; the same for all by default.

    Notes
    -----
    Variants of the family `SILENT` have no say whatever `weights` are, and no own family to
    support them: their `own` is that of all others.
    """
    which, variants = image.which, len(image.which)
    if variants != len(families):
        raise _not_as_many(variants, families)
    names = sorted(set(families))
    family = np.array([names.index(name) for name in families], int)
    votes = voting(families)
    say = votes * (1.0 if weights is None else np.asarray(weights, float))
    present = which >= 0
    members = np.zeros((len(image.best), len(names)))
    np.add.at(members, (which[present], family[present]), say[present])
    tables = [_votes(best, kind, members) for kind, best in enumerate(image.best)]
    nothing = np.zeros((0, 4), np.float32)
    others, own = [nothing] * variants, [nothing] * variants
    for variant, kind in enumerate(which):
        if kind >= 0:
            others[variant], own[variant] = support_by(
                tables[kind], members, members[kind], family[variant], say[variant]
            )
            if not votes[variant]:
                own[variant] = others[variant]
    numbers = [image.labels[k] if k >= 0 else np.zeros(0, np.int64) for k in which]
    pairs = image.matched[:, which[:, None], which]
    return ImageSupport(numbers, others, own, pairs, present)


def _not_as_many(variants: int, families: Sequence[str]) -> InputError:
    return InputError(f"{variants} variants have {len(families)} families", hint="Give one each")


def voting(families: Sequence[str]) -> np.ndarray:
    """Return which variants have a voice, by their families, as (V,) bool.

    Examples
    --------
    >>> voting(["unet", "consensus"]).tolist()
    [True, False]
    """
    return np.array([name != SILENT for name in families], bool)


def distinct_runs(labels: Labels) -> tuple[list[Runs], np.ndarray]:
    """Return the different label images, and which of them each variant is (-1: none)."""
    distinct: list[Runs] = []
    known: dict[bytes, int] = {}
    which = np.full(len(labels), -1)
    for variant, image in enumerate(labels):
        if image is None:
            continue
        runs = label_runs(image)
        if distinct and runs.shape != distinct[0].shape:
            raise InputError(
                f"variant {variant} has shape {runs.shape}, others {distinct[0].shape}",
                hint="Compare variants of the same image, crop and scale",
            )
        key = blake2b()
        for part in (runs.start, runs.stop, runs.index, runs.labels):
            key.update(part)
        which[variant] = known.setdefault(key.digest(), len(distinct))
        if which[variant] == len(distinct):
            distinct.append(runs)
    return distinct, which


def _votes(best: np.ndarray, kind: int, members: np.ndarray) -> np.ndarray:
    """Sums over the variants of each family, per object of the label image `kind`.

    ``(objects, 4, families)``: the say of variants that hold the object at IoU 0.5, at 0.7,
    its largest and its summed IoU with them, itself left out.
    """
    others = members.copy()
    others[kind] = 0
    table = np.empty((len(best), 4, members.shape[1]))
    table[:, SHARE] = reaches(best, LEVELS[0]) @ others
    table[:, SHARE_07] = reaches(best, LEVELS[1]) @ others
    table[:, MEAN] = best @ others
    for family in range(members.shape[1]):
        table[:, BEST, family] = best[:, others[:, family] > 0].max(axis=1, initial=0)
    return table


def add_votes(table: np.ndarray, best: np.ndarray, members: np.ndarray) -> None:
    """Add the votes of variants with equal labels, `members` of each family."""
    for family in np.flatnonzero(members):
        count = members[family]
        table[:, SHARE, family] += count * reaches(best, LEVELS[0])
        table[:, SHARE_07, family] += count * reaches(best, LEVELS[1])
        table[:, MEAN, family] += count * best
        np.maximum(table[:, BEST, family], best, out=table[:, BEST, family])


def support_by(
    table: np.ndarray, members: np.ndarray, twins: np.ndarray, family: int, say: float = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Support by the other families and by the own, of one variant's objects.

    `twins` sums up the say of the variants of each family with the same labels, the variant
    with its own `say` included.
    """
    twins, voters = np.array(twins, float), members.sum(axis=0, dtype=float)
    twins[family] -= say
    voters[family] -= say
    twins[twins < NOTHING] = 0
    share = table.copy()
    add_votes(share, np.ones(len(table)), twins)
    voting = voters > NOTHING
    share[:, [SHARE, SHARE_07, MEAN]] /= np.where(voting, voters, 1)
    voting[family] = False
    others = share[:, :, voting].mean(axis=2) if voting.any() else np.zeros((len(table), 4))
    return others.astype(np.float32), share[:, :, family].astype(np.float32)
