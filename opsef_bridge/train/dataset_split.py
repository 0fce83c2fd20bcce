"""Which images are learned from, which choose, which judge: no picture on two sides.

Images that share a token (a field, a well, a parent, equal pixels) stand on one side; so do
images that are joined over a third one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from opsef_bridge.errors import InputError

__all__ = ["SPLITS", "Member", "Shares", "joined", "split_members"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Shares:
    """Shares of the objects that choose (`val`) and that judge (`test`); the rest is learned from.

    Raises
    ------
    InputError
        One is negative, or they leave nothing to learn from.

    Examples
    --------
    >>> Shares(0.2, 0.1).parts
    {'train': 0.7, 'val': 0.2, 'test': 0.1}
    """

    val: float = 0.15
    test: float = 0.15

    def __post_init__(self) -> None:
        for name, value in (("val", self.val), ("test", self.test)):
            if not 0 <= value < 1:
                raise InputError(
                    f"the share of {name} is {value:g}", hint="Give a number from 0 to below 1"
                )
        if self.val + self.test >= 1:
            raise InputError(
                f"the shares of val and test sum to {self.val + self.test:g}: nothing is left to "
                "learn from",
                hint="Give shares that sum to less than 1, such as 0.15 and 0.15",
            )

    @property
    def parts(self) -> dict[str, float]:
        """Share of each split that is not empty."""
        found = dict(
            zip(SPLITS, (round(1 - self.val - self.test, 9), self.val, self.test), strict=True)
        )
        return {name: share for name, share in found.items() if share}


@dataclass(frozen=True)
class Member:
    """What decides on which side an image stands.

    Parameters
    ----------
    name : str
    tokens : tuple of str
        Images that share one stand on one side; the first names the group.
    kind : str
        Each split gets its share of every kind, as far as groups allow.
    objects : int
    """

    name: str
    tokens: tuple[str, ...]
    kind: str = ""
    objects: int = 1


def joined(members: Iterable[Member]) -> dict[str, str]:
    """Return the group of each member: the least of the first tokens of all that are joined.

    Examples
    --------
    >>> joined([Member("a", ("A1", "p")), Member("b", ("B2", "p")), Member("c", ("C3",))])
    {'a': 'A1', 'b': 'A1', 'c': 'C3'}
    """
    members = list(members)
    first = {token: token for member in members for token in member.tokens}

    def root(token: str) -> str:
        while first[token] != token:
            first[token] = first[first[token]]
            token = first[token]
        return token

    for member in members:
        for token in member.tokens[1:]:
            first[root(token)] = root(member.tokens[0])
    names: dict[str, str] = {}
    for member in members:
        place = root(member.tokens[0])
        names[place] = min(names.get(place, member.tokens[0]), member.tokens[0])
    return {member.name: names[root(member.tokens[0])] for member in members}


def split_members(
    members: Sequence[Member], shares: Shares, seed: int, by: str = "image"
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the split and the group of each member, by name.

    Large groups go first, each to the split that lacks most of its kinds and of the whole;
    among groups of about one size (a factor of two) the order is drawn by `seed`. Every split
    that has a share gets at least one group, with an object where so many have one.

    Parameters
    ----------
    members : sequence of Member
        Names are unique.
    shares : Shares
    seed : int
    by : str
        What groups are by, for the message.

    Raises
    ------
    InputError
        There are fewer groups than splits.
    """
    group_of = joined(members)
    weights: dict[str, dict[str, float]] = {}
    for member in members:
        kinds = weights.setdefault(group_of[member.name], {})
        kinds[member.kind] = kinds.get(member.kind, 0) + max(member.objects, 1)
    showing = {group_of[member.name] for member in members if member.objects}
    parts = shares.parts
    if len(weights) < len(parts):
        raise _too_few(sorted(weights), list(parts), by)
    split_of = _spread(weights, showing, parts, seed)
    return {member.name: split_of[group_of[member.name]] for member in members}, group_of


def _too_few(groups: Sequence[str], splits: Sequence[str], by: str) -> InputError:
    shown = ", ".join(groups[:5]) + (", ..." if len(groups) > 5 else "")
    fewer = "" if by == "image" else ", split by image (--split-by image)"
    return InputError(
        f"{len(groups)} {'group' if len(groups) == 1 else 'groups'} by {by} ({shown}) cannot be "
        f"split into {', '.join(splits)}: {len(splits)} groups are needed at least",
        hint=f"Vouch for more images{fewer}, or leave a split out: --val 0 or --test 0",
    )


def _spread(
    weights: Mapping[str, Mapping[str, float]],
    showing: Set[str],
    parts: Mapping[str, float],
    seed: int,
) -> dict[str, str]:
    """Give each group to the split that lacks most of its kinds and of the whole.

    Groups that are `showing` an object go first.
    """
    totals: dict[str, float] = {}
    for kinds in weights.values():
        for kind, weight in kinds.items():
            totals[kind] = totals.get(kind, 0) + weight
    whole = sum(totals.values())
    have = {split: dict.fromkeys(totals, 0.0) for split in parts}

    def lack(split: str, kinds: Mapping[str, float]) -> float:
        """What is left of the share of a split: of the kinds of a group, and of all."""
        own = sum(kinds.values())
        of_kinds = sum(kinds[kind] / own * have[split][kind] / totals[kind] for kind in kinds)
        return 2 * parts[split] - of_kinds - sum(have[split].values()) / whole

    names = sorted(weights)
    np.random.default_rng(seed).shuffle(names)
    names.sort(key=lambda name: -int(np.log2(sum(weights[name].values()))))
    names.sort(key=lambda name: name not in showing)
    split_of: dict[str, str] = {}
    for number, name in enumerate(names):
        empty = [split for split in parts if not any(have[split].values())]
        # Where as many groups are left as splits are empty, each of them gets one.
        left = (len(showing) if name in showing else len(names)) - number
        choice = empty if len(empty) >= left else list(parts)
        split = max(choice, key=lambda s: lack(s, weights[name]))
        split_of[name] = split
        for kind, weight in weights[name].items():
            have[split][kind] += weight
    return split_of
