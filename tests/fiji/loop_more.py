"""New project, jobs, batch; the same without a service; 2,000 objects; a service started here."""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path

from imagej_window import Window, end
from loop_online import inside


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
    run("Jobs", f"job={job} do=[list all]")
    assert any(t.startswith("OpSeF jobs") for t in window.title_of("ij.text.TextWindow"))
    window.shot("jobs")
    run("Adopt Variant", "run=[] variant=v0001 group=[]")
    window.dialog("Run Batch", lambda dialog: None, "run-batch")
    window.settled()
    assert not window.errors, window.errors
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
    canvas = image.getCanvas()
    toolkit = window.java("java.awt.Toolkit").getDefaultToolkit()
    times: dict[str, list[float]] = {}

    def timed(name: str, action) -> None:
        start = time.perf_counter()
        action()
        window._on_events(lambda: canvas.paint(canvas.getGraphics()))
        toolkit.sync()
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
    told_times = {
        name: [min(found), sorted(found)[len(found) // 2]] for name, found in times.items()
    }
    print("EDITS " + json.dumps(told_times), flush=True)
    image.changes = False
    image.close()


def local(window: Window, told: dict) -> None:
    """Connect starts a service on this machine, by the interpreter that is named."""
    window.run("Connect", f"invitation=[] folder=[] interpreter=[{sys.executable}] "
               f"root=[{told['local']}] project=(none)")  # fmt: skip
    record = json.loads((Path(told["local"]) / ".opsef" / "service.json").read_text())
    print("LOCAL " + json.dumps(record), flush=True)


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    window = Window(Path(told["app"]), Path(told["classes"]), Path(told["pictures"]))
    try:
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
