"""Drive a real ImageJ window from Python, in a process made for it.

Everything a person does is done to the windows: keys and clicks are events of the canvas,
dialogs are filled in and their buttons pressed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opsef_bridge.imagej import ij1
from opsef_bridge.imagej.jars import find_jar


class Window:
    """ImageJ with our menu.

    Parameters
    ----------
    app : Path
        The folder of ImageJ: ``plugins/OpSeF`` and ``jars/Lib`` lie in it.
    classes : Path
        Folder of the compiled test class ``Jython``.
    pictures : Path
        Where screenshots go.
    options : str
        More options of the Java machine.
    """

    def __init__(self, app: Path, classes: Path, pictures: Path, *options: str) -> None:
        self.pictures = pictures
        pictures.mkdir(parents=True, exist_ok=True)
        options = (f"-Dplugins.dir={app}", "-Dpython.cachedir.skip=true", f"-Duser.home={app}",
                   *options)  # fmt: skip
        jars = find_jar("ij"), find_jar("jython"), classes
        ij1.start(*jars, headless=False, options=options)
        self.IJ = self.java("ij.IJ")
        self.ij = self.java("ij.ImageJ")(self.java("ij.ImageJ").EMBEDDED)
        self.ij.setVisible(True)
        self.errors: list[str] = []
        self.times: dict[str, float] = {}
        threading.Thread(target=self._close_errors, daemon=True).start()

    def java(self, name: str) -> Any:
        from scyjava import jimport

        return jimport(name)

    def run(self, command: str, options: str = "") -> None:
        """Run a command as a recorded macro does; fail where it shows an error."""
        before = len(self.errors)
        print(f"# {command} {options}", flush=True)
        start = time.perf_counter()
        self.IJ.run(command, options)
        self.times.setdefault(command, time.perf_counter() - start)
        assert len(self.errors) == before, self.errors[before:]

    def refused(self, command: str, options: str = "") -> str:
        """Run a command that must show an error; return what it says."""
        before = len(self.errors)
        try:
            self.IJ.run(command, options)
        except Exception as error:  # ImageJ ends the macro, as it must
            assert "Macro canceled" in str(error), error
        self.wait(lambda: len(self.errors) > before, f"{command} was not refused")
        return self.errors[-1]

    def dialog(self, command: str, fill: Callable[[Any], None], picture: str = "") -> None:
        """Choose a command from the menu, fill in its dialog and press OK."""
        print(f"# {command}", flush=True)
        self.IJ.doCommand(command)
        self.answer(fill, picture)

    def settled(self) -> None:
        """Wait until no script runs: the class `Jython` is in no thread's stack."""
        thread = self.java("java.lang.Thread")

        def idle() -> bool:
            stacks = thread.getAllStackTraces().values()
            return not any(str(e.getClassName()) == "Jython" for stack in stacks for e in stack)

        self.wait(idle, "a command does not end", 60)

    def answer(self, fill: Callable[[Any], None], picture: str = "") -> None:
        """Fill in the dialog that shows, or will, and press OK."""
        dialog = self.wait(lambda: self._showing("ij.gui.GenericDialog"), "no dialog")
        time.sleep(0.3)
        fill(dialog)
        if picture:
            self.shot(picture)
        button = next(b for b in dialog.getButtons() if b is not None and "OK" in str(b.getLabel()))
        event = self.java("java.awt.event.ActionEvent")(button, 1001, "OK")
        dialog.actionPerformed(event)
        self.wait(lambda: not dialog.isShowing(), "the dialog stays")

    def image(self) -> Any:
        return self.java("ij.WindowManager").getCurrentImage()

    def key(self, letter: str, code: int = 0, shift: bool = False) -> None:
        """Press a key in the window of the current image."""
        event_class = self.java("java.awt.event.KeyEvent")
        canvas = self.image().getCanvas()
        code = code or ord(letter.upper())
        import jpype

        event = event_class(
            canvas, event_class.KEY_PRESSED, 0, 64 if shift else 0, code, jpype.JChar(letter)
        )
        self._on_events(lambda: [k.keyPressed(event) for k in canvas.getKeyListeners()])

    def click(self, x: int, y: int, shift: bool = False, button: int = 1) -> None:
        """Click on a pixel of the current image, with the left button (1) or the right (3)."""
        canvas = self.image().getCanvas()
        event_class = self.java("java.awt.event.MouseEvent")
        place = canvas.screenX(x), canvas.screenY(y)
        held = (64 if shift else 0) | {1: 16, 3: 4}[button]
        for kind in (event_class.MOUSE_PRESSED, event_class.MOUSE_RELEASED,
                     event_class.MOUSE_CLICKED):  # fmt: skip
            event = event_class(canvas, kind, 0, held, *place, 1, False, button)
            self._on_events(lambda event=event: canvas.dispatchEvent(event))

    def drag(self, places: list[tuple[int, int]]) -> None:
        """Draw with the mouse along some pixels of the current image."""
        canvas = self.image().getCanvas()
        event_class = self.java("java.awt.event.MouseEvent")
        kinds = [event_class.MOUSE_PRESSED, *[event_class.MOUSE_DRAGGED] * (len(places) - 1),
                 event_class.MOUSE_RELEASED]  # fmt: skip
        for kind, (x, y) in zip(kinds, [*places, places[-1]], strict=True):
            place = canvas.screenX(x), canvas.screenY(y)
            event = event_class(canvas, kind, 0, 1040, *place, 1, False, 1)
            self._on_events(lambda event=event: canvas.dispatchEvent(event))

    def press(self, window: Any, words: str) -> None:
        """Press a button of a window."""
        waiting = list(window.getComponents())
        while waiting:
            part = waiting.pop()
            if isinstance(part, self.java("java.awt.Button")) and str(part.getLabel()) == words:
                event = self.java("java.awt.event.ActionEvent")(part, 1001, words)
                self._on_events(lambda part=part, event=event: part.dispatchEvent(event))
                return
            if isinstance(part, self.java("java.awt.Container")):
                waiting += list(part.getComponents())
        raise AssertionError(f"there is no button {words!r}")

    def to_front(self, image: Any) -> None:
        """Make an image the one that commands work on."""
        self.java("ij.WindowManager").setCurrentWindow(image.getWindow())

    def row(self, title: str, number: int, times: int = 1) -> None:
        """Click on a row of a table, from 0."""
        panel = self.java("ij.WindowManager").getWindow(title).getTextPanel()
        event_class = self.java("java.awt.event.MouseEvent")
        for part in panel.getComponents():
            if not isinstance(part, self.java("java.awt.Canvas")):
                continue
            # What ImageJ does to the place of a click depends on fonts: the row is set by hand.
            event = event_class(part, event_class.MOUSE_RELEASED, 0, 16, 5, 5, times, False, 1)

            def click(part=part, event=event) -> None:
                panel.setSelection(number, number)
                for listener in part.getMouseListeners():
                    listener.mouseReleased(event)

            self._on_events(click)

    def shot(self, name: str) -> None:
        """Keep a picture of the part of the screen where windows are, but for the Recorder's."""
        recorder = self.java("ij.plugin.frame.Recorder")
        found: list[Any] = []
        for _ in range(100):  # until all windows have their sizes
            time.sleep(0.4)
            before, windows = found, self.java("java.awt.Window").getWindows()
            shown = [w for w in windows if w.isShowing() and not isinstance(w, recorder)]
            found = [w.getBounds() for w in shown]
            if found == before and all(box.height > 30 for box in found):
                break
        screen = self.java("java.awt.Toolkit").getDefaultToolkit().getScreenSize()
        area = whole = self.java("java.awt.Rectangle")(screen)
        for k, box in enumerate(found):
            area = box if k == 0 else area.union(box)
        area = area.intersection(whole)
        picture = self.java("java.awt.Robot")().createScreenCapture(area)
        file = self.java("java.io.File")(str(self.pictures / f"{name}.png"))
        self.java("javax.imageio.ImageIO").write(picture, "png", file)

    def wait(self, until: Callable[[], Any], message: str, seconds: float = 60.0) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = until()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"{message}; log: {self.log()}; errors: {self.errors}")

    def log(self) -> str:
        return str(self.IJ.getLog() or "")

    def overlay(self) -> int:
        overlay = self.image().getOverlay()
        return 0 if overlay is None else int(overlay.size())

    def title_of(self, kind: str) -> list[str]:
        """Return the titles of the windows of a class that show."""
        frames = self.java("java.awt.Window").getWindows()
        found = self.java(kind)
        return [str(w.getTitle()) for w in frames if w.isShowing() and isinstance(w, found)]

    def _showing(self, kind: str) -> Any:
        found = self.java(kind)
        for window in self.java("java.awt.Window").getWindows():
            if isinstance(window, found) and window.isShowing():
                return window
        return None

    def _on_events(self, action: Callable[[], None]) -> None:
        """Do something in the thread of the windows, as a person's hand does."""
        from jpype import JImplements, JOverride

        @JImplements("java.lang.Runnable")
        class Run:
            @JOverride
            def run(self) -> None:
                action()

        self.java("java.awt.EventQueue").invokeAndWait(Run())

    def _close_errors(self) -> None:
        """Read and close the message windows: a modal one would wait for ever."""
        message = self.java("ij.gui.MessageDialog")
        windows = self.java("java.awt.Window")
        while True:
            for window in windows.getWindows():
                if isinstance(window, message) and window.isShowing():
                    time.sleep(0.1)
                    if os.environ.get("OPSEF_SHOT_ERRORS"):
                        self.shot(f"error-{len(self.errors)}")
                    lines = [line for line in self.log().splitlines() if line.strip()]
                    self.errors.append(lines[-1] if lines else str(window.getTitle()))
                    window.dispose()
            time.sleep(0.1)


def end(code: int = 0) -> None:
    """Leave without waiting for Java's threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
