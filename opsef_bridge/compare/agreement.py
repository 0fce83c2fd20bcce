"""Order variants by how well they agree with the other model families, without truth.

The method is *expected F1 from calibrated object support*. Every object of a variant is
looked up in every other variant; how many families hold it too, and how exactly, gives
the object a support `q` between 0 and 1. The supports of a variant add up to the F1 it
would have if each object were right with probability `q`. In the voice of a family its
leading variants count most: variants of a wrong scale would vote for the wrong objects.
``docs/ranking.md`` has the experiment, against the plain mean and other alternatives. The
method is blind where all models are blind together. So it is an order to look in: it is
called agreement, never accuracy.

Images are compared one at a time (`opsef_bridge.compare.votes.compare_images`); `ranked`
then weighs the voices and adds up the images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opsef_bridge.compare.votes import (
    BEST,
    LEVELS,
    MEAN,
    SHARE,
    SHARE_07,
    Compared,
    ImageSupport,
    Labels,
    compare_images,
    image_support,
    support_of,
    voting,
)
from opsef_bridge.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["agreement", "pairwise_f1", "ranked", "score", "support", "voices"]


def agreement(labels: Sequence[Labels], families: Sequence[str]) -> pd.DataFrame:
    """Score and rank variants by their agreement, over all images.

    Parameters
    ----------
    labels : sequence over images of sequences over variants of ndarray of int
        Label images, 2D or 3D; the variants of one image share its shape. None where a
        variant failed: it has found nothing there, and no vote on what others found.
    families : sequence of str
        Family (engine + weights, whatever the recipe) of each variant. A family has one
        voice, however many variants it has.

    Returns
    -------
    DataFrame
        One row per variant in the given order, see `score`.

    Raises
    ------
    InputError
        Counts that do not fit, different shapes within an image, or no label images.

    Examples
    --------
    >>> import numpy as np
    >>> one, two = np.array([[1, 1, 0, 2, 2]]), np.array([[1, 1, 0, 0, 0]])
    >>> agreement([[one, one, two]], ["unet", "stardist", "watershed"])[["plain_mean", "rank"]]
       plain_mean  rank
    0    0.833333     1
    1    0.833333     2
    2    0.666667     3
    """
    return ranked([compare_images(variants) for variants in labels], families)[0]


def ranked(
    images: Sequence[Compared], families: Sequence[str]
) -> tuple[pd.DataFrame, list[ImageSupport]]:
    """Rank variants, the leading ones of each family as its voice.

    Parameters
    ----------
    images : sequence of Compared
    families : sequence of str
        Family of each variant.

    Returns
    -------
    table : DataFrame
        See `score`.
    supports : list of ImageSupport
        Of each image, by the voices that the table was made with.

    Notes
    -----
    First every variant has the same say in its family. Then it is ``exp((a - b) / 0.03)``
    by its agreement `a` and the highest `b` of its family, twice over. A family keeps one
    voice, however many variants it has. With one family or under ten variants all keep the
    same say.
    """
    supports = [support_of(image, families) for image in images]
    table = score(supports, families)
    for _ in range(_constants()["rounds"]):
        if not len(table) or table["method"][0] != "expected-f1":
            break
        weights = voices(table["agreement"].to_numpy(), families)
        supports = [support_of(image, families, weights) for image in images]
        table = score(supports, families)
    return table, supports


def voices(agreement: np.ndarray, families: Sequence[str]) -> np.ndarray:
    """Return the say of each variant in its family, 1 for the highest agreement in it.

    Examples
    --------
    >>> voices(np.array([0.9, 0.87, 0.5]), ["unet", "unet", "stardist"]).round(3)
    array([1.   , 0.368, 1.   ])
    """
    agreement = np.asarray(agreement, float)
    leads: dict[str, float] = {}
    for name, value in zip(families, agreement, strict=True):
        leads[name] = max(leads.get(name, 0.0), float(value))
    lead = np.array([leads[name] for name in families], float)
    return np.exp((agreement - lead) / _constants()["lead"])


def score(supports: Sequence[ImageSupport], families: Sequence[str]) -> pd.DataFrame:
    """Rank variants from the supports of their images.

    Parameters
    ----------
    supports : sequence of ImageSupport
        One per image, all with the same variants.
    families : sequence of str
        Family of each variant.

    Returns
    -------
    DataFrame
        One row per variant in the given order, with the columns

        - agreement, agreement_07 : ``2 Q / (n + 1.02 max Q)`` with `n` objects and the sum
          `Q` of their supports, counting partners from IoU 0.5, or from 0.7; 0 for a
          variant without objects. Not an estimate of F1
        - plain_mean, plain_mean_07 : F1 against the other variants with objects pooled
          over the images, mean within each family, then over the families
        - objects : number of objects in all images
        - families : number of families that have labels at all, and a voice
        - rank : 1 is first; by agreement, then plain_mean (six digits), then the given order
        - tie : equal to another variant in three digits of agreement
        - method : ``expected-f1``; ``one-family``, where support can only come from the
          own family; ``plain``, under ten variants, where agreement is plain_mean

    Notes
    -----
    A variant that failed on an image misses all objects there. It does not vote: its
    image is left out where others are compared with it. Variants of the family
    `opsef_bridge.compare.votes.SILENT` are judged and do not judge: the figures of the
    others are what they are without them.
    """
    import pandas as pd

    for image in supports:
        if len(image.present) != len(families):
            raise InputError(
                f"{len(image.present)} variants have {len(families)} families",
                hint="Give one family for each variant",
            )
    present = _present(supports, len(families)) & voting(families)
    voices = len({name for name, there in zip(families, present, strict=True) if there})
    objects = _counts(supports, len(families)).sum(axis=0)
    plain = [_family_mean(pairwise_f1(supports, t), families, present) for t in LEVELS]
    method = "expected-f1" if voices > 1 else "one-family"
    if np.count_nonzero(present) < _constants()["fewest_variants"]:
        method, (ef, ef_07) = "plain", plain
    else:
        ef, ef_07 = (
            _expected_f1(supports, objects, families, voices <= 1, s) for s in (SHARE, SHARE_07)
        )
    # Sums in another order differ in the last bits; those must not decide the rank.
    order = np.lexsort((np.arange(len(ef)), -plain[0].round(6), -ef.round(6)))
    rank = np.empty(len(ef), np.int64)
    rank[order] = np.arange(1, len(ef) + 1)
    digits = pd.Series(ef.round(3))
    return pd.DataFrame(
        {
            "agreement": ef,
            "agreement_07": ef_07,
            "plain_mean": plain[0],
            "plain_mean_07": plain[1],
            "objects": objects,
            "families": voices,
            "rank": rank,
            "tie": digits.duplicated(keep=False),
            "method": method,
        }
    )


def support(labels: Labels, families: Sequence[str]) -> list[pd.DataFrame]:
    """Support of every object of one image: the map of what to review first.

    Parameters
    ----------
    labels, families
        As in `image_support`.

    Returns
    -------
    list of DataFrame
        Per variant one row per object, ascending by label: ``label``; over the other
        families, ``s``, the mean share of variants with a partner of IoU 0.5 or more,
        ``x``, the mean of the largest and ``u``, of the mean IoU; and ``q``, the
        calibrated support in (0, 1). With one family: over its other variants.
    """
    import pandas as pd

    image = image_support(labels, families)
    present = image.present & voting(families)
    alone = len({name for name, there in zip(families, present, strict=True) if there}) <= 1
    tables = []
    for numbers, values in zip(image.labels, image.own if alone else image.others, strict=True):
        values = values.astype(float)
        s, x, u = values[:, SHARE], values[:, BEST], values[:, MEAN]
        q = _calibrated(values, alone, SHARE)
        tables.append(pd.DataFrame({"label": numbers, "s": s, "x": x, "u": u, "q": q}))
    return tables


def pairwise_f1(supports: Sequence[ImageSupport], threshold: float = 0.5) -> np.ndarray:
    """F1 of each variant (row) against each other (column), objects pooled over images.

    Images on which the column's variant failed are left out of it. 0 where neither has
    an object; the diagonal is 1 for variants with objects.

    Raises
    ------
    InputError
        `threshold` is not one of those that `image_support` counts, 0.5 and 0.7.
    """
    if threshold not in LEVELS:
        raise InputError(f"no pairs were matched at IoU {threshold}", hint=f"Choose from {LEVELS}")
    if not supports:
        return np.zeros((0, 0))
    matched = sum(image.matched[LEVELS.index(threshold)] for image in supports)
    counts = _counts(supports, len(supports[0].present))
    voting = np.array([image.present for image in supports])
    objects = counts.T @ voting + counts.sum(axis=0)
    return np.divide(2 * matched, objects, out=np.zeros(objects.shape), where=objects > 0)


@cache
def _constants() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("agreement_constants.json").read_text("utf-8"))


def _present(supports: Sequence[ImageSupport], variants: int) -> np.ndarray:
    """Variants that have labels of any image."""
    return np.any([np.zeros(variants, bool), *(image.present for image in supports)], axis=0)


def _counts(supports: Sequence[ImageSupport], variants: int) -> np.ndarray:
    """Objects per image and variant."""
    counts = [[len(numbers) for numbers in image.labels] for image in supports]
    return np.array(counts, np.int64).reshape(len(supports), variants)


def _calibrated(values: np.ndarray, alone: bool, share: int) -> np.ndarray:
    """Support q of objects from the four sums of `ImageSupport`."""
    c = _constants()["one_family" if alone else "expected_f1"]
    logit = c["intercept"] + c["share"] * values[:, share]
    if not alone:
        logit = logit + c["best"] * values[:, BEST] + c["mean"] * values[:, MEAN]
    return 1 / (1 + np.exp(-logit))


def _expected_f1(
    supports: Sequence[ImageSupport],
    objects: np.ndarray,
    families: Sequence[str],
    alone: bool,
    share: int,
) -> np.ndarray:
    right = np.zeros(len(objects))
    for image in supports:
        values = image.own if alone else image.others
        right += [_calibrated(v.astype(float), alone, share).sum() for v in values]
    return _f1_of(right, objects, families)


def _f1_of(right: np.ndarray, objects: np.ndarray, families: Sequence[str]) -> np.ndarray:
    """Expected F1 from the summed supports of the variants and their objects."""
    votes = voting(families)
    most = right[votes].max(initial=0)
    # How many objects there are is what the voters say; one without a voice may hold more.
    truth = np.where(votes, most, np.maximum(most, right))
    expected = objects + _constants()["truth_factor"] * truth
    return np.divide(2 * right, expected, out=np.zeros(len(objects)), where=objects > 0)


def _family_mean(f1: np.ndarray, families: Sequence[str], present: np.ndarray) -> np.ndarray:
    """Mean over families of the mean F1 against their members, the variant left out."""
    votes = present & voting(families)
    members = {
        name: [v for v, other in enumerate(families) if other == name and votes[v]]
        for name in sorted(set(families))
    }
    result = np.zeros(len(families))
    for variant in range(len(families)):
        others = [[w for w in group if w != variant] for group in members.values()]
        means = [f1[variant, group].mean() for group in others if group]
        result[variant] = np.mean(means) if means else 0.0
    return result
