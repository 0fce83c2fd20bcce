"""What another training of the project has made by the same key is copied, not made again."""

from __future__ import annotations

import shutil
from pathlib import Path

from opsef_bridge.engines.cards import card_file
from opsef_bridge.errors import WeightsError
from opsef_bridge.files import atomic_folder, atomic_path, write_json
from opsef_bridge.project import Project, Run
from opsef_bridge.train.networks import Network
from opsef_bridge.train.places import MADE, network_folder, networks_made, weights_of

__all__ = ["copy_folder", "take_over"]


def take_over(project: Project, run: Run, one: Network) -> bool:
    """Take weights, curves or at least checkpoints of its key over from another training.

    Parameters
    ----------
    run : Run
        The training to which they come.
    one : Network
        As that calls it.

    Returns
    -------
    bool
        Whether its weights are there now. Where only checkpoints are, to train it goes on.
        Weights that are gone, or were changed since, do not count.
    """
    mine = network_folder(run, one.id)
    for from_, other, done in networks_made(project, one.key):
        if from_.id == run.id:
            continue
        theirs = network_folder(from_, other.id)
        if not (done and _is_whole(from_, other)):
            # A training that was killed, or whose weights were deleted: go on with it.
            if not mine.is_dir():
                copy_folder(theirs, mine, without=MADE)
            continue
        copy_folder(theirs, mine, without=MADE)
        _copy_candidate(from_, other, run, one)
        return True
    return False


def _is_whole(run: Run, one: Network) -> bool:
    try:
        weights_of(run, one)
    except WeightsError:
        return False
    return True


def _copy_candidate(run: Run, other: Network, to: Run, one: Network) -> None:
    """Copy weights and card, under the name that they have here."""
    weights = weights_of(run, other)
    card = dict(weights.card)
    assert weights.path is not None
    name = weights.path.name.replace(other.candidate, one.candidate)
    with atomic_path(to.root / "models" / name) as partial:
        shutil.copyfile(weights.path, partial)
    family = str(card.get("family", "")).replace(other.candidate, one.candidate)
    card |= {"name": one.candidate, "file": name, "family": family}
    write_json(to.root / "models" / card_file(weights).name.replace(
        other.candidate, one.candidate), card)  # fmt: skip
    write_json(network_folder(to, one.id) / MADE,
               {"key": one.key, "name": one.candidate, "file": name})  # fmt: skip


def copy_folder(source: Path, target: Path, without: str = "") -> None:
    """Copy a folder, but no files named `without`: at once where there is none yet, else by file.

    A copy that is killed leaves no folder that looks whole.
    """
    if not target.is_dir():
        with atomic_folder(target) as place:
            _copy_files(source, place, without)
    else:
        _copy_files(source, target, without)


def _copy_files(source: Path, target: Path, without: str) -> None:
    for file in sorted(source.rglob("*")):
        if file.is_file() and file.name != without and ".partial" not in file.name:
            with atomic_path(target / file.relative_to(source)) as partial:
                shutil.copyfile(file, partial)
