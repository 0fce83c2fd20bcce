"""Rankings on the projects: fits, regrets, questions, errors that support finds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from projects import Draw, true_f1
from tables import Table

from opsef_bridge.compare.agreement import ImageSupport, ranked
from opsef_bridge.compare.groups import ObjectGroups
from opsef_bridge.compare.questions import next_questions
from opsef_bridge.compare.vouched import IOUS, Tally, combined

__all__ = [
    "Constants",
    "errors_found",
    "first_of",
    "fit",
    "intervals",
    "mean_interval",
    "questions",
    "regrets",
    "shipped",
    "sizes",
]

Constants = dict[str, Any]

MODULE = sys.modules["opsef_bridge.compare.agreement"]
"""The function of that name hides it in the package."""

SAMPLE = 300
"""Objects of an image that a fit takes at most, so that a crowded one does not decide it."""

FITTED = ("full", "random", "inflated", "twofam")
"""Modes that the constants are fitted on; the others are made to be hard."""


def shipped() -> Constants:
    """Return the constants that the program comes with."""
    return MODULE._constants()


def _ranked(draw: Draw, constants: Constants) -> tuple[pd.DataFrame, list[ImageSupport]]:
    with patch.object(MODULE, "_constants", lambda: constants):
        return ranked([image.compared(draw.variants) for image in draw.images], draw.families)


def fit(draws: Sequence[Draw], groups: Sequence[str], start: Constants) -> Constants:
    """Fit the support of objects on projects of some groups, each group the same weight.

    The voices are those of `start`; fitting again with the result changes them a little, so
    it is done twice. A logistic regression of "its IoU with the truth is 0.5 or more" on the
    three sums of support.
    """
    random = np.random.default_rng(0)
    constants = start
    for _ in range(2):
        parts: dict[str, list[np.ndarray]] = {group: [] for group in groups}
        for draw in draws:
            if draw.group not in groups or draw.mode not in FITTED:
                continue
            _, supports = _ranked(draw, constants)
            for image, support in zip(draw.images, supports, strict=True):
                values = np.concatenate(support.others)[:, [0, 2, 3]].astype(float)
                right = image.truth_iou[image.rows(draw.variants)] >= 0.5
                chosen = random.choice(len(right), min(SAMPLE, len(right)), replace=False)
                parts[draw.group].append(np.column_stack([values, right])[chosen])
        joined = [np.concatenate(parts[group]) for group in groups]
        weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in joined])
        table = np.concatenate(joined)
        found = _logistic(table[:, :-1], table[:, -1], weights * len(table) / weights.sum())
        names = ("intercept", "share", "best", "mean")
        fitted = {name: round(float(v), 2) for name, v in zip(names, found, strict=True)}
        constants = {**start, "expected_f1": fitted}
    return constants


def _logistic(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Maximum likelihood by Newton's steps."""
    x = np.column_stack([np.ones(len(x)), x])
    found = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ found, -30, 30)))
        step = np.linalg.solve(
            (x * (weights * p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(len(found)),
            x.T @ (weights * (y - p)),
        )
        found += step
        if np.abs(step).max() < 1e-8:
            break
    return found


def regrets(draw: Draw, constants: Constants, seed: int = 0) -> dict[str, Any]:
    """Return what each ranking loses against the truly best variant of a project.

    ``equal`` is expected F1 without leading variants: each has the same say in its family.
    ``best`` is the F1 of the truly best one, ``first`` the number of the first variant, ``ef``
    its agreement, ``f1`` its F1.
    """
    table, _ = _ranked(draw, constants)
    equal, _ = _ranked(draw, {**constants, "rounds": 0})
    truth = {end: true_f1(draw.images, draw.variants, t) for end, t in (("", 0.5), ("_07", 0.7))}
    orders = {
        "random": np.random.default_rng(seed).random(len(table)),
        "plain": _plain(draw),
        "family": table["plain_mean"].to_numpy(),
        "equal": equal["agreement"].to_numpy(),
        "agreement": table["agreement"].to_numpy(),
    }
    found: dict[str, Any] = {"mode": draw.mode, "group": draw.group, "images": len(draw.images)}
    for name, values in orders.items():
        first = int(np.argmax(np.round(values, 6)))
        found |= {name + end: f1.max() - f1[first] for end, f1 in truth.items()}
    first = int(np.argmax(np.round(orders["agreement"], 6)))
    found |= {"best": truth[""].max(), "f1": truth[""][first], "ef": table["agreement"].max()}
    return {**found, "first": int(draw.variants[first])}


def _plain(draw: Draw) -> np.ndarray:
    """Mean pairwise F1 over all other variants, whatever their family."""
    variants = draw.variants
    matched = sum(image.matched[0][np.ix_(variants, variants)] for image in draw.images)
    counts = sum(np.diff(image.start)[variants] for image in draw.images)
    f1 = 2 * matched / np.maximum(counts[:, None] + counts[None, :], 1)
    np.fill_diagonal(f1, 0)
    return f1.sum(axis=1) / max(len(variants) - 1, 1)


def mean_interval(
    more: np.ndarray, random: np.random.Generator | None = None, draws: int = 4000
) -> list[float]:
    """Mean of paired differences, and the 95 % interval of a bootstrap over projects.

    Parameters
    ----------
    more : (N,) ndarray of float
        Of each project how much more the one has than the other.
    random : Generator, optional
        Where the draws come from; each call draws the same ones by default.
    """
    random = np.random.default_rng(0) if random is None else random
    means = more[random.integers(0, len(more), (draws, len(more)))].mean(axis=1)
    return [round(float(v), 4) for v in (more.mean(), *np.percentile(means, (2.5, 97.5)))]


def intervals(
    frame: pd.DataFrame, names: Sequence[str], against: str, draws: int = 4000
) -> dict[str, list[float]]:
    """Mean loss of rankings more than `against`, with the 95 % interval of a paired bootstrap."""
    random = np.random.default_rng(0)
    lost = {name: (frame[name] - frame[against]).to_numpy() for name in names}
    return {name: mean_interval(more, random, draws) for name, more in lost.items()}


def questions(draw: Draw, constants: Constants, steps: int, seed: int) -> dict[int, float]:
    """Return the regret after 0, 1, 2, ... answers of somebody who knows the truth.

    One of the five places that come first is asked about. Who answers draws the true object
    if the outline has one, an IoU of 0.1 or more, and else says that nothing is there.
    """
    random = np.random.default_rng(seed)
    table, supports = _ranked(draw, constants)
    truth = true_f1(draw.images, draw.variants)
    agreement = table["agreement"].to_numpy()
    groups = [
        _groups(image, draw.variants, _q(support, constants))
        for image, support in zip(draw.images, supports, strict=True)
    ]
    answered: list[set[int]] = [set() for _ in groups]
    told: set[tuple[int, int]] = set()
    hits, false, empty = [], [], 0
    scores, found = agreement, {0: _loss(truth, agreement)}
    for step in range(1, steps + 1):
        asked = next_questions([g for g, _, _ in groups], scores, answered, 5)
        if asked:
            one = asked[int(random.integers(len(asked)))]
            answered[one.image].add(one.group)
            group, iou, partner = groups[one.image]
            if iou[one.group] < 0.1:
                empty += 1
                false.append((group.member[one.group] > 0).astype(float))
            elif (one.image, int(partner[one.group])) not in told:
                told.add((one.image, int(partner[one.group])))
                best = draw.images[one.image].found[partner[one.group], draw.variants]
                hits.append(np.mean([best >= np.float32(level) for level in IOUS], axis=0))
            nothing = np.zeros((0, len(truth)))
            tally = Tally(np.array(hits) if hits else nothing,
                          np.array(false) if false else nothing, empty)  # fmt: skip
            scores = combined(agreement, [tally], asked=True)
        found[step] = _loss(truth, scores)
    return found


def _loss(truth: np.ndarray, scores: np.ndarray) -> float:
    return float(truth.max() - truth[int(np.argmax(np.round(scores, 6)))])


def _q(support: ImageSupport, constants: Constants) -> np.ndarray:
    values = np.concatenate(support.others).astype(float)
    with patch.object(MODULE, "_constants", lambda: constants):
        return MODULE._calibrated(values, False, 0)


def _groups(
    image: Table, variants: np.ndarray, q: np.ndarray
) -> tuple[ObjectGroups, np.ndarray, np.ndarray]:
    """Groups as `object_groups` makes them, by the tables; and the truth of their heads."""
    rows = image.rows(variants)
    place = np.full(len(image.owner), -1)
    place[rows] = np.arange(len(rows))
    best, partner = image.best[rows][:, variants], image.partner[rows][:, variants]
    near = (best >= np.float32(0.5)) & (image.owner[rows][:, None] != variants[None, :])
    other = np.where(near, place[image.start[variants][None, :] + partner], -1)
    group = np.full(len(rows), -1)
    heads = []
    for head in np.argsort(-q, kind="stable"):
        if group[head] < 0:
            group[head] = len(heads)
            mates = other[head][other[head] >= 0]
            group[mates[group[mates] < 0]] = len(heads)
            heads.append(head)
    first = np.array(heads, int)
    member = np.zeros((len(first), len(variants)), np.int64)
    member[group, np.searchsorted(variants, image.owner[rows])] = 1
    numbers = np.zeros(len(first), np.int64)
    made = ObjectGroups(numbers, numbers, q[first], numbers, np.zeros((len(first), 4)), member)
    source = rows[first]
    return made, image.truth_iou[source], image.truth_partner[source]


def errors_found(draw: Draw, constants: Constants, seed: int = 0) -> dict[str, float]:
    """Return how well low support finds the wrong objects of the first variant.

    ``auroc`` of wrong (IoU with the truth below 0.5) against right ones, and the F1 that is
    gained where a tenth of its objects is corrected: the least supported, or any. A wrong
    object that is corrected goes, and the true objects that it lies on come.
    """
    table, supports = _ranked(draw, constants)
    first = int(np.argmax(table["agreement"].to_numpy().round(6)))
    q, wrong, image_of, partner = [], [], [], []
    for number, (image, support) in enumerate(zip(draw.images, supports, strict=True)):
        variant = int(draw.variants[first])
        part = slice(image.start[variant], image.start[variant + 1])
        with patch.object(MODULE, "_constants", lambda: constants):
            q.append(MODULE._calibrated(support.others[first].astype(float), False, 0))
        wrong.append(image.truth_iou[part] < 0.5)
        partner.append(image.truth_partner[part])
        image_of.append(np.full(part.stop - part.start, number))
    flat = [np.concatenate(many) for many in (q, wrong, partner, image_of)]
    tenth = max(1, round(0.1 * len(flat[0])))
    least = np.argsort(flat[0], kind="stable")[:tenth]
    random = np.random.default_rng(seed)
    any_ = [random.choice(len(flat[0]), tenth, replace=False) for _ in range(20)]
    before = _corrected(draw, first, flat, np.zeros(0, int))
    return {
        "auroc": _auroc(-flat[0], flat[1]),
        "least": _corrected(draw, first, flat, least) - before,
        "any": float(np.mean([_corrected(draw, first, flat, one) for one in any_])) - before,
    }


def _corrected(draw: Draw, first: int, flat: Sequence[np.ndarray], chosen: np.ndarray) -> float:
    _, wrong, partner, image_of = flat
    variant = draw.variants[first]
    hits = [image.found[:, variant] >= 0.5 for image in draw.images]
    objects = len(wrong)
    for one in chosen[wrong[chosen]]:
        objects -= 1
        if partner[one] >= 0 and not hits[image_of[one]][partner[one]]:
            hits[image_of[one]][partner[one]] = True
            objects += 1
    truth = sum(len(hit) for hit in hits)
    return 2 * sum(int(hit.sum()) for hit in hits) / (objects + truth)


def _auroc(score_: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a wrong object has the higher score; nan where all are right or wrong."""
    count = np.count_nonzero(positive)
    if count in (0, len(positive)):
        return float("nan")
    ranks = pd.Series(score_).rank().to_numpy()
    below = ranks[positive].sum() - count * (count + 1) / 2
    return float(below / (count * (len(positive) - count)))


def sizes(draw: Draw, constants: Constants) -> list[float]:
    """Return the size of the objects of each image in px, found without truth."""
    _, supports = _ranked(draw, constants)
    found = []
    for image, support in zip(draw.images, supports, strict=True):
        area = image.area[image.rows(draw.variants)]
        weight = _q(support, constants) ** 2
        order = np.argsort(area, kind="stable")
        summed = np.cumsum(weight[order])
        middle = area[order][np.searchsorted(summed, summed[-1] / 2)]
        found.append(float(2 * np.sqrt(middle / np.pi)))
    return found


def first_of(draw: Draw, constants: Constants) -> tuple[int, float]:
    """Return the variant that is ranked first, and its agreement."""
    table, _ = _ranked(draw, constants)
    agreement = table["agreement"].to_numpy()
    first = int(np.argmax(agreement.round(6)))
    return int(draw.variants[first]), float(agreement[first])
