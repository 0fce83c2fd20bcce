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
        dialog.getStringFields().get(0).setText(told["invitation"])
        dialog.getStringFields().get(1).setText("")

    window.dialog("Connect", choose_file, "connect")
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
    run("Open Comparison", f"run=[(newest)] image={name}")
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
    window.key("1")
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
    window.key(" ", 37)
    window.key("a")
    assert not window.errors, window.errors

    # Edit: from the comparison, on the variant that is shown.
    run("Edit Objects", f"action=start image={name} from=run-0001/{best}")
    edited = window.image()
    count = window.overlay()
    assert count > 5 and str(edited.getTitle()) == name
    boxes = [roi.getBounds() for roi in edited.getOverlay().toArray()]
    places = [inside(roi) for roi in edited.getOverlay().toArray()]
    window.shot("edit-start")
    window.click(*places[0])
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
    free = window.java("ij.gui.OvalRoi")(*told["free"], 9, 9)
    edited.setRoi(free)
    window.key("a")
    assert window.overlay() == count, (window.overlay(), window.errors)
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

    # Save Back: through its dialog.
    window.dialog("Save Back", lambda dialog: None, "save-back")
    window.wait(lambda: "r0001" in str(edited.getProperty("opsef.etag")), "not saved")
    window.settled()
    assert window.overlay() == count
    run("Edit Objects", "action=start")

    # Somebody else saves the same object: ours is refused, with the report.
    places = [inside(roi) for roi in edited.getOverlay().toArray()]
    print("STALE " + json.dumps([int(v) for v in places[0]]), flush=True)
    sys.stdin.readline()
    window.click(*places[0])
    window.key("3")
    said = window.refused("Save Back", "checked=nothing conflicts=[stop and show them]")
    titles = window.title_of("ij.text.TextWindow")
    assert any(t.startswith("Not saved") for t in titles), titles
    window.shot("stale")
    print("REFUSED " + json.dumps(said), flush=True)
    run("Save Back", "checked=nothing conflicts=[take theirs]")
    print("SAVED " + json.dumps(str(edited.getProperty("opsef.etag"))), flush=True)

    # Analyse.
    run("Analyse", f"table plots csv=[{told['csv']}] decimals=,")
    window.shot("analyse")
    text = str(recorder.getText())
    print("RECORDED " + json.dumps(text), flush=True)


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
