"""The page of objects by a service: tickets, what its key may do, what it saves, a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest

from opsef_bridge.analysis.analyse import Wish, analyse
from opsef_bridge.analysis.page import service_policy
from opsef_bridge.exchange.sources import variant_of
from opsef_bridge.project import Project
from opsef_bridge.rois.revisions import History
from opsef_bridge.service.pages import Pages
from opsef_bridge.service.people import invitation, invite, revoke, write_invitation
from tests.browser import Browser, opened
from tests.running import run_opsef

TICKET = "/projects/demo/objects/ticket"
CLASSES = "/v1/projects/demo/classes"
OF_VARIANT = {"run": "run-0001", "variant": "v0001"}


@pytest.fixture(scope="module")
def analysed(served, tmp_path_factory) -> Path:
    """A copy of the folder with tables and the page of objects of a variant."""
    root = Path(shutil.copytree(served, tmp_path_factory.mktemp("analysed") / "root"))
    project = Project(root / "demo")
    wish = Wish(embed=(), plots=None, columns=["area"])
    analyse(project, wish, variant=variant_of(project, "v0001"))
    return root


@pytest.fixture
def root(analysed, tmp_path) -> Path:
    return Path(shutil.copytree(analysed, tmp_path / "Räume 1"))


def told_of(text: str) -> dict:
    content = re.search('<meta name="opsef-service" content="(.*?)">', text)[1]
    return json.loads(html.unescape(content))


def page_of(site, who: str = "ada") -> dict:
    """Open the page as a person; return what it is told."""
    return told_of(site.client.get(site.ask("POST", TICKET, who=who).json()["path"]).text)


def key_of_page(site, who: str = "ada") -> dict[str, str]:
    return {"Authorization": f"Bearer {page_of(site, who)['key']}"}


def chosen(image: str, *classes: tuple[int, list[int]], **origin: str) -> dict:
    return {
        "image": image,
        "classes": [{"class": number, "labels": labels} for number, labels in classes],
        **origin,
    }


def classes_of(project: Project, image: str) -> dict[int, int]:
    history = History(project, image)
    return history.objects(history.head().id).classes


def test_a_key_opens_the_door_of_its_page_only() -> None:
    pages = Pages({"t": "ada"}.get)
    keys = {
        page: pages.take(pages.ticket("t", "demo", page, run))[2]
        for page, run in [("report", "run-0001"), ("objects", "")]
    }
    verdicts = "/v1/projects/demo/verdicts"
    may = {(m, p): [page for page, key in keys.items() if pages.who(m, p, key)]
           for m in ("GET", "POST", "PUT", "DELETE")
           for p in (verdicts, CLASSES, CLASSES + "/", "/v1/projects/other/classes",
                     "/v1/projects/demo/classify", f"/v1{TICKET}")}  # fmt: skip
    assert {place: found for place, found in may.items() if found} == {
        ("GET", verdicts): ["report"], ("POST", verdicts): ["report"],
        ("POST", CLASSES): ["objects"],
    }  # fmt: skip


def test_a_page_by_ticket_saves_classes_and_nothing_else(site) -> None:
    link = site.ask("POST", TICKET)
    assert link.status_code == 201 and site.tokens["ada"] not in link.text
    path = link.json()["path"]
    page = site.client.get(path)  # without a token
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"] == service_policy()
    assert page.headers["cache-control"] == "no-store"
    assert "set-cookie" not in page.headers and site.tokens["ada"] not in page.text
    assert site.client.get(path).status_code == 404  # once
    told = told_of(page.text)
    assert {name: told[name] for name in ("project", "author", "newest")} == {
        "project": "demo", "author": "ada", "newest": {},
    }  # fmt: skip
    file = site.project.root / "plots" / "objects.html"
    assert "opsef-service" not in re.sub("<script>.*", "", file.read_text("utf-8"), flags=re.S)
    key = {"Authorization": f"Bearer {told['key']}"}
    image = site.images[0]
    wanted = chosen(image, (2, [1, 3]), (1, [2]), **OF_VARIANT)
    saved = site.client.post(CLASSES, json=wanted, headers=key)
    assert saved.status_code == 201, saved.text
    assert saved.json()["revision"] == saved.json()["base"] == "r0001"
    assert saved.json()["older"] is None
    assert classes_of(site.project, image) == {1: 2, 2: 1, 3: 2}
    head = History(site.project, image).head()
    assert (head.author, head.source.kind, head.base.variant) == ("ada", "classes", "v0001")
    for method, other in [("GET", "/v1/projects"), ("POST", f"/v1{TICKET}"), ("GET", CLASSES),
                          ("POST", "/v1/projects/demo/verdicts"),
                          ("POST", "/v1/projects/demo/classify")]:  # fmt: skip
        assert site.client.request(method, other, headers=key).status_code == 401, other
    for other in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {path[8:]}"}):
        assert site.client.post(CLASSES, json=wanted, headers=other).status_code == 401
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    assert site.client.options(CLASSES, headers=asked).status_code == 401
    revoke(site.root, "ada")
    assert site.client.post(CLASSES, json=wanted, headers=key).status_code == 401


def test_the_key_of_a_report_cannot_give_classes(site) -> None:
    link = site.ask("POST", "/projects/demo/runs/run-0001/report/ticket").json()["path"]
    key = {"Authorization": f"Bearer {told_of(site.client.get(link).text)['key']}"}
    image = site.images[0]
    refused = site.client.post(CLASSES, json=chosen(image, (1, [1])), headers=key)
    assert refused.status_code == 401
    verdict = {"image": image, "variant": "v0001", "verdict": "good"}
    verdicts = "/v1/projects/demo/verdicts"
    assert site.client.post(verdicts, json=verdict, headers=key).status_code == 201
    other = key_of_page(site)
    assert site.client.post(verdicts, json=verdict, headers=other).status_code == 401
    assert History(site.project, image).head() is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"classes": []}, "classes"),
        ({"classes": [{"class": 256, "labels": [1]}]}, "class"),
        ({"classes": [{"class": 1, "labels": [0]}]}, "labels"),
        ({"classes": [{"class": 1, "labels": []}]}, "labels"),
        ({"classes": [{"class": 1, "labels": [1]}, {"class": 2, "labels": [1]}]}, "two classes"),
        ({"classes": [{"class": 1, "labels": [1, 1]}]}, "two classes"),
        ({"classes": [{"class": "1; rm", "labels": [1]}]}, "class"),
        ({"image": "../x"}, "image"),
        ({"author": "bob"}, "author"),
        ({"classes": [{"class": 1, "labels": [99999]}]}, "no object 99999"),
    ],
)
def test_bad_classes_are_refused(site, body, words) -> None:
    wanted = chosen(site.images[0], (1, [1]), **OF_VARIANT) | body
    answer = site.client.post(CLASSES, json=wanted, headers=key_of_page(site))
    assert answer.status_code == 422 and words in answer.json()["error"]["message"], answer.text
    assert History(site.project, site.images[0]).head() is None


@pytest.mark.parametrize(
    "body", [{"image": "nobody"}, {"revision": "r0009"}, {"variant": "v0009"}, {"run": "run-0009"}]
)
def test_what_is_not_there_is_said(site, body) -> None:
    wanted = chosen(site.images[0], (1, [1]), **OF_VARIANT) | body
    answer = site.client.post(CLASSES, json=wanted, headers=key_of_page(site))
    assert answer.status_code == 404, answer.text
    assert next(iter(body.values())) in answer.json()["error"]["message"]


def test_older_tables_are_told_and_stale_classes_refused(site) -> None:
    image, other = site.images
    ada, bob = key_of_page(site), key_of_page(site, "bob")

    def save(key, *classes: tuple[int, list[int]], **origin: str):
        wanted = chosen(image, *classes, **(origin or OF_VARIANT))
        return site.client.post(CLASSES, json=wanted, headers=key)

    assert save(bob, (1, [1])).json()["revision"] == "r0001"
    # Ada's page is of the variant: what Bob did elsewhere is joined, and told.
    joined = save(ada, (2, [2])).json()
    assert (joined["revision"], joined["older"], joined["base"]) == ("r0002", "r0001", None)
    assert any("older than r0001" in line for line in joined["said"])
    assert classes_of(site.project, image) == {1: 1, 2: 2}
    stale = save(ada, (2, [1]))
    assert stale.status_code == 412, stale.text
    error = stale.json()["error"]
    assert error["code"] == "stale-edit" and "opsef analyse" in error["hint"]
    assert error["report"]["conflicts"] and classes_of(site.project, image) == {1: 1, 2: 2}
    # Of what is newest now the same is fine.
    fine = save(ada, (2, [1]), revision="r0002").json()
    assert (fine["revision"], fine["older"], fine["base"]) == ("r0003", None, "r0003")
    again = save(ada, (2, [1]), revision="r0003").json()
    assert again["revision"] is None and "no class changes of" in " ".join(again["said"])
    assert page_of(site)["newest"] == {image: "r0003"} and other != image


def test_the_same_sent_again_is_done_once(site) -> None:
    image = site.images[0]
    key = key_of_page(site) | {"X-Opsef-Request": "0123-4567-89ab"}
    wanted = chosen(image, (1, [1]), **OF_VARIANT)
    first, second = (site.client.post(CLASSES, json=wanted, headers=key) for _ in range(2))
    assert first.status_code == 201 and first.json() == second.json()
    assert len(History(site.project, image).revisions()) == 1


def test_pages_that_are_not_there_or_of_another_version(site) -> None:
    assert site.client.post(f"/v1{TICKET}").status_code == 401
    assert site.ask("POST", TICKET.replace("demo", "none")).status_code == 404
    file = site.project.root / "plots" / "objects.html"
    text = file.read_text("utf-8")
    waiting = site.ask("POST", TICKET).json()["path"]
    file.write_text(text.replace("'sha256-", "'sha256-0"), "utf-8")
    for answer in (site.ask("POST", TICKET), site.client.get(waiting)):
        assert answer.status_code == 422 and "another version" in answer.json()["error"]["message"]
    # A script that somebody changed does not run.
    file.write_text(text.replace('"use strict";', "alert(1);"), "utf-8")
    page = site.client.get(site.ask("POST", TICKET).json()["path"])
    assert page.headers["content-security-policy"] == service_policy()
    file.unlink()
    answer = site.ask("POST", TICKET)
    assert answer.status_code == 404 and "opsef analyse" in answer.json()["error"]["hint"]
    secret = site.root / "secret.html"
    secret.write_text(text, "utf-8")
    file.symlink_to(secret)
    assert site.ask("POST", TICKET).status_code == 404


def lasso(page: Browser, numbers: list[int]) -> None:
    """Drag around the points of these objects alone, as far as they can be parted."""
    spots = page.run(
        "(() => { const r = marks.getBoundingClientRect();"
        f"return {json.dumps(numbers)}.map((i) => {{"
        "const [x, y] = pixelOf(axes.x.values[i], axes.y.values[i]);"
        "return [r.left + x, r.top + y]; }); })()"
    )
    xs, ys = zip(*spots, strict=True)
    left, right, top, bottom = min(xs) - 3, max(xs) + 3, min(ys) - 3, max(ys) + 3
    path = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    how = {"button": "left", "buttons": 1}
    for kind, (x, y) in zip(
        ["mousePressed", *["mouseMoved"] * 4, "mouseReleased"], [*path, path[-1]], strict=True
    ):
        page.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, clickCount=1, **how)


def give(page: Browser, numbers: list[int], number: int) -> dict[str, dict[int, int]]:
    """Select by a lasso, press the number of a class; return classes by image and label."""
    lasso(page, numbers)
    page.press(str(number))
    rows = page.run("[...chosenOnes()].map((i) => [wordOf('image', i), labels[i]])")
    assert len(rows) >= len(numbers)
    found: dict[str, dict[int, int]] = {}
    for image, label in rows:
        found.setdefault(image, {})[label] = number
    return found


def test_in_a_real_browser(root, start_server, tmp_path, monkeypatch, capfd) -> None:
    running, project = start_server(root), Project(root / "demo")
    token = invite(root, "Ada")[1]
    ticket = write_invitation(tmp_path, invitation("Ada", token, port=running.port))

    def link() -> str:
        code, out, _ = run_opsef(monkeypatch, capfd, "-p", root / "demo", "report", "--objects",
                                 "--no-browser", "--invitation", ticket, "--json")  # fmt: skip
        assert code == 0 and token not in out
        return json.loads(out)["address"]

    def saved() -> dict[str, dict[int, int]]:
        heads = {entry.id: History(project, entry.id).head() for entry in project.images()}
        return {image: classes_of(project, image) for image, head in heads.items() if head}

    text = "document.getElementById('{}').textContent"
    with opened(tmp_path / "browser") as page:
        page.size(1300, 1000)
        page.open(link())
        page.until("document.body.dataset.ready")
        assert "by Ada" in page.run(text.format("keeping"))
        assert page.run("at('save').checkVisibility() && at('save').disabled")
        assert not page.run("at('export').checkVisibility()")
        assert not page.run("at('outcome').checkVisibility()")
        given = give(page, [0, 1, 2], 2)
        assert page.run(text.format("save")) == f"Save classes ({sum(map(len, given.values()))})"
        page.click("#save")
        page.until("at('save').disabled && at('save').textContent === 'Save classes (0)'")
        assert saved() == given
        assert {History(project, image).head().author for image in given} == {"Ada"}
        # The page knows what it saved: another class of the same objects is of that revision.
        image, labels = next(iter(given.items()))
        assert give(page, [0, 1, 2], 1).keys() == given.keys()
        page.click("#save")
        page.until("at('save').textContent === 'Save classes (0)'")
        assert saved()[image] == dict.fromkeys(labels, 1)
        assert History(project, image).head().id == "r0002"
        assert page.run("at('outcome').hidden") and page.run("localStorage.length") == 0
        # A new page of the old tables says so; what was edited since is refused, and shown.
        page.open(link())
        page.until("document.body.dataset.ready")
        assert "edited since" in page.run(text.format("outcome"))
        give(page, [0, 1, 2], 3)
        page.click("#save")
        page.until("at('outcome').textContent.includes('not saved')")
        assert f"{image}: not saved" in page.run(text.format("outcome"))
        assert "newest revision is r0002 by Ada" in page.run(text.format("outcome"))
        assert "opsef analyse" in page.run(text.format("outcome"))
        assert page.run("!at('save').disabled") and saved()[image] == dict.fromkeys(labels, 1)
        assert [line for line in page.said if "412" not in line] == []
        revoke(root, "Ada")
        page.click("#save")
        page.until("at('outcome').textContent.includes('open for too long')")


def test_from_disk_it_exports_and_has_no_save(root, tmp_path, monkeypatch, capfd) -> None:
    def report(*words: object) -> tuple[int, str, str]:
        words = ("-p", root / "demo", "report", "--objects", "--no-browser", *words)
        return run_opsef(monkeypatch, capfd, *words)

    code, out, _ = report("--json")
    address = json.loads(out)["address"]
    assert code == 0 and address.startswith("file://") and address.endswith("objects.html")
    with opened(tmp_path / "browser") as page:
        page.open(address)
        page.until("document.body.dataset.ready")
        assert not page.run("at('save').checkVisibility()")
        assert page.run("at('export').checkVisibility()")
    code, _, error = report("run-0001")
    assert code == 2 and "run-0001" in error
    (root / "demo" / "plots" / "objects.html").unlink()
    code, _, error = report()
    assert code == 2 and "no page of objects" in error
