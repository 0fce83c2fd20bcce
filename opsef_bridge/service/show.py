"""Open the comparison of a run in an interactive ImageJ or Fiji, from Python.

A person's Fiji (or ImageJ) is started with the file. Without one, ImageJ 1.54p is started in
the Java of this machine; with Jython it shows the comparison as *Open Comparison* does, with
its keys and a menu of the commands that work on a folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from opsef_bridge.errors import NotFoundError, WorkerError
from opsef_bridge.imagej.jars import find_jar, find_java
from opsef_bridge.project import Project, Run
from opsef_bridge.service.fiji import scripts_folder
from opsef_bridge.service.fiji_check import look

__all__ = ["FIJI", "Shown", "command_of", "show", "stack_of"]

FIJI = "OPSEF_FIJI_DIR"
"""Environment variable that names a person's folder of Fiji or ImageJ."""

PROGRAM = """
import json, sys
from ij import IJ, ImageJ, Macro, Menus
from java.awt import Menu, MenuItem
from java.awt.event import ActionListener
from java.lang import Runnable, Thread
library, folder, run, image = json.loads(sys.argv[1])  # ASCII, whatever the paths hold
sys.path.insert(0, library)
ImageJ().exitWhenQuitting(True)
from opsef_fiji import commands, comparison, session
from opsef_fiji.offline import Folder
session.source = lambda: Folder(folder)

class Command(Runnable, ActionListener):
    def __init__(self, name, options=None):
        self.name, self.options = name, options

    def run(self):
        if self.options:
            Macro.setOptions(self.options)
        commands.run(self.name)

    def actionPerformed(self, event):
        start(self)

def start(command):
    # ImageJ gives the options of a macro only to threads that are called so.
    thread = Thread(command, "Run$_OpSeF" if command.options else "OpSeF")
    thread.start()

comparison.Comparison.edit = lambda self, image: start(Command("Edit_Objects"))
menu = Menu("OpSeF")
for name in ("Open_Comparison", "Edit_Objects", "Classify_Objects", "Save_Back",
             "Adopt_Variant", "Analyse", "Help"):
    item = MenuItem(name.replace("_", " "))
    item.addActionListener(Command(name))
    menu.add(item)
Menus.getMenuBar().add(menu)
start(Command("Open_Comparison", "run=%s image=%s" % (run, image)))
"""


class Shown(NamedTuple):
    """What was opened: id of the image, its file, the command; the process while it may run."""

    image: str
    file: Path
    command: list[str]
    process: subprocess.Popen[bytes] | None


def stack_of(project: Project, run: str | None = None, image: str | None = None) -> Path:
    """Return the file of a comparison.

    Parameters
    ----------
    project : Project
    run : str, optional
        Id of the run; the newest by default.
    image : str, optional
        Id of the image; by default the first that has a comparison. In a batch there is one
        stack of all images.

    Raises
    ------
    NotFoundError
        There is no such run or image, or it has no comparison (yet).
    """
    found: Run = project.run(run)
    if image is not None:
        project.image(image)
        file = found.compare_file(image)
    else:
        file = next(iter(_compared(found)), found.batch_file)
    if not file.is_file():
        known = ", ".join(path.stem for path in _compared(found))
        what = (
            f"{found.id} has no comparison of {image}"
            if image
            else f"{found.id} has no comparison yet"
        )
        raise NotFoundError(
            what,
            hint=f"It has those of {known}" if known else "Finish the run: `opsef sweep resume`",
        )
    return file


def _compared(run: Run) -> list[Path]:
    return sorted((run.root / "compare").glob("*.tif"))


def command_of(
    project: Project, file: Path, fiji: str | os.PathLike[str] | None = None
) -> list[str]:
    """Return the command that opens a stack in a person's Fiji, or in ImageJ 1.54p.

    Raises
    ------
    NotFoundError
        There is no Java, or no ImageJ; the message says how to get it.
    InputError
        `fiji` is no folder of Fiji or ImageJ.
    """
    if fiji is not None:
        there = look(fiji)
        if there.launcher is not None:
            return [str(there.launcher), str(file)]
        java = there.java or find_java()
        return [str(java), *_memory(), f"-Dplugins.dir={there.root}", "-cp", there.class_path,
                "ij.ImageJ", "-port0", str(file)]  # fmt: skip
    java, ij = find_java(), find_jar("ij")
    plain = [str(java), *_memory(), "-cp", str(ij), "ij.ImageJ", "-port0", str(file)]
    if file.parent.name != "compare":
        return plain
    try:
        jython = find_jar("jython")
    except NotFoundError:
        return plain
    library = scripts_folder() / "jars" / "Lib"
    return [str(java), *_memory(), "-cp", os.pathsep.join((str(ij), str(jython))),
            "-Dpython.cachedir.skip=true", "org.python.util.jython", "-B", "-c", PROGRAM,
            json.dumps([str(library), str(project.root.absolute()), file.parents[1].name,
                        file.stem])]  # fmt: skip


def _memory() -> list[str]:
    """Options of Java: three quarters of the memory, as ImageJ's own launcher gives it."""
    return ["-XX:MaxRAMPercentage=75"]


def show(
    project: Project,
    run: str | None = None,
    image: str | None = None,
    *,
    fiji: str | os.PathLike[str] | None = None,
    wait: bool = False,
) -> Shown:
    """Open the comparison of a run in a window, in a process of its own.

    Parameters
    ----------
    project : Project
    run, image : str, optional
        As in `stack_of`.
    fiji : path-like, optional
        Folder of a person's Fiji or ImageJ; by default the one that `FIJI` names, or else
        ImageJ 1.54p.
    wait : bool
        Return only when the person has closed it.

    Raises
    ------
    NotFoundError
        There is no display, no Java, no ImageJ, or no such comparison.
    WorkerError
        With `wait`: ImageJ failed; the message holds the last that it said.
    """
    file = stack_of(project, run, image).absolute()
    command = command_of(project, file, fiji or os.environ.get(FIJI) or None)
    if sys.platform not in ("win32", "darwin") and not os.environ.get("DISPLAY"):
        raise NotFoundError(
            "there is no display, so no window can be opened",
            hint="Log in with `ssh -X`; or start `opsef serve` here and open it from the Fiji "
            f"of your laptop (Plugins > OpSeF > Connect); or copy {file}",
        )
    silent = subprocess.DEVNULL
    try:
        if not wait:
            process = subprocess.Popen(
                command, stdin=silent, stdout=silent, stderr=silent, start_new_session=True
            )
            return Shown(file.stem, file, command, process)
        done = subprocess.run(
            command, stdin=silent, stdout=silent, stderr=subprocess.PIPE, check=False
        )
    except OSError as error:
        raise NotFoundError(
            f"{command[0]} cannot be started: {error.strerror}",
            hint="Check the folder with `opsef fiji check`",
        ) from error
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise WorkerError(
            f"ImageJ ended with code {done.returncode}: {' '.join(lines[-3:])[-600:]}",
            hint=f"Open it by hand: {file}",
        )
    return Shown(file.stem, file, command, None)
