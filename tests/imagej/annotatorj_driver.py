"""Drive a real AnnotatorJ in a window: ``annotatorj_driver.py JARS WORK zips IMAGE ZIP``.

``zips IMAGE ZIP`` opens an image, loads a zip and saves; ``opsef LIST`` imports an OpSeF run
and saves and exports it. WORK is a folder for plugins and settings. Needs a display. Ends with
0, or with 3 and a sentence; never hangs.

Names of classes, methods, buttons and windows are those of AnnotatorJ's snapshot of
2020-12-04. File dialogs are not clicked: in a thread named like one that ImageJ runs a macro
in, ImageJ answers them from the macro's options (``select=[path]``). What else opens is
answered by `ANSWERS`, or is an error.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PACKAGE = "org.biomag.annotatorProject"
MAIN, OPSEF = "Annotator_MainFrameNew", "ImportOpSef"
TITLE = "AnnotatorJ"
ANSWERS = {"Select class": "OK", "Confirm overwrite": "Yes"}
"""Which button is pressed in a window of a title."""

TIMEOUT = 60.0
"""Seconds for each step."""

FAILED = 3


class Failed(Exception):
    """AnnotatorJ did not do what was expected; the text says what."""


def jars_of(text: str) -> list[Path]:
    """Return the jars that a path, a folder, or several of them joined by os.pathsep name."""
    jars = []
    for part in filter(None, text.split(os.pathsep)):
        path = Path(part)
        found = sorted(path.rglob("*.jar")) if path.is_dir() else [path]
        if not found or not all(jar.is_file() for jar in found):
            raise Failed(f"there is no jar at {path}")
        jars += found
    if not any(_holds(jar, MAIN) for jar in jars):
        raise Failed(f"no class {PACKAGE}.{MAIN} in {text}: this is no AnnotatorJ that is known")
    return jars


def _holds(jar: Path, name: str) -> bool:
    try:
        with zipfile.ZipFile(jar) as archive:
            return f"{PACKAGE.replace('.', '/')}/{name}.class" in archive.namelist()
    except zipfile.BadZipFile:
        raise Failed(f"{jar} is no jar") from None


def settings(work: Path) -> None:
    """Write what AnnotatorJ asks for at its start otherwise: a model, and the kind of objects."""
    models = work / "plugins" / "models"
    models.mkdir(parents=True)
    (models / "model_real.json").write_text("{}")
    (models / "AnnotatorJconfig.txt").write_text(
        "defaultAnnotType=instance\nrememberAnnotType=yes\n"
    )


def start(jars: list[Path], work: Path) -> None:
    """Start ImageJ, with a window, that has its plugins folder in `work`."""
    from scyjava import jimport

    from opsef_bridge.imagej import ij1
    from opsef_bridge.imagej.jars import find_jar

    settings(work)
    ij1.start(find_jar("ij"), *jars, headless=False)
    jimport("java.lang.System").setProperty("plugins.dir", str(work.absolute()))
    ImageJ = jimport("ij.ImageJ")
    ImageJ(ImageJ.EMBEDDED)


def find_class(name: str) -> Any:
    """Return a class of AnnotatorJ."""
    import jpype

    try:
        return jpype.JClass(f"{PACKAGE}.{name}")
    except (TypeError, jpype.JException) as error:
        raise Failed(
            f"the class {name} cannot be loaded: {error}. Are its jars all there?"
        ) from error


def watched(
    what: str, call: Callable[[], Any], *, choose: Path | None = None, timeout: float = TIMEOUT
) -> Any:
    """Return what a call gives that may open windows; they are answered.

    Parameters
    ----------
    what : str
        For the error.
    choose : Path
        The file that is chosen in a file dialog.

    Raises
    ------
    Failed
        It raised, opened another window, or took longer.
    """
    result: dict[str, Any] = {}

    def run() -> None:
        from scyjava import jimport

        Thread = jimport("java.lang.Thread")
        result["thread"] = thread = Thread.currentThread()
        try:
            if choose is not None:
                thread.setName("Run$_opsef_bridge")
                jimport("ij.Macro").setOptions(thread, f"select=[{choose}]")
            result["value"] = call()
        except BaseException as error:  # of Java too; told by the thread that waits
            result["error"] = error

    runner = threading.Thread(target=run, daemon=True)
    runner.start()
    end = time.monotonic() + timeout
    while runner.is_alive():
        runner.join(0.05)
        _answer(what, result.get("thread"))
        if time.monotonic() > end:
            raise Failed(f"{what}: not done after {timeout:g} s. {_state()}")
    if "error" in result:
        raise Failed(f"{what}: {result['error']}. {_state()}")
    return result.get("value")


def wait_for(what: str, ready: Callable[[], bool], timeout: float = TIMEOUT) -> None:
    """Wait until AnnotatorJ's threads are done and something is there."""
    watched(what, lambda: _poll(lambda: not _busy() and ready(), timeout), timeout=timeout + 1)


def _poll(ready: Callable[[], bool], timeout: float) -> None:
    end = time.monotonic() + timeout
    while not ready() and time.monotonic() < end:
        time.sleep(0.05)
    if not ready():
        raise Failed(f"not done after {timeout:g} s")


def _busy() -> bool:
    """Tell whether a thread is somewhere in AnnotatorJ's code."""
    from scyjava import jimport

    stacks = jimport("java.lang.Thread").getAllStackTraces().values()
    return any(str(line.getClassName()).startswith(PACKAGE) for stack in stacks for line in stack)


def _windows() -> Iterator[Any]:
    from scyjava import jimport

    for window in jimport("java.awt.Window").getWindows():
        if window.isShowing() and hasattr(window, "getTitle"):
            yield window


def _parts(container: Any) -> Iterator[Any]:
    for part in container.getComponents():
        yield part
        if hasattr(part, "getComponents"):
            yield from _parts(part)


def _texts(window: Any) -> list[str]:
    """Return the texts that a window shows."""
    texts = []
    for part in _parts(window):
        for name in ("getText", "getLabel", "getMessage"):
            if hasattr(part, name):
                texts.append(str(getattr(part, name)()))
                break
    return [text for text in texts if text not in ("", "None")]


def _answer(what: str, thread: Any) -> None:
    """Press the button of a window that is known; another dialog is an error."""
    from scyjava import jimport

    Dialog = jimport("java.awt.Dialog")
    for window in _windows():
        title = str(window.getTitle())
        # The thread that opened "Select class" must wait already, or it waits for ever.
        if title in ANSWERS and thread is not None and _waits(thread):
            press(window, ANSWERS[title])
        elif title not in ANSWERS and isinstance(window, Dialog):
            raise Failed(f"{what}: a dialog {title!r} opened: {_texts(window)}. {_state()}")


def _waits(thread: Any) -> bool:
    return str(thread.getState()) in ("WAITING", "TIMED_WAITING")


def press(window: Any, text: str) -> None:
    """Press a button of a window."""
    import jpype
    from scyjava import jimport

    JButton = jimport("javax.swing.JButton")
    for part in _parts(window):
        if isinstance(part, JButton) and str(part.getText()) == text:
            action = jpype.JProxy("java.lang.Runnable", dict={"run": part.doClick})
            jimport("javax.swing.SwingUtilities").invokeAndWait(action)
            return
    raise Failed(f"the window {window.getTitle()} has no button {text!r}: {_texts(window)}")


def _state() -> str:
    """Return what a person would look at: the windows, and ImageJ's log."""
    from scyjava import jimport

    log = str(jimport("ij.IJ").getLog() or "").strip().splitlines()[-5:]
    return f"Windows: {[str(window.getTitle()) for window in _windows()]}; log: {log}"


def zips(image: Path, zipped: Path) -> None:
    """Open an image, load a zip, save."""
    main = find_class(MAIN)
    frame = watched("starting AnnotatorJ", main)
    for name in ("openNew", "loadROIs", "saveData"):
        if not hasattr(frame, name):
            raise Failed(f"{MAIN} has no method {name}: another version than that of 2020-12-04?")
    watched("Open", lambda: frame.openNew(None), choose=image)
    wait_for("Open", lambda: True)
    watched("Load", frame.loadROIs, choose=zipped)
    watched("Save", frame.saveData)
    wait_for("Save", lambda: True)


def opsef(pairs: Path) -> None:
    """Import an OpSeF run, save, export."""
    importer = find_class(OPSEF)
    watched("OpSeF import", importer.run, choose=pairs)
    wait_for("OpSeF import", lambda: _frame() is not None)
    told = pairs.parent / "FilePairList_fromFiji_Masks.txt"
    for button in ("Save", "[^]"):
        frame = _frame()
        press(frame, button)
        wait_for(button, lambda done=button == "Save": done or told.is_file())


def _frame() -> Any:
    """Return AnnotatorJ's window, or None."""
    return next((one for one in _windows() if str(one.getTitle()) == TITLE), None)


def main(jars: str, work: str, job: str, *files: str) -> int:
    """Do what the command line says."""
    try:
        start(jars_of(jars), Path(work))
        {"zips": zips, "opsef": opsef}[job](*(Path(file).absolute() for file in files))
    except Failed as error:
        print(error, file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # Java's windows would keep the process alive
