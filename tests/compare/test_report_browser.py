"""The report in a real browser, by real keys and clicks: verdicts, support, reading, paper."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from opsef_bridge.compare.report import render
from opsef_bridge.project import Project, Run, read_csv
from opsef_bridge.sweep.verdicts import add_verdict, import_verdicts, read_verdicts
from tests.browser import Browser, opened
from tests.report_pages import page_with

PRESSED = "document.querySelector('#viewer [aria-pressed=true]')?.dataset.verdict ?? null"
SAID = "document.querySelector('#viewer .told').textContent"
NOW = "document.querySelector('.who').textContent.split(' ').slice(0, 2).join(' ')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened(tmp_path_factory.mktemp("browser")) as one:
        one.size(1400, 1000)
        yield one


@pytest.fixture
def page(browser: Browser, swept: tuple[Project, Run]) -> Iterator[Browser]:
    """The report from disk, with an empty memory of what was said."""
    browser.media()
    browser.open(swept[1].report_file.as_uri())
    browser.run("localStorage.clear()")
    browser.reload()
    browser.said.clear()
    yield browser
    assert browser.said == []


def open_cell(page: Browser, row: int = 2, column: int = 3) -> tuple[str, str]:
    """Enlarge a cell of the first group; return image and variant."""
    cell = f"#g0 tbody tr:nth-child({row}) td:nth-child({column}) .cell"
    page.click(cell)
    assert page.run("document.getElementById('viewer').open")
    return page.run(f"(({{image, variant}}) => [image, variant])"
                    f"(document.querySelector({cell!r}).dataset)")  # fmt: skip


def good_cell(page: Browser) -> tuple[str, str]:
    """Enlarge a cell with labels: of the first group one image is broken."""
    column = page.run(
        "[...document.querySelector('#g0 tbody tr:nth-child(2)').cells].findIndex("
        "(cell) => cell.querySelector('[data-variant]')) + 1"
    )
    return open_cell(page, column=column)


def test_keys_judge_and_take_back(page: Browser) -> None:
    image, variant = good_cell(page)
    assert page.run(PRESSED) is None
    for key, verdict in {"g": "good", "o": "over", "u": "under", "m": "missed"}.items():
        page.press(key)
        assert page.run(PRESSED) == verdict
        assert page.run(SAID) == f"so far 1 {verdict}"
    sums = f"[...document.querySelectorAll('#g0 [data-of={variant}]')].map((e) => e.textContent)"
    assert page.run(sums) == ["1 missed", "1 missed"]  # head of the row, and the ranking
    page.press("m")
    assert page.run(PRESSED) is None and page.run(sums) == ["", ""]
    assert page.run("document.querySelector('.export').disabled")
    page.press("ArrowUp")  # the bare image: nothing to judge
    assert page.run("getComputedStyle(document.querySelector('.judge')).visibility") == "hidden"
    page.press("g")
    assert page.run("document.querySelector('.export').disabled")
    page.press("ArrowDown", "ArrowDown", "g", "Escape")
    assert page.run("document.querySelector('.export').textContent") == "Export verdicts (1)"
    # It takes the keys too.
    page.until("document.activeElement.matches('#g0 tbody tr:nth-child(3) .cell')")
    page.press("u")
    below = "document.activeElement.parentElement.querySelector('.said').textContent"
    assert page.run(below) == "1 under"
    assert image


def test_buttons_judge_and_failed_cells_do_not(page: Browser) -> None:
    good_cell(page)
    page.click("#viewer [data-verdict=under]")
    assert page.run(PRESSED) == "under"
    page.press(" ")  # on a button it presses that
    assert page.run(PRESSED) is None
    assert not page.run("document.documentElement.classList.contains('no-outlines')")
    page.press("Escape")
    page.click("#g0 .cell.failed")
    page.press("g")
    assert page.run("document.querySelector('.export').disabled")
    page.press("Escape")


def test_what_was_said_survives_and_goes_into_the_project(
    page: Browser, swept: tuple[Project, Run], tmp_path: Path
) -> None:
    image, variant = good_cell(page)
    page.press("g", "ArrowDown", "o", "Escape")
    page.reload()
    page.until("document.querySelector('.export')?.textContent === 'Export verdicts (2)'")
    page.click(".export")
    file = next(iter(page.until(lambda: list(page.downloads.glob("verdicts-*.csv")))))
    assert file.name == "verdicts-A-B-run-0001.csv"
    rows = read_csv(file)
    assert list(rows[0]) == ["at", "image", "run", "variant", "verdict"]
    assert (rows[0]["image"], rows[0]["variant"], rows[0]["verdict"]) == (image, variant, "good")
    root = shutil.copytree(swept[0].root, tmp_path / "copy")
    project = Project(root)
    assert len(import_verdicts(project, file, author="Ann")) == 2
    told = [(one.image, one.variant, one.verdict) for one in read_verdicts(project, "run-0001")]
    assert told[0] == (image, variant, "good") and told[1][2] == "over"
    file.unlink()
    # Taken back after it went out: the file must say so.
    good_cell(page)
    page.press("g", "Escape")
    page.click(".export")
    file = next(iter(page.until(lambda: list(page.downloads.glob("verdicts-*.csv")))))
    assert [row["verdict"] for row in read_csv(file)] == ["none", "over"]
    import_verdicts(project, file, author="Ann")
    assert [one.verdict for one in read_verdicts(project)] == ["over"]


def test_recorded_verdicts_are_in_the_page_and_not_counted_twice(
    browser: Browser, swept: tuple[Project, Run], tmp_path: Path
) -> None:
    from opsef_bridge.sweep import run_unit

    project = Project(shutil.copytree(swept[0].root, tmp_path / "A & B"))
    run = project.run()
    row = next(one for one in read_csv(run.variants_file) if one["group"] == "bright")
    image = next(i["id"] for i in run.plan()["images"] if i["group"] == "bright"
                 and run.label_file(row["id"], i["id"]).is_file())  # fmt: skip
    for author, verdict in {"Ann <b>": "good", "Bob": "over", "Cy": "good"}.items():
        add_verdict(project, image, row["id"], verdict, author=author)
    unit = next(u["id"] for u in run.plan()["units"] if u["kind"] == "report")
    run.done_file(unit).unlink()
    run_unit(str(project.root), run.id, unit)
    text = run.report_file.read_text("utf-8")
    assert text.count("2 good, 1 over") == 3  # cell, head of the row, ranking: without a script
    browser.open(run.report_file.as_uri())
    browser.run("localStorage.clear()")
    browser.reload()
    which = f"[data-variant={row['id']}][data-image={image}]"
    cell = f"document.querySelector('#g0 .cell{which}')"
    browser.run(f"{cell}.focus()")
    browser.press("m")
    below = f"{cell}.parentElement.querySelector('.said').textContent"
    assert browser.run(below) == "2 good, 1 over, 1 missed (yours: missed)"


COUNT = "document.querySelector('.export').textContent"
CELLS = [f"#g0 tbody tr:nth-child({row}) .cell[data-variant]" for row in (2, 3)]


def press_on(page: Browser, cell: str, key: str) -> None:
    page.run(f"document.querySelector({cell!r}).focus()")
    page.press(key)


def until_kept(page: Browser, *verdicts: str) -> None:
    """Wait until this tab's process sees what another one wrote: that takes a moment."""
    kept = "JSON.parse(Object.values(localStorage)[0] ?? '[]').map(([, own]) => own.verdict)"
    page.until(f"{kept}.sort().join() === '{','.join(sorted(verdicts))}'")


@pytest.mark.parametrize("asleep", [False, True], ids=["awake", "asleep"])
def test_two_tabs_lose_nothing_of_each_other(
    page: Browser, swept: tuple[Project, Run], asleep: bool
) -> None:
    """`asleep`: the second tab is told of nothing and only finds it when it writes."""
    one = page.new_tab()
    page.size(1400, 1000)
    if asleep:
        page.ask(
            "Page.addScriptToEvaluateOnNewDocument",
            source="addEventListener('storage', (event) => event.stopImmediatePropagation())",
        )
    page.open(swept[1].report_file.as_uri())
    two = page.turn_to(one)
    try:
        press_on(page, CELLS[0], "g")
        assert page.run(COUNT) == "Export verdicts (1)"
        page.turn_to(two)
        until_kept(page, "good")
        if not asleep:
            page.until(f"{COUNT} === 'Export verdicts (1)'")
        press_on(page, CELLS[1], "o")
        assert page.run(COUNT) == "Export verdicts (2)"
        page.turn_to(one)
        page.until(f"{COUNT} === 'Export verdicts (2)'")
        # The newer word on a cell counts, and what was taken back does not come again.
        press_on(page, CELLS[1], "u")
        press_on(page, CELLS[0], "g")
        assert page.run(COUNT) == "Export verdicts (1)"
        page.turn_to(two)
        until_kept(page, "none", "under")
        press_on(page, CELLS[1], "m")
        page.reload()
        assert page.run(COUNT) == "Export verdicts (1)"
        said = f"document.querySelector({CELLS[1]!r}).parentElement.querySelector('.said')"
        assert page.run(f"{said}.textContent") == "1 missed"
    finally:
        page.turn_to(two)
        page.close_tab()
        page.turn_to(one)


def test_sums_count_what_the_sheet_does_not_show(browser: Browser, tmp_path: Path) -> None:
    unseen, hidden, seen = "i00029-x", "v2000", "v1001"
    verdicts = [
        {"image": image, "variant": variant, "verdict": verdict, "author": "Ann", "at": "2021"}
        for image, variant, verdict in [
            ("i00001-a", hidden, "missed"), (unseen, seen, "good"), ("i00077-z", seen, "under"),
        ]
    ]  # fmt: skip
    file = tmp_path / "report.html"
    file.write_text(render(page_with(["i00001-a"], [unseen], verdicts)), "utf-8")
    browser.media()
    browser.open(file.as_uri())
    browser.run("localStorage.clear()")
    browser.reload()
    sums = "[...document.querySelectorAll('[data-of={}]')].map((e) => [e.textContent, {}])"
    sort = "Number(e.dataset.sort)"
    assert browser.run(sums.format(hidden, sort)) == [["1 missed", -1]]  # only the ranking
    assert browser.run(sums.format(seen, sort)) == [["1 good", 1]] * 2
    press_on(browser, f".cell[data-variant={seen}]", "g")
    assert browser.run(sums.format(seen, sort)) == [["2 good", 2]] * 2


def test_support_colours_the_outlines(page: Browser, tmp_path: Path) -> None:
    def seen() -> list[int]:
        pixels = np.array(PIL.Image.open(page.look(tmp_path / "shot.png")).convert("RGB"))
        colours = [(255, 225, 0), (239, 154, 62), (238, 78, 139), (76, 86, 175)]
        return [int((abs(pixels.astype(int) - c).sum(axis=2) < 9).sum()) for c in colours]

    good_cell(page)
    page.until("document.querySelector('.view img').complete")
    page.press("s")
    page.until("document.querySelector('.view img').complete")
    counts = seen()
    assert sum(counts[1:]) > 100
    page.press("s")
    page.until("document.querySelector('.view img').complete")
    plain = seen()
    assert plain[0] > 100 and sum(plain[1:]) < 20
    page.press("Escape")
    box = "document.querySelector('#g0 input.support')"
    page.click("#g0 input.support")
    assert page.run(f"{box}.checked")
    legend = "getComputedStyle(document.querySelector('#g0 .legend')).display"
    assert page.run(legend) == "flex"
    uris = (
        "new Set([...document.querySelectorAll('#g0 .cell img')].map((i) => i.src.slice(66, 110)))"
    )
    assert page.run(f"{uris}.size") == 1  # all have the other palette
    page.click("#g0 input.support")
    assert page.run(legend) == "none"


FOCUSABLE = """
[...document.querySelectorAll('a, button, input, summary, [tabindex="0"]')].filter(
  (e) => e.checkVisibility() && !e.disabled && !e.closest('dialog')).length
"""

FOCUS = """
(() => {
  const e = document.activeElement;
  if (e === document.body) return null;
  window.seen ??= new Map();
  if (!seen.has(e)) seen.set(e, seen.size);
  const style = getComputedStyle(e);
  return [seen.get(e), style.outlineStyle, parseFloat(style.outlineWidth)];
})()
"""


def test_everything_can_be_reached_by_tab_and_shows_it(page: Browser) -> None:
    count = page.run(FOCUSABLE)
    assert count > 40
    reached = set()
    for _ in range(count + 10):
        page.press("Tab")
        found = page.run(FOCUS)
        if found is None:
            break
        assert found[1] != "none" and found[2] >= 2
        reached.add(found[0])
    assert len(reached) == count
    good_cell(page)
    names = set()
    for _ in range(16):
        page.press("Tab")
        names.add(page.run("document.activeElement.textContent"))
    assert {"Good g", "Over o", "Under u", "Missed m", "✕", "←", "Outlines", "Support"} <= names
    page.press("Escape")


CONTRASTS = """
(() => {
  const probe = Object.assign(document.createElement('canvas'), {width: 1, height: 1})
    .getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    probe.clearRect(0, 0, 1, 1);
    probe.fillStyle = colour;
    probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data];
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map(
      (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility({visibilityProperty: true}) || e.disabled) continue;
    const style = getComputedStyle(e);
    const [ink, paper] = [rgba(e.closest('svg') ? style.fill : style.color), ground(e)].map(
      (one) => light(one.slice(0, 3)));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    found.push([ratio, `${e.tagName}.${e.className} ${e.textContent.slice(0, 20)}`]);
  }
  return found.sort((a, b) => a[0] - b[0]);
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(page: Browser, scheme: str) -> None:
    page.media(scheme=scheme)
    found = page.run(CONTRASTS)
    assert len(found) > 300
    assert [one for one in found if one[0] < 4.5] == []
    good_cell(page)
    page.press("g")
    assert [one for one in page.run(CONTRASTS) if one[0] < 4.5] == []
    page.press("Escape")


def test_paper_has_the_pictures_and_no_controls(page: Browser, tmp_path: Path) -> None:
    page.media("print", "dark")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    left = page.run(
        "[...document.querySelectorAll('button:not(.cell, thead *), input, nav, dialog')].filter("
        "(e) => e.checkVisibility()).map((e) => e.outerHTML)"
    )
    assert left == []
    assert page.run("[...document.querySelectorAll('.group')].every((e) => e.checkVisibility())")
    # However many images there are, none is cut off at the edge of the paper.
    page.run("document.documentElement.style.setProperty('--thumb', '330px')")
    page.size(794, 1100)
    wide = page.run(
        "Math.max(...[...document.querySelectorAll('.sheet .cell')].map("
        "(e) => e.getBoundingClientRect().right))"
    )
    assert wide <= 794
    name = "getComputedStyle(document.querySelector('.sheet .count'), '::before').content"
    assert page.run(name).startswith('"i0000')
    assert [one for one in page.run(CONTRASTS) if one[0] < 4.5] == []
    page.size(1400, 1000)
    page.media()
    told = page.ask("Page.printToPDF", printBackground=False)
    pdf = base64.b64decode(told["data"])
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 2
