"""The window of questions: one outline at a time, one key for each answer."""
from ij import IJ
from ij.gui import Overlay, Roi, Toolbar
from ij.text import TextWindow
from java.awt import Button, Color, Font, Frame, GridLayout, Label, Panel, FlowLayout
from java.awt.event import ActionListener, KeyEvent, WindowAdapter
from java.util.concurrent.locks import ReentrantLock

from opsef_fiji import answers, images, questions, rois
from opsef_fiji.answers import DRAWN, NOTHING, RIGHT, TITLE
from opsef_fiji.dialogs import Progress, aside, guarded, record
from opsef_fiji.listeners import OnlyKeys
from opsef_fiji.outlines import lined, look_at, roi_of_loops
from opsef_fiji.pixels import clipped, runs_of_loops, share
from opsef_fiji.trouble import Cancelled, NoConnection, Trouble

ASKED, CASING, OTHERS = Color(255, 215, 0), Color(0, 0, 0), Color(120, 170, 255, 150)
AREAS = (Toolbar.RECTANGLE, Toolbar.OVAL, Toolbar.POLYGON, Toolbar.FREEROI, Toolbar.WAND)
BUTTONS = [("y", "Right (y)"), ("n", "Nothing here (n)"), ("d", "Draw (d)"), ("s", "Skip (s)"),
           ("b", "Back (b)"), ("o", "Outlines (o)"), ("q", "Stop (Esc)")]
SAME = {"1": "y", "2": "d", "3": "n"}
DRAW = "Draw the right outline with any selection tool, then Enter or d sends it. Esc: do not."


class Asking(object):
    """Questions one after the other. Each answer is sent at once, while the next is shown."""

    def __init__(self, source, round, run, project):
        self.source, self.round, self.run = source, round, run
        self.image, self.name, self.keys, self.closing = None, "", None, None
        self.opened, self.others, self.lock = {}, {}, ReentrantLock()
        self.busy = self.drawing = self.over = False
        self.told, self.refused, self.last = None, [], None
        self.late = ""  # why the service does not take what is kept
        self.shown = -1  # number of the question that is on the screen
        self.post = answers.Post(source, project, self.heard)
        self.project = project

    def begin(self):
        self.tool = Toolbar.getToolId()
        self.hint = Hint(self)
        if answers.kept(self.project):
            self.post.then(self.post.send_all)  # of a time before
        self.busy = True
        self.present()

    # What is shown.

    def present(self):
        """Show the question that is next; not in the thread of the windows, as it may wait."""
        try:
            question = self.round.question()
            image, others = self.picture(question), self.outlines_of(question)
            if self.over:
                return
            if image is not self.image:
                self.leave()
                self.image, self.name = image, question["image"]
                image.show()
                self.enter()
            self.drawing = False
            image.deleteRoi()
            image.setHideOverlay(False)
            if image.getNSlices() > 1 and question.get("plane") is not None:
                image.setSlice(question["plane"] + 1)
            image.setOverlay(overlay_of(question, others, image.getNSlices() > 1))
            look_at(image, question["box"])
            IJ.setTool("hand")
            self.hint.beside(image.getWindow())
            image.getCanvas().requestFocus()
            self.shown = self.round.at
        finally:
            self.busy = False
            if self.over:  # stopped while it was loaded
                self.leave()
        self.tell()  # now, and not before: no key is lost of who reads it
        if not self.round.is_over() and self.round.at + 1 < len(self.round.questions):
            aside(TITLE, self.fetch, self.round.questions[self.round.at + 1])

    def fetch(self, question):
        """Have the next question here before it is asked; where that fails it is said then."""
        try:
            self.picture(question)
            self.outlines_of(question)
        except Trouble:
            pass

    def picture(self, question):
        self.lock.lock()
        try:
            name = question["image"]
            if name not in self.opened:
                for other in list(self.opened):  # two images are held: this and the next
                    if other not in (self.name, self.round.question()["image"]):
                        self.opened.pop(other)
                image = images.open_project_image(self.source, name, Progress(TITLE))
                image.setTitle("%s (questions)" % name)
                image.setProperty("opsef.questions", True)
                self.opened[name] = image
            return self.opened[name]
        finally:
            self.lock.unlock()

    def outlines_of(self, question):
        """Return the ROIs of the objects of the variant, but for the one that is asked about."""
        self.lock.lock()
        try:
            key = question["image"], question["run"], question["variant"]
            if key not in self.others:
                self.others.clear()
                data, _ = self.source.objects(key[0], "%s/%s" % key[1:])
                self.others[key] = rois.decode(data) if len(data) else []
            found = self.others[key]
        finally:
            self.lock.unlock()
        return [roi for roi in found
                if rois.id_of(roi.getName(), True)[0] != question["label"]]

    def tell(self, text=""):
        if self.over or self.shown != self.round.at:
            return  # the next one is not on the screen yet; then it is told
        question, number = self.round.question(), self.round.at
        said = self.round.said.get(number)
        title = "Question %d of %d: is this outline (yellow) one whole object?" % (
            number + 1, len(self.round.questions))
        part = round(100 * question["share"])
        about = "%s, by %s: %s of the leading variants have it." % (
            question["image"], question["variant"], "%d %%" % part if part else "less than 1 %")
        if said:
            about += " You said: %s." % questions.WORDS[said]
        self.hint.show(title, about, text or (DRAW if self.drawing else self.state()))

    def state(self):
        if self.told is None:
            return "Nothing is answered yet."
        return self.told

    # What is said.

    def pressed(self, code, letter):
        """Do what a key means; all letters are taken, as none may be a shortcut meanwhile."""
        letter = {KeyEvent.VK_ESCAPE: "q", KeyEvent.VK_ENTER: "enter"}.get(code) or (
            letter.lower() if 32 < ord(letter) < 128 else "")
        self.key(SAME.get(letter, letter))

    def key(self, letter):
        if self.over or (self.busy and letter != "q"):
            return
        if self.shown != self.round.at and letter not in ("s", "b", "q"):
            self.next()  # it could not be loaded: what is on the screen is another one
            return
        if self.drawing and letter in ("d", "enter"):
            self.drawn()
        elif self.drawing and letter == "q":
            self.drawing = False
            self.image.deleteRoi()
            IJ.setTool("hand")
            self.tell()
        elif letter == "y":
            self.answer(RIGHT)
        elif letter == "n":
            self.answer(NOTHING)
        elif letter == "d":
            self.drawing = True
            if Toolbar.getToolId() not in AREAS:
                IJ.setTool("freehand")
            self.tell()
        elif letter == "s":
            self.round.skip()
            self.next()
        elif letter == "b":
            if self.round.back():
                self.next()
            else:
                self.tell("This is the first question.")
        elif letter == "o":
            self.image.setHideOverlay(not self.image.getHideOverlay())
        elif letter == "q":
            self.finish()

    def drawn(self):
        """Send what was drawn as the right outline, where it can be."""
        roi, question = self.image.getRoi(), self.round.question()
        if roi is None or not roi.isArea():
            self.tell("There is no area selection yet. " + DRAW)
            return
        if roi.getState() == Roi.CONSTRUCTING:
            self.tell("This selection is not closed yet: double-click, then Enter.")
            return
        runs = clipped(rois.runs_of_roi(roi), self.image.getWidth(), self.image.getHeight())
        volume = self.image.getNSlices() > 1
        plane = self.image.getZ() if volume else 0
        here = not volume or question.get("plane") in (None, plane - 1)
        if not runs or (here and not share(runs, runs_of_loops(question["outline"]))):
            self.tell("What you drew is not where the outline is. Draw there; or n: nothing here.")
            return
        self.answer(DRAWN, runs, plane)

    def answer(self, answer, runs=(), plane=0):
        given = answers.given_of(self.round.question(), answer, runs, plane)
        options = "answer=%s " % answer + " ".join(
            "%s=%s" % (name, given[name]) for name in answers.PLACE)
        if given["pixels"]:
            options += " pixels=[%s]" % given["pixels"]
        record(TITLE, options + (" plane=%d" % plane if plane else ""))
        self.round.say(answer)
        self.post.give(given)
        self.next()

    def heard(self, given, said, trouble):
        """The service has answered, or has not."""
        if said is not None:
            self.told = questions.status_of(said)
            self.last, self.late = said, ""
        elif given["request"] in [one["request"] for one in answers.kept(self.project)]:
            self.late = "" if isinstance(trouble, (NoConnection, Cancelled)) else trouble.text()
            self.told = "%s %d answers are kept and sent later." % (
                trouble.message if self.late else "No connection:",
                len(answers.kept(self.project)))
        else:
            self.round.unsay(given)
            self.refused.append("%s, object %s: %s" % (
                given["image"], given["label"], trouble.message))
        if not self.drawing:
            self.tell()

    def next(self):
        if self.round.is_over():
            self.finish()
            return
        self.busy = True
        aside(TITLE, self.present)

    # The end.

    def finish(self):
        """Give ImageJ its keys back, and say what came of it when all is sent."""
        if self.over:
            return
        self.over = True
        self.leave()
        self.hint.close()
        Toolbar.getInstance().setTool(self.tool)
        IJ.showStatus("OpSeF: the last answers are sent")
        self.post.then(self.sum_up)

    def sum_up(self):
        self.post.close()
        lines = [self.round.counted()]
        left = self.post.left()
        if left:
            lines.append("%d did not arrive. %s" % (len(left), answers.KEPT))
            lines += [line for line in self.late.splitlines() if line.strip()]
        lines += ["Not taken: " + words for words in self.refused]
        said = self.last or {}
        if said.get("first"):
            lines += ["", "%s comes first now, with %d answers in this project." % (
                said["first"], said.get("answers") or 0)]
        lines += said.get("words") or said.get("said") or []
        IJ.showStatus("OpSeF: " + lines[0])
        TextWindow("Answers about %s" % self.run, "\n".join(lines), 640, 320)

    def enter(self):
        canvas, window = self.image.getCanvas(), self.image.getWindow()
        self.keys, self.closing = OnlyKeys(TITLE, self.pressed), Closing(self)
        for part in (canvas, window):
            part.removeKeyListener(IJ.getInstance())
            part.addKeyListener(self.keys)
        window.addWindowListener(self.closing)

    def leave(self):
        """Close the window of the image; it may be asked about again."""
        image, window = self.image, self.image.getWindow() if self.image is not None else None
        if window is not None:
            window.removeWindowListener(self.closing)
            for part in (image.getCanvas(), window):
                part.removeKeyListener(self.keys)
                part.addKeyListener(IJ.getInstance())
            image.setOverlay(None)
            image.changes = False
            image.hide()
        self.image = None


def overlay_of(question, others, volume):
    """Return the outlines: others faint, the one that is asked about in yellow on black."""
    overlay = Overlay()
    overlay.drawLabels(False)
    if hasattr(overlay, "selectable"):  # not in an old Fiji
        overlay.selectable(False)
    for roi in others:
        faint = lined(roi.clone(), OTHERS, 1.0)
        faint.setName("other")
        if volume:
            faint.setPosition(rois.plane_of(roi, rois.id_of(roi.getName(), True)[1], 10 ** 6) + 1)
        overlay.add(faint)
    for colour, width, name in ((CASING, 4.0, "casing"), (ASKED, 2.0, "asked")):
        roi = lined(roi_of_loops(question["outline"]), colour, width)
        roi.setName(name)
        if volume and question.get("plane") is not None:
            roi.setPosition(question["plane"] + 1)
        overlay.add(roi)
    return overlay


class Hint(object):
    """The keys beside the image, as buttons too. It never takes the keyboard."""

    def __init__(self, asking):
        self.frame = Frame("OpSeF: " + TITLE)
        self.frame.setFocusableWindowState(False)
        self.frame.setLayout(GridLayout(4, 1))
        self.lines = [Label(""), Label(""), Label("")]
        self.lines[0].setFont(Font("SansSerif", Font.BOLD, 13))
        for label in self.lines[:2]:
            self.frame.add(label)
        panel = Panel(FlowLayout(FlowLayout.LEFT, 3, 2))
        for letter, words in BUTTONS:
            button = Button(words)
            button.setFocusable(False)
            button.addActionListener(Pressed(asking, letter))
            panel.add(button)
        self.frame.add(panel)
        self.frame.add(self.lines[2])
        self.frame.addWindowListener(Stopping(asking))
        self.placed = False

    def show(self, *texts):
        for label, text in zip(self.lines, texts):
            label.setText(text)
        IJ.showStatus(texts[0])

    def beside(self, window):
        """Come up under the image; go there again where it would lie upon it."""
        if self.placed and not self.frame.getBounds().intersects(window.getBounds()):
            return
        self.placed = True
        self.frame.pack()
        width, height = max(640, self.frame.getWidth()), self.frame.getHeight()
        self.frame.setSize(width, height)
        screen = IJ.getScreenSize()
        x = max(0, min(window.getX(), screen.width - width))
        y = min(window.getY() + window.getHeight() + 30, screen.height - height)
        self.frame.setLocation(x, max(0, y))
        self.frame.setVisible(True)

    def close(self):
        self.frame.dispose()


class Pressed(ActionListener):
    def __init__(self, asking, letter):
        self.asking, self.letter = asking, letter

    def actionPerformed(self, event):
        guarded(TITLE, self.asking.key, self.letter)


class Stopping(WindowAdapter):
    def __init__(self, asking):
        self.asking = asking

    def windowClosing(self, event):
        guarded(TITLE, self.asking.finish)


class Closing(WindowAdapter):
    """The window of the image was closed: that is a stop."""

    def __init__(self, asking):
        self.asking = asking

    def windowClosed(self, event):
        guarded(TITLE, self.asking.finish)
