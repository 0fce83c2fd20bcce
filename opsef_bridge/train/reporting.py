"""The unit that writes tables, figures and the page of a training."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from opsef_bridge.errors import OpsefError
from opsef_bridge.execute import Job, Outcome, unit_kind
from opsef_bridge.files import atomic_path, read_json, write_text
from opsef_bridge.project import Project, Run, write_csv
from opsef_bridge.train.curves import read_curves
from opsef_bridge.train.dataset import read_card
from opsef_bridge.train.judging import scores_of
from opsef_bridge.train.networks import Network
from opsef_bridge.train.places import network_folder, plan_of
from opsef_bridge.train.planning import test_key
from opsef_bridge.train.report_tables import (
    Scored,
    axis_rows,
    difference_rows,
    image_rows,
    network_rows,
    scored_of,
)
from opsef_bridge.train.seen import remarks_of_plan

__all__ = ["TABLES", "write_report"]

TABLES = ("scores", "networks", "differences", "axes", "curves", "times")
"""Files in ``tables/``; all but ``times`` are the same whenever the training is."""


@unit_kind("train-report")
def report(job: Job) -> Iterator[list[Outcome]]:
    """Write ``tables/``, ``figures/`` and ``report.html``."""
    job.report("tables and page")
    write_report(job.project, job.run)
    yield []


def write_report(
    project: Project, run: Run, problems: Mapping[str, OpsefError] | None = None
) -> Path:
    """Write tables, figures and the page of what there is of a training; return the page.

    `problems`, of units that failed as a whole, stand on it.
    """
    from opsef_bridge.train.report import Bench, Page, render

    plan = plan_of(run)
    scored = scored_of(plan.networks, scores_of(run, plan.networks))
    curves = {one.id: rows for one in plan.networks if (rows := _curves(run, one))}
    benches, axes, differences = [], [], []
    for key, members in _by_tests(project, scored).items():
        mine = [one for one in scored if one.network.dataset in members]
        card = read_card(project.dataset_folder(members[0]))
        axes += [{"tests": card["id"], **row} for row in axis_rows(mine)]
        differences += [{"tests": card["id"], **row} for row in difference_rows(mine)]
        benches.append(Bench(key, card, tuple(members), mine))
    rows = list(network_rows(scored))
    tables = {
        "scores": list(image_rows(scored)),
        "networks": rows,
        "differences": differences,
        "axes": axes,
        "curves": [row for id_, of in curves.items() for row in _untimed(id_, of)],
        "times": list(_time_rows(run, scored)),
    }
    for name, table in tables.items():
        columns = list(table[0]) if table else ["network"]
        write_csv(run.root / "tables" / f"{name}.csv", table, columns)
    figures = _figures(run, scored, curves, axes)
    page = Page(
        project.root.name, run.id, plan, benches, rows, differences, axes,
        {row["network"]: row for row in _training_rows(run, plan.networks)},
        {name: _data_uri(file) for name, file in figures.items()},
        [*remarks_of_plan(project, plan), *_problems(run, problems or {})],
    )  # fmt: skip
    write_text(run.report_file, render(page))
    return run.report_file


def _by_tests(project: Project, scored: Sequence[Scored]) -> dict[str, list[str]]:
    """Return the datasets of each set of test images."""
    found: dict[str, list[str]] = {}
    for dataset in dict.fromkeys(one.network.dataset for one in scored):
        key = test_key(read_card(project.dataset_folder(dataset)))
        found.setdefault(key, []).append(dataset)
    return found


def _curves(run: Run, one: Network) -> list[dict[str, Any]]:
    """Return the rows of the curves of a network; of several stages one after the other."""
    folder, rows = network_folder(run, one.id), []
    files = [folder / "curves.csv", *sorted(folder.glob("stage-*/curves.csv"))]
    for file in files:
        if file.is_file():
            before = rows[-1]["step"] if rows else 0
            rows += [{**row, "step": before + (row["step"] or 0)} for row in read_curves(file)]
    return rows


def _untimed(network: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        kept = {name: value for name, value in row.items() if name != "seconds"}
        yield {"network": network} | {k: "" if v is None else v for k, v in kept.items()}


def _time_rows(run: Run, scored: Sequence[Scored]) -> Iterator[dict[str, Any]]:
    """Yield what was timed: seconds of each field, and of the training."""
    for one in scored:
        for split, images in one.images.items():
            for image, seconds, status in zip(
                images, one.seconds[split], one.status[split], strict=True
            ):
                yield {"network": one.network.id, "what": f"infer {split}", "image": image,
                       "status": status, "seconds": round(seconds, 4)}  # fmt: skip
    for row in _training_rows(run, [one.network for one in scored]):
        yield {"network": row["network"], "what": "train", "image": "", "status": "ok",
               "seconds": row["seconds"]}  # fmt: skip


def _training_rows(run: Run, networks: Sequence[Network]) -> Iterator[dict[str, Any]]:
    """Yield what the card of each candidate says of its training."""
    for one in networks:
        file = run.root / "models" / f"{one.candidate}.json"
        if one.trained and file.is_file():
            yield {"network": one.id, **read_json(file)["training"]}


def _figures(
    run: Run,
    scored: Sequence[Scored],
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    axes: Sequence[Mapping[str, Any]],
) -> dict[str, Path]:
    from opsef_bridge.train.report_figures import draw_all

    folder = run.root / "figures"
    found = {}
    for name, figure in draw_all(scored, curves, axes).items():
        with atomic_path(folder / f"{name}.png") as partial:
            figure.savefig(partial, format="png", dpi=110)
        found[name] = folder / f"{name}.png"
    return found


def _data_uri(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


def _problems(run: Run, problems: Mapping[str, OpsefError]) -> list[str]:
    """Say which networks have no result, which images could not be segmented, and why."""
    names = {one.id: one.candidate for one in plan_of(run).networks}
    told = []
    for unit in run.plan()["units"]:
        error, network = problems.get(unit["id"]), unit["inputs"].get("network")
        if error and network and not any(need in problems for need in unit["needs"]):
            told.append(f"{network} {names[network]} has no result: {error}")
    return told + [
        f"{one['variant']} on {one['image']}: {one['message']}. It counts as if nothing were found"
        for one in run.outcomes()
        if one["status"] == "failed"
    ]
