"""Which images weights have seen: a score on these says too much good of them.

The card of a candidate has under ``data.seen`` what it learned from and what chose it, and what
its ancestors did, as the first 16 digits of the sha256 of the pixels. So weights are known by it
that were carried to another project.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from opsef_bridge.engines import list_weights
from opsef_bridge.engines.base import Weights
from opsef_bridge.errors import OpsefError
from opsef_bridge.project import Project
from opsef_bridge.train.choices import weights_named
from opsef_bridge.train.dataset import read_card
from opsef_bridge.train.networks import TrainPlan

__all__ = ["remarks_of_models", "remarks_of_plan", "seen_by", "seen_remarks", "seen_tests"]

DIGITS = 16


def seen_by(
    dataset: Mapping[str, Any], names: Collection[str], parent: Mapping[str, Any] | None = None
) -> list[str]:
    """Return what a network has seen when it is trained, for its card.

    Parameters
    ----------
    dataset : mapping
        Its card.
    names : collection of str
        Of the samples that are learned from; all of val choose.
    parent : mapping, optional
        Card of the weights that it starts from.

    Examples
    --------
    >>> samples = [{"name": n, "split": s, "pixels_sha256": n * 64}
    ...            for n, s in (("a", "train"), ("b", "train"), ("c", "val"), ("d", "test"))]
    >>> [one[0] for one in seen_by({"samples": samples}, ["a"], {"data": {"seen": ["f" * 16]}})]
    ['a', 'c', 'f']
    """
    mine = {
        str(one["pixels_sha256"])[:DIGITS]
        for one in dataset["samples"]
        if one["split"] == "val" or (one["split"] == "train" and one["name"] in names)
    }
    return sorted(mine | set(_seen(parent or {})))


def _seen(card: Mapping[str, Any]) -> list[str]:
    data = card.get("data")
    return list(data.get("seen") or ()) if isinstance(data, Mapping) else []


def seen_tests(dataset: Mapping[str, Any], weights: Mapping[str, Any]) -> list[str]:
    """Return the names of the test images of a dataset that weights have seen.

    Parameters
    ----------
    dataset, weights : mapping
        Their cards.
    """
    seen = set(_seen(weights))
    return [
        str(one["name"])
        for one in dataset["samples"]
        if one["split"] == "test" and str(one["pixels_sha256"])[:DIGITS] in seen
    ]


def seen_remarks(dataset: Mapping[str, Any], weights: Iterable[Weights]) -> list[str]:
    """Say of which weights the score on the test images of a dataset will be too good.

    Examples
    --------
    >>> from pathlib import Path
    >>> tests = [{"name": n, "split": "test", "pixels_sha256": n * 64} for n in "ab"]
    >>> weights = Weights("mine", "unet", Path("mine.onnx"), "", {"data": {"seen": ["a" * 16]}})
    >>> seen_remarks({"id": "d0002", "samples": tests}, [weights])[0].split(",")[0]
    '1 of 2 test images of d0002 was learned from'
    """
    count = sum(one["split"] == "test" for one in dataset["samples"])
    said = []
    for one in weights:
        found = len(seen_tests(dataset, one.card))
        if found:
            said.append(
                f"{found} of {count} test images of {dataset['id']} "
                f"{'was' if found == 1 else 'were'} learned from, or chosen by, when {one.name} "
                "was trained: its score there is too good. Keep a test set with --test-from"
            )
    return said


def remarks_of_plan(project: Project, plan: TrainPlan) -> list[str]:
    """Say of which weights, that a training starts from or judges, the score will be too good."""
    said = []
    for one in plan.networks:
        # What cannot be read is told by the unit that needs it.
        with contextlib.suppress(OpsefError):
            if one.weights:
                weights = weights_named(project, one.engine, one.file or one.weights)
                card = read_card(project.dataset_folder(one.dataset))
                said += seen_remarks(card, [weights] if weights else [])
    return list(dict.fromkeys(said))


def remarks_of_models(project: Project, dataset: Mapping[str, Any]) -> list[str]:
    """Say of which weights in ``models/`` the score on a dataset will be too good."""
    return seen_remarks(dataset, list_weights([project.models_folder]))
