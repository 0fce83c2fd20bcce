"""Adopt a variant for a group of images, and write down why."""

from __future__ import annotations

import datetime
import getpass
from typing import Any

from opsef_bridge.errors import NotFoundError
from opsef_bridge.files import lock
from opsef_bridge.project import Project
from opsef_bridge.sweep.plan import Plan, find_variant
from opsef_bridge.sweep.run import newest_run, variant_rows

__all__ = ["adopt"]


def adopt(
    project: Project,
    variant: str,
    *,
    group: str | None = None,
    run: str | None = None,
    by: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Adopt `variant` of a run for `group`, or for all groups of the run.

    Parameters
    ----------
    variant : str
        Id (``v0007``) or slug.
    group : str, optional
        All groups of the run by default.
    run : str, optional
        Id of the run; the newest sweep by default.
    by : str, optional
        Who adopts; the user of this process by default.

    Returns
    -------
    dict
        What was written to ``adopted.json`` for each group: the variant, complete, so that
        it can be run without the configuration it came from; its rank and score; who, when.

    Raises
    ------
    NotFoundError
        The variant, group or run does not exist; the message lists what does.
    """
    folder = project.run(run) if run else newest_run(project, "sweep")
    if folder is None:
        raise NotFoundError("there is no sweep yet", hint="Start one: opsef sweep run")
    plan = Plan.from_json(folder.plan())
    chosen = find_variant(plan, variant, folder.id)
    groups = list(dict.fromkeys(image.group for image in plan.images))
    if group is not None and group not in groups:
        raise NotFoundError(
            f"{folder.id} has no group {group!r}", hint=f"Choose of {', '.join(groups)}"
        )
    rows = {row["group"]: row for row in variant_rows(folder) if row["id"] == chosen.id}
    new = {
        name: {
            "id": chosen.id,
            "slug": chosen.slug,
            "run": folder.id,
            "variant": chosen.to_json(),
            "rank": int(rows[name]["rank"]),
            "score": float(rows[name]["score"]),
            "by": by or getpass.getuser(),
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        for name in ([group] if group else groups)
    }
    with lock(project.lock_file):
        project.write_adopted(project.adopted() | new)
    return new
