"""Train From Corrections in a real ImageJ window: as a macro, by its dialogs, and refused."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from imagej_window import Window, end
from loop_choosing import text_of

COMMAND = "Train From Corrections"
SEE = "see what the newest training made"
LONG = 240.0
"""Seconds for what takes some: a training of two steps, or a comparison, on a busy machine."""


def train(window: Window) -> None:
    """Begin as a macro, and wait for it by Jobs."""
    window.run(COMMAND, "do=train start=nuclei-unet corrections=[what I vouched for] minutes=1 "
               "name=mine steps=2 then=[go on (Jobs shows it)]")  # fmt: skip
    job = str(window.java("ij.Prefs").get("opsef.job", ""))
    window.run("Jobs", f"job={job} do=[wait for it]")


def use(window: Window) -> None:
    """See what came of it by the dialogs, and use it."""

    def see(dialog: Any) -> None:
        [keep] = list(dialog.getCheckboxes())
        assert str(keep.getLabel()).startswith("Keep what it knows") and keep.getState()
        dialog.getChoices().get(0).select(SEE)

    window.dialog(COMMAND, see, "train-dialog")
    dialog = window.wait(lambda: window._showing("ij.gui.GenericDialog"), "no result", LONG)
    assert "mine" in str(dialog.getTitle()), dialog.getTitle()

    def wanted(dialog: Any) -> None:
        for box in list(dialog.getCheckboxes()):
            box.setState(True)
        dialog.getStringFields().get(0).setText("better")

    window.answer(wanted, "train-result")
    window.wait(lambda: "better is a model" in window.title_of("ij.text.TextWindow"),
                "it is not used", LONG)  # fmt: skip
    window.settled()
    window.shot("train-used")
    found = text_of(window, "Training of mine")
    assert "mine has an F1 of" in found and "nuclei-unet" in found and "IoU 0.7" in found, found
    found = text_of(window, "better is a model")
    assert "better: {engine: unet, weights: better}" in found and "Run Sweep" in found, found


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    window = Window(Path(told["app"]), Path(told["classes"]), Path(told["pictures"]))
    try:
        said = window.refused(COMMAND, "do=train")
        assert "Connect" in said, said
        window.run("Connect", f"invitation=[{told['invitation']}] project=few")
        said = window.refused(COMMAND, "do=train corrections=[what I vouched for]")
        assert "1 image is vouched for; 3 are needed" in said and "Correct 2 more" in said, said
        window.run("Connect", f"invitation=[{told['invitation']}] project=cells")
        train(window)
        use(window)
        assert len(window.errors) == 2, window.errors
        print("TIMES " + json.dumps(window.times), flush=True)
        print("PASSED", flush=True)
    except BaseException:
        traceback.print_exc()
        window.shot("failed-training")
        print("LOG", window.log(), window.errors, flush=True)
        end(1)
    end(0)
