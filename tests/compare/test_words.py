"""What a ranking says in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opsef_bridge.compare.appearance import Appearance, Pictures, learned
from opsef_bridge.compare.words import (
    Confidence,
    Ranked,
    SizeBin,
    order_note,
    plain_first,
    ranking_words,
    ties,
)


def entry(rank: int, **changes: object) -> Ranked:
    agreement = 0.97 - rank / 100
    made = Ranked(
        f"v{rank:04d}", f"raw | m | t {rank}", f"family{rank % 3}", "ok", 40, agreement,
        0.8 - rank / 100, agreement,
    )  # fmt: skip
    return replace(made, **changes)


def entries(change=lambda e: e) -> list[Ranked]:
    return [change(entry(rank)) for rank in range(1, 13)]


def test_nothing_is_said_where_nothing_is_wrong() -> None:
    assert ranking_words(entries()) == []
    one = SizeBin(("i1", "i2"), 10, 18, "v0001", 0.9, 0.9)
    sure = Confidence({"v0001": 1.0}, "images", 8)
    assert ranking_words(entries(), confidence=sure, bins=[one]) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: replace(e, family="one"), "Order only, 1 family:"),
        (lambda e: replace(e, family="ab"[int(e.id[1:]) % 2]), "Order only, 2 families:"),
        (lambda e: replace(e, agreement=e.agreement - 0.0601), "is 0.90, below 0.90"),
        (lambda e: replace(e, score=0.95), "v0007 and 5 more cannot be told apart"),
        (lambda e: replace(e, plain_mean=int(e.id[1:]) / 20), "by the plain mean v0012 (raw"),
        (lambda e: replace(e, status="failed" if e.id > "v0009" else "ok"), "Only 9 variants"),
        (lambda e: replace(e, objects=0, status="empty"), "No variant found an object"),
        (lambda e: replace(e, objects=0, status="failed"), "No variant found an object"),
    ],
)
def test_each_caution_comes_alone(change, said: str) -> None:
    found = ranking_words(entries(change))
    assert len(found) == 1 and said in found[0], found


def test_ties_are_of_the_score_and_of_working_variants() -> None:
    some = [
        entry(1, score=0.9301), entry(2, score=0.9299), entry(3, score=0.93, status="failed"),
        entry(4, score=0.9291),
    ]  # fmt: skip
    assert ties(some) == ["v0002"]


def test_the_plain_first_is_another_only_where_three_digits_differ() -> None:
    some = [entry(1, plain_mean=0.8), entry(2, plain_mean=0.8004), entry(3, plain_mean=0.7)]
    assert plain_first(some) is None
    some[2] = entry(3, plain_mean=0.801)
    assert plain_first(some).id == "v0003"
    some[2] = entry(3, plain_mean=0.801, status="failed")
    assert plain_first(some) is None
    assert plain_first([]) is None


def test_who_cannot_be_told_apart_yet() -> None:
    doubt = Confidence({"v0002": 0.625, "v0001": 0.37}, "answers", 1)
    (said,) = ranking_words(entries(), answers=1, confidence=doubt)
    assert "cannot be told apart yet: v0002 (62%), v0001 (37%)" in said
    assert "the 1 answer are" not in said and "1 answer" in said


def test_what_ties_is_not_said_twice() -> None:
    tied = entries(lambda e: replace(e, score=0.95) if e.id < "v0003" else e)
    both = Confidence({"v0001": 0.5, "v0002": 0.5}, "images", 4)
    assert len(ranking_words(tied, confidence=both)) == 1
    third = Confidence({"v0001": 0.5, "v0003": 0.3}, "images", 4)
    assert len(ranking_words(tied, confidence=third)) == 2


def test_another_than_the_first_is_nearly_always_first() -> None:
    other = Confidence({"v0002": 0.97}, "images", 4)
    (said,) = ranking_words(entries(), confidence=other)
    assert "v0002 comes first in 97% of the cases when the 4 images are drawn anew" in said


def test_different_sizes() -> None:
    small = SizeBin(("i1",), 9.6, 10.2, "v0003", 0.9, 0.9)
    large = SizeBin(("i2", "i3"), 25.2, 44.9, "v0007", 0.9, 0.9)
    (said,) = ranking_words(entries(), bins=[small, large])
    assert "10 px in 1 image: v0003; 25 to 45 px in 2 images: v0007" in said
    assert "opsef adopt --by-size" in said
    (said,) = ranking_words(entries(), bins=[small, replace(large, first="v0003")])
    assert "same for each" in said and "--by-size" not in said


def test_the_note_counts_families_that_work() -> None:
    rows = [{"family": f, "status": s} for f, s in zip("aabcd", ("ok",) * 3 + ("failed",) * 2,
                                                       strict=True)]  # fmt: skip
    assert order_note(rows) == "order only, 2 families"
    assert order_note([{"family": f, "status": "ok"} for f in "abc"]) == ""


def test_pictures_unlike_what_models_learned_from_are_named() -> None:
    known = frozenset(learned()["families"])
    soft, dark, good = (Appearance(*two, 9) for two in ((2.3, 0.61), (-1.2, 0.2), (2.3, 0.2)))
    mixed = Pictures("v0003", known, {"i1": soft, "i2": dark, "i3": dark, "i4": good})
    (said,) = ranking_words(entries(), pictures=mixed)
    assert said.startswith("3 of 4 images look unlike what the models learned from")
    assert "(contrast -1.20, 2." in said and "is usual; 2 images)" in said
    assert "(0.61 of the diameter, 0.3" in said and "is usual; 1 image)" in said
    assert "v0003" in said
    (one,) = ranking_words(entries(), pictures=replace(mixed, looks={"i1": soft, "i4": good}))
    assert one.startswith("1 of 2 images looks unlike") and "contrast" not in one
    assert ranking_words(entries(), pictures=replace(mixed, looks={"i4": good})) == []
    assert ranking_words(entries(), pictures=replace(mixed, families=frozenset({"mine"}))) == []
