"""Correct Next in a real ImageJ window: the table, a box by a double click, and saved as truth."""

from __future__ import annotations

import json
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from imagej_window import Window, end
from loop_choosing import drawn_of, text_of
from loop_online import status

COMMAND, TITLE = "Correct Next", "Correct next, of run-0001"
MARK = "box to correct"


def listed(window: Window) -> list[list[str]]:
    """Return image and box of each row."""
    text = str(window.java("ij.WindowManager").getWindow(TITLE).getTextPanel().getText())
    rows = [line.split("\t") for line in text.splitlines()[1:] if line.strip()]
    return [row[1:3] for row in rows]


def count(window: Window) -> int:
    return int(window.java("ij.WindowManager").getImageCount())


def opened(window: Window, number: int, row: list[str]) -> Any:
    """Open a row by a double click; return its window, once its box is shown."""
    y, x, height, width = map(int, row[1].split(","))
    window.row(TITLE, number, 2)

    def shown() -> Any:
        image = window.image()
        if image is None or str(image.getTitle()) != row[0] or image.getOverlay() is None:
            return None
        boxes = [roi.getBounds() for roi in drawn_of(image, MARK)]
        there = [(b.y, b.x, b.height, b.width) for b in boxes] == [(y, x, height, width)]
        return image if there and "places." in status(window) else None

    image = window.wait(shown, f"{row} is not shown: {status(window)}", 120)
    part = image.getCanvas().getSrcRect()
    assert part.contains(window.java("java.awt.Rectangle")(x, y, width, height)), str(part)
    assert part.width < image.getWidth(), "it is not zoomed to the box"
    return image


def correct(window: Window, told: dict) -> None:
    window.run(COMMAND, f"tile={told['tile']}")
    rows = listed(window)
    print("LISTED " + json.dumps(rows), flush=True)
    window.shot("correct-next")
    window.row(TITLE, 0)  # a single click opens nothing
    image = opened(window, 0, rows[0])
    assert count(window) == 1
    window.shot("correct-next-box")

    # n goes through the places in the box, and to no other.
    y, x, height, width = map(int, rows[0][1].split(","))
    number, places = status(window).split(": ")[1].split(" ")[:2]
    assert places.startswith("places") and int(number) >= 1, status(window)
    for _ in range(int(number) + 1):
        window.key("n")
        for roi in drawn_of(image, "candidate"):
            box = roi.getBounds()
            middle = int(box.y) + int(box.height) // 2, int(box.x) + int(box.width) // 2
            assert y <= middle[0] < y + height and x <= middle[1] < x + width, middle
        if "nothing more" in status(window):
            break
    assert "nothing more" in status(window), status(window)

    # Another box of the same image comes in the same window.
    other = next(k for k, row in enumerate(rows) if k and row[0] == rows[0][0])
    opened(window, other, rows[other])
    assert count(window) == 1
    opened(window, 0, rows[0])

    def checked(dialog: Any) -> None:
        assert "box" in str(dialog.getChoices().get(0).getSelectedItem())

    window.dialog("Save Back", checked, "correct-next-save")
    window.wait(lambda: str(image.getProperty("opsef.etag")) == '"r0001"', "it is not saved", 120)
    window.settled()
    assert not drawn_of(image, MARK), "the box that is done stays outlined"
    image.close()
    image = opened(window, 0, rows[0])  # of the old table
    assert str(image.getProperty("opsef.etag")) == '"r0001"', "not what was saved"
    window.run(COMMAND, f"tile={told['tile']}")
    print("LEFT " + json.dumps(listed(window)), flush=True)
    assert text_of(window, TITLE) and not text_of(window, TITLE), "the old table stays"
    said = window.refused(COMMAND, "tile=7")
    assert "tile of 7 px" in said, said


def without_a_service(window: Window, told: dict) -> None:
    """The last answer, and the title of the table says of when it is."""
    window.run("Connect", f"invitation=[] folder=[{told['folder']}]")
    window.run(COMMAND)
    titles = [str(one) for one in window.java("ij.WindowManager").getNonImageTitles()]
    [title] = [one for one in titles if one.startswith(TITLE)]  # the one of before is closed
    when = title.replace(TITLE, "", 1)
    assert re.fullmatch(r" \(as of \d{4}-\d\d-\d\d \d\d:\d\d UTC\)", when), title
    window.shot("correct-next-offline")


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    window = Window(Path(told["app"]), Path(told["classes"]), Path(told["pictures"]))
    try:
        window.run("Connect", f"invitation=[{told['invitation']}] project=disputed")
        correct(window, told)
        without_a_service(window, told)
        assert len(window.errors) == 1, window.errors
        print("TIMES " + json.dumps(window.times), flush=True)
        print("PASSED", flush=True)
    except BaseException:
        traceback.print_exc()
        window.shot("failed-next")
        print("LOG", window.log(), window.errors, status(window), flush=True)
        end(1)
    end(0)
