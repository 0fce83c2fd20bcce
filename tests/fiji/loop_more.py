"""New project, jobs, batch; the same without a service; 2,000 objects; a service started here.

Told of a ``volume``: a line that is cut, and the objects of a volume. Told of a ``macro``: what
was recorded runs again, on a computer with decimal commas.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
import zlib
from pathlib import Path

import numpy as np
from imagej_window import Window, end
from loop_online import inside, status


def new_project(window: Window, told: dict) -> str:
    run, root = window.run, Path(told["root"])
    run("Connect", f"invitation=[{told['invitation']}] project=(none)")
    for name in ("one", "two"):
        image = window.IJ.openImage(told["image_file"])
        image.setTitle(f"{name} größer.tif")
        calibration = image.getCalibration()
        calibration.pixelWidth = calibration.pixelHeight = 0.5
        calibration.setUnit("um")
        image.show()
    line = window.java("ij.gui.Line")
    window.image().setRoi(line(10, 10, 40, 10))
    shown: dict = {}

    def look(dialog) -> None:
        shown["size"] = str(dialog.getNumericFields().get(0).getText())
        dialog.getStringFields().get(0).setText("Mein Projekt")

    window.dialog("New Project", look, "new-project")
    window.settled()
    assert shown["size"] == "15.00", shown
    assert not window.errors, window.errors
    folder = root / "mein-projekt" if (root / "mein-projekt").is_dir() else root / "Mein-Projekt"
    assert folder.is_dir(), sorted(p.name for p in root.iterdir())
    assert len(list((folder / "data").iterdir())) == 2
    (folder / "opsef.yaml").write_text(told["config"])  # one cheap model in place of all
    run("Run Sweep", "then=[go on (Jobs shows it)]")
    print("SWEEP begun", flush=True)
    job = next(iter(line for line in [str(window.java("ij.Prefs").get("opsef.job", ""))]))
    run("Jobs", f"job={job} do=[wait for it]")
    listed = []
    window.dialog(
        "Jobs",
        lambda dialog: listed.append(str(dialog.getChoices().get(0).getSelectedItem())),
        "jobs-form",
    )
    window.settled()
    assert listed == [f"sweep, Ada, done  {job}"], listed
    assert any(t.startswith("OpSeF jobs") for t in window.title_of("ij.text.TextWindow"))
    window.shot("jobs")
    run("Adopt Variant", "run=[] variant=v0001 group=[]")
    window.dialog("Run Batch", lambda dialog: None, "run-batch")
    window.settled()
    assert not window.errors, window.errors
    said = window.refused("Train From Corrections")
    assert "Nothing is corrected yet" in said and "Save Back asks" in said, said
    run("Help", "now")
    window.shot("help")
    window.IJ.run("Close All")
    return folder.name


def offline(window: Window, told: dict, project: str) -> None:
    """The same commands on the folder alone."""
    run, folder = window.run, Path(told["root"]) / project
    run("Connect", f"invitation=[] folder=[{folder}]")
    names = sorted(p.stem for p in (folder / "runs" / "run-0001" / "compare").glob("*.tif"))
    run("Open Comparison", f"run=[(newest)] image={names[0]}")
    window.key("2")
    window.key("a")
    run("Edit Objects", f"action=start image={names[0]} from=run-0001/v0001")
    count = window.overlay()
    assert count > 3
    place = inside(window.image().getOverlay().toArray()[0])
    window.click(*place)
    window.key("d")
    run("Save Back", "checked=[only what I touched] conflicts=[stop and show them]")
    run("Run Batch", "then=[wait until it ends]")
    window.shot("offline")
    waiting = sorted(p.name for p in (folder / "inbox").glob("*.json"))
    print("OFFLINE " + json.dumps([names[0], len(waiting), count]), flush=True)
    window.IJ.run("Close All")


def many(window: Window, told: dict) -> None:
    """Edits of 2,000 objects, with the window painted anew."""
    image = window.IJ.createImage("many", "8-bit black", 1800, 1800, 1)
    overlay = window.java("ij.gui.Overlay")()
    oval = window.java("ij.gui.OvalRoi")
    for k in range(2000):
        roi = oval(4 + k % 45 * 40, 4 + k // 45 * 40, 34, 34)
        roi.setName(f"{k + 1:04d}")
        overlay.add(roi)
    image.setOverlay(overlay)
    image.show()
    window.run("Edit Objects", "action=start image=[the overlay of this image] from=[]")
    assert window.overlay() == 2000
    toolkit = window.java("java.awt.Toolkit").getDefaultToolkit()
    times: dict[str, list[float]] = {}

    queue = toolkit.getSystemEventQueue()

    def drained() -> None:
        """Wait until everything that is to be painted is painted."""
        window._on_events(lambda: None)
        for _ in range(1000):
            if queue.peekEvent() is None:
                break
            window._on_events(lambda: None)
        toolkit.sync()

    def timed(name: str, action) -> None:
        drained()
        start = time.perf_counter()
        action()
        drained()
        times.setdefault(name, []).append(1000 * (time.perf_counter() - start))

    for k in range(12):
        x, y = 4 + k * 3 % 45 * 40 + 17, 4 + (k * 3 // 45 + 3) * 40 + 17
        timed("select", lambda x=x, y=y: window.click(x, y))
        timed("delete", lambda: window.key("d"))
        window.click(x + 40, y)
        window.click(x + 80, y, shift=True)
        timed("merge", lambda: window.key("m"))
    assert window.overlay() == 2000 - 24, window.overlay()
    window.shot("many")
    said = window.refused("Segment Image", "model=watershed")
    assert "edits that are not saved" in said and window.overlay() == 2000 - 24, said
    told_times = {
        name: [min(found), sorted(found)[len(found) // 2]] for name, found in times.items()
    }
    print("EDITS " + json.dumps(told_times), flush=True)
    image.changes = False
    image.close()


def local(window: Window, told: dict) -> None:
    """Connect starts a service on this machine, by the interpreter that is named."""

    def connect(root: str) -> dict:
        window.run("Connect", f"invitation=[] folder=[] interpreter=[{sys.executable}] "
                   f"root=[{root}] project=(none)")  # fmt: skip
        return json.loads((Path(root) / ".opsef" / "service.json").read_text())

    record = connect(told["local"])
    print("LOCAL " + json.dumps(record), flush=True)
    assert connect(told["local"]) == record, "a second one was started"
    for file in (Path(told["local"]) / ".opsef" / "local").iterdir():
        file.unlink()
    assert connect(told["local"]) == record, "a second one was started"
    # One that somebody else started is found too.
    running = json.loads((Path(told["root"]) / ".opsef" / "service.json").read_text())
    assert connect(told["root"]) == running
    invitation = Path(str(window.java("ij.Prefs").get("opsef.invitation", "")))
    assert json.loads(invitation.read_text(encoding="utf-8"))["port"] == running["port"]

    # What was put in last is meant, whatever else is filled in.
    def choose(dialog) -> None:
        way = dialog.getChoices().get(0)
        assert str(way.getSelectedItem()) == "a service started here"
        dialog.getStringFields().get(0).setText(told["invitation"])
        said = "it does not turn to the invitation"
        window.wait(lambda: str(way.getSelectedItem()) == "the invitation", said)

    window.dialog("Connect", choose)
    window.answer(lambda dialog: None)
    window.settled()
    assert str(window.java("ij.Prefs").get("opsef.invitation", "")) == told["invitation"]


def say(word: str, value: object = "") -> None:
    """Tell the test something, and wait until it has done its part."""
    print(word, json.dumps(value), flush=True)
    sys.stdin.readline()


def planes_of(stack) -> list[int]:
    """Return a checksum of each plane of an ImageStack."""
    return [zlib.crc32(np.array(stack.getPixels(k + 1)).tobytes()) for k in range(stack.getSize())]


def bad_line(window: Window, told: dict) -> None:
    """A comparison whose frames come late, and one whose connection is cut."""
    run = window.run
    run("Connect", f"invitation=[{told['line']}] project=nuclei")
    run("Run Sweep", "then=[wait until it ends]")
    say("HOLD")
    run("Open Comparison", f"run=[(newest)] image={told['image']}")
    image = window.image()
    assert image.getT() == 1 and image.getNFrames() == 3
    assert planes_of(image.getStack())[0] != planes_of(image.getStack())[-1]
    black = planes_of(image.getStack())[-1]
    window.key(" ", 39)
    assert image.getT() == 1 and "on its way" in status(window), status(window)
    window.shot("comparison-comes")
    window.key("1")
    say("GO")
    window.wait(lambda: image.getT() == 2, "the frame that was waited for is not shown")
    window.wait(lambda: planes_of(image.getStack())[-1] != black, "the rest does not come")
    print("PLANES " + json.dumps(planes_of(image.getStack())), flush=True)
    image.close()
    say("CUT")
    run("Open Comparison", f"run=[(newest)] image={told['image']}")
    image = window.image()
    window.key(" ", 37)
    window.wait(lambda: image.getT() == 3, "it does not go on after the cut")
    print("AGAIN " + json.dumps(planes_of(image.getStack())), flush=True)
    image.close()


def volumes(window: Window, told: dict) -> None:
    """Objects of a volume: seen by slice, edited whole; saved through a line that loses answers."""
    run = window.run
    run("Connect", f"invitation=[{told['line']}] project=stack")
    run("Edit Objects", f"action=start image={told['volume']} from=[]")
    image = window.image()
    assert (image.getNChannels(), image.getNSlices(), image.getNFrames()) == (1, 4, 1), image
    planes = [r.getPosition() for r in image.getOverlay().toArray()]
    assert sorted(planes) == told["planes"], planes

    def shown() -> dict[str, int]:
        """Return the names of the ROIs of each object, by slice."""
        return {str(r.getName()): int(r.getPosition()) for r in image.getOverlay().toArray()}

    # Object 1 is in all slices: a click in any of them takes it whole.
    image.setZ(3)
    window.click(10, 10)
    window.shot("volume")
    window.key("d")
    assert not any(name.startswith("0001-") for name in shown()), shown()
    window.key("u")
    assert sum(name.startswith("0001-") for name in shown()) == 4
    image.setZ(1)
    window.click(10, 10)  # object 2 is not in this slice
    image.setZ(2)
    window.click(40, 10, shift=True)
    window.key("m")
    assert not any(name.startswith("0002-") for name in shown()), shown()
    window.click(10, 10)
    window.key("2")
    # Split in the slice that is shown only.
    image.setZ(2)
    line = window.java("ij.gui.Line")
    window.click(10, 40)
    image.setRoi(line(12, 30, 12, 54))
    window.key("c")
    new = [name for name in shown() if int(name[:4]) > 4]
    assert len(new) == 1 and shown()[new[0]] == 2, shown()
    # A new object, drawn in two slices and merged.
    oval = window.java("ij.gui.OvalRoi")
    for z in (3, 4):
        image.setZ(z)
        image.setRoi(oval(60, 30, 12, 12))
        window.key("a")
    window.click(66, 36)
    image.setZ(3)
    window.click(66, 36, shift=True)
    window.key("m")
    # Row <-> object across slices.
    run("Analyse", "table csv=[] decimals=.")
    image.setZ(1)
    window.row(f"Objects of {image.getTitle()}", 2)
    assert "selected: 4" in status(window) and image.getZ() == 3, (status(window), image.getZ())
    assert not window.errors, window.errors
    say("LOSE")
    run("Save Back", "checked=[the whole image] conflicts=[stop and show them]")
    assert str(image.getProperty("opsef.etag")) == '"r0002"', image.getProperty("opsef.etag")
    run("Save Back", "checked=[nothing] conflicts=[stop and show them]")
    assert str(image.getProperty("opsef.etag")) == '"r0002"', "nothing was edited"
    image.setZ(1)
    window.click(10, 10)
    window.key("d")
    count = window.overlay()
    say("DEAD")
    options = "checked=[nothing] conflicts=[stop and show them]"
    said = window.refused("Save Back", options)
    assert "still in this window" in said and window.overlay() == count, said
    say("ALIVE")
    # A project of the same name elsewhere is not the one that this window is of.
    run("Connect", f"invitation=[{told['elsewhere']}] project=stack")
    said = window.refused("Save Back", options)
    assert "127.0.0.1" in said and "Nothing was saved" in said, said
    run("Connect", f"invitation=[{told['line']}] project=stack")
    run("Save Back", options)
    assert str(image.getProperty("opsef.etag")) == '"r0003"'
    print("VOLUME " + json.dumps(sorted(shown())), flush=True)
    image.close()


def replayed(window: Window, told: dict) -> None:
    """Run what the Recorder wrote, in a fresh ImageJ."""
    window.IJ.runMacro(f'open("{told["image_file"]}");\n{told["macro"]}')
    assert not window.errors, window.errors
    print("REVISION " + json.dumps(str(window.image().getProperty("opsef.etag"))), flush=True)
    shown: dict = {}

    def look(dialog) -> None:
        shown["of"], shown["mark"] = [str(c.getSelectedItem()) for c in dialog.getChoices()]
        dialog.getStringFields().get(0).setText(told["csv"])

    window.dialog("Analyse", look, "analyse-dialog")
    window.settled()
    assert shown == {"of": "this image", "mark": ","}, shown
    assert not window.errors, window.errors


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    options = told.get("options", [])
    window = Window(Path(told["app"]), Path(told["classes"]), Path(told["pictures"]), *options)
    try:
        if "macro" in told:
            replayed(window, told)
        elif "volume" in told:
            bad_line(window, told)
            volumes(window, told)
        else:
            offline(window, told, new_project(window, told))
            many(window, told)
            local(window, told)
        print("PASSED", flush=True)
    except BaseException:
        traceback.print_exc()
        window.shot("failed-more")
        print("LOG", window.log(), window.errors, flush=True)
        end(1)
    end(0)
