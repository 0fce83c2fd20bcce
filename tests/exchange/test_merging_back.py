"""Edits that were made in a bundle come back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.engines.cards import add_evaluation
from opsef_bridge.engines.registry import list_weights
from opsef_bridge.engines.staging import weights_in
from opsef_bridge.engines.store import add_from, own_copy
from opsef_bridge.errors import ConfigError, InputError, ProjectError, RoiError, StaleError
from opsef_bridge.exchange.bundling import bundle, unbundle
from opsef_bridge.exchange.merging_back import merge_back
from opsef_bridge.exchange.saving import How, save_objects
from opsef_bridge.files import file_sha256, read_json, write_json, write_text
from opsef_bridge.images import write_labels
from opsef_bridge.project import Project
from opsef_bridge.rois.answers import Answer, add_answer, read_answers
from opsef_bridge.rois.archive import Archive
from opsef_bridge.rois.claims import parse_scope
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.records import Base, Source, content_of
from opsef_bridge.rois.truth import add_truth, read_truth
from opsef_bridge.sweep.verdicts import add_verdict, read_verdicts
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
    return back_all(project, away, **given)[0]


def back_all(project: Project, away: Project, *, runs: bool = False, **given):
    file = away.root.with_name("back.zip")
    bundle(away, file, runs=runs)
    return merge_back(project, file, **given)


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


def test_datasets_come_back_under_the_next_number_where_theirs_is_taken(project, away):
    write_json(away.datasets_folder / "d0001" / "dataset.json", {"key": "a", "id": "d0001"})
    (one,) = back(project, away)
    assert (one.what, one.taken) == ("dataset", ["d0001"])
    assert project.datasets() == ["d0001"] and back(project, away) == []
    write_json(project.datasets_folder / "d0001" / "dataset.json", {"key": "b", "id": "d0001"})
    (one,) = back(project, away)
    assert one.taken == ["d0002"] and "another dataset" in one.said[0]
    assert [read_json(project.dataset_folder(name) / "dataset.json") for name in ("d0001", "d0002")
            ] == [{"key": "b", "id": "d0001"}, {"key": "a", "id": "d0002"}]  # fmt: skip
    assert back(project, away) == []
    (away.datasets_folder / "d0001" / "dataset.json").write_text("{")
    (one,) = back(project, away)
    assert "cannot be understood" in str(one.error) and one.taken == []


def test_one_damaged_record_does_not_stop_the_rest(project, away):
    write_json(away.datasets_folder / "d0001" / "dataset.json", {"key": "a"})
    image = without(away, 1).revision.image
    (away.revisions_folder(image) / "r0002.json").write_text("{")
    bad, good = back(project, away)
    assert isinstance(bad.error, ProjectError) and bad.taken == []
    assert good.taken == ["d0001"] and len(Archive(project, image).revisions()) == 1


def test_a_revision_that_is_not_the_one_saved_does_not_come_in(project, away):
    image = without(away, 1).revision.image
    file = away.revisions_folder(image) / "r0002.zip"
    file.write_bytes(file.read_bytes() + b" ")
    (one,) = back(project, away)
    assert isinstance(one.error, RoiError) and one.taken == []
    assert [path.name for path in project.revisions_folder(image).glob("r0002*")] == []


def test_a_truth_that_is_no_record_is_refused_for_its_image(project, away):
    image = without(away, 1, truth="whole").revision.image
    write_json(away.truth_file(image), {"claims": [{"scope": 1}]})
    (one,) = back(project, away)
    assert one.taken == ["r0002"] and "cannot be understood" in str(one.error)


def test_all_objects_deleted_comes_back_once(project, away):
    without(project, 1)
    without(away, *ids(away) - {2})
    without(away, 2)
    (one,) = back(project, away, resolve="ours")
    assert one.error is None and ids(project) == set()
    count = len(Archive(project, one.name).revisions())
    assert not any(one.taken or one.error for one in back(project, away, resolve="ours"))
    assert len(Archive(project, one.name).revisions()) == count


def test_two_bundles_of_one_base_come_back_one_after_the_other(project, away, tmp_path):
    third = Project(shutil.copytree(away.root, tmp_path / "third"))
    all_ = ids(project)
    without(away, 1)
    without(third, 2)
    bundle(third, tmp_path / "third.zip")
    assert back(project, away)[0].taken == ["r0002"]
    assert merge_back(project, tmp_path / "third.zip")[0][0].taken == ["r0003"]
    assert ids(project) == all_ - {1, 2}
    assert not any(one.taken for one in back(project, away))
    assert ids(project) == all_ - {1, 2}


def test_an_older_word_does_not_take_the_place_of_a_newer_one(project, away):
    image = project.images()[0].id
    without(project, 1, truth="whole")
    now = read_truth(project, image)
    add_truth(away, image, "r0001", parse_scope("whole"), author="bob")
    (one,) = back(project, away)
    assert one.claims == 0 and "r0002, which is newer" in one.said[0]
    assert (read_truth(project, image).labels == now.labels).all()


def test_edits_of_a_run_that_is_another_one_here_are_joined(made_once, tmp_path):
    """Both sides swept by themselves, from run-0001 on, and edited what they had."""
    home = Project(shutil.copytree(made_once, tmp_path / "home"))
    shutil.rmtree(home.annotations_folder)
    away = Project(shutil.copytree(home.root, tmp_path / "away"))
    image = home.images()[0].id
    labels = home.labels(None, "v0001", image)
    file = away.run().label_file("v0001", image)
    write_labels(file, np.where(labels == 3, 0, labels))
    for project in (home, away):
        made = project.labels(None, "v0001", image)
        gone = 1 if project is home else 2
        base = Base(run="run-0001", variant="v0001", sha256=content_of(Objects(made)))
        save(project, np.where(made == gone, 0, made), base)
    (one,) = back(home, away)
    assert one.error is None and one.taken == ["r0002"]
    assert len(ids(home)) == len(np.unique(labels)) - 1 - 2


def test_names_of_classes_come_along(project, away):
    text = away.config_file.read_text().replace("2: dividing", "2: dividing, 3: dead")
    away.config_file.write_text(text)
    without(project, 1)
    without(away, 2)
    found, said = back_all(project, away)
    names = Archive(project, found[0].name).head().class_names
    assert names == {1: "resting", 2: "dividing", 3: "dead"}
    assert said == ["opsef.yaml differs: that of the project stays"]


def test_a_picture_of_another_id_and_one_that_is_only_there(project, away):
    text = away.index_file.read_text()
    row = text.splitlines()[1]
    new = row.replace("i00001-a,", "i00002-b,")
    lone = row.replace("i00001-a,", "i00003-c,").replace(away.images()[0].sha256, "0" * 64)
    away.index_file.write_text("\n".join([text.strip(), new, lone]) + "\n")
    renamed, only = back(project, away)
    assert "the picture is i00001-a here" in renamed.said[0] and renamed.error is None
    assert "only in the bundle" in only.said[0]
    assert len(project.images()) == 1


def answer(project: Project, what: str, label: int, author: str, at: str) -> Answer:
    image = project.images()[0].id
    labels = project.labels(None, "v0001", image)
    outline = np.flatnonzero(labels == label)
    given = Answer(what, "run-0001", "v0001", label, author, outline, at=at)
    add_answer(project, image, given, labels.shape)
    return given


def standing(project: Project) -> list[tuple[int, str]]:
    _, answers = read_answers(project, project.images()[0].id)
    return sorted((one.label, one.answer) for one in answers if not one.replaced)


def test_answers_of_both_sides_are_joined(project, tmp_path, made_once):
    run = project.root / "runs"
    answer(project, "right", 1, "ada", "2031-01-01T00:00:00+00:00")
    bundle(project, tmp_path / "out.zip", runs=True)
    unbundle(tmp_path / "out.zip", tmp_path / "away")
    away = Project(tmp_path / "away")
    answer(away, "nothing", 1, "bob", "2031-01-02T00:00:00+00:00")  # of the common one
    answer(away, "right", 2, "bob", "2031-01-02T00:00:00+00:00")
    answer(away, "nothing", 3, "bob", "2031-01-02T00:00:00+00:00")
    answer(project, "right", 3, "ada", "2031-01-03T00:00:00+00:00")  # says otherwise
    answer(project, "right", 4, "ada", "2031-01-03T00:00:00+00:00")
    (one,) = back(project, away)
    assert one.error is None and one.said[0] == "2 answers to questions"
    assert "1 answers to questions differ" in one.said[1]
    assert standing(project) == [(1, "nothing"), (2, "right"), (3, "right"), (4, "right")]
    (again,) = back(project, away)
    assert len(again.said) == 1 and "differ" in again.said[0]
    back(project, away, resolve="ours")
    assert standing(project) == [(1, "nothing"), (2, "right"), (3, "nothing"), (4, "right")]
    assert back(project, away) == [] and run.is_dir()


def test_runs_verdicts_and_notebooks_come_back(project, tmp_path):
    bundle(project, tmp_path / "out.zip", runs=True)
    unbundle(tmp_path / "out.zip", tmp_path / "away")
    away = Project(tmp_path / "away")
    image = away.images()[0].id
    add_verdict(away, image, "v0002", "good", author="bob")
    write_text(away.root / "notebooks" / "conclusions.md", "v0002")
    found, _ = back_all(project, away)
    assert [(one.what, one.taken, one.claims) for one in found] == [
        ("verdicts", [], 0), ("notebook", ["conclusions.md"], 0),
    ]  # fmt: skip
    assert "--with-runs" in found[0].said[0]
    shutil.copytree(away.run().root, away.runs_folder / "run-0002")
    found, _ = back_all(project, away, runs=True)
    assert [(one.what, one.taken, one.claims) for one in found] == [
        ("run", ["run-0002"], 0), ("verdicts", [], 1),
    ]  # fmt: skip
    assert [(one.author, one.verdict) for one in read_verdicts(project)] == [("bob", "good")]
    assert project.runs() == ["run-0001", "run-0002"]
    assert (project.labels("run-0002", "v0001", image) == away.labels(None, "v0001", image)).all()
    assert back_all(project, away, runs=True)[0] == []
    plan = read_json(project.run("run-0002").plan_file)
    write_json(project.run("run-0002").plan_file, plan | {"key": "other"})
    write_text(project.root / "notebooks" / "conclusions.md", "v0001")
    run, notebook = back_all(project, away, runs=True)[0]
    assert "another run here" in run.said[0] and "differs" in notebook.said[0]


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
    (there,) = weights_in(away.models_folder)
    score = {"date": "2031-01-01", "images": 3}
    add_evaluation(there, score)
    (one,) = back(project, away)
    assert one.taken == [] and "more scores" in one.said[0]
    assert score in weights_in(project.models_folder)[0].card["evaluations"]
    assert back(project, away) == []
    (away.models_folder / "mine" / "mine.json").write_text('{"engine": 1')
    (one,) = back(project, away)
    assert one.what == "weights" and one.error is not None
