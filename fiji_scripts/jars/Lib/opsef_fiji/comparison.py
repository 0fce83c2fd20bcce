"""The comparison of variants in a window: shown as it arrives, stepped through by keys."""
import re

from ij import CompositeImage, IJ, ImagePlus
from ij.text import TextWindow
from java.awt.event import ActionListener, KeyEvent, WindowAdapter
from javax.swing import Timer

from opsef_fiji import reasons
from opsef_fiji.dialogs import aside, record
from opsef_fiji.images import link
from opsef_fiji.listeners import Keys
from opsef_fiji.trouble import NoConnection, Trouble

KEYS = """right or space: next variant    left: previous variant
o: outlines on or off    l: labels on or off    i: what the network saw
1: good    2: over-segmented    3: under-segmented    4: missed objects
a: adopt this variant    e: edit the objects of this variant
w: why is this first, and why it stands where it stands
s: outlines in colours of support on or off    b: a second window beside, in step
q: questions about places where the variants disagree"""
TITLE = "Open Comparison"
VERDICTS = {"1": "good", "2": "over", "3": "under", "4": "missed"}
VIEWS = {"o": 3, "l": 4, "i": 2}


def caption_of(image):
    """Return the caption of the variant that is shown."""
    index = image.getStackIndex(1, 1, image.getT())
    return image.getStack().getSliceLabel(index) or ""


def variant_of(image):
    found = re.search(r"\b(v[0-9]{4,})\b", caption_of(image))
    if not found:
        raise Trouble("This window is not a comparison.", "Open one: Open Comparison.")
    return found.group(1)


class Comparison(object):
    """The keys of a comparison window, and its twin."""

    def __init__(self, image, source, run, name, loader=None):
        self.image, self.source, self.run, self.name = image, source, run, name
        self.loader, self.wanted = loader, {}
        self.verdicts = {}
        if loader is not None:
            loader.heard = self.heard
        self.timer = None
        self.colours = {}
        image.setProperty("opsef.comparison", self)
        link(image, run=run, image=name, project=source.project)

    def listen(self, image=None):
        image = image or self.image
        keys = Keys(TITLE, lambda code, letter: self.pressed(image, code, letter))
        for part in (image.getCanvas(), image.getWindow()):
            part.removeKeyListener(IJ.getInstance())
            part.addKeyListener(keys)
        self.tell(image)

    def tell(self, image, text=""):
        if image.getWindow() is None:  # closed while the service was asked
            return
        verdict = self.verdicts.get(variant_of(image))
        if not text:
            text = caption_of(image) + ("   verdict: " + verdict if verdict else "")
            if self.loader is not None and not self.loader.is_whole():
                text = "(%d of %d came)  %s" % (
                    self.loader.frames_here(), self.loader.frames, text)
        IJ.showStatus(text)

    def step(self, image, by):
        self.go(image, 1 + (self.wanted.get(image, image.getT()) - 1 + by) % image.getNFrames())

    def go(self, image, frame):
        """Show a frame; one that has not come yet, as soon as it is there."""
        if self.loader is not None and not self.loader.has_frame(frame):
            if self.loader.failed:
                raise Trouble("Variant %d did not come. %s" % (frame, self.loader.failed),
                              "Open Comparison fetches them again.")
            self.wanted[image] = frame
            self.tell(image, "Variant %d of %d is on its way; it is shown once it came (%d did)" % (
                frame, image.getNFrames(), self.loader.frames_here()))
            return
        self.wanted.pop(image, None)
        image.setT(frame)
        self.tell(image)
        if image in self.colours:
            self.colours[image].shown()

    def heard(self):
        """A frame has come: go to it where somebody waits for it."""
        for image, frame in list(self.wanted.items()):
            if image.getWindow() is None or self.loader.failed:
                self.wanted.pop(image)
            elif self.loader.has_frame(frame):
                self.go(image, frame)

    def view(self, image, channel):
        channel = 1 if image.getC() == channel else channel
        index = image.getStackIndex(channel, image.getZ(), image.getT())
        if self.loader is not None and not self.loader.has(index):
            self.tell(image, "This view is on its way; try again in a moment.")
            return
        image.setC(channel)
        self.tell(image)

    def judge(self, image, verdict):
        variant = variant_of(image)
        self.source.verdict(self.name, self.run, variant, verdict)
        record(TITLE, "verdict=%s variant=%s image=%s run=%s" % (
            verdict, variant, self.name, self.run))
        self.verdicts[variant] = verdict
        self.tell(image)

    def adopt(self, image):
        variant = variant_of(image)
        self.source.adopt(variant, None, self.run)
        record("Adopt Variant", "run=%s variant=%s group=[]" % (self.run, variant))
        self.tell(image, "%s is adopted. Run Batch segments all images with it." % variant)

    def variant_of(self, image):
        return variant_of(image)

    def support(self, image):
        """Draw the outlines in the colours of their support, or no more."""
        from opsef_fiji.comparison_support import Colours

        if image not in self.colours:
            self.colours[image] = Colours(self, image)
            image.getWindow().addWindowListener(Closing(self.colours[image]))
        self.colours[image].toggle()
        self.tell(image, "The support of these objects is asked for ..."
                  if self.colours[image].on else "")

    def why(self, image):
        variant = variant_of(image)
        told = self.source.run(self.run)
        rows = [row for row in rows_of(told) if row.get("id") == variant]
        if not rows:
            raise Trouble("The run does not tell about %s." % variant, "Open the report instead.")
        names = dict((row.get("id"), row.get("slug")) for row in rows_of(told))
        try:
            groups = self.source.ranking(self.run)
        except NoConnection:
            raise
        except Trouble:  # of an older service; the row of the variant tells something still
            groups = {}
        lines = []
        for group in [row.get("group") for row in rows]:
            found = reasons.rows_of_ranking(groups.get(group) or {}, names)
            if found:
                lines += ["WHY IS THIS FIRST" + (", group %s" % group if len(rows) > 1 else "")]
                lines += reasons.lines_of(found) + [""]
        for row in rows:
            lines += ["ABOUT %s" % variant] + reasons.lines_of(reasons.rows_of_variant(row))
        TextWindow("Why %s" % variant, "part\tvalue\tmeaning", "\n".join(lines), 900, 560)

    def beside(self, image):
        """Open a second window on the same pixels; views and zoom stay in step."""
        record(TITLE, "beside=yes")
        twin = ImagePlus(image.getTitle() + " (beside)", image.getStack())
        twin.setDimensions(image.getNChannels(), image.getNSlices(), image.getNFrames())
        if image.isComposite():
            twin = CompositeImage(twin, IJ.COLOR)
            twin.setLuts(image.getLuts())
        twin.setOpenAsHyperStack(True)
        twin.setCalibration(image.getCalibration())
        link(twin, run=self.run, image=self.name, project=self.source.project)
        twin.setProperty("opsef.comparison", self)
        if self.loader is not None:
            self.loader.images.append(twin)
        twin.show()
        window = image.getWindow()
        twin.getWindow().setLocation(window.getX() + window.getWidth() + 4, window.getY())
        twin.setPosition(image.getC(), image.getZ(), image.getT() % image.getNFrames() + 1)
        self.listen(twin)
        self.timer = Timer(80, InStep(self, image, twin))
        self.timer.start()
        return twin

    def edit(self, image):
        IJ.doCommand("Edit Objects")

    def questions(self, image):
        IJ.doCommand("Answer Questions")

    def pressed(self, image, code, letter):
        """Do what a key of the keyboard means; return False where it means nothing here."""
        if code in (KeyEvent.VK_RIGHT, KeyEvent.VK_LEFT):
            self.step(image, 1 if code == KeyEvent.VK_RIGHT else -1)
            return True
        return self.key(image, letter) if 31 < ord(letter) < 128 else False

    def key(self, image, letter):
        if letter in VERDICTS:
            aside(TITLE, self.judge, image, VERDICTS[letter])
        elif letter in VIEWS:
            self.view(image, VIEWS[letter])
        elif letter == " ":
            self.step(image, 1)
        elif letter in "aw":
            aside(TITLE, {"a": self.adopt, "w": self.why}[letter], image)
        elif letter in "besq":
            {"b": self.beside, "e": self.edit, "s": self.support,
             "q": self.questions}[letter](image)
        else:
            return False
        return True


def rows_of(run):
    """Return the rows of the variants of a run, however they are wrapped."""
    if isinstance(run, dict):
        return run.get("variants") or run.get("rows") or []
    return run


class Closing(WindowAdapter):
    def __init__(self, colours):
        self.colours = colours

    def windowClosed(self, event):
        self.colours.close()


class InStep(ActionListener):
    """Gives each of two windows what changed in the other: channel, slice, zoom and place."""

    def __init__(self, comparison, one, two):
        self.comparison, self.pair = comparison, (one, two)
        self.last = self.state(one)

    def state(self, image):
        canvas = image.getCanvas()
        part = canvas.getSrcRect()
        return (image.getC(), image.getZ(), canvas.getMagnification(),
                part.x, part.y, part.width, part.height)

    def actionPerformed(self, event):
        if any(image.getWindow() is None for image in self.pair):
            event.getSource().stop()
            return
        for image, other in (self.pair, self.pair[::-1]):
            now = self.state(image)
            if now != self.last:
                self.last = now
                self.give(now, other)
                return

    def give(self, state, image):
        from java.awt import Rectangle

        if (image.getC(), image.getZ()) != state[:2]:
            image.setPosition(state[0], state[1], image.getT())
        canvas = image.getCanvas()
        canvas.setMagnification(state[2])
        canvas.setSourceRect(Rectangle(*state[3:]))
        canvas.repaint()
        self.last = self.state(image)


def of_window(image):
    """Return the Comparison of a window, or None."""
    return image.getProperty("opsef.comparison")
