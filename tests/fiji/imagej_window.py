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
    """

    def __init__(self, app: Path, classes: Path, pictures: Path) -> None:
        import scyjava

        self.pictures = pictures
        pictures.mkdir(parents=True, exist_ok=True)
        scyjava.config.add_options(
            [f"-Dplugins.dir={app}", "-Dpython.cachedir.skip=true", f"-Duser.home={app}"]
        )
        ij1.start(find_jar("ij"), find_jar("jython"), classes, headless=False)
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

    def click(self, x: int, y: int, shift: bool = False) -> None:
        """Click on a pixel of the current image."""
        canvas = self.image().getCanvas()
        event_class = self.java("java.awt.event.MouseEvent")
        place = canvas.screenX(x), canvas.screenY(y)
        held = 64 if shift else 0
        for kind in (event_class.MOUSE_PRESSED, event_class.MOUSE_RELEASED,
                     event_class.MOUSE_CLICKED):  # fmt: skip
            event = event_class(canvas, kind, 0, held | 16, *place, 1, False, 1)
            self._on_events(lambda event=event: canvas.dispatchEvent(event))

    def shot(self, name: str) -> None:
        """Keep a picture of the whole screen."""
        time.sleep(0.4)
        toolkit = self.java("java.awt.Toolkit").getDefaultToolkit()
        area = self.java("java.awt.Rectangle")(toolkit.getScreenSize())
        picture = self.java("java.awt.Robot")().createScreenCapture(area)
        file = self.java("java.io.File")(str(self.pictures / f"{name}.png"))
        self.java("javax.imageio.ImageIO").write(picture, "png", file)

    def wait(self, until: Callable[[], Any], message: str, seconds: float = 15.0) -> Any:
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
