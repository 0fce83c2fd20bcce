"""A request that is sent again by its id, because no answer came, is done once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from opsef_bridge.files import read_json
from opsef_bridge.project import read_csv
from opsef_bridge.rois.revisions import History
from opsef_bridge.service import once as once_module
from opsef_bridge.service import projects as projects_module
from tests.service.web.test_app import edited, tiff

pytest.importorskip("fastapi", reason="the extra `service` is not installed")

ID = "5f2c9d0e-0000-4000-8000-00000000000a"
HEADER = "X-Opsef-Request"


def same(first, second) -> bool:
    return (
        first.status_code == second.status_code
        and first.json() == second.json()
        and first.headers.get("etag") == second.headers.get("etag")
    )


def refused(answer) -> bool:
    return answer.status_code == 422 and "another request" in answer.json()["error"]["message"]


def routes(site, make_discs) -> dict:
    """Return by name: method, path, what is sent, and something else for the same route."""
    image = site.images[0]
    rois = site.ask("GET", f"/projects/demo/rois/{image}?variant=v0001")
    zip_ = {"content": rois.content, "headers": {"If-Match": rois.headers["etag"]}}
    none = {"headers": {"If-Match": rois.headers["etag"], "X-Opsef-Objects": "0"}}
    verdict = {"image": image, "variant": "v0001", "verdict": "good"}
    claim = {"image": image, "scope": "0,0,9,9", "revision": "r0001"}
    picture = {"content": tiff(make_discs(7))}
    return {
        "rois": ("PUT", f"/projects/demo/rois/{image}", zip_, none),
        "adopt": ("POST", "/projects/demo/adopt", {"json": {"variant": "v0001"}},
                  {"json": {"variant": "v0002"}}),
        "verdict": ("POST", "/projects/demo/verdicts", {"json": verdict},
                    {"json": verdict | {"verdict": "over"}}),
        "truth": ("POST", "/projects/demo/truth", {"json": claim},
                  {"json": claim | {"scope": "whole"}}),
        "run": ("POST", "/projects/demo/runs", {"json": {"kind": "sweep"}},
                {"json": {"kind": "sweep", "resume": True}}),
        "image": ("POST", "/projects/demo/images?name=ä.tif", picture,
                  {"content": tiff(make_discs(8))}),
        "segment": ("POST", "/segment?engine=watershed", picture,
                    {"content": tiff(make_discs(8))}),
        "project": ("POST", "/projects", {"json": {"name": "new"}}, {"json": {"name": "newer"}}),
    }  # fmt: skip


def ask(site, route, what="first", id=ID, who="ada"):
    method, path, first, other = route
    sent = dict(first if what == "first" else other)
    sent["headers"] = {**sent.get("headers", {}), HEADER: id}
    return site.ask(method, path, who=who, **sent)


def what_is_there(site) -> list:
    """Return all that a second doing would add to."""
    project = site.project
    verdicts = project.annotations_folder / "verdicts.csv"
    return [
        sorted(p.name for p in site.root.iterdir()),
        [row.id for row in project.images()],
        sorted(p.name for p in (site.root / "demo" / "data").iterdir()),
        len(History(project, site.images[0]).revisions()),
        len(read_csv(verdicts)) if verdicts.is_file() else 0,
        sorted(p.name for p in project.inbox_folder.rglob("*.json")),
        project.adopted(),
    ]


def test_the_same_again_is_answered_the_same_and_done_once(site, make_discs):
    for number, (name, route) in enumerate(routes(site, make_discs).items()):
        id = f"{ID}-{number}"
        first = ask(site, route, id=id)
        assert first.status_code in (200, 201, 202), (name, first.text)
        there = what_is_there(site)
        for _ in range(2):
            assert same(first, ask(site, route, id=id)), name
        assert refused(ask(site, route, "other", id=id)), name
        assert refused(ask(site, route, id=id, who="bob")), name
        assert same(first, ask(site, route, id=id)), name
        assert what_is_there(site) == there, name
        new = ask(site, route, id=f"{id}-new")
        assert new.status_code < 300, name
    assert len(read_csv(site.project.annotations_folder / "verdicts.csv")) == 2
    assert {"new", "new-2"} < {p.name for p in site.root.iterdir()}


def test_an_id_is_of_one_request_whatever_the_route(site, make_discs):
    all_routes = routes(site, make_discs)
    inside = [route for route in all_routes.values() if route[1].startswith("/projects/")]
    for number, route in enumerate(inside):
        id = f"only-one-{number}"
        assert ask(site, route, id=id).status_code < 300
        for other in inside:
            if other is not route:
                assert refused(ask(site, other, id=id)), (route, other)


def test_a_refusal_is_told_again(site, make_discs, tmp_path):
    image = site.images[0]
    out = site.ask("GET", f"/projects/demo/rois/{image}?variant=v0001")
    base = {"If-Match": out.headers["etag"]}
    path = f"/projects/demo/rois/{image}"
    none = base | {"X-Opsef-Objects": "0"}
    assert site.ask("PUT", path, who="bob", headers=none).status_code == 201

    def smaller(labels, classes):
        labels[:, : labels.shape[1] // 2] = 0
        labels[::2] = 0
        return labels, classes

    body = edited(out.content, make_discs(1).shape, tmp_path, smaller)
    sent = {"content": body, "headers": base | {HEADER: ID}}
    stale = site.ask("PUT", path, **sent)
    assert stale.status_code == 412 and stale.json()["error"]["report"]
    assert same(stale, site.ask("PUT", path, **sent))
    # What was refused is somebody's work: its bytes are kept, where those of a save are not.
    done = site.project.inbox_folder / "done"
    assert [p.read_bytes() for p in done.glob("*.zip")] == [body]
    resolved = sent | {"headers": base | {HEADER: f"{ID}-2"}}
    assert site.ask("PUT", f"{path}?resolve=ours", **resolved).status_code == 201
    assert refused(site.ask("PUT", f"{path}?resolve=ours", **sent))


@pytest.mark.parametrize(
    "id", ["", "short", "a" * 65, "../../../x", "ä" * 8, "a b c d e", "x.json-x"]
)
def test_what_is_no_id(site, id):
    headers = {HEADER: id.encode("utf-8")}
    answer = site.ask("POST", "/projects", json={"name": "new"}, headers=headers)
    assert answer.status_code == 422 and "X-Opsef-Request" in answer.text
    assert not (site.root / "new").exists()


def test_two_at_once_are_one(site, make_discs):
    for name in ("rois", "image", "project", "verdict"):
        route = routes(site, make_discs)[name]
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask, site, route, id=f"{name}-{ID}") for _ in range(4)]
        answers = [one.result() for one in asked]
        assert all(same(answers[0], one) for one in answers), name
        assert answers[0].status_code == 201, answers[0].text
    assert sorted(p.name for p in site.root.iterdir()) == [".opsef", "demo", "new"]
    assert len(History(site.project, site.images[0]).revisions()) == 1


def test_what_another_did_in_the_meantime_is_told(site, make_discs, monkeypatch):
    """Four at once meet in the middle only now and then."""
    route = routes(site, make_discs)["image"]
    looks, did = once_module.is_job, []

    def meanwhile(project, id):
        monkeypatch.setattr(once_module, "is_job", looks)
        did.append(ask(site, route))
        return looks(project, id)

    monkeypatch.setattr(once_module, "is_job", meanwhile)
    told = ask(site, route)
    assert told.status_code == 201 and same(did[0], told)


def test_a_long_job_does_not_hold_up_who_asks_again(site):
    """Whoever does it holds the lock of the request for hours."""
    from opsef_bridge.files import lock
    from opsef_bridge.service.states import lock_of

    sent = {"json": {"kind": "sweep"}, "headers": {HEADER: ID}}
    first = site.ask("POST", "/projects/demo/runs", **sent)
    with lock(lock_of(site.project, ID)):
        assert same(first, site.ask("POST", "/projects/demo/runs", **sent))


def test_a_project_is_made_once_though_it_was_cut_off(site, monkeypatch):
    """After it was made, and before what was answered was kept."""

    def cut_off(*arguments):
        raise RuntimeError

    sent = {"json": {"name": "Kerne"}, "headers": {HEADER: ID}}
    with monkeypatch.context() as patch:
        patch.setattr(projects_module, "_renamed", cut_off)
        with pytest.raises(RuntimeError):
            site.ask("POST", "/projects", **sent)
    assert (site.root / "Kerne" / "opsef.yaml").is_file()
    assert refused(site.ask("POST", "/projects", json={"name": "x"}, headers=sent["headers"]))
    made = site.ask("POST", "/projects", **sent)
    assert made.status_code == 201 and made.json()["id"] == "Kerne"
    assert not (site.root / "Kerne-2").exists()


def test_an_answer_that_is_lost_is_not_made_up(site):
    image = site.images[0]
    verdict = {"image": image, "variant": "v0001", "verdict": "good"}
    sent = {"json": verdict, "headers": {HEADER: ID}}
    assert site.ask("POST", "/projects/demo/verdicts", **sent).status_code == 201
    site.project.job_file(ID).unlink()
    answer = site.ask("POST", "/projects/demo/verdicts", **sent)
    assert answer.status_code == 409 and answer.json()["error"]["code"] == "unknown-outcome"
    assert len(read_csv(site.project.annotations_folder / "verdicts.csv")) == 1


def test_what_came_along_is_known_by_its_sha256(site):
    image = site.images[0]
    out = site.ask("GET", f"/projects/demo/rois/{image}?variant=v0001")
    headers = {"If-Match": out.headers["etag"], HEADER: ID}
    assert site.ask("PUT", f"/projects/demo/rois/{image}", content=out.content,
                    headers=headers).status_code == 201  # fmt: skip
    inbox = site.project.inbox_folder
    assert not list(inbox.rglob("*.zip"))
    assert len(read_json(inbox / "done" / f"{ID}.json")["sha256"]) == 64
