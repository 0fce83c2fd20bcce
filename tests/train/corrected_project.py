"""A project of small images that were corrected, some of them vouched for."""

from __future__ import annotations

from pathlib import Path

from opsef_bridge.project import Project
from opsef_bridge.rois.truth import Whole, add_truth
from tests.train.labelled_project import project_of, save, squares


def make_corrected(folder: Path, count: int = 5, vouched: int = 4) -> Project:
    """Make a project of images with a revision each; the first `vouched` are truth throughout."""
    made = project_of(folder, {f"s{n}.tif": squares(n)[0] for n in range(count)})
    for number, entry in enumerate(made.images()):
        revision = save(made, entry.id, squares(number)[1])
        if number < vouched:
            add_truth(made, entry.id, revision, Whole(), author="ada")
    return made
