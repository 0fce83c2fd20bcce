"""Images that belong to no project, which Segment Image sends: kept for a day."""

from __future__ import annotations

import time

from opsef_bridge.project import Project
from opsef_bridge.service.forms import files_of
from opsef_bridge.service.ledger import jobs_of
from opsef_bridge.service.states import log_of

__all__ = ["SCRATCH", "tidy"]

SCRATCH = "_scratch"
"""Id of the folder of the service itself for such images: what begins so is no project."""

SECONDS = 24 * 3600.0
"""How long they are kept."""


def tidy(project: Project) -> None:
    """Remove what is old, and what became of it."""
    oldest = time.time() - SECONDS
    for job in jobs_of(project):
        file = project.job_file(job.id)
        if not job.ended_for_good or not file.exists() or file.stat().st_mtime > oldest:
            continue
        done = project.inbox_folder / "done"
        files = [done / name.name for name in files_of(project, job.id)]
        rois = project.exchange_folder("segment") / f"{job.id}_ROIs.zip"
        for path in (*files, rois, rois.with_suffix(".json"), log_of(project, job.id), file):
            path.unlink(missing_ok=True)
