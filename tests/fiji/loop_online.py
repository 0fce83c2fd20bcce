"""The whole loop against a real service, in one process with an ImageJ window."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

from imagej_window import Window, end


def loop(window: Window, told: dict) -> None:
    run, image_file, name = window.run, told["image_file"], told["image"]
    menus = window.java("ij.Menus").getCommands()
    assert menus.get("Segment Image") is not None, "the menu lacks our commands"
    recorder = window.java("ij.plugin.frame.Recorder")()
    recorder.setLocation(620, 700)

    # Connect: choose the file, then the project.
    def choose_file(dialog) -> None:
        window.shot("connect")
        dialog.getStringFields().get(0).setText(told["invitation"])
        dialog.getStringFields().get(1).setText("")

    window.dialog("Connect", choose_file)
    window.answer(lambda dialog: dialog.getChoices().get(0).select(told["project"]), "project")
    window.settled()

    # Segment Image, on what is open and on a selection of it.
    first = window.IJ.openImage(image_file)
    first.show()
    window.dialog("Segment Image", lambda dialog: dialog.getChoices().get(0).select("watershed"))
    window.wait(lambda: window.overlay(), "no objects", 60)
    window.settled()
    whole = window.overlay()
    assert whole > 5, window.log()
    window.shot("segment-image")
    first.setRoi(20, 30, 80, 70)
    run("Segment Image", "model=watershed scale=1 diameter=0")
    assert 0 < window.overlay() < whole
    for roi in first.getOverlay().toArray():
        box = roi.getBounds()
        assert box.x >= 20 and box.x + box.width <= 100 and box.y >= 30
    first.close()

    # Sweep, through its dialog, with what it costs.
    window.dialog("Run Sweep", lambda dialog: None, "run-sweep")
    window.wait(lambda: "Run Sweep is done" in status(window), "the sweep does not end", 60)

    # Comparison.
    first_images = window.java("ij.WindowManager").getImageCount()
    window.dialog("Open Comparison", lambda dialog: None, "open-comparison")
    window.wait(
        lambda: window.java("ij.WindowManager").getImageCount() > first_images, "no comparison"
    )
    window.settled()
    stack = window.image()
    assert stack.getOriginalFileInfo() is None, "it was not shown as it came"
    assert stack.getNFrames() == 3 and stack.getNChannels() == 4, stack
    caption = str(stack.getStack().getSliceLabel(1))
    assert caption.startswith("#1 v"), caption
    best = caption.split()[1]
    window.shot("comparison-first")
    window.key(" ", 39)
    assert stack.getT() == 2
    window.key("o")
    assert stack.getC() == 3
    judged = str(stack.getStack().getSliceLabel(stack.getStackIndex(1, 1, 2))).split()[1]
    window.key("1")
    verdict = f"verdict=good variant={judged} image={name} run="
    window.wait(lambda: verdict in str(recorder.getText()), "the verdict is not recorded")
    window.key("o")
    window.key("l")
    window.shot("comparison-labels")
    window.key("b")
    window.wait(lambda: "beside" in str(window.image().getTitle()), "no twin")
    window.shot("comparison-beside")
    window.image().close()
    window.key("w")
    window.wait(lambda: any(t.startswith("Why v") for t in window.title_of("ij.text.TextWindow")),
                "no reason")  # fmt: skip
    window.shot("comparison-why")
    for shown in window.java("java.awt.Window").getWindows():
        if str(getattr(shown, "getTitle", lambda: "")()).startswith("Why v"):
            shown.dispose()
    window.key(" ", 37)
    window.key("a")
    window.wait(lambda: "is adopted" in status(window), "not adopted")
    assert not window.errors, window.errors

    # Edit: from the comparison, on the variant that is shown.
    assert stack.getT() == 1 and best == str(stack.getStack().getSliceLabel(1)).split()[1]
    window.key("e")
    window.answer(lambda dialog: None, "edit-objects")
    window.settled()
    edited = window.image()
    count = window.overlay()
    assert count > 5 and str(edited.getTitle()) == name
    boxes = [roi.getBounds() for roi in edited.getOverlay().toArray()]
    places = [inside(roi) for roi in edited.getOverlay().toArray()]
    window.shot("edit-start")
    window.click(*places[0])
    window.click(*places[3], button=3)
    assert f"selected: {ids_at(edited, [places[0]])}" in status(window), status(window)
    window.shot("edit-selected")
    window.key("d")
    assert window.overlay() == count - 1, window.overlay()
    window.click(*places[1])
    window.click(*places[2], shift=True)
    window.key("m")
    assert window.overlay() == count - 2
    window.key("u")
    assert window.overlay() == count - 1
    window.click(*places[1])
    window.click(*places[2], shift=True)
    window.key("m")
    box = max(boxes[3:], key=lambda b: b.width * b.height)
    line = window.java("ij.gui.Line")
    middle = box.x + box.width // 2
    edited.setRoi(line(middle, box.y - 3, middle, box.y + box.height + 3))
    which = boxes.index(box)
    window.click(*places[which])
    edited.setRoi(line(middle, box.y - 3, middle, box.y + box.height + 3))
    window.key("c")
    assert window.overlay() == count - 1, (window.overlay(), window.errors)
    keys(window, edited, count, places, told["free"])
    window.key("n")
    window.shot("edit-done")

    # Classify three, by clicks with the class brush.
    window.dialog("Classify Objects", lambda dialog: None)
    window.settled()
    rest = [k for k in range(3, len(places)) if k != which][:3]
    for k, group in zip(rest, "112", strict=True):
        window.key(group)
        window.click(*places[k])
    window.wait(lambda: sum(r.getGroup() > 0 for r in edited.getOverlay().toArray()) >= 3,
                "no classes")  # fmt: skip
    window.shot("classify")
    closed_legend(window, edited, places[rest[0]])

    # Save Back: by its key, through its dialog.
    window.key("s")
    window.answer(lambda dialog: None, "save-back")
    window.wait(lambda: "r0001" in str(edited.getProperty("opsef.etag")), "not saved")
    window.settled()
    assert window.overlay() == count
    run("Edit Objects", "action=start")

    print("RECORDED " + json.dumps(str(recorder.getText())), flush=True)

    # Somebody else saves the same object: ours is refused, with the report.
    places = [inside(roi) for roi in edited.getOverlay().toArray()]
    print("STALE " + json.dumps([int(v) for v in places[0]]), flush=True)
    sys.stdin.readline()
    window.click(*places[0])
    window.key("3")
    options = "checked=nothing conflicts=[stop and show them]"
    said = window.refused("Save Back", options)
    # Each conflict is a row; a click outlines what became of the object on each side.
    title = next(t for t in window.title_of("ij.text.TextWindow") if t.startswith("Not saved"))
    report = window.java("ij.WindowManager").getWindow(title)
    rows = str(report.getTextPanel().getText()).splitlines()
    assert len(rows) == 3 and "\tdeleted\t" in rows[1], rows
    assert "Bob" in rows[2] and "Ada" in rows[2], rows
    window.row(title, 0)
    shown = [str(r.getName()) for r in edited.getOverlay().toArray()]
    assert shown[-2:] == ["conflict before", "conflict yours"], shown[-4:]
    assert "theirs deleted" in status(window), status(window)
    window.shot("stale")
    print("REFUSED " + json.dumps(said), flush=True)
    window.press(report, "Take theirs")
    window.wait(lambda: "r0001" not in str(edited.getProperty("opsef.etag")), "not taken")
    window.settled()
    window.wait(lambda: window.overlay() == count - 1, "theirs does not show")
    assert not any(t.startswith("Not saved") for t in window.title_of("ij.text.TextWindow"))
    print("SAVED " + json.dumps(str(edited.getProperty("opsef.etag"))), flush=True)

    # Analyse: a click on a row selects the object, a click on the object its row.
    run("Edit Objects", "action=stop")
    run("Analyse", f"table plots csv=[{told['csv']}] decimals=,")
    title = f"Objects of {edited.getTitle()}"
    table = window.java("ij.WindowManager").getWindow(title).getTextPanel()
    ids = [int(str(table.getLine(k)).split("\t")[0]) for k in range(table.getLineCount())]
    window.to_front(edited)
    for k in (3, 0):
        window.row(title, k)
        assert f"selected: {ids[k]}" in status(window), (status(window), ids[k])
    place = [
        inside(r) for r in edited.getOverlay().toArray() if str(r.getName()) == f"{ids[4]:04d}"
    ]
    window.click(*place[0])
    assert table.getSelectionStart() == table.getSelectionEnd() == 4, table.getSelectionStart()
    assert f"selected: {ids[4]}" in status(window), status(window)
    window.shot("analyse")
    cropped(window, edited)
    managed(window, told, edited)


def ids_at(edited, places: list) -> str:
    """Return the ids of the objects at some places, as the status bar shows them."""
    model = edited.getProperty("opsef.session")
    found = [r for p in places for r in edited.getOverlay().toArray() if r.contains(*p)]
    assert model is not None and len(found) == len(places)
    return " ".join(str(int(str(r.getName()))) for r in found)


def closed_legend(window: Window, edited, place: tuple[int, int]) -> None:
    """A right click gives no class; and without the legend no click gives one."""
    groups = sorted(r.getGroup() for r in edited.getOverlay().toArray())
    window.key("5")
    window.click(*place, button=3)
    event = window.java("java.awt.event.WindowEvent")
    frames = window.java("java.awt.Frame").getFrames()
    [frame] = [f for f in frames if f.isShowing() and str(f.getTitle()) == "Classes"]
    closing = event(frame, event.WINDOW_CLOSING)
    window._on_events(lambda: frame.dispatchEvent(closing))
    assert not frame.isShowing() and "Clicks select again" in status(window), status(window)
    window.click(*place)
    assert "selected: " in status(window), status(window)
    assert sorted(r.getGroup() for r in edited.getOverlay().toArray()) == groups
    window.key(chr(27), 27)


def cropped(window: Window, edited) -> None:
    """What ImageJ's Crop leaves is not edited, and not saved; its Undo makes all good again."""
    count, etag = window.overlay(), str(edited.getProperty("opsef.etag"))
    before = sorted(str(r.getBounds()) for r in edited.getOverlay().toArray())
    width = edited.getWidth()
    edited.setRoi(20, 30, 100, 90)
    window.IJ.doCommand("Crop")
    window.wait(lambda: edited.getWidth() == 100, "it is not cropped")
    for command, options in (
        ("Edit Objects", f"action=delete objects=[{int(str(first_of(edited).getName()))}]"),
        ("Save Back", "checked=[nothing] conflicts=[stop and show them]"),
    ):
        said = window.refused(command, options)
        assert "no longer fit the picture" in said and f"{width} x" in said, said
    window.IJ.doCommand("Undo")
    window.wait(lambda: edited.getWidth() == width, "it is not undone")
    edited.deleteRoi()
    window.run("Edit Objects", f"action=delete objects=[{int(str(first_of(edited).getName()))}]")
    assert window.overlay() == count - 1
    window.run("Edit Objects", "action=undo")
    after = sorted(str(r.getBounds()) for r in edited.getOverlay().toArray())
    assert after == before and str(edited.getProperty("opsef.etag")) == etag


def first_of(edited):
    return edited.getOverlay().get(0)


def managed(window: Window, told: dict, edited) -> None:
    """To the ROI Manager and back; files for AnnotatorJ."""
    run, count = window.run, window.overlay()
    run("Edit Objects", "action=[to ROI Manager]")
    manager = window.java("ij.plugin.frame.RoiManager").getInstance()
    found = list(manager.getRoisAsArray())
    drawn = {str(r.getName()): r for r in edited.getOverlay().toArray()}
    assert {str(r.getName()) for r in found} == set(drawn)
    for roi in found:
        assert roi.getGroup() == drawn[str(roi.getName())].getGroup()
        if drawn[str(roi.getName())].getStrokeWidth() < 3:  # the one that is selected is white
            assert roi.getStrokeColor().equals(drawn[str(roi.getName())].getStrokeColor())
    window.shot("roi-manager")
    # There one is deleted, one is moved, one is added; nothing else changes.
    before = {str(r.getName()): str(r.getBounds()) for r in found}
    manager.select(0)
    manager.runCommand("Delete")
    manager.getRoi(0).setGroup(4)
    free = window.java("ij.gui.OvalRoi")(told["free"][0] + 20, told["free"][1], 7, 7)
    manager.addRoi(free)
    window.to_front(edited)
    run("Edit Objects", "action=[from ROI Manager]")
    after = {str(r.getName()): str(r.getBounds()) for r in edited.getOverlay().toArray()}
    assert window.overlay() == count and len(set(after) & set(before)) == count - 1
    assert all(before[name] == after[name] for name in set(after) & set(before))
    groups = [r.getGroup() for r in edited.getOverlay().toArray()]
    assert groups.count(4) == 1, groups
    run("Edit Objects", "action=undo")
    again = {str(r.getName()): str(r.getBounds()) for r in edited.getOverlay().toArray()}
    assert again == before
    manager.reset()  # else it asks whether to save them
    manager.close()
    window.to_front(edited)
    run("Edit Objects", f"action=[AnnotatorJ files] folder=[{told['annotatorj']}] class=normal")
    said = window.refused(
        "Edit Objects", f"action=[AnnotatorJ files] folder=[{told['annotatorj']}] class=normal"
    )
    assert "is there already" in said, said


def keys(window: Window, edited, count: int, places: list, free: list[int]) -> None:
    """Each key of editing that the loop itself does not press."""
    toolbar = window.java("ij.gui.Toolbar")
    window.click(*places[5])
    assert "selected" in status(window)
    window.key(chr(27), 27)
    assert "selected" not in status(window), status(window)
    window.key("h")
    assert edited.getHideOverlay()
    window.key("h")
    assert not edited.getHideOverlay()
    window.click(*places[5])
    window.key(chr(8), 8)
    assert window.overlay() == count - 2, window.overlay()
    window.key("u")
    assert window.overlay() == count - 1
    # Freehand, and the wand, by the mouse.
    window.key("a")
    assert toolbar.getToolId() == toolbar.FREEROI
    x, y = free
    window.drag([(x, y), (x + 8, y), (x + 8, y + 8), (x, y + 8), (x, y + 1)])
    assert edited.getRoi() is not None and edited.getRoi().isArea()
    window.key("a")
    assert window.overlay() == count, (window.overlay(), window.errors)
    window.key("u")
    window.key("w")
    assert toolbar.getToolId() == toolbar.WAND
    edited.deleteRoi()
    window.click(x + 2, y + 2)
    assert edited.getRoi() is not None, "the wand takes nothing"
    edited.setRoi(window.java("ij.gui.OvalRoi")(x, y, 9, 9))
    window.key("a")
    assert window.overlay() == count, (window.overlay(), window.errors)
    window.key("q")
    assert "Editing has stopped" in status(window), status(window)
    window.run("Edit Objects", "action=start")


def status(window: Window) -> str:
    return (
        str(window.IJ.getInstance().getStatusBar().getComponent(0).getText())
        if hasattr(window.IJ.getInstance().getStatusBar().getComponent(0), "getText")
        else window.log()
    )


def inside(roi) -> tuple[int, int]:
    """Return a pixel of a ROI."""
    box = roi.getBounds()
    for y in range(box.height // 2, box.height):
        for x in range(box.width // 2, box.width):
            if roi.contains(box.x + x, box.y + y):
                return box.x + x, box.y + y
    point = roi.getContainedPoints()[0]
    return int(point.x), int(point.y)


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    window = Window(Path(told["app"]), Path(told["classes"]), Path(told["pictures"]))
    try:
        loop(window, told)
        print("TIMES " + json.dumps(window.times), flush=True)
        print("PASSED", flush=True)
    except BaseException:
        traceback.print_exc()
        window.shot("failed")
        print("LOG", window.log(), window.errors, flush=True)
        end(1)
    end(0)
