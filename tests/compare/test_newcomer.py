"""One more variant is scored by those that are there as if it were one of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsef_bridge.compare import image_support, score, support
from opsef_bridge.compare.newcomer import hold_vote, newcomer_score, newcomer_support
from opsef_bridge.errors import InputError
from opsef_bridge.measure.overlap import label_runs

SHAPE = (40, 40)
FILE = Path(__file__).parents[2] / "opsef_bridge" / "compare" / "agreement_constants.json"
CONSTANTS = json.loads(FILE.read_text("utf-8"))


def blobs(rng: np.random.Generator, jitter: int = 2) -> np.ndarray:
    """Return squares on a grid, each a little elsewhere, some left out."""
    labels = np.zeros(SHAPE, np.int32)
    for number, (y, x) in enumerate(np.ndindex(3, 3), start=1):
        top, left = np.array([y, x]) * 13 + 2 + rng.integers(0, jitter + 1, 2)
        if rng.random() < 0.8:
            labels[top : top + 8, left : left + 8] = number
    return labels


def variants(seed: int, families: list[str], images: int = 2) -> list[list[np.ndarray | None]]:
    rng = np.random.default_rng(seed)
    made: list[list[np.ndarray | None]] = []
    for _ in range(images):
        row: list[np.ndarray | None] = [blobs(rng) for _ in families]
        if rng.random() < 0.5:
            row[rng.integers(len(row))] = None
        if len(row) > 1 and rng.random() < 0.5:
            row[0] = row[-1]
        made.append(row)
    return made


FAMILIES = st.lists(st.sampled_from("abc"), min_size=1, max_size=13)
SEEDS = st.integers(0, 10**6)


@given(FAMILIES, st.sampled_from("abcd"), SEEDS)
@settings(deadline=None, max_examples=40)
def test_objects_are_supported_as_those_of_one_more_variant(families, family, seed):
    labels = variants(seed, families)
    new = [one[-1] for one in variants(seed + 1, ["x"])]
    if seed % 2:
        new[0] = labels[0][0]  # a twin of a voter, or failed with it
    voters = hold_vote(labels, families)
    for ballot, row, one in zip(voters.ballots, labels, new, strict=True):
        runs = None if one is None else label_runs(one)
        others, own, matched = newcomer_support(ballot, voters.names, runs, family)
        more = image_support([*row, one], [*families, family])
        np.testing.assert_allclose(others, more.others[-1], atol=1e-6)
        np.testing.assert_allclose(own, more.own[-1], atol=1e-6)
        np.testing.assert_array_equal(matched, more.matched[:, -1, :-1])


@given(FAMILIES, st.sampled_from("abcd"), SEEDS)
@settings(deadline=None, max_examples=40)
def test_the_score_is_that_of_one_more_variant_without_its_votes(families, family, seed):
    labels = variants(seed, families)
    new = [one[-1] for one in variants(seed + 1, ["x"])]
    got = newcomer_score(hold_vote(labels, families), new, family)
    every = [*families, family]
    more = [[*row, one] for row, one in zip(labels, new, strict=True)]
    table = score([image_support(row, every) for row in more], every)
    last = table.iloc[-1]
    assert got["objects"] == last["objects"]
    assert got["plain_mean"] == pytest.approx(last["plain_mean"])
    assert got["plain_mean_07"] == pytest.approx(last["plain_mean_07"])
    if last["method"] == "plain":
        assert got["agreement"] == got["plain_mean"]
        return
    # The one figure that the newcomer's votes could change is the largest sum of supports.
    q = sum(support(row, every)[-1]["q"].sum() for row in more)
    sums = np.zeros(len(families))
    # Without the newcomer: the same voters with one that has failed everywhere.
    for row in labels:
        image = image_support(row, families)
        values = image.own if last["method"] == "one-family" else image.others
        sums += [_q(one, last["method"] == "one-family") for one in values]
    truth = CONSTANTS["truth_factor"] * max(q, sums.max())
    expected = 2 * q / (got["objects"] + truth) if got["objects"] else 0
    assert got["agreement"] == pytest.approx(expected)


def _q(values: np.ndarray, alone: bool) -> float:
    """Sum of supports, from the constants as they are kept."""
    c = CONSTANTS["one_family" if alone else "expected_f1"]
    share, _, best, mean = values.astype(float).T
    logit = c["intercept"] + c["share"] * share + c.get("best", 0) * best + c.get("mean", 0) * mean
    return float((1 / (1 + np.exp(-logit))).sum())


def test_a_variant_that_is_there_gets_what_it_has():
    families = [*("a" * 4), *("b" * 4), *("c" * 4)]
    labels = variants(3, families)
    table = score([image_support(row, families) for row in labels], families)
    voters = hold_vote(labels, families)
    for number, family in enumerate(families):
        got = newcomer_score(voters, [row[number] for row in labels], family)
        assert got["agreement"] == pytest.approx(table["agreement"][number])
        assert got["agreement_07"] == pytest.approx(table["agreement_07"][number])


def test_trials_do_not_vote():
    """A hundred equal trials change nothing of what any of them gets."""
    families = [*("a" * 5), *("b" * 5)]
    labels = variants(5, families)
    voters = hold_vote(labels, families)
    trial = [row[0] for row in variants(9, ["a"])]
    scores = [newcomer_score(voters, trial, "a") for _ in range(3)]
    assert scores[0] == scores[1] == scores[2]


def test_nothing_found_is_nothing():
    families = [*("a" * 6), *("b" * 6)]
    voters = hold_vote(variants(1, families), families)
    for nothing in (np.zeros(SHAPE, int), None):
        score = newcomer_score(voters, [nothing, nothing], "a")
        assert (score["agreement"], score["objects"]) == (0, 0)


def test_bad_input_is_refused():
    families = ["a", "b"]
    labels = variants(2, families)
    voters = hold_vote(labels, families)
    with pytest.raises(InputError, match="labels of 1 images, the voters have 2"):
        newcomer_score(voters, [np.zeros(SHAPE, int)], "a")
    with pytest.raises(InputError, match="shape"):
        newcomer_score(voters, [np.zeros((3, 3), int)] * 2, "a")
    with pytest.raises(InputError, match="no image"):
        hold_vote([], families)
    with pytest.raises(InputError, match="have 2 families"):
        hold_vote([[np.zeros(SHAPE, int)]], families)
