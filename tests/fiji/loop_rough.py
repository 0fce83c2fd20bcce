"""What a person sees in ImageJ when the service is killed and the line is cut, again and again."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagej_window import Window, end
from loop_online import inside, status

LOST = "No connection; trying again"
SECONDS = 180.0
ESCAPE = 27


def meanwhile(word: str, value: Any = "") -> None:
    """Have the test do something, and wait until it is done."""
    print(f"{word} {json.dumps(value)}", flush=True)
    sys.stdin.readline()


def shows(window: Window, *texts: str) -> None:
    """Wait until the status bar shows one of some texts."""
    window.wait(
        lambda: any(text in status(window) for text in texts),
        f"the status bar never showed {texts}, but {status(window)!r}",
        SECONDS,
    )


def job_of(window: Window) -> str:
    return str(window.java("ij.Prefs").get("opsef.job", ""))


def killed(window: Window) -> None:
    """The service is killed during a sweep that the command waits for; the job lives on."""
    window.dialog("Run Sweep", lambda dialog: None)
    shows(window, "(Esc stops)")
    meanwhile("KILL")
    shows(window, LOST)
    window.shot("rough-no-connection")
    meanwhile("RESTART")
    shows(window, "Run Sweep is done")
    window.settled()
    assert not window.errors, window.errors
    window.run("Jobs", f"job={job_of(window)} do=[wait for it]")


def crashed(window: Window) -> None:
    """Service and job are killed, as when the machine goes down; the person stops waiting."""
    window.run("Adopt Variant", "run=[] variant=v0001 group=[]")
    meanwhile("ARM")
    window.dialog("Run Batch", lambda dialog: None)
    shows(window, "(Esc stops)")
    job = job_of(window)
    meanwhile("CRASH", job)
    shows(window, LOST)
    said = stop_waiting(window)
    assert "Jobs" in said, said
    window.settled()
    said = window.refused("Jobs", f"job={job} do=[wait for it]")
    assert "No answer from" in said and "try again" in said, said
    window.shot("rough-jobs-refused")
    meanwhile("RESTART")
    window.run("Jobs", f"job={job} do=[wait for it]")
    shows(window, f"{job} is done")
    print("BATCH " + json.dumps(job), flush=True)


def stop_waiting(window: Window) -> str:
    """Press Esc, and return what is said then."""
    before = len(window.errors)
    window.IJ.setKeyDown(ESCAPE)
    window.wait(lambda: len(window.errors) > before, "Esc does not stop the waiting", SECONDS)
    return window.errors[-1]


def cut(window: Window) -> None:
    """The line is cut during a sweep, and is there again."""
    meanwhile("ARM", "other")
    window.dialog("Run Sweep", lambda dialog: None)
    shows(window, "(Esc stops)")
    meanwhile("CUT")
    shows(window, LOST)
    meanwhile("MEND")
    shows(window, "Run Sweep is done")
    window.settled()
    print("SWEEP " + json.dumps(job_of(window)), flush=True)


def saved_once(window: Window, name: str) -> None:
    """The line is cut after the service has an edit, and before its answer is here."""
    window.run("Edit Objects", f"action=start image={name} from=run-0001/v0001")
    edited, count = window.image(), window.overlay()
    places = [inside(roi) for roi in edited.getOverlay().toArray()]
    save = "checked=nothing conflicts=[stop and show them]"

    def delete(place: tuple[int, int]) -> None:
        before = window.overlay()
        window.click(*place)
        window.key("d")
        assert window.overlay() == before - 1

    delete(places[0])
    meanwhile("DROP", 1)
    window.run("Save Back", save)
    assert "r0001" in str(edited.getProperty("opsef.etag")), edited.getProperty("opsef.etag")
    assert window.overlay() == count - 1

    window.run("Edit Objects", "action=start")
    delete(places[1])
    meanwhile("DROP", 1000)
    said = window.refused("Save Back", save)
    assert "not known whether it is saved" in said and "Save Back" in said, said
    assert window.overlay() == count - 2  # what was edited is still there
    window.shot("rough-save-unknown")
    meanwhile("DROP", 0)
    window.run("Save Back", save)
    assert "r0002" in str(edited.getProperty("opsef.etag")), edited.getProperty("opsef.etag")
    assert window.overlay() == count - 2
    print("SAVED " + json.dumps(count), flush=True)


def elsewhere(window: Window, other: str) -> None:
    """A new invitation, without the line in between: the window is still of this project."""
    edited, count = window.image(), window.overlay()
    window.run("Connect", f"connect=[the invitation] invitation=[{other}] project=nuclei")
    window.to_front(edited)
    window.run("Edit Objects", "action=start")
    window.click(*inside(edited.getOverlay().toArray()[0]))
    window.key("d")
    window.run("Save Back", "checked=nothing conflicts=[stop and show them]")
    assert "r0003" in str(edited.getProperty("opsef.etag")), edited.getProperty("opsef.etag")
    assert window.overlay() == count - 1


def main(told: dict[str, str]) -> None:
    window = Window(Path(told["app"]), Path(told["classes"]), Path(told["pictures"]))
    steps: dict[str, Callable[[Window], None]] = {
        "killed": killed,
        "crashed": crashed,
        "cut": cut,
        "saved": lambda window: saved_once(window, told["image"]),
        "elsewhere": lambda window: elsewhere(window, told["other"]),
    }
    try:
        window.run("Connect", f"invitation=[{told['invitation']}] project=nuclei")
        for step in steps.values():
            step(window)
        print("PASSED", flush=True)
    except BaseException:
        traceback.print_exc()
        window.shot("failed-rough")
        print("LOG", status(window), window.log(), window.errors, flush=True)
        end(1)
    end(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
