"""Classes by the service in a real ImageJ window: gates, learning, what is uncertain, tables."""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from imagej_window import Window, end
from loop_choosing import colours_of, text_of
from loop_online import status

NONE, FIRST, SECOND = "00dcdc", "ff0000", "00ff00"
"""Colours of objects without a class, and of classes 1 and 2."""


def classified(window: Window, image: Any) -> Counter[int]:
    return Counter(int(roi.getGroup()) for roi in image.getOverlay().toArray())


def gates(window: Window, told: dict) -> None:
    """A gate by its dialogs, another as a macro: revisions, and their colours in the window."""
    window.run("Edit Objects", f"action=start image={told['images'][0]}")
    image = window.image()
    assert colours_of(image) == {NONE}, colours_of(image)

    def by_gate(dialog: Any) -> None:
        dialog.getNumericFields().get(0).setText("2")
        dialog.getChoices().get(0).select("a gate")

    def gate(dialog: Any) -> None:
        dialog.getStringFields().get(0).setText("area > 150 and touches_border == 0")

    window.dialog("Classify Objects", by_gate)
    window.answer(gate, "classify-gate")
    window.settled()
    found = window.wait(lambda: text_of(window, "Classes by a gate"), "nothing is said")
    assert "area > 150 and touches_border == 0" in found and f"{told['images'][1]}: r0001" in found
    assert str(image.getProperty("opsef.etag")) == '"r0001"', window.log()
    assert colours_of(image) == {NONE, SECOND}, colours_of(image)
    window.shot("classify-by-gate")
    window.run("Classify Objects", "class=1 by=[a gate] gate=[area < 100]")
    text_of(window, "Classes by a gate")
    assert colours_of(image) == {NONE, FIRST, SECOND}, colours_of(image)
    assert min(classified(window, image)[group] for group in (0, 1, 2)) > 0


def learned(window: Window, told: dict) -> None:
    """Learn; go through what is uncertain by keys; save it."""
    image = window.image()
    before = classified(window, image)
    window.run("Classify Objects", "class=1 by=[learning from classes] features=[area solidity]")
    found = window.wait(lambda: text_of(window, "Classes by learning"), "nothing is said")
    assert "Balanced accuracy" in found and "precision   recall" in found, found
    assert str(image.getProperty("opsef.etag")) == '"r0002"'
    assert "1 of " in status(window) and "% of trees" in status(window), status(window)
    count = int(status(window).split("1 of ")[1].split(",")[0])
    assert count == before[0], status(window)
    given = {}
    for group in (1, 2):
        label = int(status(window).split("object ")[1].split(",")[0])
        [chosen] = [r for r in image.getOverlay().toArray() if r.getStrokeWidth() > 2]
        assert str(chosen.getName()) == f"{label:04d}" and chosen.getGroup() == 0
        assert image.getCanvas().getSrcRect().contains(chosen.getBounds())
        if group == 1:
            window.shot("classify-uncertain")
        window.key(str(group))
        given[label] = group
        window.key("n")
    assert "3 of " in status(window), status(window)
    window.key("p")
    assert "2 of " in status(window), status(window)
    assert len(given) == 2 and classified(window, image)[0] == before[0] - 2
    said = window.refused("Classify Objects", "class=1 by=[a gate] gate=[area > 1]")
    assert "not saved" in said and "Save Back first" in said, said
    window.run("Save Back", "checked=nothing conflicts=[stop and show them]")
    assert str(image.getProperty("opsef.etag")) == '"r0003"'
    assert classified(window, image)[0] == before[0] - 2
    window.run("Classify Objects", "class=1 by=[uncertain next]")
    assert "3 of " in status(window), status(window)
    print("GIVEN " + json.dumps(given), flush=True)


def tables(window: Window, told: dict) -> None:
    """The table of all images, plots, and what is said; a row opens its image."""
    manager = window.java("ij.WindowManager")
    edited, first = window.image(), manager.getImageCount()

    def of_all(dialog: Any) -> None:
        dialog.getChoices().get(0).select("all images of the project")
        for box in list(dialog.getCheckboxes()):
            box.setState(True)
        dialog.getStringFields().get(0).setText(told["csv"])

    window.dialog("Analyse", of_all)
    window.answer(lambda dialog: dialog.getChoices().get(1).select("kmeans"), "analyse-all-dialog")
    title = f"Objects of all images of {told['project']}"
    window.wait(lambda: window.title_of("ij.text.TextWindow").count(title), "no table")
    window.settled()
    found = text_of(window, "Analysis of cells")
    assert "of 2 images" in found and "kmeans made" in found, found
    plots = [manager.getImage(i) for i in manager.getIDList()]
    plots = [image for image in plots if image.getProperty("opsef.plot")]
    assert len(plots) == manager.getImageCount() - first > 2
    assert any("pca" in str(image.getTitle()) for image in plots)
    assert all(image.getWidth() > 200 for image in plots)
    window.shot("analyse-all")
    for image in plots:
        image.close()
    window.to_front(edited)

    panel = manager.getWindow(title).getTextPanel()
    names = str(panel.getColumnHeadings()).split("\t")
    rows = [dict(zip(names, str(panel.getLine(k)).split("\t"), strict=False))
            for k in range(panel.getLineCount())]  # fmt: skip
    print("ROWS " + json.dumps([len(rows)]), flush=True)
    for number in (0, len(rows) - 1):
        row = rows[number]
        window.row(title, number)
        label = f"{int(float(row['label'])):04d}"

        def is_there(row: dict = row, label: str = label) -> bool:
            shown = window.image()
            if str(shown.getProperty("opsef.image")) != row["image"]:
                return False
            overlay = shown.getOverlay()  # it comes after the window
            rois = [] if overlay is None else overlay.toArray()
            return any(str(r.getName()) == label and r.getStrokeWidth() > 2 for r in rois)

        window.wait(is_there, f"{row} is not shown")
    assert {rows[0]["image"], rows[-1]["image"]} == set(told["images"])
    assert manager.getImageCount() == first + 1
    window.shot("analyse-all-row")


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    window = Window(Path(told["app"]), Path(told["classes"]), Path(told["pictures"]))
    try:
        window.run("Connect", f"invitation=[{told['invitation']}] project=[{told['project']}]")
        for part in (gates, learned, tables):
            part(window, told)
        assert not window.errors or all("not saved" in one for one in window.errors)
        print("TIMES " + json.dumps(window.times), flush=True)
        print("PASSED", flush=True)
    except BaseException:
        traceback.print_exc()
        window.shot("failed-classes")
        print("LOG", window.log(), window.errors, status(window), flush=True)
        end(1)
    end(0)
