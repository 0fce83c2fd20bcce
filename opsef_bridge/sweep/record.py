"""What ``run.json`` holds: enough to say later how the labels came about."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from opsef_bridge.errors import NotFoundError
from opsef_bridge.files import read_json
from opsef_bridge.preprocess import step_engine
from opsef_bridge.preprocess.step_files import map_plan_files, relative_to
from opsef_bridge.project import Run
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.remarks import remarks_of

__all__ = ["devices_used", "now", "programs_of_steps", "run_record", "versions"]


def run_record(
    run: Run, plan: Plan, started: str, result: Mapping[str, int], problems: Mapping[str, str]
) -> dict[str, Any]:
    """Return what ``run.json`` holds.

    ``device`` tells by engine where it worked (`devices_used`), ``fell_back`` why it did not
    on the GPU although it was meant to; ``steps`` which program did a step that several can;
    ``remarks`` what is to be said of results that are there.

    Parameters
    ----------
    started : str
        When the run was started first, ISO.
    result : mapping
        Outcomes by status, and network passes.
    problems : mapping
        Why units failed as a whole.
    """
    lighter: dict[str, None] = {}
    fell_back: dict[str, list[str]] = {}
    for engine, record in _units(run, plan):
        lighter |= dict.fromkeys(record.get("lighter", ()))
        reason = record.get("fell_back")
        if reason and reason not in fell_back.setdefault(engine, []):
            fell_back[engine].append(reason)
    settings = map_plan_files({"config": plan.config}, relative_to(run.project_root))["config"]
    return {
        "run": run.id,
        "config": settings,
        "plan_key": plan.key,
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "device": devices_used(run, plan),
        "fell_back": fell_back,
        "lighter": list(lighter),
        "steps": programs_of_steps(plan),
        "weights": {v.weights: v.weights_sha256 for v in plan.variants if v.weights},
        "images": [{"id": i.id, "key": i.key, "group": i.group, "box": i.box} for i in plan.images],
        "started": started,
        "ended": now(),
        "result": dict(result),
        "problems": dict(problems),
        "remarks": remarks_of(run),
    }


def devices_used(run: Run, plan: Plan) -> dict[str, list[str]]:
    """Return the devices that each engine worked on, in order of use.

    Units that an earlier version did tell the last one only.
    """
    found: dict[str, list[str]] = {}
    for engine, record in _units(run, plan):
        last = record.get("device")
        for device in record.get("devices") or ([last] if last else []):
            if device not in found.setdefault(engine, []):
                found[engine].append(device)
    return found


def programs_of_steps(plan: Plan) -> dict[str, list[str]]:
    """Return the programs of those steps of the recipes that more than one program can do."""
    found: dict[str, list[str]] = {}
    for variant in plan.variants:
        for name, parameters in variant.steps:
            try:
                program = step_engine(name, parameters)
            except NotFoundError:  # its outcomes say why
                continue
            if program and program not in found.get(name, []):
                found.setdefault(name, []).append(program)
    return found


def _units(run: Run, plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield engine and record of the units of networks that were begun."""
    for unit in plan.units:
        file = run.unit_file(unit.id)
        if unit.kind in ("predict", "tiles") and file.is_file():
            yield unit.turn, read_json(file)


def versions() -> dict[str, str]:
    """Return the versions of the packages that labels depend on, of those that are here."""
    found = {}
    for name in (
        "opsef_bridge", "numpy", "scipy", "scikit-image", "onnxruntime", "onnxruntime-gpu",
        "stardist", "numba", "tifffile", "imagecodecs", "pillow", "cellpose", "torch",
        "torchvision", "tensorflow",
    ):  # fmt: skip
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def now() -> str:
    """Return the time, of the whole world at once."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
