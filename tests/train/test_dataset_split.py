"""Splits: nothing stands on two sides, shares are kept, a seed decides."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsef_bridge.errors import InputError
from opsef_bridge.train.dataset_split import SPLITS, Member, Shares, joined, split_members

SHARES = Shares(0.2, 0.2)


def images(count: int, kind: str = "", objects: int = 10) -> list[Member]:
    return [Member(f"{kind}{n}", (f"image {kind}{n}",), kind, objects) for n in range(count)]


def test_shares_are_kept_and_each_kind_gets_its_own():
    members = images(20, "a") + images(10, "b")
    split, _ = split_members(members, SHARES, 0)
    for kind, wanted in (("a", (12, 4, 4)), ("b", (6, 2, 2))):
        counts = Counter(split[m.name] for m in members if m.kind == kind)
        assert tuple(counts[name] for name in ("train", "val", "test")) == wanted


@pytest.mark.parametrize("each, judged", [(1, 2), (2, 4), (3, 6)])
def test_of_few_images_of_many_kinds_most_are_learned_from(each, judged):
    members = [one for kind in "abcdef" for one in images(each, kind)]
    split, _ = split_members(members, Shares(0.15, 0.15), 0)
    counts = Counter(split.values())
    assert min(counts["val"], counts["test"]) > 0
    assert counts["val"] + counts["test"] <= judged
    if each > 1:
        assert {m.kind for m in members if split[m.name] == "train"} == set("abcdef")


def test_a_seed_decides():
    members = images(30)
    splits = [split_members(members, SHARES, seed)[0] for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_the_order_of_the_images_is_of_no_matter():
    members = images(9, "a") + images(7, "b")
    assert split_members(members, SHARES, 3)[0] == split_members(members[::-1], SHARES, 3)[0]


def test_what_is_joined_over_a_third_one_is_one_group():
    members = [
        Member("a", ("w1", "p1")),
        Member("b", ("w2", "p1", "x")),
        Member("c", ("w3", "x")),
        Member("d", ("w4",)),
    ]
    assert joined(members) == {"a": "w1", "b": "w1", "c": "w1", "d": "w4"}


@pytest.mark.parametrize("needed, shares", [(3, SHARES), (2, Shares(0, 0.3)), (2, Shares(0.3, 0))])
def test_too_few_groups_are_an_error_that_says_how_many(needed, shares):
    with pytest.raises(InputError, match=f"{needed} groups are needed"):
        split_members(images(needed - 1), shares, 0)
    split, _ = split_members(images(needed), shares, 0)
    assert set(split.values()) == set(shares.parts)


def test_one_group_can_only_be_learned_from():
    members = [Member("a", ("w",)), Member("b", ("w",))]
    assert set(split_members(members, Shares(0, 0), 0)[0].values()) == {"train"}
    with pytest.raises(InputError, match="1 group by well"):
        split_members(members, SHARES, 0, by="well")


@pytest.mark.parametrize(
    "val, test", [(0.5, 0.5), (0.7, 0.6), (-0.1, 0.2), (0, 1.0), (float("nan"), 0)]
)
def test_shares_that_leave_nothing_are_refused(val, test):
    with pytest.raises(InputError):
        Shares(val, test)


@st.composite
def drawn_members(draw):
    count = draw(st.integers(3, 25))
    return [
        Member(
            f"i{n}",
            tuple(draw(st.lists(st.sampled_from("abcdefghijklm"), min_size=1, max_size=3))),
            draw(st.sampled_from(["x", "y"])),
            draw(st.integers(0, 500)),
        )
        for n in range(count)
    ]


@settings(max_examples=150, deadline=None)
@given(members=drawn_members(), seed=st.integers(0, 9))
def test_no_token_is_on_two_sides_and_no_split_is_empty(members, seed):
    groups = set(joined(members).values())
    if len(groups) < 3:
        with pytest.raises(InputError):
            split_members(members, SHARES, seed)
        return
    split, group_of = split_members(members, SHARES, seed)
    assert set(split.values()) == {"train", "val", "test"}
    sides: dict[str, set[str]] = {}
    for member in members:
        for token in (*member.tokens, group_of[member.name]):
            sides.setdefault(token, set()).add(split[member.name])
    assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize("objects", [[100, 90, 80, 0, 0], [1, 1, 1, 0, 0, 0, 0], [9, 0, 0, 0]])
def test_every_split_has_an_object_where_that_can_be(objects):
    for seed in range(5):
        members = [Member(f"{n}", (f"t{n}",), "", count) for n, count in enumerate(objects)]
        split, _ = split_members(members, SHARES, seed)
        showing = {split[one.name] for one in members if one.objects}
        assert len(showing) == min(3, sum(map(bool, objects)))
        assert set(split.values()) == {"train", "val", "test"} and "train" in showing


def test_empty_pictures_are_shared_out_too():
    members = images(10) + [Member(f"e{n}", (f"e{n}",), "", 0) for n in range(40)]
    split, _ = split_members(members, SHARES, 0)
    counts = Counter(split[one.name] for one in members if not one.objects)
    assert min(counts[name] for name in SPLITS) >= 5
