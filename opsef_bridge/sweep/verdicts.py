"""Verdicts of people on variants: the one place that knows ``annotations/verdicts.csv``.

A verdict is what somebody thinks of a variant on one image: good, objects are split (over),
run together (under), or missed. Nothing in the file is ever changed: the last verdict of a
person counts, and one can be taken back by a further row. They come from Fiji, from the
report, by way of the service or of a CSV that the report exports, and from the command line.
"""

from __future__ import annotations

import datetime
import getpass
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opsef_bridge.compare.report_verdicts import MEANING
from opsef_bridge.errors import InputError, NotFoundError, OpsefError
from opsef_bridge.files import key_of, patiently
from opsef_bridge.project import Project, read_csv, write_csv
from opsef_bridge.sweep.planned import Plan, find_variant
from opsef_bridge.sweep.record import now
from opsef_bridge.sweep.run import newest_run

__all__ = [
    "COLUMNS",
    "TAKEN_BACK",
    "VERDICTS",
    "Verdict",
    "add_verdict",
    "import_verdicts",
    "read_verdicts",
    "verdicts_file",
]

VERDICTS = tuple(MEANING)
"""The classes of Figure 1D of the OpSeF paper, by which variants were judged by eye."""

TAKEN_BACK = "none"
"""In place of a verdict: the person has none any more."""

COLUMNS = ["at", "author", "image", "run", "variant", "verdict", "request"]

NEEDED = ("image", "run", "variant", "verdict")
"""Columns of a file that is imported; ``author`` and ``at`` may be there."""

PATIENCE = 60.0
"""Seconds to wait for another process that writes verdicts."""


@dataclass(frozen=True)
class Verdict:
    """What a person thinks of a variant on an image.

    `at` is an ISO time; `request` is an id, under which it is written down once.
    """

    at: str
    author: str
    image: str
    run: str
    variant: str
    verdict: str
    request: str

    def to_json(self) -> dict[str, str]:
        """Return what a row of the file holds of it."""
        return asdict(self)


def verdicts_file(project: Project) -> Path:
    """Return where the verdicts of a project are."""
    return project.annotations_folder / "verdicts.csv"


def read_verdicts(project: Project, run: str | None = None) -> list[Verdict]:
    """Return the last verdict of each person on each image by each variant.

    Parameters
    ----------
    run : str, optional
        Id; verdicts on the variants of all runs by default.

    Returns
    -------
    list of Verdict
        In the order of the first of them; those that were taken back are left out.
    """
    file = verdicts_file(project)
    rows = read_csv(file) if file.is_file() else []
    found = [Verdict(**{name: row.get(name, "") for name in COLUMNS}) for row in rows]
    last: dict[tuple[str, str, str, str], Verdict] = {}
    # One that is imported may be older than what is there; of equal times the later row counts.
    for one in sorted(found, key=lambda one: one.at):
        if run in (None, one.run):
            last[one.run, one.image, one.variant, one.author] = one
    return [one for one in last.values() if one.verdict in VERDICTS]


def add_verdict(
    project: Project,
    image: str,
    variant: str,
    verdict: str,
    *,
    run: str | None = None,
    author: str | None = None,
    request: str | None = None,
) -> Verdict:
    """Write down a verdict.

    Parameters
    ----------
    image : str
        Id.
    variant : str
        Id or slug.
    verdict : str
        One of `VERDICTS`, or `TAKEN_BACK`.
    run : str, optional
        Id; the newest sweep by default.
    author : str, optional
        The user of this process by default.
    request : str, optional
        Id of the request: one that is there already is not written again.

    Raises
    ------
    NotFoundError
        There is no such image, run or variant.
    InputError
        There is no such verdict.
    LockedError
        Another process holds the file for more than a minute.
    """
    given = {"image": image, "run": run or "", "variant": variant, "verdict": verdict}
    at, by = now(), _name(author)
    found = _Known(project).checked(given)
    told = request or key_of("verdict", *found.values(), by, at)
    one = Verdict(at, by, **found, request=told)
    _append(project, [one])
    return one


def import_verdicts(project: Project, file: Path, *, author: str | None = None) -> list[Verdict]:
    """Write down the verdicts of a CSV file, as the report exports it.

    Parameters
    ----------
    file : Path
        With the columns ``image``, ``run``, ``variant``, ``verdict``, and maybe ``author`` and
        ``at`` (ISO); a time to come is taken as now. Excel may have saved it.
    author : str, optional
        Of the rows that name none; the user of this process by default.

    Returns
    -------
    list of Verdict
        Those that are new. The same file again brings none.

    Raises
    ------
    InputError
        A column is missing, or a row is wrong: the message names its line and the value.
        Then nothing of the file is written.
    NotFoundError
        There is no such file.
    LockedError
        Another process holds the verdicts for more than a minute.
    """
    if not Path(file).is_file():
        raise NotFoundError(f"there is no file {file}")
    rows = read_csv(Path(file))
    missing = [name for name in NEEDED if rows and name not in rows[0]]
    if missing or not rows:
        what = f"has no column {', '.join(missing)}" if missing else "holds no verdicts"
        raise InputError(
            f"{file} {what}", hint=f"Its first line must name {', '.join(NEEDED)}, then rows"
        )
    known, default, read = _Known(project), _name(author), now()
    new = []
    for line, row in enumerate(rows, start=2):
        try:
            found = known.checked(row)
            # A clock that runs ahead must not outlive what the person says later.
            at = min(_time(row.get("at", "")) or read, read)
        except OpsefError as error:
            raise InputError(f"{file}, line {line}: {error.message}", hint=error.hint) from None
        by = row.get("author", "").strip() or default
        # Without a time of its own a row is the same whenever it is read.
        told = key_of("imported", *found.values(), by, row.get("at", "").strip())
        new.append(Verdict(at, by, **found, request=f"import-{told[:16]}"))
    return _append(project, new)


class _Known:
    """What verdicts can be on; each run is read once."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._plans: dict[str, tuple[str, Plan]] = {}

    def checked(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Return image, run, variant and verdict as ids; refuse what there is not."""
        image, run, variant, verdict = (str(row.get(name, "")).strip() for name in NEEDED)
        if verdict not in (*VERDICTS, TAKEN_BACK):
            raise InputError(
                f"{verdict!r} is no verdict",
                hint=f"Use {', '.join(VERDICTS)}, or {TAKEN_BACK} to take one back",
            )
        entry = self.project.image(image)
        name, plan = self._plan(run)
        found = find_variant(plan, variant, name)
        if entry.id not in {one.id for one in plan.images}:
            raise NotFoundError(
                f"{name} has no image {entry.id}", hint="Judge the images of its sample: plan.json"
            )
        return {"image": entry.id, "run": name, "variant": found.id, "verdict": verdict}

    def _plan(self, run: str) -> tuple[str, Plan]:
        if run not in self._plans:
            folder = self.project.run(run) if run else newest_run(self.project, "sweep")
            if folder is None:
                raise NotFoundError("there is no sweep yet", hint="Start one: opsef sweep run")
            self._plans[run] = folder.id, Plan.from_json(folder.plan())
        return self._plans[run]


def _name(author: str | None) -> str:
    return (author or "").strip() or getpass.getuser()


def _append(project: Project, new: Iterable[Verdict]) -> list[Verdict]:
    """Write those behind the others whose request is not there yet; return them."""
    file = verdicts_file(project)
    with patiently(project.annotations_folder / ".verdicts.lock", PATIENCE):
        rows = read_csv(file) if file.is_file() else []
        there = {row.get("request") for row in rows}
        fresh = {one.request: one for one in new if one.request not in there}
        if fresh:
            columns = dict.fromkeys([*COLUMNS, *(rows[0] if rows else [])])
            rows += [one.to_json() for one in fresh.values()]
            write_csv(file, rows, list(columns))
    return list(fresh.values())


def _time(text: str) -> str:
    """Return a time as the file has it: of the whole world at once, in seconds.

    Examples
    --------
    >>> _time("2031-05-04T12:30:59.123Z")
    '2031-05-04T12:30:59+00:00'
    """
    if not text.strip():
        return ""
    try:
        found = datetime.datetime.fromisoformat(text.strip()).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise InputError(
            f"{text!r} is no time", hint="Write it as 2031-05-04T12:30:59Z, or leave it empty"
        ) from None
    return found.isoformat(timespec="seconds")
