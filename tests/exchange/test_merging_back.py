"""Edits that were made in a bundle come back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.engines.registry import list_weights
from opsef_bridge.engines.staging import weights_in
from opsef_bridge.engines.store import add_from, own_copy
from opsef_bridge.errors import ConfigError, InputError, StaleError
from opsef_bridge.exchange.bundling import bundle, unbundle
from opsef_bridge.exchange.merging_back import merge_back
from opsef_bridge.exchange.saving import How, save_objects
from opsef_bridge.files import file_sha256, write_json
from opsef_bridge.project import Project
from opsef_bridge.rois.archive import Archive
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.records import Base, Source
from opsef_bridge.rois.truth import read_truth
from tests.running import run_opsef
from tests.small_projects import discs, swept


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> Path:
    project = swept(tmp_path_factory.mktemp("back") / "project", {"a.tif": discs(0)})
    image = project.images()[0].id
    run = project.run()
    save(project, project.labels(None, "v0001", image), Base(run=run.id, variant="v0001"))
    return project.root


@pytest.fixture
def project(made_once, tmp_path) -> Project:
    return Project(shutil.copytree(made_once, tmp_path / "project"))


@pytest.fixture
def away(project, tmp_path) -> Project:
    """The project on another machine."""
    bundle(project, tmp_path / "out.zip")
    unbundle(tmp_path / "out.zip", tmp_path / "away")
    return Project(tmp_path / "away")


def save(project: Project, labels: np.ndarray, base: Base, truth: str | None = None):
    entry = project.images()[0]
    source = Source("labels.tif", "", "labels")
    how = How(author="ada", truth=truth)
    return save_objects(project, entry, Objects(labels), how, base=base, source=source)


def without(project: Project, *gone: int, truth: str | None = None):
    """Save a revision on the newest one, without some of its objects."""
    archive = Archive(project, project.images()[0].id)
    head = archive.head().id
    labels = archive.objects(head).labels
    return save(project, np.where(np.isin(labels, gone), 0, labels), Base(revision=head), truth)


def ids(project: Project) -> set[int]:
    archive = Archive(project, project.images()[0].id)
    return set(archive.objects(archive.head().id).ids)


def back(project: Project, away: Project, **given):
    file = away.root.with_name("back.zip")
    bundle(away, file)
    return merge_back(project, file, **given)[0]


def test_what_only_the_bundle_has_comes_back_as_it_is(project, away):
    image, all_ = project.images()[0].id, ids(project)
    without(away, 1)
    without(away, 2, truth="whole")
    (one,) = back(project, away)
    assert (one.taken, one.claims, one.error) == (["r0002", "r0003"], 1, None)
    assert Archive(project, image).revisions() == Archive(away, image).revisions()
    assert ids(project) == all_ - {1, 2}
    theirs, ours = read_truth(away, image), read_truth(project, image)
    assert (ours.labels == theirs.labels).all() and ours.known.all()
    assert back(project, away) == []  # nothing is taken twice


def test_edits_of_both_sides_are_joined(project, away):
    all_ = ids(project)
    without(project, 1)
    without(away, 2)
    without(away, 3, truth="touched")
    (one,) = back(project, away)
    assert one.error is None and one.claims == 1
    assert ids(project) == all_ - {1, 2, 3}
    revisions = len(Archive(project, one.name).revisions())
    again = back(project, away)
    assert not any(one.taken or one.claims or one.error for one in again)
    assert len(Archive(project, one.name).revisions()) == revisions


def test_nobody_vouches_for_edits_that_he_has_not_seen(project, away):
    without(project, 1)
    without(away, 2, truth="whole")
    (one,) = back(project, away)
    assert one.claims == 0 and any("Not vouched for" in words for words in one.said)
    assert not project.truth_file(one.name).exists()


def test_the_same_object_changed_on_both_sides_is_refused_with_a_report(project, away):
    labels = Archive(project, project.images()[0].id).objects("r0001").labels
    grown = np.where((np.roll(labels, 1, 0) == 5) & (labels == 0), 5, labels)
    save(project, grown, Base(revision="r0001"))
    without(away, 5)
    before = ids(project)
    (one,) = back(project, away)
    assert isinstance(one.error, StaleError) and one.error.report
    assert one.taken == [] and ids(project) == before
    (one,) = back(project, away, resolve="ours")
    assert one.error is None and ids(project) == before - {5}


def test_another_picture_is_refused(project, away):
    without(away, 1)
    text = project.index_file.read_text()
    sha256 = project.images()[0].sha256
    project.index_file.write_text(text.replace(sha256, "0" * 64))
    (one,) = back(project, away)
    assert isinstance(one.error, InputError) and one.taken == []


def test_datasets_come_back_where_their_id_is_free(project, away):
    write_json(away.datasets_folder / "d0001" / "dataset.json", {"key": "a"})
    (one,) = back(project, away)
    assert (one.what, one.taken) == ("dataset", ["d0001"])
    assert project.datasets() == ["d0001"] and back(project, away) == []
    write_json(project.datasets_folder / "d0001" / "dataset.json", {"key": "b"})
    (one,) = back(project, away)
    assert one.taken == [] and "another dataset" in one.said[0]


def test_no_project_to_merge_into(away, tmp_path):
    bundle(away, tmp_path / "p.zip")
    with pytest.raises(ConfigError):
        merge_back(Project(tmp_path / "none"), tmp_path / "p.zip")
    assert not (tmp_path / "none").exists()


def test_the_command(project, away, tmp_path, monkeypatch, capfd):
    without(away, 1)
    bundle(away, tmp_path / "p.zip")
    words = ("project", "unbundle", tmp_path / "p.zip", project.root, "--merge")
    code, out, err = run_opsef(monkeypatch, capfd, *words)
    assert code == 0 and "r0002" in out, err
    code, out, err = run_opsef(monkeypatch, capfd, *words, "--json")
    assert json.loads(out)["found"] == []
    assert sorted(one.name for one in project.root.iterdir() if one.name[0] == ".") == []


def test_weights_come_back_with_their_card(project, away, tmp_path):
    (weights,) = [one for one in list_weights([]) if one.name == "nuclei-unet"]
    own_copy(weights, tmp_path / "models")
    assert back(project, away) == []
    add_from(tmp_path / "models", away.models_folder, ["nuclei-unet"], name="mine")
    (one,) = back(project, away)
    assert (one.what, one.taken, one.error) == ("weights", ["mine"], None)
    (here,) = weights_in(project.models_folder)
    assert here.name == "mine" and here.sha256 == weights.sha256
    assert here.card["engine"] == "unet" and file_sha256(here.path) == here.sha256
    assert back(project, away) == []
