"""From what a person has corrected to a better model, in one call."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from opsef_bridge.errors import InputError, OpsefError
from opsef_bridge.execute import Event
from opsef_bridge.files import read_json
from opsef_bridge.project import Project, Run, read_csv
from opsef_bridge.sweep import Executor
from opsef_bridge.train.choices import RANDOM, SHIPPED, any_weights, takes_volumes
from opsef_bridge.train.dataset import read_card
from opsef_bridge.train.dataset_bundled import (
    FLUORESCENCE,
    NONE,
    find_bundled,
    is_bundled,
    rehearsed_groups,
)
from opsef_bridge.train.dataset_make import Made, Wish, make_dataset
from opsef_bridge.train.dataset_sources import collect
from opsef_bridge.train.dataset_split import Shares
from opsef_bridge.train.networks import Network
from opsef_bridge.train.places import plan_of, score_file
from opsef_bridge.train.planning import RunWish, plan_run
from opsef_bridge.train.running import run_training
from opsef_bridge.train.score import pooled_f1
from opsef_bridge.train.seen import remarks_of_plan

__all__ = ["CorrectionWish", "dataset_of_corrections", "train_from_corrections"]


@dataclass(frozen=True)
class CorrectionWish:
    """What a person wants made of her corrections.

    Parameters
    ----------
    start : str
        Weights to go on from, by name; ``shipped`` for those of `engine`.
    engine : str, optional
        That of the weights by default.
    cycles : dict
        ``{"minutes": m}``, ``{"steps": n}`` or ``{"passes": p}``.
    latest : bool
        She vouches for the newest revisions as a whole, besides what is vouched for already.
    images : sequence of str
        Only these; all by default.
    shares : (float, float)
        Of the objects that choose and that judge.
    augmentation, name, seed, device
        As in `opsef_bridge.train.planning.RunWish`.
    author : str, optional
        The user's name by default.
    rehearse : str
        Bundled images to learn from besides, so that old kinds are not forgotten: groups, or a
        word, see `opsef_bridge.train.dataset_bundled.rehearsed_groups`. By default those of
        fluorescence where it starts from weights, none where it starts from random ones. A
        network for volumes learns none: they are planes.
    """

    start: str = SHIPPED
    engine: str = ""
    cycles: dict[str, float] = field(default_factory=lambda: {"minutes": 10.0})
    latest: bool = False
    images: Sequence[str] = ()
    shares: tuple[float, float] = (0.2, 0.2)
    augmentation: str = "opsef"
    settings: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    seed: int = 0
    every: int = 50
    device: str = "auto"
    workers: int | None = None
    author: str = ""
    rehearse: str = ""


def dataset_of_corrections(project: Project, wish: CorrectionWish | None = None) -> Made:
    """Make a dataset of all that is vouched for in a project, or return the one that is.

    Raises
    ------
    InputError
        Too little is vouched for to learn from, to choose and to judge, or there is no such
        group of bundled images.
    """
    wish = wish or CorrectionWish()
    remarks: list[str] = []
    groups = _rehearsed(project, wish, remarks.append)
    found = collect(project, images=wish.images, revisions=wish.latest, remark=remarks.append)
    found += find_bundled(project, groups, found, remarks.append)
    made = make_dataset(
        project,
        found,
        Wish(
            shares=Shares(*wish.shares),
            seed=wish.seed,
            author=wish.author or getpass.getuser(),
            command="train from corrections",
        ),
    )
    return Made(made.folder, made.card, made.new, (*remarks, *made.remarks))


def _rehearsed(
    project: Project, wish: CorrectionWish, remark: Callable[[str], object]
) -> tuple[str, ...]:
    """Return the groups of bundled images that are learned from besides."""
    groups = rehearsed_groups(wish.rehearse or (NONE if wish.start == RANDOM else FLUORESCENCE))
    named = None if wish.start in (RANDOM, SHIPPED) else any_weights(project, wish.start)
    if groups and takes_volumes(named):
        remark(f"{wish.start} is a network for volumes: no bundled images are learned from")
        return ()
    return groups


def train_from_corrections(
    project: Project, wish: CorrectionWish, report: Callable[[Event], None] = lambda event: None
) -> dict[str, Any]:
    """Make a dataset of what is vouched for, train from weights on, judge both.

    Returns
    -------
    dict
        ``training``, ``dataset``, ``candidate``, ``parent`` (names), ``scores``: by
        ``candidate`` and ``parent`` F1 at an IoU of 0.5, 0.7 and 0.9 on the test images, each
        ``{"value", "low", "high"}``; ``gain``: the same of the difference, by a paired
        bootstrap; ``images`` of test, ``report`` (the file), ``words`` for a person and
        ``remarks`` on the dataset.

    Raises
    ------
    InputError
        Too little is vouched for, or something that is wished for does not exist.
    WorkerError
        torch is not installed, or a unit failed; what was finished stays.
    """
    engine = wish.engine
    if not engine:
        if wish.start in (RANDOM, SHIPPED):
            raise InputError("which networks? No engine is named", hint="For example unet")
        engine = any_weights(project, wish.start).engine
    made = dataset_of_corrections(project, wish)
    plan = plan_run(
        project,
        RunWish(
            engine, made.card["id"], wish.start, cycles=wish.cycles, seed=wish.seed,
            augmentation=wish.augmentation, settings=wish.settings, every=wish.every,
            device=wish.device, name=wish.name,
        ),
    )  # fmt: skip
    result = run_training(project, plan, Executor("local", wish.workers, None, report))
    for error in result.problems.values():
        raise error
    if result.done < result.of:
        raise OpsefError(f"{result.training} is not done", hint="Go on: opsef train resume")
    remarks = [*made.remarks, *remarks_of_plan(project, plan)]
    if result.failed:
        remarks.append(
            f"{result.failed} images could not be segmented and count as found nothing: see "
            f"`opsef train status {result.training}`"
        )
    return summary(project, result.training) | {"remarks": remarks}


def summary(project: Project, training: str) -> dict[str, Any]:
    """Return what came of a training of one network; see `train_from_corrections`."""
    run = project.training(training)
    one = next(one for one in plan_of(run).networks if one.trained)
    rows = read_csv(run.root / "tables" / "networks.csv")
    tests = {row["name"]: row for row in rows if row["split"] == "test" and not row["kind"]}
    gains = read_csv(run.root / "tables" / "differences.csv")
    mine, parent = tests[one.candidate], tests.get(one.weights)
    scores = {"candidate": _f1(mine)} | ({"parent": _f1(parent)} if parent else {})
    gain = {
        row["threshold"]: {
            "value": float(row["difference"]),
            "low": _float(row["low"]),
            "high": _float(row["high"]),
        }
        for row in gains
        if "threshold" in row and row["baseline"] == one.weights
    }
    return {
        "training": training,
        "dataset": one.dataset,
        "candidate": one.candidate,
        "parent": one.weights,
        "images": int(mine["images"]),
        "scores": scores,
        "gain": gain,
        "report": str(run.report_file),
        "words": [
            *_words(one.candidate, one.weights, int(mine["images"]), scores, gain),
            *_apart(project, run, one),
        ],
    }


def _apart(project: Project, run: Run, one: Network) -> list[str]:
    """Say how well a person's own test images do, where bundled ones are among them."""
    card = read_card(project.dataset_folder(one.dataset))
    tests = [entry for entry in card["samples"] if entry["split"] == "test"]
    bundled = {entry["name"] for entry in tests if is_bundled(entry)}
    if not bundled or len(bundled) == len(tests):
        return []
    judged = [
        one,
        *(o for o in plan_of(run).networks if not o.trained and o.weights == one.weights),
    ]
    parts = []
    for where, theirs in (("yours", False), ("the bundled ones", True)):
        found = []
        for network in judged:
            told = read_json(score_file(run, network.id))
            part, at = told["splits"]["test"], told["thresholds"].index(0.7)
            chosen = [(name in bundled) == theirs for name in part["images"]]
            counts = np.array(part["counts"])[chosen, at, :3]
            found.append(f"{network.candidate} {pooled_f1(counts[:, None])[0]:.3f}")
        parts.append(f"on {where} ({sum(chosen)}) {', '.join(found)}")
    return [f"Of these, {'; '.join(parts)}."]


def _f1(row: Mapping[str, str]) -> dict[str, dict[str, float | None]]:
    return {
        t: {"value": float(row[f"f1_{t}"]), "low": _float(row[f"low_{t}"]),
            "high": _float(row[f"high_{t}"])}
        for t in ("0.5", "0.7", "0.9")
    }  # fmt: skip


def _float(cell: str) -> float | None:
    return float(cell) if cell else None


def _words(
    name: str,
    parent: str,
    images: int,
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]],
    gain: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Say in sentences whether the candidate is better, and how sure that is."""
    mine = scores["candidate"]["0.7"]["value"]
    many = "1 test image" if images == 1 else f"{images} test images"
    if "parent" not in scores or "0.7" not in gain:
        return [f"{name} has an F1 of {mine:.3f} at an IoU of 0.7 on {many}."]
    theirs, told = scores["parent"]["0.7"]["value"], gain["0.7"]
    words = [
        f"On {many} that it did not learn from, {name} has an F1 of {mine:.3f} at an IoU of 0.7; "
        f"{parent} has {theirs:.3f}."
    ]
    low, high = told["low"], told["high"]
    if low is None:
        return [*words, "With one test image nobody can say how sure that is: vouch for more."]
    if low > 0:
        return [*words, f"It is better: the gain is {low:+.3f} to {high:+.3f} (95 %)."]
    if high < 0:
        return [*words, f"It is worse: the difference is {low:+.3f} to {high:+.3f} (95 %)."]
    return [
        *words,
        f"That may be chance: the difference is {low:+.3f} to {high:+.3f} (95 %). More test "
        "images would tell.",
    ]
