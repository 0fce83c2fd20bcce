"""The units in which networks are judged: infer, score."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.compare.evaluate import THRESHOLDS
from opsef_bridge.engines import LoadedEngine, engine_class
from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.cards import card_file
from opsef_bridge.engines.parameters import split_parameters, tuned
from opsef_bridge.engines.registry import read_card as read_engine_card
from opsef_bridge.engines.staging import today
from opsef_bridge.errors import OpsefError
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.files import key_of, read_json, write_json
from opsef_bridge.images import read_labels, write_labels
from opsef_bridge.project import Run
from opsef_bridge.train.bench import Item, items_of, read_item, segment
from opsef_bridge.train.data import UNKNOWN
from opsef_bridge.train.dataset_split import Member, joined
from opsef_bridge.train.networks import VERSION, Network, TrainPlan
from opsef_bridge.train.places import (
    dataset_planned,
    judged_weights,
    outcomes_made,
    score_file,
)
from opsef_bridge.train.score import THRESHOLDS as ON_CARD
from opsef_bridge.train.score import score_entry

__all__ = ["COUNTS", "fields_of", "judged_items", "sums_by"]

COUNTS = ("tp", "fp", "fn", "splits", "merges")
"""What is counted of every image at every threshold."""


def judged_items(card: Mapping[str, Any], one: Network) -> dict[str, list[Item]]:
    """Return by split what a network is judged on.

    All test images, and some of those that it learned from.
    """
    names = one.images[: one.judged]
    return {
        "test": items_of(card, "test", volumes=one.volumes),
        "train": items_of(card, "train", names, volumes=one.volumes),
    }


def fields_of(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the field of each sample of a dataset, by name.

    Tiles and time points of one parent, and equal pictures, are of one field: their objects are
    not independent of each other.
    """
    kept = ("parent:", "pixels:")
    members = [
        Member(name, (f"sample:{name}", *(t for t in one["tokens"] if t.startswith(kept))))
        for one in card["samples"]
        for name in [str(one["name"])]
    ]
    return joined(members)


def sums_by(counts: np.ndarray, fields: Sequence[str]) -> np.ndarray:
    """Return counts of images, along the first axis, summed over those of each field.

    Examples
    --------
    >>> sums_by(np.array([[1, 0], [2, 1], [5, 5]]), ["a", "b", "a"]).tolist()
    [[6, 5], [2, 1]]
    """
    names, place = np.unique(np.array(fields, str), return_inverse=True)
    found = np.zeros((len(names), *counts.shape[1:]), counts.dtype)
    np.add.at(found, place, counts)
    return found


@unit_kind("train-infer")
def infer(job: Job) -> Iterator[list[Outcome]]:
    """Segment the images that a network is judged on; labels stay, to be looked at."""
    one = TrainPlan.from_json(job.plan).network(job.unit.inputs["network"])
    place, card = dataset_planned(job.project, one)
    weights = judged_weights(job.project, job.run, one)
    kind = engine_class(one.engine)
    predict, decode = split_parameters(kind, {**tuned(kind, weights), **one.predict})
    how = (kind.version, weights.key, predict.model_dump(), decode.model_dump())
    parts = judged_items(card, one)
    # The first image takes longer, as code is compiled: test images, which are timed, come last.
    items = [item for part in reversed(parts.values()) for item in part]
    done = {outcome["key"] for outcome in job.record["outcomes"] if outcome["status"] != "failed"}
    keys = {item.name: key_of("infer", VERSION, item.key, *how) for item in items}
    left = [item for item in items if keys[item.name] not in done or not _file(job, item).is_file()]
    job.record["outcomes"] = [
        outcome
        for outcome in job.record["outcomes"]
        if outcome["image"] not in {item.name for item in left}
    ]
    earlier = outcomes_made(job.project, {keys[item.name] for item in left}, job.run.id)
    loaded: LoadedEngine | None = None
    for number, item in enumerate(left, 1):
        job.progress(f"{one.id} infers {item.name}, {number} of {len(left)}", 0, 1)
        key = keys[item.name]
        if key in earlier:
            outcome = _take_over(earlier[key], _file(job, item), item, one)
            if outcome is not None:
                yield [outcome]
                continue
        loaded = loaded or LoadedEngine.open(kind, weights, str(job.plan["device"]))
        yield [_segmented(loaded, place, item, one, (predict, decode), key, _file(job, item))]
        loaded.note(job.record)


def _file(job: Job, item: Item) -> Path:
    return job.run.label_file(str(job.unit.inputs["network"]), item.name)


def _segmented(
    loaded: LoadedEngine,
    place: Path,
    item: Item,
    one: Network,
    parameters: tuple[Any, Any],
    key: str,
    file: Path,
) -> Outcome:
    started = time.perf_counter()
    try:
        labels = segment(loaded, place, item, *parameters)
    except OpsefError as error:
        return Outcome.failed(error, item.name, one.id, key)
    seconds = time.perf_counter() - started
    write_labels(file, labels)
    count = len(np.unique(labels[labels > 0]))
    status = "ok" if count else "empty"
    return Outcome(item.name, one.id, key, status, count, seconds=seconds)  # type: ignore[arg-type]


def _take_over(
    made: tuple[Path, dict[str, Any]], file: Path, item: Item, one: Network
) -> Outcome | None:
    """Copy labels; None where they can no longer be read."""
    source, outcome = made
    try:
        write_labels(file, read_labels(source))
    except (OpsefError, OSError):
        return None
    return Outcome(**outcome | {"image": item.name, "variant": one.id})


@unit_kind("train-score")
def score(job: Job) -> Iterator[list[Outcome]]:
    """Count what a network found, missed, invented, split and merged; per image and threshold."""
    from opsef_bridge.measure.quality import quality

    one = TrainPlan.from_json(job.plan).network(job.unit.inputs["network"])
    place, card = dataset_planned(job.project, one)
    outcomes = {o["image"]: o for o in job.run.outcomes() if o["variant"] == one.id}
    told: dict[str, Any] = {"network": one.id, "thresholds": THRESHOLDS, "splits": {}}
    fields = fields_of(card)
    for split, items in judged_items(card, one).items():
        counts = []
        for item in items:
            job.report(f"{one.id} scores {item.name}")
            truth = read_item(place, item).labels
            outcome = outcomes.get(item.name, {})
            labels = np.zeros_like(truth)  # who fails has found nothing
            if outcome.get("status") in ("ok", "empty"):
                labels = job.run.labels(one.id, item.name)
            table = quality(truth.clip(0), labels, THRESHOLDS, truth != UNKNOWN)
            counts.append(table[list(COUNTS)].to_numpy().astype(int).tolist())
        told["splits"][split] = {
            "images": [item.name for item in items],
            "kinds": [item.kind for item in items],
            "fields": [fields[str(item.entry["name"])] for item in items],
            "counts": counts,
            "status": [outcomes.get(item.name, {}).get("status", "") for item in items],
            "seconds": [outcomes.get(item.name, {}).get("seconds", 0.0) for item in items],
        }
    write_json(score_file(job.run, one.id), told)
    _write_on_card(job, one, told)
    yield []


def _write_on_card(job: Job, one: Network, told: Mapping[str, Any]) -> None:
    """Write the score of a candidate on the test images on its card, once."""
    if not one.trained:
        return
    weights: Weights = judged_weights(job.project, job.run, one)
    data = {"name": f"test of {one.dataset}", "sha256": one.content}
    places = [THRESHOLDS.index(threshold) for threshold in ON_CARD]
    test = told["splits"]["test"]
    counts = sums_by(np.array(test["counts"])[:, places, :3], test["fields"])
    entry = {"date": today(), "weights": weights.sha256, "data": data,
             "images": len(test["images"]), **score_entry(counts, over="fields")}  # fmt: skip
    # An image that failed may have been tried again since: the newest score is the one.
    others = [one for one in weights.card.get("evaluations") or () if one.get("data") != data]
    file = card_file(weights)
    write_json(file, (read_engine_card(file) or {}) | {"evaluations": [*others, entry]})


def scores_of(run: Run, networks: Sequence[Network]) -> dict[str, dict[str, Any]]:
    """Return the scores of the networks that have some, by id."""
    files = {one.id: score_file(run, one.id) for one in networks}
    return {id_: read_json(file) for id_, file in files.items() if file.is_file()}
