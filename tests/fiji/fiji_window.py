"""The window of `imagej_window`, but of a person's own Fiji or ImageJ.

    python fiji_window.py PROGRAM ARGUMENTS

runs a program of the loop in it. The folder is named by the program's arguments, as ever.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
from pathlib import Path

import imagej_window

from opsef_bridge.imagej import ij1
from opsef_bridge.service.fiji_check import look


class FijiWindow(imagej_window.Window):
    """Fiji (or ImageJ) with all that lies in its folder."""

    def __init__(self, app: Path, classes: Path, pictures: Path, *options: str) -> None:
        self.pictures = pictures
        pictures.mkdir(parents=True, exist_ok=True)
        there = look(app)
        named = [f"-D{name}={app}" for name in ("plugins.dir", "ij.dir", "imagej.dir", "fiji.dir")]
        options = (*named, "-Dpython.cachedir.skip=true", f"-Duser.home={app}",
                   "--add-opens=java.base/java.lang=ALL-UNNAMED", *options)  # fmt: skip
        ij1.start(*there.class_path.split(os.pathsep), headless=False, options=options)
        if there.fiji:
            # Before any class of ImageJ 1.x: Fiji changes them while they are loaded.
            self.gateway = self.java("net.imagej.ImageJ")()
            self.gateway.ui().showUI()
            self.IJ = self.java("ij.IJ")
            self.ij = self.IJ.getInstance()
        else:
            self.IJ = self.java("ij.IJ")
            self.ij = self.java("ij.ImageJ")(self.java("ij.ImageJ").EMBEDDED)
            self.ij.setVisible(True)
        self.errors: list[str] = []
        self.times: dict[str, float] = {}
        threading.Thread(target=self._close_errors, daemon=True).start()

    def settled(self) -> None:
        """Wait until no script runs, of ImageJ or of SciJava."""
        thread = self.java("java.lang.Thread")

        def idle() -> bool:
            stacks = thread.getAllStackTraces().values()
            names = {str(e.getClassName()) for stack in stacks for e in stack}
            return not names & {"Jython", "org.scijava.script.ScriptModule"}

        self.wait(idle, "a command does not end", 60)


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    imagej_window.Window = FijiWindow  # type: ignore[misc]
    runpy.run_path(sys.argv[0], run_name="__main__")
