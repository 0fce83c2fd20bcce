"""The report in a real browser: headless Chromium runs its script and draws it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from opsef_bridge.project import Project, Run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

if not CHROMIUM and "CI" not in os.environ:
    pytest.skip("no chromium on PATH (Debian: apt-get install chromium)", allow_module_level=True)


def chromium(tmp_path: Path, page: Path, *options: str) -> str:
    """Open `page` in a fresh profile and return what Chromium printed."""
    assert CHROMIUM, "CI needs chromium on PATH"
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000",
        *options, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def run_in_page(tmp_path: Path, page: Path, script: str) -> dict[str, object]:
    """Run a script at the end of a copy of `page`; return the object it returns."""
    text = page.read_text(encoding="utf-8")
    probe = (
        f"<script>const press = (key) => document.activeElement.dispatchEvent("
        f"new KeyboardEvent('keydown', {{key, bubbles: true, cancelable: true}}));"
        f"document.title = JSON.stringify((() => {{{script}}})());</script>"
    )
    copy = tmp_path / "copy.html"
    copy.write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    found = re.search("<title>(.*?)</title>", chromium(tmp_path, copy, "--dump-dom"), re.DOTALL)
    return json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))


def test_sorting_turns_the_table(swept: tuple[Project, Run], tmp_path: Path) -> None:
    found = run_in_page(
        tmp_path, swept[1].report_file,
        """
        const table = document.querySelector(".ranking");
        const ranks = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
        const heads = [...table.tHead.rows[0].cells];
        const click = (name) =>
          heads.find((head) => head.textContent === name).querySelector("button").click();
        const before = ranks();
        click("Rank");
        const turned = ranks();
        click("Seconds");
        const seconds = [...table.tBodies[0].rows].map((row) => Number(row.cells[8].dataset.sort));
        const sorted = heads.filter((head) => head.ariaSort).map((head) => head.textContent);
        return {before, turned, seconds, sorted};
        """,
    )  # fmt: skip
    assert found["before"] == [str(rank) for rank in range(1, 13)]
    assert found["turned"] == found["before"][::-1]
    assert found["seconds"] == sorted(found["seconds"])
    assert found["sorted"] == ["Seconds"]


def test_enlarged_view_follows_the_keys(swept: tuple[Project, Run], tmp_path: Path) -> None:
    found = run_in_page(
        tmp_path, swept[1].report_file,
        """
        location.hash = "#g1";
        dispatchEvent(new HashChangeEvent("hashchange"));
        const shown = [...document.querySelectorAll(".group")].map((group) => !group.hidden);
        const viewer = document.getElementById("viewer");
        const now = () => viewer.querySelector(".who").textContent.slice(0, 8) + " "
          + viewer.querySelector(".what").textContent.split(" ")[0];
        document.querySelector("#g1 tbody tr:nth-child(2) .cell").click();
        const steps = [viewer.open, now()];
        for (const key of ["ArrowRight", "ArrowDown", "ArrowUp", "ArrowUp", "ArrowUp"]) {
          press(key);
          steps.push(now());
        }
        press(" ");
        const hidden = document.documentElement.classList.contains("no-outlines");
        return {shown, steps, hidden};
        """,
    )  # fmt: skip
    assert found["shown"] == [False, True]
    first, second = (swept[0].images()[i].id for i in (2, 3))
    assert found["steps"][0] is True
    names = [step.rsplit(" ", 1) for step in found["steps"][1:]]
    assert [image for _, image in names] == [first, second, second, second, second, second]
    assert names[0][0].startswith("#1 ") and names[2][0].startswith("#2 ")
    assert [who for who, _ in names[4:]] == ["bare ima", "bare ima"]
    assert found["hidden"] is True


def test_copy_and_settings(swept: tuple[Project, Run], tmp_path: Path) -> None:
    found = run_in_page(
        tmp_path, swept[1].report_file,
        """
        const slider = document.querySelector(".size");
        slider.value = 300;
        slider.dispatchEvent(new Event("input"));
        const width = document.querySelector(".cell").getBoundingClientRect().width;
        document.querySelector("[popovertarget]").click();
        const panel = document.querySelector("[popover]:popover-open");
        return {width, recipe: panel?.querySelector("pre").textContent};
        """,
    )  # fmt: skip
    assert found["width"] == pytest.approx(300, abs=4)  # the slider has 100 steps
    assert "engine: watershed" in found["recipe"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_are_drawn(swept: tuple[Project, Run], tmp_path: Path, scheme: str) -> None:
    shot = tmp_path / "shot.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    size = "--window-size=1400,2400"
    chromium(tmp_path, swept[1].report_file, f"--screenshot={shot}", size, *dark)
    pixels = np.array(PIL.Image.open(shot).convert("RGB")).astype(int)
    assert pixels.shape[:2] == (2400, 1400)
    corner = pixels[5, 5].mean()
    assert corner < 40 if scheme == "dark" else corner > 240
    yellow = (pixels - (255, 225, 0)) ** 2
    assert (yellow.sum(axis=2) < 3000).sum() > 2000  # outlines
