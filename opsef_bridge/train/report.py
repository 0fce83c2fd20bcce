"""``report.html`` of a training: one page that holds all of it, readable without a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from opsef_bridge.compare.evaluate import THRESHOLDS
from opsef_bridge.compare.evaluate_charts import error_chart, f1_chart
from opsef_bridge.compare.markup import Html, element, join
from opsef_bridge.compare.words import count_of
from opsef_bridge.train.judging import COUNTS
from opsef_bridge.train.networks import Network, TrainPlan
from opsef_bridge.train.report_tables import ERRORS_AT, SHOWN, Scored, pooled_table
from opsef_bridge.train.score import pooled_f1

__all__ = ["Bench", "Page", "render"]

IN_CHART = 8
"""Networks that a chart shows: more lines cannot be told apart."""

POLICY = Html(
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'\">"
)

STYLE = """
.wide td, .wide th { white-space: nowrap; padding: 4px 8px; }
.wide td.words { white-space: normal; min-width: 170px; }
figure { overflow-x: auto; margin: 12px 0; } figure img, figure svg { max-width: 100%; }
figure { background: #fff; border-radius: 10px; border: 1px solid var(--line); padding: 8px;
  width: fit-content; max-width: 100%; }
.charts { display: flex; flex-wrap: wrap; gap: 0 14px; }
tr.plain > * { background: color-mix(in srgb, var(--accent) 7%, var(--sheet)); }
.up { color: #14723c; font-weight: 600; } .down { color: var(--bad); font-weight: 600; }
@media (prefers-color-scheme: dark) { .up { color: #7fdca4; } }
"""

LEAD = (
    "F1 counts the objects of all test images in one pool. Brackets are 95 % intervals of a "
    "bootstrap over fields: other fields of this kind might give any value in them. A gap between "
    "the images learned from and the test images says how much was learned by heart."
)


@dataclass(frozen=True)
class Bench:
    """A set of test images, and the networks that were judged on it.

    Parameters
    ----------
    key : str
    card : mapping
        Of a dataset that has these test images.
    datasets : tuple of str
        All that have.
    scored : list of Scored
    """

    key: str
    card: Mapping[str, Any]
    datasets: tuple[str, ...]
    scored: list[Scored]


@dataclass(frozen=True)
class Page:
    """What the page shows; rows are those of the tables beside it."""

    project: str
    training: str
    plan: TrainPlan
    benches: list[Bench]
    rows: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    axes: list[dict[str, Any]]
    trainings: dict[str, dict[str, Any]]
    figures: dict[str, str]
    problems: list[str]


def render(page: Page) -> str:
    """Return the text of the page."""
    style = files("opsef_bridge.compare").joinpath("report.css").read_text("utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        POLICY,
        element("title", f"{page.project} · {page.training} · OpSeF training"),
        element("style", Html(style + STYLE)),
    )
    body = element(
        "body",
        _header(page),
        element(
            "main",
            *(_bench(page, bench) for bench in page.benches),
            _axes(page),
            _curves(page),
        ),
    )
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def _header(page: Page) -> Html:
    wanted = [one for one in page.plan.networks if one.trained]
    judged = [scored.network for bench in page.benches for scored in bench.scored]
    plain, trained = sum(not one.trained for one in judged), sum(one.trained for one in judged)
    of = f"{trained} of " if trained < len(wanted) else ""
    told = [element("li", text) for text in page.problems]
    return element(
        "header",
        element("p", "OpSeF training", class_="kicker"),
        element("h1", page.project, " ", element("span", page.training)),
        element(
            "p",
            f"{of}{count_of(len(wanted), 'network')} trained, {plain} judged as they are",
            class_="date",
        ),
        element("p", LEAD, class_="lead"),
        element("ul", *told, class_="cautions") if told else None,
    )


def _bench(page: Page, bench: Bench) -> Html:
    split = bench.card["split"]
    tests = [one for one in bench.card["samples"] if one["split"] == "test"]
    objects = count_of(sum(one["objects"] for one in tests), "object")
    facts = (
        f"{count_of(len(tests), 'image')} with {objects} of truth that no "
        f"network learned from; split by {split['by']}, seed {split['seed']}"
        + (f", test set of {split['test_from']}" if split.get("test_from") else "")
    )
    ids = {one.network.id for one in bench.scored}
    rows = [row for row in page.rows if row["network"] in ids]
    ranked = sorted(bench.scored, key=lambda one: -_f1_of(one))
    shown = {f"{one.network.id} {one.network.candidate}": one for one in ranked[:IN_CHART]}
    return element(
        "article",
        element("h2", "Test images of ", element("em", ", ".join(bench.datasets))),
        element("p", facts, class_="hint"),
        _networks(page, rows),
        _charts(shown, len(bench.scored)),
        _differences(page, ids),
        _kinds(page, rows),
        _images(bench),
        class_="group",
    )


def _f1_of(one: Scored) -> float:
    return float(pooled_f1(one.counts["test"][..., :3])[THRESHOLDS.index(ERRORS_AT)])


def _networks(page: Page, rows: Sequence[Mapping[str, Any]]) -> Html:
    """The main table: every network, the best at 0.7 first, test beside train."""
    tests = [row for row in rows if row["split"] == "test" and not row["kind"]]
    trains = {row["network"]: row for row in rows if row["split"] == "train" and not row["kind"]}
    heads = ("Network", "What", *(f"F1 @{t:g}" for t in SHOWN), "Learned @0.7", "Gap",
             "Missed", "Invented", "Split", "Merged", "s/field", "Trained")  # fmt: skip
    body = []
    for row in sorted(tests, key=lambda row: -(row["f1_0.7"] or 0)):
        one = page.plan.network(row["network"])
        train = trains.get(one.id)
        learned, found = train["f1_0.7"] if train else "", row["f1_0.7"]
        gap = "" if "" in (learned, found) else f"{learned - found:+.3f}"
        body.append(
            element(
                "tr",
                element("th", element("b", one.id), element("small", one.candidate), scope="row"),
                element("td", one.caption, class_="words"),
                *(_with_interval(row, t) for t in SHOWN),
                _cell(learned),
                element("td", gap, class_="number"),
                *(_cell(row[name], 0) for name in ("fn", "fp", "splits", "merges")),
                _cell(_seconds(page, one), 2),
                element("td", _trained(page, one), class_="words"),
                class_=None if one.trained else "plain",
            )
        )
    note = (
        f"Missed, invented, split and merged objects are counted at an IoU of {ERRORS_AT:g}. "
        "Learned: on images that it learned from. Tinted: weights as they are, not trained here."
    )
    return _section("Networks", note, _table(heads, body))


def _seconds(page: Page, one: Network) -> float | None:
    """Median seconds of an image that could be segmented."""
    for bench in page.benches:
        for scored in bench.scored:
            timed = zip(scored.seconds["test"], scored.status["test"], strict=True)
            done = [seconds for seconds, status in timed if status != "failed"]
            if scored.network.id == one.id and done:
                return float(np.median(done))
    return None


def _trained(page: Page, one: Network) -> str:
    told = page.trainings.get(one.id)
    if told is None:
        return ""
    early = ", ended early" if told["ended_early"] else ""
    return (
        f"{told['steps']} steps, weights of step {told['best_step']}{early}; "
        f"{told['seconds'] / 60:.1f} min on {told['device']}"
    )


def _charts(shown: Mapping[str, Scored], of: int) -> Html:
    pooled = {
        name: pooled_table(one.counts["test"], one.fields["test"]) for name, one in shown.items()
    }
    at = THRESHOLDS.index(ERRORS_AT)
    errors = {
        name: dict(zip(COUNTS, one.counts["test"][:, at].sum(axis=0).tolist(), strict=True))
        for name, one in shown.items()
    }
    note = f"The best {len(shown)} of {of}." if of > len(shown) else ""
    return _section(
        "Over all thresholds",
        note,
        element(
            "div",
            element("figure", f1_chart(pooled, "fields")),
            element("figure", error_chart(errors, ERRORS_AT)),
            class_="charts",
        ),
    )


def _differences(page: Page, ids: Iterable[str]) -> Html | None:
    mine = set(ids)
    rows = [
        row
        for row in page.differences
        if row["network"] in mine and row["threshold"] in (ERRORS_AT, SHOWN[-1])
    ]
    if not rows:
        return None
    body = []
    for row in rows:
        low, high = row["low"], row["high"]
        sure = low != "" and (low > 0 or high < 0)
        class_ = f"number {'up' if row['difference'] > 0 else 'down'}" if sure else "number"
        between = f" [{low:+.3f}, {high:+.3f}]" if low != "" else ""
        body.append(
            element(
                "tr",
                element("th", element("b", row["network"]), element("small", row["name"]),
                        scope="row"),
                element("td", row["baseline"], " (its start)" if row["parent"] == "yes" else ""),
                _cell(row["threshold"], 1),
                _cell(row["f1"]),
                _cell(row["f1_baseline"]),
                element("td", f"{row['difference']:+.3f}{between}", class_=class_),
                element("td", "" if row["better"] == "" else f"{row['better']:.0%}",
                        class_="number"),
            )
        )  # fmt: skip
    heads = ("Network", "Against", "IoU", "F1", "F1 of that", "Gain", "Better in")
    note = (
        "The same fields are drawn for both. In colour where the interval leaves 0 out. Better "
        "in: the share of the draws in which the network has the higher F1."
    )
    return _section("Against weights as they are", note, _table(heads, body))


def _kinds(page: Page, rows: Sequence[Mapping[str, Any]]) -> Html | None:
    """F1 by kind (cell type, condition)."""
    tests = [row for row in rows if row["split"] == "test" and row["kind"]]
    kinds = sorted({row["kind"] for row in tests})
    if len(kinds) < 2:
        return None
    by = {(row["network"], row["kind"]): row for row in tests}
    trains = {(r["network"], r["kind"]): r for r in rows if r["split"] == "train" and r["kind"]}
    body = []
    for id_ in dict.fromkeys(row["network"] for row in tests):
        one = page.plan.network(id_)
        for kind in kinds:
            row = by.get((id_, kind))
            if row is None:
                continue
            train = trains.get((id_, kind))
            body.append(
                element(
                    "tr",
                    element("th", element("b", id_), element("small", one.candidate), scope="row"),
                    element("td", kind),
                    _cell(row["images"], 0),
                    _cell(row["objects"], 0),
                    _with_interval(row, 0.7),
                    _with_interval(row, 0.9),
                    _cell(train["f1_0.7"] if train else None),
                    *(_cell(row[name], 0) for name in ("fn", "fp", "splits", "merges")),
                    class_=None if one.trained else "plain",
                )
            )
    heads = ("Network", "Kind", "Images", "Objects", "F1 @0.7", "F1 @0.9", "Learned @0.7",
             "Missed", "Invented", "Split", "Merged")  # fmt: skip
    return _section("By kind", "", _table(heads, body))


def _images(bench: Bench) -> Html:
    """F1 at 0.7 of every test image and network: where to look at labels."""
    at, kinds, counts = THRESHOLDS.index(ERRORS_AT), dict[str, str](), {}
    for one in bench.scored:
        kinds |= zip(one.images["test"], one.kinds["test"], strict=True)
        of_images = one.counts["test"][:, at, :3].tolist()
        counts[one.network.id] = dict(zip(one.images["test"], of_images, strict=True))
    body = []
    for name, kind in kinds.items():
        cells = []
        for of in counts.values():
            tp, fp, fn = of.get(name, (0, 0, 0))
            # Nothing was to be found, and nothing was: that is right, but no F1.
            cells.append(_cell(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None))
        body.append(element("tr", element("th", name, scope="row"), element("td", kind), *cells))
    heads = ("Image", "Kind", *counts)
    note = f"F1 at {ERRORS_AT:g}. The labels lie in labels/NETWORK/IMAGE.tif beside this page."
    parts = (element("p", note, class_="hint"), _table(heads, body))
    return element("section", element("details", element("summary", "Every test image"), *parts))


def _axes(page: Page) -> Html | None:
    if not page.axes:
        return None
    several = len({row["tests"] for row in page.axes}) > 1
    body = [
        element(
            "tr",
            *([element("td", row["tests"])] if several else []),
            element("th", row["axis"], scope="row"),
            element("td", row["value"], class_="words"),
            _cell(row["networks"], 0),
            *(_cell(row[f"f1_{t}"]) for t in SHOWN),
            _cell(row["spread_0.7"]),
        )
        for row in page.axes
    ]
    heads = (*(["Tests"] if several else []), "Axis", "Value", "Networks",
             *(f"mean F1 @{t:g}" for t in SHOWN), "Spread @0.7")  # fmt: skip
    note = (
        "Each value is the mean over all networks that have it, whatever else they are. What "
        "matters most comes first. Where not every value was tried with every other, a mean says "
        "less."
    )
    return _section("Which axis matters", note, _figure(page, "axes", "Mean F1 by axis"),
                    _table(heads, body))  # fmt: skip


def _curves(page: Page) -> Html | None:
    if "curves" not in page.figures:
        return None
    note = "Weights are taken from the checkpoint with the least loss on val."
    return _section("Curves", note, _figure(page, "curves", "Loss against step"))


def _figure(page: Page, name: str, title: str) -> Html | None:
    if name not in page.figures:
        return None
    return element("figure", element("img", src=page.figures[name], alt=title))


def _section(title: str, note: str, *parts: Html | None) -> Html:
    hint = element("p", note, class_="hint") if note else None
    return element("section", element("h3", title), hint, *parts)


def _table(heads: Sequence[str], body: Sequence[Html]) -> Html:
    words = {"Network", "What", "Kind", "Against", "Trained", "Image", "Axis", "Value", "Tests"}
    cells = [
        element("th", head, scope="col", class_=None if head in words else "number")
        for head in heads
    ]
    return element(
        "div",
        element("table", element("thead", element("tr", *cells)), element("tbody", *body),
                class_="wide"),
        class_="scroll", tabindex=0, role="region", aria_label=heads[0],
    )  # fmt: skip


def _cell(value: float | None, digits: int = 3) -> Html:
    text = "-" if value is None or value == "" else f"{value:.{digits}f}"
    return element("td", text, class_="number")


def _with_interval(row: Mapping[str, Any], threshold: float) -> Html:
    low, high = row[f"low_{threshold}"], row[f"high_{threshold}"]
    if row[f"f1_{threshold}"] == "":
        return _cell(None)
    between = element("small", f"[{low:.3f}, {high:.3f}]") if low != "" else None
    value = element("b", f"{row[f'f1_{threshold}']:.3f}")
    return element("td", join(value, " ", between), class_="number")
