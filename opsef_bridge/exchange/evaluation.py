"""Labels of models and their truth: paired by image, evaluated, written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opsef_bridge.compare.evaluate import THRESHOLDS, Case, Evaluation, compare, evaluate
from opsef_bridge.compare.evaluate_charts import error_chart, f1_chart
from opsef_bridge.errors import InputError
from opsef_bridge.exchange.label_sets import Box, Item, Labelled, LabelSet
from opsef_bridge.execute import Event
from opsef_bridge.files import write_text
from opsef_bridge.measure.overlap import label_runs
from opsef_bridge.project import write_csv

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Evaluated",
    "evaluate_sets",
    "parse_thresholds",
    "shown_thresholds",
    "write_evaluation",
]


@dataclass(frozen=True)
class Evaluated:
    """What `evaluate_sets` found.

    Attributes
    ----------
    models : dict of str to Evaluation
    comparison : DataFrame or None
        Of `opsef_bridge.compare.evaluate.compare`; None for a single model.
    notes : tuple of str
        Images that could not be paired, and truth of another picture, in words.
    """

    models: Mapping[str, Evaluation]
    comparison: pd.DataFrame | None
    notes: tuple[str, ...]

    def table(self, name: str) -> pd.DataFrame:
        """Return ``images``, ``pooled`` or ``strata`` of all models, with a column ``model``."""
        import pandas as pd

        tables = {model: getattr(one, name) for model, one in self.models.items()}
        return pd.concat(tables, names=["model"]).reset_index(level=0).reset_index(drop=True)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; a figure that is not defined is None."""
        tables = {"evaluation": self.table("images")}
        tables |= {name: self.table(name) for name in ("pooled", "strata")}
        if self.comparison is not None:
            tables["compare"] = self.comparison
        rows = {name: _rows(table, None) for name, table in tables.items()}
        return {"models": list(self.models), "notes": list(self.notes), **rows}


def parse_thresholds(text: str | None) -> tuple[float, ...]:
    """Read IoU thresholds as people write them; None for the usual ones.

    Raises
    ------
    InputError
        One is no number.

    Examples
    --------
    >>> parse_thresholds("0.5, 0.7")
    (0.5, 0.7)
    """
    if text is None:
        return THRESHOLDS
    try:
        return tuple(dict.fromkeys(float(word) for word in text.split(",")))
    except ValueError:
        raise InputError(
            f"{text!r} are no IoU thresholds", hint="For example --thresholds 0.5,0.75,0.9"
        ) from None


def shown_thresholds(thresholds: Sequence[float]) -> list[float]:
    """Return the few of many thresholds that a short table has room for.

    Examples
    --------
    >>> shown_thresholds(THRESHOLDS), shown_thresholds([0.6, 0.8])
    ([0.5, 0.7, 0.9], [0.6, 0.8])
    """
    usual = [threshold for threshold in (0.5, 0.7, 0.9) if threshold in thresholds]
    return list(thresholds) if len(thresholds) <= 3 else usual or list(thresholds[:3])


def evaluate_sets(
    models: Sequence[LabelSet],
    truth: LabelSet,
    thresholds: Iterable[float] = THRESHOLDS,
    *,
    report: Callable[[Event], None] = lambda event: None,
) -> Evaluated:
    """Evaluate models on the images that all of them and truth have.

    Images are paired by name: that of the label file without suffix, the id of an image of
    a project, or the file that this image came from. Where the labels are of a crop, truth
    is cut to it: an object that has less than half of its pixels there does not count.

    Parameters
    ----------
    models : sequence of LabelSet
    truth : LabelSet
    thresholds : iterable of float
    report : callable, optional
        Called with the progress.

    Raises
    ------
    InputError
        No image has labels in all, the models saw different parts of an image, what is to be
        cut to a crop has another shape than the whole image, or
        `opsef_bridge.compare.evaluate.evaluate` refuses.
    """
    thresholds = tuple(thresholds)
    models = _distinct(models)
    rows, unpaired = _paired(models, truth)
    notes = [note for one in (truth, *models) for note in one.notes] + unpaired
    done = {
        model.name: evaluate(_cases(rows, number, model.name, report), thresholds)
        for number, model in enumerate(models)
    }
    total = len(rows) * len(models)
    report(Event(total, total, "done"))
    comparison = compare(done) if len(done) > 1 else None
    return Evaluated(done, comparison, tuple(notes))


def _cases(
    rows: Sequence[tuple[Item, ...]], number: int, name: str, report: Callable[[Event], None]
) -> Iterator[Case]:
    """Read the images of one model, one after the other; truth is the same for all models."""
    total = len(rows) * (len(rows[0]) - 1)
    for place, (asked, *given) in enumerate(rows):
        report(Event(number * len(rows) + place, total, f"{name}, {asked.name}"))
        box, whole = _common_box([asked, *given])
        truth, valid = _truth_part(asked, box, whole)
        labels = given[number].read().labels
        if box and not given[number].box:
            _check_whole(f"{asked.name}: the labels of {name}", labels, whole)
            labels = _cut(labels, box)
        yield Case(asked.name, truth, labels, valid)


def _distinct(models: Sequence[LabelSet]) -> list[LabelSet]:
    """Number the names of models that are called alike."""
    seen: Counter[str] = Counter()
    named = []
    for model in models:
        seen[model.name] += 1
        again = f" ({seen[model.name]})" if seen[model.name] > 1 else ""
        named.append(replace(model, name=model.name + again))
    return named


def _paired(
    models: Sequence[LabelSet], truth: LabelSet
) -> tuple[list[tuple[Item, ...]], list[str]]:
    """Items of truth with those of all models, and notes about what has no partner."""
    if truth.single and all(model.single for model in models):
        return _in_order(models, truth), []
    finders = [_finder(model) for model in models]
    rows = []
    lacking: Counter[str] = Counter()
    for item in truth.items:
        names = (item.name, *item.also)
        found = [next((f[n] for n in names if n in f), None) for f in finders]
        lacking.update(m.name for m, one in zip(models, found, strict=True) if one is None)
        if None not in found:
            rows.append((item, *found))
    if not rows:
        told = "; ".join(f"{one.name} has {_some(one.items)}" for one in (truth, *models))
        raise InputError(
            f"no image has labels in all: {told}",
            hint="Give the label files of an image one name, without suffix; or name two files",
        )
    notes = []
    if lacking:
        told = ", ".join(f"{number} by {name}" for name, number in lacking.items())
        notes.append(f"images with truth but without labels: {told}")
    for model, used in zip(models, zip(*(row[1:] for row in rows), strict=True), strict=True):
        if spare := len(model.items) - len(used):
            notes.append(f"images of {model.name} left out, without truth or other labels: {spare}")
    return rows, notes


def _in_order(models: Sequence[LabelSet], truth: LabelSet) -> list[tuple[Item, ...]]:
    """Pair single files: their time points or planes by number, whatever the files are called."""
    for model in models:
        if len(model.items) != len(truth.items):
            raise InputError(
                f"{model.name} has {len(model.items)} images, {truth.name} has {len(truth.items)}",
                hint="Give stacks of one length; --planes takes the planes of a stack as images",
            )
    return list(zip(truth.items, *(model.items for model in models), strict=True))


def _finder(labels: LabelSet) -> dict[str, Item]:
    """Items by all their names; a name of its own goes before another one."""
    also = {name: item for item in labels.items for name in item.also}
    return also | {item.name: item for item in labels.items}


def _some(items: Sequence[Item]) -> str:
    names = ", ".join(item.name for item in items[:3])
    return f"{names}, ... ({len(items)})" if len(items) > 3 else names


def _common_box(items: Sequence[Item]) -> tuple[Box | None, tuple[int, ...] | None]:
    """Return the part of the image that all are compared on, and the shape of the whole.

    None for the whole image, and for a shape that is not known.
    """
    boxes = {tuple(item.box) for item in items if item.box}
    if len(boxes) > 1:
        raise InputError(
            f"the labels of {items[0].name} are of different crops: {sorted(boxes)}",
            hint="Compare variants of one run, or run `opsef batch` on whole images",
        )
    whole = next((item.whole for item in items if item.whole), None)
    return boxes.pop() if boxes else None, whole


def _check_whole(what: str, labels: np.ndarray, whole: tuple[int, ...] | None) -> None:
    """Refuse to cut a crop out of what is not of the whole image."""
    if whole is not None and labels.shape != whole:
        raise InputError(
            f"{what} is of shape {labels.shape}, the image whose crop was swept of {whole}",
            hint="Bring it for the whole image, as it is segmented. If it is of the crop itself, "
            "copy the label files of the variant out of the project and name that folder",
        )


def _cut(labels: np.ndarray, box: Box) -> np.ndarray:
    top, left, height, width = box
    return labels[..., top : top + height, left : left + width]


def _truth_part(item: Item, box: Box | None, whole: tuple[int, ...] | None) -> Labelled:
    """Read truth; cut to the box, what is cut to less than half of itself is not valid."""
    told = item.read()
    if box is None or item.box is not None:
        return told
    _check_whole(f"{item.name}: truth", told.labels, whole)
    part = _cut(told.labels, box)
    valid = np.ones(part.shape, bool) if told.valid is None else _cut(told.valid, box)
    before, after = label_runs(told.labels), label_runs(part)
    lost = 2 * after.areas < before.areas[np.searchsorted(before.labels, after.labels)]
    return Labelled(part, valid & ~np.isin(part, after.labels[lost]))


def write_evaluation(folder: Path, done: Evaluated) -> list[Path]:
    """Write tables and plots; return their paths.

    ``evaluation.csv`` (per model, image and threshold), ``pooled.csv``, ``strata.csv``,
    ``compare.csv`` (of several models), ``f1_against_iou.svg``, ``errors.svg``. In the
    tables a figure that is not defined is empty.
    """
    tables = {"evaluation": done.table("images")}
    tables |= {name: done.table(name) for name in ("pooled", "strata")}
    if done.comparison is not None:
        tables["compare"] = done.comparison
    files = []
    for name, table in tables.items():
        files.append(folder / f"{name}.csv")
        write_csv(files[-1], _rows(table, ""), list(table.columns))
    pooled = {name: one.pooled for name, one in done.models.items()}
    at = shown_thresholds(next(iter(done.models.values())).thresholds)[0]
    rows = {name: _rows(table[table["threshold"] == at], 0)[0] for name, table in pooled.items()}
    charts = {"f1_against_iou": f1_chart(pooled), "errors": error_chart(rows, at)}
    for name, chart in charts.items():
        files.append(folder / f"{name}.svg")
        write_text(files[-1], chart + "\n")
    return files


def _rows(table: pd.DataFrame, none: Any) -> list[dict[str, Any]]:
    """Rows of a table as plain values, with `none` for NaN."""
    rows = table.to_dict("records")
    return [{key: none if value != value else value for key, value in row.items()} for row in rows]
