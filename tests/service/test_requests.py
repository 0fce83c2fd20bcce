"""Requests: checked when they are written, done once, and their states tell what happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tifffile

from opsef_bridge.errors import (
    InputError,
    LockedError,
    NotFoundError,
    OpsefError,
    ProjectError,
    RoiError,
    StaleError,
)
from opsef_bridge.execute import Event
from opsef_bridge.files import lock, read_json, write_json
from opsef_bridge.images import read_labels
from opsef_bridge.project import Project, read_csv
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import History
from opsef_bridge.rois.sets import read_roi_set, write_roi_set
from opsef_bridge.rois.truth import read_truth
from opsef_bridge.service import kinds
from opsef_bridge.service import requests as module
from opsef_bridge.service.requests import (
    job_of,
    jobs_of,
    open_jobs,
    perform,
    read_request,
    write_request,
)
from opsef_bridge.service.states import Job, Teller, error_json, error_of, read_state
from opsef_bridge.sweep.ranking import read_ranking

IMAGE = "i00001-0"
VERDICT = {"image": IMAGE, "variant": "v0001", "verdict": "good"}


def ask(project, kind, parameters, **more):
    return write_request(project, kind, parameters, author="ada", **more)


def done(project, kind, parameters, **more):
    return perform(project, ask(project, kind, parameters, **more))


def edited(tmp_path, project, change, name="edit.zip"):
    """A zip of the objects of v0001 as somebody changed them."""
    labels = project.labels(None, "v0001", IMAGE).copy()
    change(labels)
    write_roi_set(tmp_path / name, Objects(labels), overwrite=True)
    return tmp_path / name


def without_first(labels):
    labels[labels == 1] = 0


def test_a_request_is_a_file_that_anybody_can_write(project):
    id = ask(project, "verdict", VERDICT)
    file = project.inbox_folder / f"{id}.json"
    assert json.loads(file.read_text()) == {
        "opsef": 1, "id": id, "kind": "verdict", "author": "ada", "parameters": VERDICT,
        "attachment": None, "at": json.loads(file.read_text())["at"],
    }  # fmt: skip
    assert id.startswith("q") and module.is_id(id)
    assert job_of(project, id).state == "waiting"
    assert [job.id for job in open_jobs(project)] == [id]
    assert perform(project, id)["verdict"] == "good"
    assert not file.exists() and (project.inbox_folder / "done" / file.name).is_file()
    job = job_of(project, id)
    assert (job.state, job.author, job.kind, job.tries) == ("done", "ada", "verdict", 1)
    assert job.started <= job.ended and job.pid == os.getpid()
    assert open_jobs(project) == [] and [one.id for one in jobs_of(project)] == [id]
    assert "pid" not in job.to_json()
    assert sorted(p.name for p in project.inbox_folder.rglob(".*")) == []


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        ("shell", {}, "'shell'"),
        ("verdict", {**VERDICT, "image": "../../opsef"}, "image"),
        ("verdict", {**VERDICT, "image": "a/b"}, "image"),
        ("verdict", {**VERDICT, "image": "a\0b"}, "image"),
        ("verdict", {**VERDICT, "image": "i00001-0\n"}, "image"),
        ("verdict", {**VERDICT, "verdict": "perfect"}, "'good'"),
        ("verdict", {}, "image"),
        ("sweep", {"resum": True}, "resum"),
        ("sweep", {"workers": 0}, "workers"),
        ("sweep", {"executor": "bash"}, "executor"),
        ("sweep", {"executor": "snakemake", "profile": "/etc/slurm"}, "profile"),
        ("sweep", {"profile": "slurm"}, "snakemake"),
        ("segment", {}, "engine"),
        ("segment", {"engine": "watershed", "parameters": {"a": [1]}}, "parameters"),
        ("adopt", {"variant": ""}, "variant"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(project, kind, parameters, said):
    with pytest.raises(InputError, match=said):
        ask(project, kind, parameters)
    assert not project.inbox_folder.exists()


@pytest.mark.parametrize("id", ["", "a/b", "../x", "a.b", "ä", "a" * 65, "a\n", "..", 5])
def test_odd_ids_are_refused(project, id):
    with pytest.raises(InputError, match="no id"):
        ask(project, "import", {}, id=id)
    for look in (job_of, perform, read_request):
        with pytest.raises(NotFoundError):
            look(project, id)
    assert not project.inbox_folder.exists()


@pytest.mark.parametrize("author", ["", "  ", "a\nb", "\ud800", "x" * 101])
def test_an_author_has_a_name(project, author):
    with pytest.raises(InputError, match="author"):
        write_request(project, "import", {}, author=author)


def test_only_what_belongs_to_a_kind_can_come_along(project):
    for kind, suffix in (("verdict", ".zip"), ("rois", ".tif"), ("rois", "/../../x.zip")):
        parameters = VERDICT if kind == "verdict" else {"image": IMAGE}
        with pytest.raises(InputError, match="cannot come along"):
            ask(project, kind, parameters, attachment=b"x", suffix=suffix)
    assert not project.inbox_folder.exists()


def test_the_same_request_again_does_nothing(project, tmp_path):
    file = edited(tmp_path, project, without_first)
    sent = {"image": IMAGE, "base": "run-0001/v0001"}
    first = ask(project, "rois", sent, id="q-1", attachment=file)
    written = (project.inbox_folder / "q-1.json").stat().st_mtime_ns
    assert ask(project, "rois", sent, id="q-1", attachment=file.read_bytes()) == first
    assert (project.inbox_folder / "q-1.json").stat().st_mtime_ns == written
    result = perform(project, "q-1")
    assert ask(project, "rois", sent, id="q-1", attachment=file) == first
    assert perform(project, "q-1") == result
    assert [one.id for one in History(project, IMAGE).revisions()] == ["r0001"]
    assert job_of(project, "q-1").tries == 1 and open_jobs(project) == []


def test_another_request_cannot_take_the_id(project, tmp_path):
    file = edited(tmp_path, project, without_first)
    ask(project, "rois", {"image": IMAGE, "base": "none"}, id="q-1", attachment=file)
    for kind, parameters, more in [
        ("verdict", VERDICT, {}),
        ("rois", {"image": IMAGE, "base": "r0001"}, {"attachment": file}),
        ("rois", {"image": IMAGE, "base": "none"}, {"attachment": file.read_bytes() + b"x"}),
        ("rois", {"image": IMAGE, "base": "none"}, {"attachment": bytes(file.stat().st_size)}),
        ("rois", {"image": IMAGE, "base": "none"}, {}),
    ]:
        with pytest.raises(InputError, match="another request"):
            ask(project, kind, parameters, id="q-1", **more)
    with pytest.raises(InputError, match="another request"):
        write_request(
            project, "rois", {"image": IMAGE, "base": "none"}, author="eve", id="q-1",
            attachment=file,
        )  # fmt: skip


def test_a_request_without_a_checksum_is_compared_by_its_file(project, tmp_path):
    """Scripts without a service write none, and what came along is gone when it is done."""
    file = edited(tmp_path, project, without_first)
    sent = {"image": IMAGE, "base": "run-0001/v0001"}
    ask(project, "rois", sent, id="q-1", attachment=file)
    written = project.request_file("q-1")
    content = read_json(written)
    assert len(content.pop("sha256")) == 64
    write_json(written, content)
    assert ask(project, "rois", sent, id="q-1", attachment=file) == "q-1"
    with pytest.raises(InputError, match="another request"):
        ask(project, "rois", sent, id="q-1", attachment=b"x")
    perform(project, "q-1")
    assert not list(project.inbox_folder.rglob("*.zip"))
    with pytest.raises(InputError, match="another request"):  # nobody can tell any more
        ask(project, "rois", sent, id="q-1", attachment=file)


@pytest.mark.parametrize("sha256", [5, ["a"], {}])
def test_a_checksum_is_a_text(project, sha256):
    ask(project, "verdict", VERDICT, id="q-1")
    file = project.request_file("q-1")
    write_json(file, read_json(file) | {"sha256": sha256})
    with pytest.raises(InputError, match="sha256"):
        perform(project, "q-1")


def test_two_at_once_are_done_once(project):
    id = ask(project, "verdict", VERDICT)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(perform(Project(project.root), id)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == 6 and all(result == results[0] for result in results)
    assert len(read_csv(project.annotations_folder / "verdicts.csv")) == 1
    assert job_of(project, id).tries == 1


# Kinds


def test_rois_become_a_revision_and_a_stale_one_is_refused_with_its_report(project, tmp_path):
    first = edited(tmp_path, project, without_first)
    sent = {"image": IMAGE, "base": "run-0001/v0001"}
    told = done(project, "rois", sent | {"truth": "whole"}, attachment=first)
    assert (told["revision"], told["new"]) == ("r0001", True)
    assert read_ranking(project.run())["default"]["answers"] == told["objects"] > 0
    assert told["changes"]["deleted"] == [1] and json.dumps(told)
    [record] = History(project, IMAGE).revisions()
    assert record.author == "ada" and read_truth(project, IMAGE).known.all()

    def other_first(labels):
        labels[np.nonzero(labels == 1)[0][0]] = 0

    stale = ask(project, "rois", sent, attachment=edited(tmp_path, project, other_first, "b.zip"))
    for _ in range(2):  # also when it is asked what became of it
        with pytest.raises(StaleError) as caught:
            perform(project, stale)
        assert caught.value.report["theirs"]["revision"] == "r0001"
    job = job_of(project, stale)
    assert (job.state, job.error["code"]) == ("failed", "stale-edit")
    assert job.error["report"] == caught.value.report and job.error["hint"]
    assert len(History(project, IMAGE).revisions()) == 1
    again = sent | {"resolve": "ours"}
    told = done(project, "rois", again, attachment=tmp_path / "b.zip")
    assert told["revision"] == "r0002"


def test_all_objects_deleted_is_said_in_words(project, tmp_path):
    with pytest.raises(InputError, match="no zip"):
        done(project, "rois", {"image": IMAGE, "base": "none"})
    told = done(project, "rois", {"image": IMAGE, "base": "run-0001/v0001", "empty": True})
    assert (told["objects"], told["revision"]) == (0, "r0001")
    with pytest.raises(StaleError):  # nobody knows what was edited
        file = edited(tmp_path, project, without_first)
        done(project, "rois", {"image": IMAGE, "base": None}, attachment=file)
    with pytest.raises(InputError, match="along"):
        done(project, "rois", {"image": IMAGE, "empty": True}, attachment=file)
    with pytest.raises(RoiError):
        done(project, "rois", {"image": IMAGE, "base": "r0001"}, attachment=b"no zip")


def test_a_save_that_was_killed_half_way_is_saved_once(project, tmp_path):
    sent = {"image": IMAGE, "base": "run-0001/v0001", "truth": "whole"}
    id = ask(project, "rois", sent, attachment=edited(tmp_path, project, without_first))
    code = """
import os, signal, sys
from opsef_bridge.exchange import saving
from opsef_bridge.project import Project
from opsef_bridge.service.requests import perform
saving.add_truth = lambda *a, **b: os.kill(os.getpid(), signal.SIGKILL)
perform(Project(sys.argv[1]), sys.argv[2])
"""
    command = [sys.executable, "-c", code, str(project.root), id]
    assert subprocess.run(command, timeout=60, check=False).returncode == -9
    assert job_of(project, id).state == "running"
    assert len(History(project, IMAGE).revisions()) == 1
    told = perform(project, id)
    assert (told["revision"], told["new"]) == ("r0001", False)
    assert len(History(project, IMAGE).revisions()) == 1
    assert read_truth(project, IMAGE).known.all()
    assert (job_of(project, id).state, job_of(project, id).tries) == ("done", 2)


def test_verdicts_are_kept_in_a_table(project):
    for verdict in ("good", "over", "under", "missed"):
        done(project, "verdict", VERDICT | {"verdict": verdict, "run": "run-0001"})
    rows = read_csv(project.annotations_folder / "verdicts.csv")
    assert [row["verdict"] for row in rows] == ["good", "over", "under", "missed"]
    assert {row["author"] for row in rows} == {"ada"} and {row["run"] for row in rows} == {
        "run-0001"
    }
    for wrong in ({"image": "i00009-x"}, {"variant": "v0099"}, {"run": "run-0099"}):
        with pytest.raises(NotFoundError):
            done(project, "verdict", VERDICT | wrong)
    assert len(read_csv(project.annotations_folder / "verdicts.csv")) == 4


def test_adopt_says_who_asked(project):
    told = done(project, "adopt", {"variant": "v0002"})
    assert told["adopted"]["default"]["id"] == "v0002"
    assert project.adopted()["default"]["by"] == "ada"
    with pytest.raises(NotFoundError, match="v0042"):
        done(project, "adopt", {"variant": "v0042"})


def test_truth_of_a_revision(project, tmp_path):
    with pytest.raises(NotFoundError):
        done(project, "truth", {"image": IMAGE, "scope": "whole"})
    file = edited(tmp_path, project, without_first)
    done(project, "rois", {"image": IMAGE, "base": "run-0001/v0001"}, attachment=file)
    told = done(project, "truth", {"image": IMAGE, "scope": "0,0,20,30", "revision": "r0001"})
    assert told["new"] and read_truth(project, IMAGE).known.sum() >= 20 * 30
    with pytest.raises(InputError):
        done(project, "truth", {"image": IMAGE, "scope": "everywhere"})


def test_a_table_measures_the_objects(project):
    told = done(project, "table", {"image": IMAGE, "variant": "v0001"})
    rows = read_csv(project.root / told["file"])
    labels = project.labels(None, "v0001", IMAGE)
    image = tifffile.imread(project.root / "data" / "0.tif")
    assert list(rows[0])[:8] == [
        "label", "area", "centroid_y", "centroid_x", "class", "mean_intensity", "unit", "image",
    ]  # fmt: skip
    assert len(rows) == labels.max() == told["objects"]
    for row in rows:
        mask = labels == int(row["label"])
        assert int(row["area"]) == mask.sum()
        assert float(row["centroid_y"]) == pytest.approx(np.nonzero(mask)[0].mean())
        assert float(row["mean_intensity"]) == pytest.approx(image[mask].mean())
    with pytest.raises(NotFoundError):
        done(project, "table", {"image": IMAGE})
    with pytest.raises(InputError, match="both"):
        done(project, "table", {"image": IMAGE, "variant": "v0001", "revision": "r0001"})
    with pytest.raises(InputError, match="without a variant"):
        done(project, "table", {"image": IMAGE, "run": "run-0001"})


def test_a_table_has_classes_and_units(project, tmp_path):
    labels = project.labels(None, "v0001", IMAGE)
    write_roi_set(tmp_path / "a.zip", Objects(labels, {2: 2}))
    sent = {"image": IMAGE, "base": "run-0001/v0001"}
    done(project, "rois", sent, attachment=tmp_path / "a.zip")
    text = project.index_file.read_text()
    entry = project.image(IMAGE)
    assert entry.unit in text
    rows = [dict(row) for row in read_csv(project.index_file)]
    for row in rows:
        row |= {"pixel_size_x": "0.5", "pixel_size_y": "0.5", "unit": "micron"}
    kinds.write_csv(project.index_file, rows, list(rows[0]))
    table, made_from = kinds.table_of(project, IMAGE)
    assert made_from == "r0001"
    assert table["class"].tolist() == [2 if label == 2 else 0 for label in table["label"]]
    assert table["area"][0] == (labels == 1).sum() / 4 and set(table["unit"]) == {"micron"}


def test_segment_an_image_that_belongs_to_no_project(tmp_path, swept_once):
    folder = tmp_path / "scratch"
    folder.mkdir()
    scratch = Project(folder)
    image = (swept_once / "data" / "0.tif").read_bytes()
    told = done(scratch, "segment", {"engine": "watershed"}, attachment=image, suffix=".tif")
    objects, _, _ = read_roi_set(folder / told["rois"])
    assert len(objects.ids) == told["objects"] == 9
    assert list(objects.labels.shape) == told["shape"]
    tifffile.imwrite(tmp_path / "flat.tif", np.full((40, 40), 7, np.uint8))
    file = tmp_path / "flat.tif"
    told = done(scratch, "segment", {"engine": "watershed"}, attachment=file, suffix=".tif")
    assert (told["objects"], told["rois"]) == (0, None)
    with pytest.raises(InputError):
        parameters = {"engine": "watershed", "parameters": {"sharpness": 3}}
        done(scratch, "segment", parameters, attachment=image, suffix=".tif")
    with pytest.raises(NotFoundError, match="nothing"):
        done(scratch, "segment", {"weights": "nothing"}, attachment=image, suffix=".tif")
    with pytest.raises(InputError, match="no image"):
        done(scratch, "segment", {"engine": "watershed"})


def test_import_gives_new_images_an_id(project):
    tifffile.imwrite(project.root / "data" / "new.tif", np.zeros((20, 20), np.uint8))
    (project.root / "data" / "bad.tif").write_bytes(b"no image")
    told = done(project, "import", {})
    assert told["images"][:2] == ["i00001-0", "i00002-1"] and len(told["images"]) == 4
    assert [image[7:] for image in told["unreadable"]] == ["bad"]


def test_imports_at_once_give_every_image_one_id(project, tmp_path):
    def bring(number):
        tifffile.imwrite(project.root / "data" / f"n{number}.tif", np.zeros((9, 9), np.uint8))
        done(Project(project.root), "import", {})

    threads = [threading.Thread(target=bring, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    entries = project.images()
    assert len(entries) == len({entry.id for entry in entries}) == 8


# States


def test_a_full_disk_is_said_in_words(project, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", "x.csv")

    monkeypatch.setattr("opsef_bridge.sweep.verdicts.write_csv", full)
    id = ask(project, "verdict", VERDICT)
    with pytest.raises(ProjectError, match=r"No space left"):
        perform(project, id)
    assert job_of(project, id).state == "failed"


def test_a_folder_that_is_gone_or_cannot_be_written(project, tmp_path, monkeypatch):
    with pytest.raises(NotFoundError):
        ask(Project(tmp_path / "gone"), "import", {})
    assert not (tmp_path / "gone").exists()
    (project.root / "inbox").write_text("in the way")
    with pytest.raises(ProjectError, match="inbox"):
        ask(project, "import", {})


def test_a_fault_of_the_program_is_recorded_as_one(project, monkeypatch, capsys):
    def fault(*arguments):
        raise ZeroDivisionError("1/0 \ud800")

    monkeypatch.setattr("opsef_bridge.sweep.verdicts.write_csv", fault)
    id = ask(project, "verdict", VERDICT)
    with pytest.raises(OpsefError, match="ZeroDivisionError"):
        perform(project, id)
    job = job_of(project, id)
    assert (job.state, job.error["code"]) == ("failed", "internal")
    assert "Traceback" in capsys.readouterr().err


def test_a_fast_request_waits_a_little_for_a_lock(project, monkeypatch):
    held = threading.Event()

    def hold():
        with lock(project.lock_file):
            held.set()
            time.sleep(0.4)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(5)
    assert done(project, "adopt", {"variant": "v0001"})["adopted"]
    thread.join()
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    with lock(project.lock_file), pytest.raises(LockedError):
        done(project, "adopt", {"variant": "v0001"})


def test_what_has_to_wait_can_stay_in_the_inbox(project):
    id = ask(project, "sweep", {})
    with lock(project.lock_file), pytest.raises(LockedError):
        perform(project, id, wait=True)
    job = job_of(project, id)
    assert (job.state, job.tries) == ("waiting", 0) and "is held by" in job.message
    assert perform(project, id)["run"] == "run-0001"  # which the sweep of the fixture made
    other = ask(project, "sweep", {})
    with lock(project.lock_file), pytest.raises(LockedError):
        perform(project, other)
    assert job_of(project, other).state == "failed"


def test_a_state_is_never_lost_between_two_steps(project, monkeypatch):
    """Killed after the state was written and before the files were moved away."""
    id = ask(project, "verdict", VERDICT)

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "put_away", stop)
        with pytest.raises(KeyboardInterrupt):
            perform(project, id)
    assert project.request_file(id).exists() and job_of(project, id).state == "done"
    [left] = open_jobs(project)
    assert perform(project, left.id) == job_of(project, id).result
    assert not project.request_file(id).exists() and open_jobs(project) == []
    assert len(read_csv(project.annotations_folder / "verdicts.csv")) == 1


def test_a_state_file_that_is_gone_or_damaged(project):
    id = ask(project, "verdict", VERDICT)
    perform(project, id)
    project.job_file(id).write_text("{half")
    assert read_state(project, id) is None
    job = job_of(project, id)
    assert (job.state, job.result) == ("done", None) and "not known" in job.message
    project.job_file(id).unlink()
    assert job_of(project, id).state == "done"
    assert perform(project, id) == {}
    assert len(read_csv(project.annotations_folder / "verdicts.csv")) == 1


def test_progress_is_written_seldom_and_the_newest_always(project, until):
    writes = []
    teller = Teller(project, Job("q-1", state="running"), writes.append)
    start = time.monotonic()
    for number in range(400):
        teller.event(Event(number, 400, f"step {number}"))
    took = time.monotonic() - start
    until(lambda: job_of(project, "q-1").current == 399, timeout=5)
    assert len(writes) <= 3 + 5 * took
    teller.event(Event(400, 400, "late"))
    teller.change(state="done", message="over")
    teller.event(Event(1, 400, "after the end"))
    time.sleep(0.3)  # as long as anything could still come
    assert (job_of(project, "q-1").message, job_of(project, "q-1").state) == ("over", "done")


def test_errors_come_back_as_what_they_were():
    for error in (NotFoundError("a", hint="b"), StaleError("s", report={"x": 1}), RoiError("r")):
        again = error_of(error_json(error))
        assert type(again) is type(error) and error_json(again) == error_json(error)
    assert type(error_of({"code": "bad-input", "message": "m", "hint": ""})) is InputError
    assert error_of({"code": "of-a-plugin", "message": "m", "hint": ""}).code == "of-a-plugin"


def test_jobs_are_listed_newest_first(project):
    ids = []
    for number in range(4):
        ids.append(done_id := ask(project, "verdict", VERDICT))
        perform(project, done_id)
        os.utime(project.job_file(done_id), (1e9 + number, 1e9 + number))
    waiting = ask(project, "import", {})
    assert [job.id for job in jobs_of(project)] == [waiting, *reversed(ids)]
    assert [job.id for job in jobs_of(project, newest=2)] == [waiting, ids[-1]]


def test_a_state_is_read_by_those_that_know_less(project):
    id = ask(project, "verdict", VERDICT)
    perform(project, id)
    write_json(project.job_file(id), read_json(project.job_file(id)) | {"of a later version": 1})
    assert job_of(project, id).state == "done"


def test_a_sweep_in_this_process(root, project):
    told = done(project, "sweep", {"workers": 1})
    assert told["run"] == "run-0001" and told["open"] == 0 and told["ok"] > 0
    done(project, "adopt", {"variant": "v0001"})
    told = done(project, "batch", {"workers": 1})
    assert told["run"] == "run-0002" and told["ok"] == 2
    labels = read_labels(project.run("run-0002").label_file("v0001", IMAGE))
    assert np.array_equal(labels, project.labels("run-0001", "v0001", IMAGE))
    with pytest.raises(NotFoundError, match="run-0077"):
        done(project, "sweep", {"resume": True, "run": "run-0077"})


def test_a_request_stands_for_its_result_as_what_was_edited(project, tmp_path):
    """Without a service a window saves twice and learns of neither."""
    one = ask(project, "rois", {"image": IMAGE, "base": "run-0001/v0001"},
              attachment=edited(tmp_path, project, without_first))  # fmt: skip
    labels = project.labels(None, "v0001", IMAGE)
    labels[(labels == 1) | (labels == 2)] = 0
    write_roi_set(tmp_path / "two.zip", Objects(labels), overwrite=True)
    two = ask(project, "rois", {"image": IMAGE, "base": one}, attachment=tmp_path / "two.zip")
    with pytest.raises(InputError, match="was not saved"):
        perform(project, two)
    perform(project, one)
    three = ask(project, "rois", {"image": IMAGE, "base": one}, attachment=tmp_path / "two.zip")
    found = perform(project, three)
    assert found["changes"]["deleted"] == [2] and found["base"] == "r0002"
    assert History(project, IMAGE).head().base.revision == "r0001"
