"""A candidate becomes one of the project's models: after it was compared with its parent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opsef_bridge.compare.evaluate import Case, compare, evaluate
from opsef_bridge.engines import LoadedEngine, engine_class, find_weights, verify
from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.parameters import split_parameters, tuned
from opsef_bridge.engines.staging import check_name, settle, stage, stage_weights, today
from opsef_bridge.engines.trial import try_out
from opsef_bridge.errors import InputError, NotFoundError, OpsefError, WeightsError
from opsef_bridge.execute import Event
from opsef_bridge.project import Project, Run
from opsef_bridge.train.bench import Item, items_of, read_item, segment
from opsef_bridge.train.choices import takes_volumes
from opsef_bridge.train.data import UNKNOWN
from opsef_bridge.train.judging import fields_of, sums_by
from opsef_bridge.train.networks import Network
from opsef_bridge.train.places import dataset_planned, plan_of, weights_of, weights_planned
from opsef_bridge.train.score import THRESHOLDS
from opsef_bridge.train.seen import seen_remarks

__all__ = ["DECIDES", "Promoted", "candidates", "promote"]

DECIDES = 0.7
"""IoU at which a candidate must find at least as much as its parent."""

Report = Callable[[Event], None]


@dataclass(frozen=True)
class Promoted:
    """What `promote` has done.

    Parameters
    ----------
    name : str
        Of the weights in ``models/``.
    file : Path
    training : str
    dataset : str
        Whose test images were compared on.
    images : int
        How many; 0 where there are none, or nothing to compare with.
    parent : str
        Whom the candidate was compared with; empty without one.
    rows : list of dict
        One per IoU threshold: ``threshold``, ``f1`` and ``parent_f1``, ``low`` and ``high``: the
        95 % interval of the difference by a paired bootstrap over fields (tiles of one parent
        are one), None for a single one.
    new : bool
        False where it was there before.
    remarks : tuple of str
        What makes the comparison unfair.
    """

    name: str
    file: Path
    training: str
    dataset: str
    images: int
    parent: str
    rows: list[dict[str, Any]]
    new: bool
    remarks: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The comparison in a sentence."""
        if not self.rows:
            return "There was nothing to compare it with."
        row = next(row for row in self.rows if row["threshold"] == DECIDES)
        interval = "one field says nothing of others"
        if row["low"] is not None:
            interval = f"95 % interval of the difference {row['low']:+.3f} to {row['high']:+.3f}"
            if row["low"] <= 0 <= row["high"]:
                interval += ": they cannot be told apart on these images"
        return (
            f"F1 at an IoU of {DECIDES} on {self.images} test "
            f"{'image' if self.images == 1 else 'images'} of {self.dataset}: "
            f"{row['f1']:.3f}, its parent {self.parent} {row['parent_f1']:.3f} ({interval})."
        )


def candidates(project: Project) -> Iterator[tuple[Run, Network]]:
    """Yield the candidates that the trainings have made, those of the newest first."""
    for name in reversed(project.trainings()):
        run = project.training(name)
        for one in plan_of(run).networks:
            if one.trained and (run.root / "models" / f"{one.candidate}.json").is_file():
                yield run, one


def promote(
    project: Project,
    name: str,
    *,
    training: str | None = None,
    to: str | None = None,
    force: bool = False,
    device: str = "auto",
    report: Report = lambda event: None,
) -> Promoted:
    """Compare a candidate with its parent on the same test images; then copy it to ``models/``.

    The parent is what its training started from; of one that started from random weights, those
    that the engine takes where nobody names any.

    Parameters
    ----------
    project : Project
    name : str
        Of the candidate.
    training : str, optional
        Id of its training; the newest that has such a candidate by default.
    to : str, optional
        Name in ``models/``; that of the candidate by default.
    force : bool
        Also if it is worse, or there is nothing to compare on.
    device : {"auto", "cpu", "cuda"}
    report : callable
        Called with the progress, by image and network.

    Raises
    ------
    NotFoundError
        There is no such candidate, or its dataset is gone.
    InputError
        It is worse than its parent at `DECIDES`, or there is nothing to compare on.
    WeightsError
        Its file was changed, or the name is taken; or what it started from is gone (not with
        `force`).
    """
    run, one = _candidate(project, name, training)
    check_name(to or name)
    mine, parent = weights_of(run, one), _parent(project, one, force)
    folder, card = dataset_planned(project, one)
    items = items_of(card, "test", volumes=one.volumes)
    rows: list[dict[str, Any]] = []
    if parent is not None and items:
        rows = _compared(folder, card, items, mine, parent, one.predict, device, report)
    done = Promoted(
        to or name, Path(), run.id, one.dataset, len(items) if rows else 0,
        parent.name if parent else "", rows, True,
        tuple(seen_remarks(card, [parent] if parent and rows else [])),
    )  # fmt: skip
    if not force:
        _refuse(done, len(items))
    entry = {
        "date": today(),
        "training": run.id,
        "dataset": one.dataset,
        "dataset_key": one.content,
        "parent": {"name": parent.name, "sha256": parent.sha256} if parent else None,
        "images": done.images,
        "f1": rows,
        "forced": force,
    }
    with stage(project.models_folder) as place:
        told = replace(mine, card={**mine.card, "promotion": entry})
        staged = stage_weights(told, place, to, None)
        added = settle([staged], project.models_folder, [try_out(staged)])[0]
    return replace(done, file=added.weights.path, new=added.new)


def _candidate(project: Project, name: str, training: str | None) -> tuple[Run, Network]:
    """Return the candidate of that name, and its training."""
    if training is not None:
        project.training(training)
    known = [
        (run, one) for run, one in candidates(project) if training is None or run.id == training
    ]
    for run, one in known:
        if one.candidate == name:
            return run, one
    names = ", ".join(dict.fromkeys(one.candidate for _, one in known))
    raise NotFoundError(
        f"no training has made a candidate {name!r}",
        hint=f"Known: {names}" if names else "`opsef train run` makes one",
    )


def _parent(project: Project, one: Network, force: bool) -> Weights | None:
    """Return whom a candidate has to beat; None where the engine has no weights of its own.

    With `force` also where what it started from is gone.
    """
    if one.weights:
        try:
            return weights_planned(project, one)
        except OpsefError as error:
            if force:
                return None
            raise WeightsError(
                f"{one.candidate} cannot be compared with {one.weights}, which it started from: "
                f"{error.message}",
                hint="Bring those back; --force promotes it as it is",
            ) from error
    try:
        found = find_weights(one.engine, None, [project.models_folder])
    except OpsefError:
        return None
    # Weights for planes find nothing in volumes, nor the other way.
    return found if takes_volumes(found) == one.volumes else None


def _compared(
    folder: Path,
    card: Mapping[str, Any],
    items: Sequence[Item],
    mine: Weights,
    parent: Weights,
    predict: dict[str, Any],
    device: str,
    report: Report,
) -> list[dict[str, Any]]:
    """Segment the same images by both and compare them field by field."""

    def cases(weights: Weights, done: int) -> Iterator[Case]:
        kind = engine_class(weights.engine)
        verify(weights)
        passes, decode = split_parameters(kind, {**tuned(kind, weights), **predict})
        loaded = LoadedEngine.open(kind, weights, device)
        for number, item in enumerate(items, done):
            report(Event(number, 2 * len(items), f"{weights.name} on {item.name}"))
            truth = read_item(folder, item).labels
            labels = segment(loaded, folder, item, passes, decode)
            yield Case(item.name, truth.clip(0), labels, truth != UNKNOWN)

    # Names may be the same: a parent that was trained on.
    scored = {"candidate": mine, "parent": parent}
    evaluated = {
        who: evaluate(cases(weights, number * len(items)), THRESHOLDS)
        for number, (who, weights) in enumerate(scored.items())
    }
    report(Event(2 * len(items), 2 * len(items), "compared"))
    field_of = fields_of(card)
    fields = [field_of[str(item.entry["name"])] for item in items]
    by_field = {
        who: replace(one, names=tuple(sorted(set(fields))), counts=sums_by(one.counts, fields))
        for who, one in evaluated.items()
    }
    return [
        {
            "threshold": float(row.threshold),
            "f1": float(row.f1_a),
            "parent_f1": float(row.f1_b),
            "low": None if row.low != row.low else float(row.low),
            "high": None if row.high != row.high else float(row.high),
        }
        for row in compare(by_field).itertuples()
    ]


def _refuse(done: Promoted, items: int) -> None:
    """Refuse what nobody should use without a second thought."""
    if not done.rows:
        why = "its dataset has no test images" if not items else "its engine has no other weights"
        raise InputError(
            f"{done.name} cannot be compared with a parent: {why}",
            hint="--force promotes it as it is",
        )
    row = next(row for row in done.rows if row["threshold"] == DECIDES)
    if row["f1"] < row["parent_f1"]:
        said = " ".join([done.words, *done.remarks])
        raise InputError(
            f"{done.name} is worse than its parent. {said.rstrip('.')}",
            hint="Correct more images and train again; --force promotes it all the same",
        )
