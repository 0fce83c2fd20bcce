"""The report in a browser that knows no token: tickets, what its page may do, and a real one."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest

from opsef_bridge.compare.report import render, service_policy
from opsef_bridge.errors import NotFoundError
from opsef_bridge.project import Project, read_csv
from opsef_bridge.service.pages import KEY_SECONDS, MOST, TICKET_SECONDS, Pages
from opsef_bridge.service.people import invitation, invite, revoke, write_invitation
from opsef_bridge.service.visit import report_link
from opsef_bridge.sweep import adopt, plan_batch, run_plan
from opsef_bridge.sweep.verdicts import add_verdict
from tests.browser import opened
from tests.report_pages import page_with
from tests.running import run_opsef
from tests.small_projects import Here

TICKET = "/projects/demo/runs/run-0001/report/ticket"


class Clock:
    """Seconds as a test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def told_of(text: str) -> dict[str, str]:
    content = re.search('<meta name="opsef-service" content="(.*?)">', text)[1]
    return json.loads(content.replace("&quot;", '"'))


def test_a_ticket_is_good_once_and_soon() -> None:
    clock = Clock()
    pages = Pages({"t": "ada"}.get, clock)
    ticket = pages.ticket("t", "demo", "report", "run-0001")
    page, author, key = pages.take(ticket)
    assert (page.project, page.run, author) == ("demo", "run-0001", "ada")
    assert pages.take(ticket) is None
    late = pages.ticket("t", "demo", "report", "run-0001")
    clock.now += TICKET_SECONDS + 1
    assert pages.take(late) is None
    assert pages.take("") is None and pages.take(key) is None
    path = "/v1/projects/demo/verdicts"
    assert pages.who("POST", path, key) == "ada"
    clock.now += KEY_SECONDS
    assert pages.who("POST", path, key) is None


def test_a_key_opens_one_door_and_ends_with_its_person() -> None:
    people = {"t": "ada"}
    pages = Pages(people.get)
    key = pages.take(pages.ticket("t", "demo", "report", "run-0001"))[2]
    path = "/v1/projects/demo/verdicts"
    assert pages.who("GET", path, key) == "ada"
    for method, other in [
        ("DELETE", path), ("POST", "/v1/projects/other/verdicts"), ("POST", path + "/"),
        ("POST", "/v1/projects/demo/truth"), ("GET", "/v1/projects/demo"), ("GET", "/v1/me"),
        ("POST", "/v1/projects/demo/runs/run-0001/report/ticket"),
    ]:  # fmt: skip
        assert pages.who(method, other, key) is None, other
    assert pages.who("POST", path, "x") is None and pages.who("POST", path, "t") is None
    waiting = pages.ticket("t", "demo", "report", "run-0001")
    people.clear()
    assert pages.who("POST", path, key) is None and pages.take(waiting) is None


def test_the_oldest_make_room() -> None:
    pages = Pages({"t": "ada"}.get)
    tickets = [pages.ticket("t", "demo", "report", "run-0001") for _ in range(MOST + 1)]
    assert pages.take(tickets[0]) is None and pages.take(tickets[-1]) is not None


def test_a_page_by_ticket_saves_verdicts_and_nothing_else(site) -> None:
    link = site.ask("POST", TICKET)
    assert link.status_code == 201 and site.tokens["ada"] not in link.text
    path = link.json()["path"]
    page = site.client.get(path)  # without a token
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert policy == service_policy() and "unsafe-inline'; script" not in policy
    for part in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"):
        assert part in policy
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in page.headers
    told = told_of(page.text)
    assert (told["project"], told["author"]) == ("demo", "ada")
    assert site.tokens["ada"] not in page.text
    assert 'http-equiv="Content-Security-Policy"' not in page.text
    assert site.client.get(path).status_code == 404  # once
    # The file on disk knows nothing of it.
    assert told["key"] not in site.project.run().report_file.read_text("utf-8")
    key = {"Authorization": f"Bearer {told['key']}"}
    verdict = {"image": site.images[0], "variant": "v0001", "run": "run-0001", "verdict": "over"}
    verdicts = "/v1/projects/demo/verdicts"
    assert site.client.post(verdicts, json=verdict, headers=key).status_code == 201
    [one] = site.client.get(verdicts + "?run=run-0001", headers=key).json()["verdicts"]
    assert (one["author"], one["verdict"]) == ("ada", "over")
    assert site.client.get(verdicts + "?run=run-0002", headers=key).json() == {"verdicts": []}
    for method, other in [("GET", "/v1/projects"), ("POST", f"/v1{TICKET}"),
                          ("POST", "/v1/projects/demo/truth"), ("DELETE", verdicts)]:  # fmt: skip
        assert site.client.request(method, other, headers=key).status_code == 401, other
    # Another page has no key, and a browser asks before it sends one across.
    assert site.client.post(verdicts, json=verdict).status_code == 401
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    assert site.client.options(verdicts, headers=asked).status_code == 401
    revoke(site.root, "ada")
    assert site.client.post(verdicts, json=verdict, headers=key).status_code == 401


def test_verdicts_can_be_taken_back(site) -> None:
    verdict = {"image": site.images[0], "variant": "v0001", "verdict": "good"}
    for what in ("good", "none"):
        done = site.ask("POST", "/projects/demo/verdicts", json=verdict | {"verdict": what})
        assert done.status_code == 201
    assert site.ask("GET", "/projects/demo/verdicts").json() == {"verdicts": []}
    assert site.ask("GET", "/projects/demo/verdicts?run=../x").status_code == 422


def test_tickets_are_for_people_and_reports_that_are_there(site) -> None:
    assert site.client.post(f"/v1{TICKET}").status_code == 401
    assert site.ask("POST", TICKET.replace("run-0001", "run-0009")).status_code == 404
    assert site.ask("POST", TICKET.replace("demo", "none")).status_code == 404
    for bad in ("x", "%2e%2e", "a%2fb", "x" * 65, "", "../v1/projects"):
        assert site.client.get(f"/report/{bad}").status_code in (401, 404, 422), bad
    assert site.client.post("/report/x").status_code == 401
    path = site.ask("POST", TICKET).json()["path"]
    assert site.client.get(path, headers={"Host": "evil.example"}).status_code == 421
    assert site.client.get(path).status_code == 200  # the refusal did not use it up
    site.project.run().report_file.unlink()
    assert site.ask("POST", TICKET).status_code == 404


def test_a_page_that_somebody_changed_runs_nothing(site) -> None:
    file = site.project.run().report_file
    file.write_text(file.read_text("utf-8").replace('"use strict";', "alert(1);"), "utf-8")
    page = site.client.get(site.ask("POST", TICKET).json()["path"])
    assert "alert(1);" in page.text
    assert page.headers["content-security-policy"] == service_policy()  # another script's hash


PRESSED = "document.querySelector('#viewer [aria-pressed=true]')?.dataset.verdict ?? null"


def test_in_a_real_browser(root, start_server, tmp_path, monkeypatch, capfd) -> None:
    running = start_server(root)
    token = invite(root, "Ada")[1]
    value = invitation("Ada", token, port=running.port)
    ticket = write_invitation(tmp_path, value)

    def link() -> str:
        code, out, _ = run_opsef(monkeypatch, capfd, "-p", root / "demo", "report", "--no-browser",
                                 "--invitation", ticket, "--json")  # fmt: skip
        assert code == 0 and token not in out
        return json.loads(out)["address"]

    def rows() -> list[tuple[str, str, str]]:
        file = root / "demo" / "annotations" / "verdicts.csv"
        found = read_csv(file) if file.is_file() else []
        return [(row["author"], row["variant"], row["verdict"]) for row in found]

    with opened(tmp_path / "browser") as page:
        page.open(link())
        hint = "document.querySelector('.keeping').textContent"
        assert page.run(hint) == "Verdicts are saved at once, as those of Ada."
        assert page.run("document.querySelector('.export').hidden")
        page.click("tbody tr:nth-child(2) td .cell")
        variant = page.run("document.querySelector('tbody tr:nth-child(2) .cell').dataset.variant")
        page.press("o", "g")  # faster than the answers come
        page.until(lambda: len(rows()) == 2)
        assert rows() == [("Ada", variant, "over"), ("Ada", variant, "good")]
        page.press("g")
        page.until(lambda: len(rows()) == 3)
        assert rows()[-1][2] == "none"
        page.press("m")
        page.until(lambda: len(rows()) == 4)
        assert page.run("localStorage.length") == 0
        assert page.said == []
        # The next page knows it, from the service: the file is as old as the run.
        page.open(link())
        page.until("document.querySelector('tbody tr:nth-child(2) .said').textContent")
        page.click("tbody tr:nth-child(2) td .cell")
        assert page.run(PRESSED) == "missed"
        # What cannot be saved is not shown as if it were.
        revoke(root, "Ada")
        page.press("u")
        page.until("document.querySelector('#viewer [role=status]').textContent.startsWith('Not')")
        assert page.run(PRESSED) == "missed" and len(rows()) == 4
        # A link opens once.
        page.open(f"{running.url}/report/x")
        assert "used already" in page.run("document.body.textContent")


def test_sums_from_the_service_count_what_the_sheet_does_not_show(
    root, start_server, tmp_path
) -> None:
    project = Project(root / "demo")
    shown, unseen = (entry.id for entry in project.images())
    for image, author, verdict in [(shown, "Ada", "good"), (unseen, "Bob", "over")]:
        add_verdict(project, image, "v0002", verdict, author=author)
    project.run().report_file.write_text(
        render(page_with([shown], [unseen], last="v0002")), "utf-8"
    )
    running = start_server(root)
    file = write_invitation(tmp_path, invitation("Ada", invite(root, "Ada")[1], port=running.port))
    with opened(tmp_path / "browser") as page:
        page.open(report_link(file, "demo"))
        sums = "[...document.querySelectorAll('[data-of=v0002]')]"
        page.until(f"{sums}.some((e) => e.textContent)")
        told = f"{sums}.map((e) => [e.textContent, e.dataset.sort])"
        assert page.run(told) == [["1 good, 1 over", "0"]]
        assert page.said == []


def test_the_link_after_a_batch_is_to_the_sweep(root, start_server, tmp_path) -> None:
    project = Project(root / "demo")
    adopt(project, "v0001")
    assert run_plan(project, plan_batch(project), Here()).failed == 0
    running = start_server(root)
    file = write_invitation(tmp_path, invitation("Ada", invite(root, "Ada")[1], port=running.port))
    with urllib.request.urlopen(report_link(file, "demo"), timeout=60) as page:
        assert 'data-run="run-0001"' in page.read().decode()
    with pytest.raises(NotFoundError, match=r"run-0002 is a batch.* opsef report run-0001"):
        report_link(file, "demo", "run-0002")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{}", "is no invitation"), ("[", "is no invitation"), (None, "there is no invitation")],
)
def test_report_needs_an_invitation_that_is_one(
    root, tmp_path, monkeypatch, capfd, text, message
) -> None:
    file = tmp_path / "x.opsef"
    if text is not None:
        file.write_text(text)
    code, _, error = run_opsef(
        monkeypatch, capfd, "-p", root / "demo", "report", "--invitation", file, "--no-browser"
    )
    assert code == 2 and message in error


def test_report_from_disk_and_services_that_are_not_there(
    root, tmp_path, monkeypatch, capfd
) -> None:
    def report(*words: object) -> tuple[int, str, str]:
        words = ("-p", root / "demo", "report", "--no-browser", *words)
        return run_opsef(monkeypatch, capfd, *words)

    code, out, _ = report()
    assert code == 0 and out.startswith("file:///") and out.strip().endswith("report.html")
    file = write_invitation(tmp_path, invitation("Ada", "t" * 43, port=1))
    code, _, error = report("--invitation", file)
    assert code == 1 and "127.0.0.1:1 cannot be reached" in error
