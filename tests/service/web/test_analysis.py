"""Analysis and classes over HTTP, and by the inbox: jobs, their results, their files."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from opsef_bridge.project import Project
from opsef_bridge.rois.revisions import History
from opsef_bridge.service import inbox
from opsef_bridge.service.requests import job_of, write_request
from opsef_bridge.sweep import adopt, plan_batch, run_plan
from tests.small_projects import Here


@pytest.fixture(scope="module")
def batched(served, tmp_path_factory) -> Path:
    """A copy of the folder with objects of a batch, which need no name."""
    root = Path(shutil.copytree(served, tmp_path_factory.mktemp("batched") / "root"))
    project = Project(root / "demo")
    adopt(project, "v0001")
    assert run_plan(project, plan_batch(project), Here()).failed == 0
    return root


@pytest.fixture
def root(batched, tmp_path) -> Path:
    return Path(shutil.copytree(batched, tmp_path / "Räume 1"))


def done(site, path: str, who: str = "ada", **body):
    """Ask for a job, have it done here, and return what became of it."""
    answer = site.ask("POST", f"/projects/demo/{path}", json=body, who=who)
    assert answer.status_code == 202, answer.text
    name = answer.json()["job"]
    inbox.run(site.project)
    return site.ask("GET", f"/projects/demo/jobs/{name}").json()


def classes_of(project: Project, image: str) -> dict[int, int]:
    history = History(project, image)
    return history.objects(history.head().id).classes


def fetched(site, path: str):
    return site.ask("GET", "/projects/demo/files", params={"path": path})


def test_an_analysis_is_a_job_whose_files_can_be_fetched(site):
    job = done(site, "analyse", columns=["area"], cluster="kmeans", count=2)
    assert job["state"] == "done", job
    told = job["result"]
    assert job["message"] == told["said"][0] and "objects of 2 images" in told["said"][0]
    assert told["images"] == 2 and told["failed"] == []
    assert any("kmeans made 2 clusters" in line for line in told["said"])
    table = fetched(site, "tables/objects.csv")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert len(rows) == told["objects"] > 10 and {row["cluster"] for row in rows} == {"1", "2"}
    plots = [name for name in told["files"] if name.startswith("plots/")]
    assert plots and "tables/columns.md" in told["files"]
    for name in plots:
        picture = fetched(site, name)
        assert picture.headers["content-type"] == "image/png"
        assert picture.content.startswith(b"\x89PNG")
        assert "sandbox" in picture.headers["content-security-policy"]
    assert fetched(site, "tables/columns.md").status_code == 200


def test_drawings_cannot_run_programs_here(site):
    told = done(site, "analyse", columns=["area"], plots="svg", images=[site.images[0]])
    names = [name for name in told["result"]["files"] if name.endswith(".svg")]
    assert told["result"]["images"] == 1 and names
    answer = fetched(site, names[0])
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_only_files_of_an_analysis_can_be_fetched(site, tmp_path):
    root = site.project.root
    (root / "tables" / "deep").mkdir(parents=True)
    (root / "plots").mkdir(exist_ok=True)
    for name in ("a.csv", "deep/b.csv", ".hidden.csv", "a.py"):
        (root / "tables" / name).write_text("image\n")
    (tmp_path / "secret.csv").write_text("secret\n")
    (root / "tables" / "out.csv").symlink_to(tmp_path / "secret.csv")
    (root / "secret.csv").write_text("secret\n")
    (root / "tables" / "inner.csv").symlink_to(root / "secret.csv")
    (root / "plots" / "away").symlink_to(tmp_path)
    assert fetched(site, "tables/a.csv").text == fetched(site, "tables/deep/b.csv").text
    for path in (
        "tables", "tables/", "tables/none.csv", "tables/.hidden.csv", "tables/a.py", "opsef.yaml",
        "tables/../opsef.yaml", "tables/../secret.csv", "../demo/tables/a.csv", "tables//a.csv",
        "/etc/passwd", f"{root}/tables/a.csv", "tables/out.csv", "tables/inner.csv",
        "plots/away/secret.csv", "tables\\a.csv", "tables/%2e%2e/secret.csv", "secret.csv",
        "tables/a.csv\0.png", "tables/./a.csv", "data/a.tif", "annotations/x.csv",
    ):  # fmt: skip
        answer = fetched(site, path)
        assert answer.status_code == 404, path
        assert answer.json()["error"]["message"] and "secret\n" not in answer.text
    assert site.ask("GET", "/projects/demo/files").status_code == 422
    long = fetched(site, "tables/" + "a" * 500 + ".csv")
    assert long.status_code == 422


def test_a_gate_makes_revisions_of_who_asks(site):
    job = done(site, "classify", where="area > 0", **{"class": "dividing"}, who="bob")
    told = job["result"]
    assert job["state"] == "done" and len(told["images"]) == 2, job
    for one, image in zip(told["images"], site.images, strict=True):
        assert (one["image"], one["revision"], one["base"]) == (image, "r0001", "r0001")
        found = classes_of(site.project, image)
        assert set(found.values()) == {2} and len(found) == one["objects"]
        assert History(site.project, image).head().author == "bob"
    assert told["uncertain"] is None and told["report"] == []
    assert told["objects"] == sum(one["objects"] for one in told["images"])


def test_a_dry_run_saves_nothing(site):
    told = done(site, "classify", cluster="kmeans", count=2, dry_run=True)["result"]
    assert told["objects"] > 10 and told["images"] == [] and "nothing is saved" in told["said"][-1]
    assert all(History(site.project, image).head() is None for image in site.images)


def test_rows_are_of_what_they_name(site):
    image, other = site.images
    rows = [{"image": image, "label": 1, "class": 1, "run": "run-0001", "variant": "v0002"},
            {"image": image, "label": 2, "class": 3, "run": "run-0001", "variant": "v0002"},
            {"image": other, "label": 9999, "class": 3}]  # fmt: skip
    told = done(site, "classify", rows=rows)["result"]
    first, second = told["images"]
    assert first["revision"] == "r0001" and first["error"] is None
    assert classes_of(site.project, image) == {1: 1, 2: 3}
    assert History(site.project, image).head().base.variant == "v0002"
    assert second["revision"] is None and "no object 9999" in second["error"]
    again = done(site, "classify", rows=[{"image": image, "label": 1, "class": 0,
                                           "revision": "r0001"}])  # fmt: skip
    assert again["state"] == "done" and classes_of(site.project, image) == {2: 3}


def test_learning_tells_what_to_classify_next(site):
    rows = [
        {"image": image, "label": label, "class": 1 + label % 2}
        for image in site.images
        for label in range(1, 7)
    ]
    assert done(site, "classify", rows=rows)["state"] == "done"
    told = done(site, "classify", learn=True, features=["area", "eccentricity"])["result"]
    assert {row["class"] for row in told["report"]} == {1, 2}
    assert all(set(row) >= {"objects", "precision", "recall"} for row in told["report"])
    assert told["uncertain_count"] == len(told["uncertain"]) > 3 and told["images"] == []
    known = {(row["image"], row["label"]) for row in rows}
    for row in told["uncertain"]:
        assert (row["image"], row["label"]) not in known and row["revision"] == "r0001"
        assert row["predicted_class"] in (1, 2) and 0 < row["probability"] <= 1
    # Who is told the first ones only reads on in the table: it has them in the same order.
    names = ("image", "label", "run", "variant", "revision", "predicted_class")
    lines = csv.DictReader(fetched(site, "tables/uncertain.csv").text.splitlines())
    table = [[line[name] for name in names] for line in lines]
    plain = [["" if row[n] is None else str(row[n]) for n in names] for row in told["uncertain"]]
    assert table == plain
    sure = done(site, "classify", learn=True, least=0)["result"]
    assert sure["objects"] == told["uncertain_count"]
    assert {one["revision"] for one in sure["images"]} == {"r0002"}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("classify", {}, "give one of where, cluster, learn, rows"),
        ("classify", {"where": "area > 1"}, "where and class"),
        ("classify", {"where": "area > 1", "class": "1", "learn": True}, "give one of"),
        ("classify", {"cluster": "kmeans", "least": 0.5}, "least is of learned"),
        ("classify", {"learn": True, "count": 3}, "count is of clusters"),
        ("classify", {"rows": []}, "rows"),
        ("classify", {"rows": [{"image": "../x", "label": 1, "class": 1}]}, "image"),
        ("classify", {"rows": [{"image": "x", "label": 1, "class": 256}]}, "class"),
        ("classify", {"learn": True, "run": "run-0001"}, "a run needs a variant"),
        ("analyse", {"revision": "r0001", "variant": "v0001"}, "a variant or a revision"),
        ("analyse", {"plots": "exe"}, "plots"),
        ("analyse", {"embed": ["magic"]}, "embed"),
    ],
)
def test_what_cannot_be_understood_is_refused_at_once(site, path, body, words):
    answer = site.ask("POST", f"/projects/demo/{path}", json=body)
    assert answer.status_code == 422 and words in answer.json()["error"]["message"], answer.text
    assert site.ask("GET", "/projects/demo/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("classify", {"where": "import os", "class": "1"}, "cannot be understood"),
        ("classify", {"where": "nonsense > 1", "class": "1"}, "nonsense"),
        ("classify", {"where": "area > 1", "class": "blue"}, "'blue' is no class"),
        ("classify", {"learn": True}, "0 classes have objects"),
        ("classify", {"where": "area > 1", "class": "1", "variant": "v0009"}, "v0009"),
        ("classify", {"rows": [{"image": "nobody", "label": 1, "class": 1}]}, "nobody"),
        ("analyse", {"by": "mood", "plots": None}, "no column 'mood'"),
        ("analyse", {"images": ["i9"]}, "i9"),
    ],
)
def test_what_fails_says_why(site, path, body, words):
    job = done(site, path, **body)
    assert job["state"] == "failed" and words in job["error"]["message"], job
    assert job["error"]["code"] in ("bad-input", "not-found")


def test_the_same_by_the_inbox_alone(site):
    given = {"where": "area > 0", "class": "1", "images": [site.images[0]]}
    name = write_request(site.project, "classify", given, author="Ben")
    asked = json.loads((site.project.inbox_folder / f"{name}.json").read_text())
    assert asked["parameters"] == given
    measured = write_request(site.project, "analyse", {"plots": None}, author="Ben")
    inbox.run(site.project)
    assert job_of(site.project, name).state == "done"
    assert set(classes_of(site.project, site.images[0]).values()) == {1}
    told = job_of(site.project, measured).result
    assert told["images"] == 2 and not any(f.startswith("plots") for f in told["files"])
