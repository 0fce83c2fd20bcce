"""The page to explore, made by `opsef analyse` and used in a real Chromium."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest

from opsef_bridge.analysis.analyse import Wish, analyse
from opsef_bridge.analysis.exploring import write_page
from opsef_bridge.exchange.sources import subject_of, variant_of
from opsef_bridge.project import Project
from tests.browser import Browser, opened
from tests.running import run_opsef
from tests.small_projects import discs, swept

READY = "document.body.dataset.ready"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("explore") / "project"
    project = swept(folder, {"a.tif": discs(0), "b.tif": discs(1)})
    wish = Wish(embed=(), plots=None, columns=["area"])
    analyse(project, wish, variant=variant_of(project, "v0001"))
    return project


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("chromium") / "b") as browser:
        browser.size(1300, 1000)
        yield browser


@pytest.fixture
def page(project, browser) -> Browser:
    browser.said.clear()
    browser.open((project.root / "plots" / "objects.html").as_uri())
    browser.until(READY)
    browser.run("localStorage.clear()")
    browser.reload()
    browser.until(READY)
    return browser


def objects(project: Project) -> pd.DataFrame:
    return pd.read_csv(project.tables_folder / "objects.csv")


def at(page: Browser, number: int) -> tuple[float, float]:
    """Where the point of an object is in the window."""
    return page.run(
        f"(() => {{ const r = document.getElementById('marks').getBoundingClientRect();"
        f"const [x, y] = pixelOf(axes.x.values[{number}], axes.y.values[{number}]);"
        "return [r.left + x, r.top + y]; })()"
    )


def drag(page: Browser, *corners: tuple[float, float]) -> None:
    """Draw with the mouse."""
    (x, y), *others = corners
    page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.ask("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left",
             clickCount=1)  # fmt: skip
    for x, y in others:
        page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
    page.ask("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left",
             clickCount=1)  # fmt: skip


def test_a_point_shows_its_object(project, page):
    table = objects(project)
    x, y = at(page, 5)
    page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.until("!document.getElementById('card').hidden")
    text = page.run("document.getElementById('card').innerText")
    row = table.iloc[5]
    assert row["image"] in text and str(row["label"]) in text
    drawn = page.run(
        "(async () => { const c = document.querySelector('#card canvas');"
        "await new Promise(r => setTimeout(r, 300));"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return new Set(d).size; })()"
    )
    assert drawn > 5, "the thumbnail has more than one colour"
    assert not page.said


def test_a_selection_gets_a_class_that_classify_takes(project, page, monkeypatch, capfd):
    table = objects(project)
    page.click("input[name=mode][value=box]")  # may scroll
    box = page.run(
        "(() => { const r = document.getElementById('marks').getBoundingClientRect();"
        "return [r.left, r.top, r.right, r.bottom]; })()"
    )
    xs = [at(page, number)[0] for number in range(len(table))]
    middle = float(np.median(xs)) + 0.5
    wanted = {number for number, x in enumerate(xs) if x < middle}
    low, high = box[1] + 16, box[3] - 50  # in the frame of the plot
    drag(page, (box[0] + 75, low), (middle, (low + high) / 2), (middle, high))
    page.until(f"document.getElementById('chosen').innerText.includes('{len(wanted)}')")
    page.click("#class")
    page.press("2", "Enter")
    page.until(f"document.getElementById('export').innerText.includes('({len(wanted)})')")
    page.click("#export")
    [file] = page.until(lambda: list(page.downloads.glob("*.csv")))
    rows = list(csv.DictReader(file.open(encoding="utf-8-sig")))
    told = {(row["image"], int(row["label"])) for row in rows}
    assert told == {
        (table["image"][number], table["label"][number]) for number in wanted
    } and {row["class"] for row in rows} == {"2"}  # fmt: skip
    code, _, err = run_opsef(monkeypatch, capfd, "-p", project.root, "classify", "--from", file)
    assert code == 0, err
    for entry in project.images():
        mine = {label for image, label in told if image == entry.id}
        assert dict(subject_of(project, entry).objects.classes) == dict.fromkeys(mine, 2)
    assert not page.said


def test_axes_and_keys(page):
    before = page.run("pixelOf(axes.x.values[0], axes.y.values[0])")
    page.run(
        "(() => { const s = document.getElementById('x'); s.value = 'solidity';"
        "s.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )
    page.until("Math.abs(axes.x.values[0]) <= 1")
    assert page.run("pixelOf(axes.x.values[0], axes.y.values[0])") != before
    page.run("document.getElementById('marks').focus()")
    page.press("n", " ")
    page.until("document.getElementById('chosen').innerText.startsWith('1 ')")
    page.press("3")
    page.until("document.getElementById('export').innerText.includes('(1)')")
    page.click("#undo")
    page.until("document.getElementById('export').innerText.includes('(0)')")
    assert not page.said


def test_many_objects_are_drawn_in_part_and_a_bad_image_has_no_pictures(project, tmp_path):
    table = pd.read_csv(project.tables_folder / "objects.csv", keep_default_na=False)
    lost = table.assign(image=table["image"].where(table["image"] != "i00002-b", "i00009-x"))
    many = pd.concat([lost] * (20_001 // len(lost) + 1), ignore_index=True)[:20_001]
    file = write_page(project, many, tmp_path / "page.html")
    text = file.read_text("utf-8")
    assert "drawn at random from 20,001" in text and "i00009-x has no pictures" in text
    data = text.partition('type="application/json">')[2].partition("</script>")[0]
    assert json.loads(data)["count"] == 20_000 and len(text) < 16_000_000
