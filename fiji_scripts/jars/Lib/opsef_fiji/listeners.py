"""Listeners that several windows share: plain keys, clicks, chosen rows."""
from ij import IJ
from java.awt.event import KeyAdapter, KeyEvent, MouseAdapter

from opsef_fiji.dialogs import guarded


def is_plain_click(event):
    """Tell a left click from one that opens a menu: that one is no popup trigger any more here."""
    return event.getButton() == 1 and not event.isControlDown()


class Keys(KeyAdapter):
    """Gives plain keys to meant(code, letter); where that returns False they are ImageJ's."""

    def __init__(self, title, meant):
        self.title, self.meant = title, meant

    def keyPressed(self, event):
        plain = not (event.isControlDown() or event.isMetaDown() or event.isAltDown())
        if not plain or guarded(
                self.title, self.meant, event.getKeyCode(), event.getKeyChar()) is False:
            IJ.getInstance().keyPressed(event)
            return
        event.consume()

    def keyReleased(self, event):
        IJ.getInstance().keyReleased(event)


class OnlyKeys(Keys):
    """Gives keys to meant, and none of the others to ImageJ, but for those of looking around."""

    PASSED = (KeyEvent.VK_SHIFT, KeyEvent.VK_CONTROL, KeyEvent.VK_ALT, KeyEvent.VK_META,
              KeyEvent.VK_SPACE, KeyEvent.VK_UP, KeyEvent.VK_DOWN, KeyEvent.VK_LEFT,
              KeyEvent.VK_RIGHT)
    LETTERS = u"+-=<>,."

    def keyPressed(self, event):
        plain = not (event.isControlDown() or event.isMetaDown() or event.isAltDown())
        if event.getKeyCode() in self.PASSED or (plain and event.getKeyChar() in self.LETTERS):
            IJ.getInstance().keyPressed(event)
            return
        if plain:
            guarded(self.title, self.meant, event.getKeyCode(), event.getKeyChar())
        event.consume()


class RowChosen(MouseAdapter):
    """Gives the number of a row that is clicked on to chosen(row)."""

    def __init__(self, panel, chosen):
        self.panel, self.chosen = panel, chosen

    def mouseReleased(self, event):
        self.chosen(self.panel.getSelectionStart())


class RowOpened(RowChosen):
    """The same for a double click."""

    def mouseReleased(self, event):
        if event.getClickCount() == 2:
            self.chosen(self.panel.getSelectionStart())
