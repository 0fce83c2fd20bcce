"""The page of objects in a real browser, by real keys, clicks, the wheel and a lasso."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from opsef_bridge.analysis.classes import read_classes
from opsef_bridge.analysis.page import PageData, render_page
from opsef_bridge.analysis.thumbnails import make_sheets, places_on
from tests.browser import Browser, opened

AWKWARD = '</script><b>"dim", & 1'
COUNT, SIDE = 24, 16
BARE = 5
"""The object that has no thumbnail."""

CHOSEN = "[...chosenOnes()]"
VIEW = "[view.x, view.y, view.w, view.h]"


def brightness(number: int) -> int:
    return 40 + 9 * number


def table() -> pd.DataFrame:
    """Objects on a grid of 6 x 4; the first twelve are of one image."""
    k = np.arange(COUNT)
    values = pd.DataFrame(
        {
            "image": np.where(k < 12, "i00001-a", "i00002-b").astype(object),
            "label": 100 + k,
            "run": "run-0001",
            "variant": "v0002",
            "revision": "",
            "class": np.where(k == 0, 2, 0),
            "column": (k % 6).astype(float),
            "row": (k // 6).astype(float),
            "area": 10.0 ** (k % 3),
            "condition": np.where(k % 2, AWKWARD, "control").astype(object),
        }
    )
    values.loc[7, "area"] = 0.0
    return values


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = np.zeros((SIDE, SIDE * COUNT), np.int32)
    for k in range(COUNT):
        labels[4:12, SIDE * k + 4 : SIDE * k + 12] = 100 + k
    grey = np.zeros(labels.shape, np.uint8)
    for k in range(COUNT):
        grey[labels == 100 + k] = brightness(k)
    image = np.dstack([grey] * 3)  # colours are not scaled
    sheets, _ = make_sheets(image, labels, 100 + np.arange(COUNT))
    places = places_on(COUNT)
    places[BARE] = -1
    data = PageData(
        "A & B", table(), sheets, places, {"area": "um^2"}, {2: "dividing"}, "column", "row",
        said=["i00009-x: <no> thumbnails"],
    )  # fmt: skip
    found = tmp_path_factory.mktemp("page") / "objects.html"
    found.write_text(render_page(data), "utf-8")
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened(tmp_path_factory.mktemp("browser")) as one:
        one.size(1400, 1000)
        yield one


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Browser]:
    """The page from disk, with an empty memory."""
    browser.media()
    browser.open(file.as_uri())
    browser.run("localStorage.clear()")
    browser.reload()
    browser.until("document.body.dataset.ready")
    browser.said.clear()
    yield browser
    assert browser.said == []


def spot(page: Browser, i: int) -> list[float]:
    """Where an object is in the window."""
    return page.run(
        f"(() => {{ const b = marks.getBoundingClientRect();"
        f"const [x, y] = pixelOf(axes.x.values[{i}], axes.y.values[{i}]);"
        "return [b.x + x, b.y + y]; })()"
    )


def mouse(page: Browser, kind: str, x: float, y: float, **more: object) -> None:
    page.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


def drag(page: Browser, path: Sequence[Sequence[float]], modifiers: int = 0) -> None:
    how = {"button": "left", "buttons": 1, "modifiers": modifiers}
    mouse(page, "mousePressed", *path[0], clickCount=1, **how)
    for x, y in path[1:]:
        mouse(page, "mouseMoved", x, y, **how)
    mouse(page, "mouseReleased", *path[-1], clickCount=1, **how)


def around(page: Browser, first: int, last: int) -> list[list[float]]:
    """A closed path around the objects of a box of the grid; row 0 is the lowest."""
    (x0, y0), (x1, y1) = spot(page, first), spot(page, last)
    left, right, low, high = x0 - 25, x1 + 25, y0 + 25, y1 - 25
    return [[left, low], [right, low], [right, high], [left, high], [left, (low + high) / 2]]


def pixels(page: Browser, selector: str) -> np.ndarray:
    """The pixels of a canvas, of a copy: the page itself never reads them."""
    shape, values = page.run(
        f"(() => {{ const c = document.querySelector({selector!r});"
        "const copy = new OffscreenCanvas(c.width, c.height).getContext('2d',"
        "{willReadFrequently: true}); copy.drawImage(c, 0, 0);"
        "return [[c.height, c.width, 4], btoa(Array.from(copy.getImageData(0, 0, c.width,"
        "c.height).data, (v) => String.fromCharCode(v)).join(''))]; })()"
    )
    return np.frombuffer(base64.b64decode(values), np.uint8).reshape(shape)


def choose(page: Browser, id: str, value: str) -> None:
    page.run(f"(at({id!r}).value = {value!r}, at({id!r}).dispatchEvent(new Event('change')), null)")


def write(page: Browser, text: str) -> None:
    """Write the class, in place of what is there."""
    page.run("(at('class').focus(), at('class').select(), null)")
    page.ask("Input.insertText", text=text)


def export(page: Browser) -> Path:
    page.click("#export")
    return next(iter(page.until(lambda: list(page.downloads.glob("classes-*.csv")))))


def test_hovering_shows_the_object(page: Browser) -> None:
    for i in (3, 17):
        mouse(page, "mouseMoved", *spot(page, i))
        page.until(f"card.querySelector('canvas').dataset.drawn === '{i}'")
        text = page.run("card.querySelector('dl').innerText").split("\n")
        assert text[1::2][:2] == ["i00001-a" if i < 12 else "i00002-b", str(100 + i)]
        picture = pixels(page, "#card canvas")
        middle = picture[len(picture) // 2, len(picture) // 2]
        assert middle[:3].tolist() == pytest.approx([brightness(i)] * 3, abs=4)
        yellow = abs(picture[..., :3].astype(int) - (255, 225, 0)).sum(axis=2) < 9
        assert 100 < yellow.sum() < picture[..., 0].size / 5
    mouse(page, "mouseMoved", *spot(page, BARE))
    assert page.run("!card.hidden && card.querySelector('canvas').hidden")
    x, y = spot(page, 3)
    mouse(page, "mouseMoved", x + 40, y)  # between two objects
    assert page.run("card.hidden")


def test_a_lasso_gives_a_class_that_the_command_line_reads(page: Browser) -> None:
    drag(page, around(page, 1, 9))
    assert page.run(CHOSEN) == [1, 2, 3, 7, 8, 9]
    assert page.run("at('chosen').textContent") == "6 objects of 1 image"
    drag(page, around(page, 13, 13), modifiers=8)  # Shift adds
    drag(page, around(page, 2, 2), modifiers=1)  # Alt takes away
    assert page.run(CHOSEN) == [1, 3, 7, 8, 9, 13]
    page.click("#class")
    for key in "dividing":
        page.press(key)
    page.press("Enter")
    drag(page, around(page, 0, 0))
    page.click("#unset")
    assert page.run("at('export').textContent") == "Export classes (7)"
    found = export(page)
    try:
        assert found.name == "classes-A-B.csv"
        rows = read_classes(found)
    finally:
        found.unlink()
    told = dict(zip(rows["label"], rows["class"], strict=True))
    assert told == {100: 0, 101: 2, 103: 2, 107: 2, 108: 2, 109: 2, 113: 2}
    assert set(rows["variant"]) == {"v0002"} and set(rows["revision"]) == {""}
    assert rows["image"].tolist() == ["i00001-a"] * 6 + ["i00002-b"]


def test_undo_and_what_is_kept_when_the_page_is_opened_again(page: Browser) -> None:
    drag(page, around(page, 1, 1))
    write(page, "odd one")
    page.click("#set")
    assert page.run("classText(classes[1])") == "1 odd one"  # 2 is taken
    assert '1: "odd one"' in page.run("at('new-names').textContent")
    write(page, "300")
    page.click("#set")
    assert page.run("classes[1]") == 1 and not page.run("at('class').checkValidity()")
    drag(page, around(page, 2, 3))
    write(page, "9")
    page.click("#set")
    assert page.run("[...classes.slice(0, 4)]") == [2, 1, 9, 9]
    page.reload()
    page.until("document.body.dataset.ready")
    assert page.run("[...classes.slice(0, 4)]") == [2, 1, 9, 9]
    assert page.run("classText(1)") == "1 odd one"
    drag(page, around(page, 1, 3))
    page.click("#unset")
    page.click("#undo")
    assert page.run("[...classes.slice(0, 4)]") == [2, 1, 9, 9]
    assert page.run("at('undo').disabled")


def test_axes_colours_and_what_has_no_logarithm(page: Browser) -> None:
    before = spot(page, 8)
    choose(page, "x", "area")
    assert spot(page, 8) != before and page.run("axes.x.name") == "area"
    page.click("#log-x")
    assert "1 objects are not shown" in page.run("at('missing').textContent")
    assert page.run("shown[7]") == 0 and page.run("shown[8]") == 1
    places = [spot(page, i)[0] for i in (0, 1, 2)]  # 1, 10, 100
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])
    choose(page, "colour", "condition")
    texts = page.run("[...at('legend').querySelectorAll('label')].map((e) => e.textContent.trim())")
    assert texts == [f"{AWKWARD} 12", "control 12"]
    choose(page, "colour", "row")
    assert page.run("at('legend').querySelector('.ends').innerText.split(/\\s+/)") == ["0", "3"]
    assert page.run("at('legend-tools').hidden")


def test_what_is_hidden_can_be_neither_hovered_nor_selected(page: Browser) -> None:
    choose(page, "colour", "image")
    page.click("#home")
    drag(page, around(page, 0, 23))
    assert page.run("chosen") == COUNT
    page.click("#legend input")  # the first image
    assert page.run(CHOSEN) == list(range(12, 24))
    mouse(page, "mouseMoved", *spot(page, 3))
    assert page.run("card.hidden")
    drag(page, around(page, 0, 23))
    assert page.run(CHOSEN) == list(range(12, 24))
    page.click("#legend-all")
    page.click("#invert")
    assert page.run(CHOSEN) == list(range(12))


def test_wheel_and_dragging_move_the_plot(page: Browser) -> None:
    x, y = spot(page, 8)
    mouse(page, "mouseWheel", x, y, deltaX=0, deltaY=-240)
    page.until("view.w < 0.9")
    assert spot(page, 8) == pytest.approx([x, y], abs=1)  # what is under the pointer stays there
    page.click("[value=pan]")
    drag(page, [[x, y], [x + 30, y + 20], [x + 60, y + 40]])
    assert spot(page, 8) == pytest.approx([x + 60, y + 40], abs=1)
    assert page.run("chosen") == 0
    page.click("[value=box]")
    drag(page, [[x + 20, y], [x + 100, y + 80]])
    assert page.run(CHOSEN) == [8]
    page.click("#home")
    assert page.run(VIEW) == [0, 0, 1, 1]
    mouse(page, "mousePressed", *spot(page, 20), button="left", clickCount=1)
    mouse(page, "mouseReleased", *spot(page, 20), button="left", clickCount=1)
    assert page.run(CHOSEN) == [20]


def test_keys_do_it_all(page: Browser) -> None:
    page.run("marks.focus()")
    page.press("=", "=", "ArrowRight", "ArrowUp")
    x, y, w, h = page.run(VIEW)
    assert w == h == pytest.approx(0.64) and x > 0.2 and y > 0.2
    page.press("Home")
    assert page.run(VIEW) == [0, 0, 1, 1]
    page.press("n", "n", " ")  # by X, then in the order of the table
    assert page.run(CHOSEN) == [6]
    assert "object 106" in page.run("at('said').textContent")
    page.press("n", " ", "4")
    assert page.run("[classes[6], classes[12]]") == [4, 4]
    page.press("p", " ")
    assert page.run(CHOSEN) == [12]
    page.press("Escape")
    assert page.run("card.hidden")


def test_pictures_and_medians_of_the_selection(page: Browser) -> None:
    drag(page, around(page, 0, 2))
    page.until("document.querySelectorAll('#gallery canvas[data-drawn]').length === 3")
    cells = "[...at('medians').rows].map((r) => [...r.cells].map((c) => c.textContent))"
    assert ["area", "um^2", "10", "10"] in page.run(cells)
    assert ["row", "", "0", "1.5"] in page.run(cells)
    page.click("#gallery button:nth-child(2)")
    assert page.run(CHOSEN) == [0, 2]
    page.until("document.querySelectorAll('#gallery button').length === 2")


FOCUSABLE = """[...document.querySelectorAll('button, input, select, [tabindex="0"]')].filter((e) =>
  e.checkVisibility() && !e.disabled && (e.type !== 'radio' || e.checked)).length"""

FOCUS = """(() => {
  const e = document.activeElement;
  if (e === document.body) return null;
  window.seen ??= new Map();
  if (!seen.has(e)) seen.set(e, seen.size);
  const style = getComputedStyle(e);
  return [seen.get(e), style.outlineStyle, parseFloat(style.outlineWidth)];
})()"""


def test_everything_can_be_reached_by_tab_and_shows_it(page: Browser) -> None:
    drag(page, around(page, 0, 2))
    page.until("document.querySelectorAll('#gallery button').length === 3")
    page.run("document.activeElement.blur()")
    count, reached = page.run(FOCUSABLE), set()
    assert count > 20
    for _ in range(count + 10):
        page.press("Tab")
        found = page.run(FOCUS)
        if found is None:
            continue  # the browser's own parts
        assert found[1] != "none" and found[2] >= 1
        reached.add(found[0])
    assert len(reached) == count


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(page: Browser, scheme: str) -> None:
    page.media(scheme=scheme)
    colours = page.run(
        "['--ink', '--soft', '--accent', '--sheet', '--paper', '--warn', '--warn-ink'].map((n) =>"
        "getComputedStyle(document.documentElement).getPropertyValue(n).trim())"
    )
    ink, soft, accent, sheet, paper, warn, warn_ink = (_light(one) for one in colours)
    pairs = [(one, ground) for one in (ink, soft, accent) for ground in (sheet, paper)]
    for one, ground in [*pairs, (warn, warn_ink)]:
        assert (max(one, ground) + 0.05) / (min(one, ground) + 0.05) >= 4.5


def _light(colour: str) -> float:
    parts = np.array([int(colour.lstrip("#")[k : k + 2], 16) for k in (0, 2, 4)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_paper_is_white_and_has_no_controls(page: Browser) -> None:
    drag(page, around(page, 0, 2))
    page.media("print", "dark")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.until(lambda: pixels(page, "#points")[4, 4, 0] == 255)  # the plot too
    left = page.run(
        "[...document.querySelectorAll('button, input, select')].filter((e) =>"
        "e.checkVisibility() && !e.closest('#gallery')).map((e) => e.outerHTML)"
    )
    assert left == []
