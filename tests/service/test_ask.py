"""Questions and answers as jobs: through requests, and over a real service."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.project import Project
from opsef_bridge.rois import write_roi_set
from opsef_bridge.rois.answers import read_answers, vouched
from opsef_bridge.service.requests import perform, write_request
from opsef_bridge.sweep import plan_sweep, run_plan
from tests.small_projects import Here, discs

CONFIG = """\
opsef: 1
images: {source: [data/*]}
models: {classic: {engine: watershed, threshold: [0.05, 0.1, 0.8, otsu]}}
sweep: {crop: none}
"""


@pytest.fixture
def disputed(root) -> Project:
    """A project in which the variants disagree, in the folder that is served."""
    folder = root / "disputed"
    (folder / "data").mkdir(parents=True)
    tifffile.imwrite(folder / "data" / "a.tif", discs(0))
    (folder / "opsef.yaml").write_text(CONFIG)
    project = Project(folder)
    assert run_plan(project, plan_sweep(project), Here()).failed == 0
    return project


def done(project, kind, parameters, **more):
    return perform(project, write_request(project, kind, parameters, author="ada", **more))


def place_of(question) -> dict:
    return {name: question[name] for name in ("image", "run", "variant", "label")}


def test_ask_answer_and_ask_again(disputed):
    told = done(disputed, "ask", {"count": 2})
    assert [len(told["questions"]), told["said"]] == [2, ["2 places to look at"]]
    for one in told["questions"]:
        y, x, height, width = one["box"]
        (first, *_), *_ = one["outline"]
        assert x <= first[0] <= x + width and y <= first[1] <= y + height
    one, two = told["questions"]
    said = done(disputed, "answer", place_of(one) | {"answer": "right"})
    assert (said["answers"], said["first"]) == (1, said["first"]) and said["first"]
    done(disputed, "answer", place_of(two) | {"answer": "nothing", "asked": False})
    kept = read_answers(disputed, one["image"])[1]
    assert [(a.author, a.answer, a.asked) for a in kept] == [
        ("ada", "right", True), ("ada", "nothing", False),
    ]  # fmt: skip
    again = [place_of(q) for q in done(disputed, "ask", {"count": 9})["questions"]]
    assert place_of(one) not in again and place_of(two) not in again


def test_what_is_drawn_comes_along(disputed, tmp_path):
    (one,) = done(disputed, "ask", {"count": 1})["questions"]
    labels = np.zeros(discs(0).shape, np.int32)
    y, x, height, width = one["box"]
    labels[y : y + height, x : x + width] = 3
    write_roi_set(tmp_path / "drawn.zip", labels)
    sent = place_of(one) | {"answer": "drawn"}
    done(disputed, "answer", sent, attachment=tmp_path / "drawn.zip")
    np.testing.assert_array_equal(vouched(disputed, one["image"]).labels > 0, labels > 0)
    with pytest.raises(InputError, match="nothing is drawn"):
        done(disputed, "answer", sent)


def test_an_answer_that_was_interrupted_and_is_done_again_counts_once(disputed):
    (one,) = done(disputed, "ask", {"count": 1})["questions"]
    for _ in range(2):
        told = done(disputed, "answer", place_of(one) | {"answer": "right"})
    assert told["answers"] == 1 and len(read_answers(disputed, one["image"])[1]) == 1


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("ask", {"count": 0}),
        ("ask", {"count": 101}),
        ("ask", {"run": "../x"}),
        ("answer", {"answer": "perhaps"}),
        ("answer", {"label": 0}),
        ("answer", {"label": "x"}),
        ("answer", {"image": "../x"}),
        ("answer", {"colour": "red"}),
    ],
)
def test_wrong_parameters_are_refused(project, kind, wrong):
    whole = {"image": "i00001-0", "variant": "v0001", "label": 1, "answer": "right"}
    with pytest.raises(InputError):
        write_request(project, kind, (whole if kind == "answer" else {}) | wrong, author="ada")


def test_what_is_not_there(project):
    with pytest.raises(NotFoundError):
        done(project, "ask", {"run": "run-0042"})
    for wrong in ({"label": 9999}, {"variant": "v0042"}, {"image": "i00009-x"}):
        whole = {"image": "i00001-0", "variant": "v0001", "label": 1, "answer": "right"}
        with pytest.raises(NotFoundError):
            done(project, "answer", whole | wrong)


@pytest.fixture
def client(root):
    """A client of the service on the folder, whose jobs are done in processes of their own."""
    testclient = pytest.importorskip("fastapi.testclient", reason="service is not installed")
    from opsef_bridge.service.app import create_app
    from opsef_bridge.service.jobs import Jobs
    from opsef_bridge.service.people import invite

    headers = {"Authorization": f"Bearer {invite(root, 'ada')[1]}"}
    app = create_app(root, upload_limit=2**20, jobs=Jobs(root, at_most=1))
    base = "http://127.0.0.1:8000"
    with testclient.TestClient(app, base_url=base, headers=headers) as client:
        yield client


def test_over_the_service(disputed, client, until, tmp_path):
    here = "/v1/projects/disputed"
    started = client.post(f"{here}/questions", json={"count": 2})
    assert started.status_code == 202, started.text
    job = f"{here}/jobs/{started.json()['job']}"
    until(lambda: client.get(job).json()["state"] not in ("waiting", "running"))
    told = client.get(job).json()
    assert told["state"] == "done", told
    one, two = told["result"]["questions"]
    said = client.post(f"{here}/answers", params=place_of(one) | {"answer": "right"})
    assert said.status_code == 201 and said.json()["answers"] == 1, said.text
    labels = np.zeros(discs(0).shape, np.int32)
    y, x, height, width = two["box"]
    labels[y : y + height, x : x + width] = 3
    write_roi_set(tmp_path / "drawn.zip", labels)
    sent = {"params": place_of(two) | {"answer": "drawn"}}
    assert client.post(f"{here}/answers", **sent).status_code == 422
    zipped = (tmp_path / "drawn.zip").read_bytes()
    said = client.post(f"{here}/answers", content=zipped, **sent)
    assert said.status_code == 201 and said.json()["answers"] == 2, said.text
    kept = read_answers(disputed, two["image"])[1][-1]
    np.testing.assert_array_equal(kept.drawn, np.flatnonzero(labels))
    assert kept.author == "ada"


def test_a_review_through_a_request(disputed):
    image = disputed.images()[0].id
    told = done(disputed, "review", {"image": image, "variant": "v0001", "count": 2})
    assert [told["image"], told["variant"], told["run"], told["group"]] == [
        image, "v0001", "run-0001", "default",
    ]  # fmt: skip
    labels = disputed.labels(None, "v0001", image)
    assert [label for label, _ in told["support"]] == np.unique(labels[labels > 0]).tolist()
    assert len(told["work"]) == 2 and sum(told["left"].values()) >= 2
    for one in told["work"]:
        y, x, height, width = one["box"]
        (first, *_), *_ = one["outline"]
        assert x <= first[0] <= x + width and y <= first[1] <= y + height
        assert one["support"] == dict(map(tuple, told["support"]))[one["label"]]
    (row,) = told["images"]
    assert row["image"] == image and row["doubtful"] == told["left"]["doubtful"]
    assert "order only" in told["words"][0] and len(told["classes"]) == 5
    again = done(disputed, "review", {"variant": "v0001"})
    assert [again["image"], again["work"], again["images"]] == [None, [], told["images"]]
    assert again["words"] == told["words"] and again["slug"] == told["slug"]


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"image": "../x"}, {"colour": "red"}, {"image": "i00001-0", "group": "x"}],
)
def test_a_wrong_review_is_refused(project, wrong):
    with pytest.raises(InputError):
        write_request(project, "review", wrong, author="ada")


def test_a_review_over_the_service(disputed, client, until):
    here, image = "/v1/projects/disputed", disputed.images()[0].id
    started = client.post(f"{here}/review", json={"image": image, "variant": "v0001"})
    assert started.status_code == 202, started.text
    job = f"{here}/jobs/{started.json()['job']}"
    until(lambda: client.get(job).json()["state"] not in ("waiting", "running"))
    told = client.get(job).json()
    assert told["state"] == "done", told
    assert told["result"]["support"] and told["result"]["images"][0]["image"] == image
    assert client.post(f"{here}/review", json={"count": 0}).status_code == 422
    assert client.post(f"{here}/review", json={"colour": "red"}).status_code == 422


def test_why_a_variant_is_first(disputed, client):
    here = "/v1/projects/disputed/runs"
    told = client.get(f"{here}/run-0001/ranking").json()
    assert told["run"] == "run-0001" and list(told["groups"]) == ["default"]
    group = told["groups"]["default"]
    run = client.get(f"{here}/run-0001").json()
    assert group["first"] == run["variants"][0]["id"] and group["families"] == 1
    assert group["words"] and group["ties"] is not None
    disputed.run().root.joinpath("ranking.json").unlink()  # as an older version left it
    assert client.get(f"{here}/run-0001/ranking").json()["groups"]["default"]["words"]
    disputed.run().variants_file.unlink()  # as it is while the run works
    assert client.get(f"{here}/run-0001/ranking").json() == {"run": "run-0001", "groups": {}}
    assert client.get(f"{here}/run-0042/ranking").status_code == 404


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"label": 0}, 422), ({"answer": "perhaps"}, 422), ({"image": "../x"}, 422),
        ({"label": 9999}, 404), ({"variant": "v0042"}, 404), ({"run": "run-0042"}, 404),
    ],
)  # fmt: skip
def test_what_the_service_refuses(project, client, wrong, status):
    whole = {"image": "i00001-0", "variant": "v0001", "label": 1, "answer": "right"}
    answer = client.post("/v1/projects/cells/answers", params=whole | wrong)
    assert answer.status_code == status and answer.json()["error"]["message"]
    assert client.post("/v1/projects/cells/questions", json={"count": 0}).status_code == 422
    assert not list(Project(project.root).truth_folder.glob("*.json"))
