"""How sure places and scores are: the ranking again, on images drawn anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opsef_bridge.compare.agreement import _calibrated, _constants, _counts, _f1_of, _family_mean
from opsef_bridge.compare.votes import SHARE, ImageSupport, voting
from opsef_bridge.compare.vouched import Tally, combined

__all__ = ["INTERVAL", "first_places_by_images", "object_supports", "score_intervals"]

INTERVAL = 0.9
"""Share of the draws that lie within an interval."""


def object_supports(image: ImageSupport, families: Sequence[str]) -> list[np.ndarray]:
    """Return the support ``q`` of the objects of each variant of one image.

    Returns
    -------
    list of (n_v,) ndarray of float64
        As the column ``q`` of `opsef_bridge.compare.support`.
    """
    alone = _voices(families, image.present) <= 1
    values = image.own if alone else image.others
    return [_calibrated(v.astype(float), alone, SHARE) for v in values]


def first_places_by_images(
    supports: Sequence[ImageSupport], families: Sequence[str], *, draws: int = 200, seed: int = 0
) -> np.ndarray:
    """How often each variant comes first by agreement if the images had been others.

    Images are drawn with replacement, as many as there are, and ranked as
    `opsef_bridge.compare.score` ranks them; variants of equal agreement share the place.

    Parameters
    ----------
    supports : sequence of ImageSupport
        One per image.
    families : sequence of str
        Family of each variant.
    draws : int
    seed : int

    Returns
    -------
    (V,) ndarray of float64
        Shares, which add up to 1; all 0 where there is no image.

    Notes
    -----
    Sums of each image are made once, so a draw costs no look at single objects. The say of each
    variant in its family stays what all images gave it.
    """
    variants, count = len(families), len(supports)
    if not count:
        return np.zeros(variants)
    sums = _Sums(supports, families)
    random = np.random.default_rng(seed)
    shares = np.zeros(variants)
    for _ in range(draws):
        drawn = np.bincount(random.integers(0, count, count), minlength=count)
        found = sums.agreement(drawn).round(6)
        first = found == found.max(initial=0)
        shares += first / max(np.count_nonzero(first), 1)
    return shares / draws


def score_intervals(
    supports: Sequence[ImageSupport],
    families: Sequence[str],
    tallies: Sequence[Tally | None] = (),
    *,
    asked: bool = False,
    draws: int = 200,
    seed: int = 0,
) -> np.ndarray:
    """Between what the score of each variant would lie if the images had been others.

    Percentile bootstrap: images are drawn with replacement, as many as there are, each with
    what is vouched for of it, and the variants are scored again (Efron 1979).

    Parameters
    ----------
    supports : sequence of ImageSupport
        One per image.
    families : sequence of str
        Family of each variant.
    tallies : sequence of Tally or None
        Of each image what is vouched for, None where nothing is; nothing at all by default.
    asked : bool
        As in `opsef_bridge.compare.vouched.combined`.
    draws : int
    seed : int

    Returns
    -------
    (V, 2) ndarray of float64
        Lower and upper end, between which lie 90 % of the draws; all 0 where there is no image.

    Raises
    ------
    ValueError
        There are tallies, but not as many as images.

    Notes
    -----
    It says how much the choice of the images matters, and nothing of errors that all models
    share. With few images it is too narrow: three can be drawn in ten ways only.
    """
    variants, count = len(families), len(supports)
    if not count:
        return np.zeros((variants, 2))
    judged = list(tallies) or [None] * count
    if len(judged) != count:
        raise ValueError(f"{len(judged)} tallies of {count} images")
    sums = _Sums(supports, families)
    random = np.random.default_rng(seed)
    scores = np.empty((draws, variants))
    for draw in range(draws):
        images = random.integers(0, count, count)
        told = [one for i in images if (one := judged[i]) is not None]
        found = sums.agreement(np.bincount(images, minlength=count))
        scores[draw] = combined(found, told, asked=asked)
    tail = (1 - INTERVAL) / 2
    return np.quantile(scores, [tail, 1 - tail], axis=0).T


class _Sums:
    """What `score` adds up over images, for each image."""

    def __init__(self, supports: Sequence[ImageSupport], families: Sequence[str]) -> None:
        self.families = families
        self.present = np.array([image.present for image in supports])
        self.objects = _counts(supports, len(families))
        self.matched = np.array([image.matched[0] for image in supports])
        self.right = {
            alone: np.array([_summed(image, alone) for image in supports])
            for alone in (False, True)
        }

    def agreement(self, drawn: np.ndarray) -> np.ndarray:
        """Agreement of the variants on images that are each there so many times."""
        present = self.present[drawn > 0].any(axis=0) & voting(self.families)
        objects = drawn @ self.objects
        if np.count_nonzero(present) < _constants()["fewest_variants"]:
            return _family_mean(self._pairwise(drawn, objects), self.families, present)
        right = drawn @ self.right[_voices(self.families, present) <= 1]
        return _f1_of(right, objects, self.families)

    def _pairwise(self, drawn: np.ndarray, objects: np.ndarray) -> np.ndarray:
        matched = np.tensordot(drawn, self.matched, 1)
        total = (self.objects * drawn[:, None]).T @ self.present + objects
        return np.divide(2 * matched, total, out=np.zeros(total.shape), where=total > 0)


def _summed(image: ImageSupport, alone: bool) -> list[float]:
    values = image.own if alone else image.others
    return [float(_calibrated(v.astype(float), alone, SHARE).sum()) for v in values]


def _voices(families: Sequence[str], present: np.ndarray) -> int:
    votes = present & voting(families)
    return len({name for name, there in zip(families, votes, strict=True) if there})
