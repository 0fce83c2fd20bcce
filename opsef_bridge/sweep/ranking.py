"""The ranking of a run in words and figures: ``runs/<run>/ranking.json``.

``variants.csv`` holds the order; this file holds what to think of it, per group: how it was
made, what ties with the first, how sure the first place is, and the first choice for each
size of objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.compare.appearance import Pictures
from opsef_bridge.compare.confidence import first_places_by_images, score_intervals
from opsef_bridge.compare.sizes import size_bins
from opsef_bridge.compare.votes import SILENT
from opsef_bridge.compare.vouched import combined, first_places
from opsef_bridge.compare.words import (
    APART,
    Confidence,
    Ranked,
    SizeBin,
    count_of,
    plain_first,
    ranking_words,
    ties,
    working,
)
from opsef_bridge.files import read_json
from opsef_bridge.project import Run, read_csv
from opsef_bridge.sweep.evidence import Evidence
from opsef_bridge.sweep.planned import Variant

__all__ = [
    "STALE",
    "ranked_table",
    "ranking_file",
    "read_ranking",
    "stale_words",
    "told_of_group",
    "words_of_run",
]

DRAWS, SEED = 200, 0
"""Of the bootstrap that says how sure the first place is."""

STALE = "Comparison stacks and report.html still show"
"""How the sentence begins that says that they were not written again."""

FEWEST_IMAGES = 2
"""To draw images anew there must be several."""


def ranking_file(run: Run) -> Path:
    """Return where the ranking of a run is told."""
    return run.root / "ranking.json"


def read_ranking(run: Run) -> dict[str, dict[str, Any]]:
    """Return what `told_of_group` told of each group; nothing where an older version ranked."""
    file = ranking_file(run)
    return read_json(file)["groups"] if file.is_file() else {}


def words_of_run(run: Run) -> dict[str, list[str]]:
    """Return by group what a person must know of the ranking; nothing before it is ranked."""
    told = read_ranking(run)
    rows = read_csv(run.variants_file) if run.variants_file.is_file() else []
    groups = dict.fromkeys(row["group"] for row in rows)
    return {
        group: told[group]["words"]
        if group in told
        else ranking_words([Ranked.from_row(row) for row in rows if row["group"] == group])
        for group in groups
    }


def ranked_table(evidence: Evidence) -> list[dict[str, Any]]:
    """Return of each variant, in the given order, what `score` tells, with score and rank.

    The score is the agreement, combined with what is vouched for
    (`opsef_bridge.compare.vouched.combined`). By it the variants are ranked, then by
    agreement, by plain mean, and by the given order.
    """
    table = evidence.ranking[0]
    agreement = table["agreement"].to_numpy()
    scores = combined(agreement, evidence.judged, asked=evidence.asked)
    # Sums in another order differ in the last bits; those must not decide the rank.
    keys = [table["plain_mean"].to_numpy(), agreement, scores]
    order = np.lexsort((np.arange(len(table)), *(-key.round(6) for key in keys)))
    rank = np.empty(len(table), np.int64)
    rank[order] = np.arange(1, len(table) + 1)
    return table.assign(score=scores, rank=rank).to_dict("records")


def told_of_group(
    rows: Sequence[Mapping[str, Any]],
    variants: Sequence[Variant],
    evidence: Evidence,
    method: str,
    shown: Sequence[str] = (),
    pictures: Pictures | None = None,
) -> dict[str, Any]:
    """Return what ``ranking.json`` says of a group.

    Parameters
    ----------
    rows : sequence of mapping
        The group's rows of ``variants.csv``, first rank first.
    variants : sequence of Variant
        In the order of `evidence`.
    evidence : Evidence
    method : str
        As `opsef_bridge.compare.score` names it.
    shown : sequence of str
        Ids in the order in which stacks and report show them, where that is an earlier one.
    pictures : Pictures, optional
        How the images look at the objects of the first variant.

    Returns
    -------
    dict
        ``method``; ``families`` and ``variants`` that have labels, and ``images`` that any
        has labels of; ``answers``, how many vouched objects and places count; ``first`` with
        its ``agreement`` and ``score``, ``ties`` with it; ``plain_first``, the first by the
        plain mean, where it is another; ``confidence``: share of first places of those with
        5 % or more, when ``by`` (images, answers) are drawn anew; ``intervals``: by variant the
        two ends between which its score lies in 90 % of the cases when the images are drawn
        anew, empty where there is one image; ``sizes``: by image the
        median diameter of its objects in pixels; ``bins`` of one octave of it, each with the
        range in pixels, its images, first choice, its agreement and score; ``pictures``, how
        they look at the objects of the first ``variant`` (`opsef_bridge.compare.appearance`),
        each with the figures by which it is ``unlike`` what the models learned from, whether
        that is known of these models (``judged``), and ``warned``, whether it is a third of the
        images or more; ``shown``, the order in which comparison stacks and report show the
        variants; ``words``, for a person. What there is none of is None or empty.
    """
    captions = {variant.id: variant.caption() for variant in variants}
    entries = [Ranked.from_row(row, captions[row["id"]]) for row in rows]
    found = any(entry.objects for entry in working(entries))
    first = working(entries)[0] if found else None
    other = plain_first(entries) if found else None
    confidence = _confidence(evidence, variants) if found else None
    bins = _bins(evidence, variants) if found else []
    order = [entry.id for entry in entries]
    words = ranking_words(
        entries, answers=evidence.answers, confidence=confidence, bins=bins, pictures=pictures
    )
    words += [*evidence.troubles, *_of_answers(evidence.answers, order, shown)]
    return {
        "method": method,
        "families": len({entry.family for entry in working(entries)} - {SILENT}),
        "variants": len(working(entries)),
        "images": len(evidence.images),
        "answers": evidence.answers,
        "first": first.id if first else None,
        "agreement": first.agreement if first else None,
        "score": first.score if first else None,
        "ties": ties(entries) if found else [],
        "plain_first": other.id if other else None,
        "confidence": confidence and {
            "by": confidence.by, "count": confidence.count, "shares": dict(confidence.shares)
        },
        "intervals": _intervals(evidence, variants) if found else {},
        "sizes": {
            image: round(size, 1)
            for image, size in zip(evidence.images, evidence.sizes, strict=True)
        },
        "bins": [
            {
                "low": round(one.low, 1), "high": round(one.high, 1), "images": list(one.images),
                "first": one.first, "agreement": round(one.agreement, 6),
                "score": round(one.score, 6),
            }
            for one in bins
        ],
        "pictures": _pictures(pictures),
        "shown": list(shown or order),
        "words": words,
    }  # fmt: skip


def _confidence(evidence: Evidence, variants: Sequence[Variant]) -> Confidence | None:
    """How sure the first place is: by the answers, or, without any, by the images."""
    how: dict[str, int] = {"draws": DRAWS, "seed": SEED}
    if evidence.answers:
        agreement = evidence.ranking[0]["agreement"].to_numpy()
        by, count = "answers", evidence.answers
        shares = first_places(agreement, evidence.judged, asked=evidence.asked, **how)
    elif len(evidence.images) >= FEWEST_IMAGES:
        by, count = "images", len(evidence.images)
        shares = first_places_by_images(evidence.supports, evidence.families, **how)
    else:
        return None
    leading = [v for v in np.argsort(-shares, kind="stable") if shares[v] >= APART]
    return Confidence({variants[v].id: round(float(shares[v]), 3) for v in leading}, by, count)


def _intervals(evidence: Evidence, variants: Sequence[Variant]) -> dict[str, list[float]]:
    """By variant where its score would lie if the images had been others."""
    if len(evidence.images) < FEWEST_IMAGES:
        return {}
    tallies = [evidence.tallies.get(image, (None, False))[0] for image in evidence.images]
    ends = score_intervals(
        evidence.supports, evidence.families, tallies, asked=evidence.asked, draws=DRAWS, seed=SEED
    )
    return {
        variant.id: [round(float(end), 6) for end in pair]
        for variant, pair in zip(variants, ends, strict=True)
    }


def _pictures(pictures: Pictures | None) -> dict[str, Any] | None:
    if pictures is None:
        return None
    return {
        "variant": pictures.variant,
        "judged": pictures.judged,
        "warned": pictures.cautioned,
        "images": {
            image: {
                "contrast": round(look.contrast, 3),
                "edge": round(look.edge, 3),
                "objects": look.objects,
                "unlike": list(pictures.unlike.get(image, ())),
            }
            for image, look in pictures.looks.items()
        },
    }


def _bins(evidence: Evidence, variants: Sequence[Variant]) -> list[SizeBin]:
    """The images parted by the size of their objects, and the first choice for each part."""
    numbers = size_bins(evidence.sizes)
    found = []
    for number in range(max(numbers, default=-1) + 1):
        images = [i for i, n in zip(evidence.images, numbers, strict=True) if n == number]
        sizes = [s for s, n in zip(evidence.sizes, numbers, strict=True) if n == number]
        table = ranked_table(evidence.of(images))
        first = min(range(len(table)), key=lambda v: table[v]["rank"])
        found.append(
            SizeBin(
                tuple(images), round(min(sizes), 1), round(max(sizes), 1), variants[first].id,
                float(table[first]["agreement"]), float(table[first]["score"]),
            )
        )  # fmt: skip
    return found


def _of_answers(answers: int, order: Sequence[str], shown: Sequence[str]) -> list[str]:
    said = []
    if answers:
        said.append(
            f"The order is by score: agreement together with {count_of(answers, 'answer')} of "
            "a person."
        )
    return [*said, *stale_words(order, shown)]


def stale_words(order: Sequence[str], shown: Sequence[str]) -> list[str]:
    """Return what is to be said where stacks and report show another order than the ranking."""
    if not shown or list(shown) == list(order):
        return []
    return [
        f"{STALE} the order from before, with {shown[0]} "
        "first; variants.csv has the new one. `opsef compare` brings them in line."
    ]
