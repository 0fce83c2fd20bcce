"""The comparison of variants in a window: shown as it arrives, stepped through by keys."""
import re

from ij import CompositeImage, IJ, ImagePlus, ImageStack
from ij.io import FileInfo, TiffDecoder
from ij.process import LUT
from ij.text import TextWindow
from jarray import array, zeros
from java.awt.event import ActionListener, KeyAdapter, KeyEvent
from java.io import ByteArrayInputStream, DataInputStream, IOException, SequenceInputStream
from java.lang import Runnable, Thread
from java.util import Arrays
from javax.swing import Timer

from opsef_fiji.dialogs import guarded, record
from opsef_fiji.images import link, open_stream
from opsef_fiji.trouble import NoConnection, Trouble

KEYS = """right or space: next variant    left: previous variant
o: outlines on or off    l: labels on or off    i: what the network saw
1: good    2: over-segmented    3: under-segmented    4: missed objects
a: adopt this variant    e: edit the objects of this variant
w: why it stands where it stands    b: a second window beside, in step"""
VERDICTS = {"1": "good", "2": "over", "3": "under", "4": "missed"}
VIEWS = {"o": 3, "l": 4, "i": 2}
HEAD, MOST_HEAD = 262144, 2 ** 26


def open_comparison(stream, title, show):
    """Open a stack from a stream; the first frame is shown while the others still come."""
    head = zeros(0, "b")
    size, info = HEAD, None
    while info is None and size <= MOST_HEAD:
        more = some_bytes(stream, size - len(head))
        whole = len(more) < size - len(head)
        joined = Arrays.copyOf(head, len(head) + len(more))
        if len(more):
            from java.lang import System

            System.arraycopy(more, 0, joined, len(head), len(more))
        head = joined
        info = layout(head)
        size *= 2
        if whole:
            break
    if info is None:
        rest = SequenceInputStream(ByteArrayInputStream(head), stream)
        image = open_stream(rest, title, show)
        image.show()
        return image
    at = info.getOffset() if hasattr(info, "getOffset") else info.offset
    rest = ByteArrayInputStream(head, int(at), len(head) - int(at))
    return fill(DataInputStream(SequenceInputStream(rest, stream)), info, title, show)


def some_bytes(stream, count):
    """Return up to count bytes; fewer only at the end."""
    data, filled = zeros(count, "b"), 0
    while filled < count:
        got = stream.read(data, filled, count - filled)
        if got < 0:
            return Arrays.copyOf(data, filled)
        filled += got
    return data


def layout(head):
    """Return the FileInfo of a plain 8-bit ImageJ stack whose header is complete, else None."""
    try:
        found = TiffDecoder(ByteArrayInputStream(head), "comparison").getTiffInfo()
    except (IOException, IndexError):
        return None
    info = found[0] if found else None
    plain = (info is not None and info.fileType == FileInfo.GRAY8 and info.nImages > 1
             and info.compression <= 1 and 0 < info.offset <= len(head)
             and len(found) == 1)
    return info if plain else None


def number(text, name, otherwise=1):
    found = re.search(r"(?m)^%s=([0-9.eE+-]+)" % name, text or "")
    return float(found.group(1)) if found else otherwise


def fill(data, info, title, show):
    told = info.description or ""
    sizes = [int(number(told, name)) for name in ("channels", "slices", "frames")]
    area = info.width * info.height
    if sizes[0] * sizes[1] * sizes[2] != info.nImages:
        sizes = [1, 1, info.nImages]
    stack = ImageStack(info.width, info.height)
    for k in range(info.nImages):
        label = info.sliceLabels[k] if info.sliceLabels and k < len(info.sliceLabels) else None
        stack.addSlice(label, zeros(area, "b"))
    image = ImagePlus(title, stack)
    image.setDimensions(*sizes)
    if info.info:
        image.setProperty("Info", info.info)
    calibration = image.getCalibration()
    unit = re.search(r"(?m)^unit=(.*)$", told)
    if unit and info.pixelWidth > 0:
        calibration.pixelWidth, calibration.pixelHeight = info.pixelWidth, info.pixelHeight
        calibration.setUnit(unit.group(1).strip().replace("\\u00B5", u"\u00b5"))
    if sizes[0] > 1:
        image = CompositeImage(image, IJ.COLOR)
        dress(image, info, sizes[0])
    image.setOpenAsHyperStack(True)
    frame, shown = sizes[0] * sizes[1], False
    try:
        for k in range(info.nImages):
            data.readFully(stack.getPixels(k + 1))
            if (k + 1) % frame == 0:
                if not shown:
                    image.show()
                    shown = True
                if show.escaped():
                    show.progress(0, 0, "stopped; the frames that came can be seen")
                    break
                done = (k + 1) // frame
                show.progress(done, sizes[2], "%d of %d variants" % (done, sizes[2]))
                if done == image.getT():
                    image.updateAndDraw()
    except IOException as error:
        if not shown:
            raise NoConnection("The connection was cut: %s." % error.getMessage(), "Try again.")
        IJ.log("OpSeF: the comparison is incomplete: the connection was cut. Open it again.")
    finally:
        data.close()
        show.done()
    return image


def dress(image, info, channels):
    luts = []
    for c in range(channels):
        if info.channelLuts and c < len(info.channelLuts):
            table = info.channelLuts[c]
            lut = LUT(table[0:256], table[256:512], table[512:768])
        else:
            ramp = array([k if k < 128 else k - 256 for k in range(256)], "b")
            lut = LUT(ramp, ramp, ramp)
        ranges = info.displayRanges
        lut.min = ranges[2 * c] if ranges and len(ranges) > 2 * c + 1 else 0.0
        lut.max = ranges[2 * c + 1] if ranges and len(ranges) > 2 * c + 1 else 255.0
        luts.append(lut)
    image.setLuts(array(luts, LUT))


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

    def __init__(self, image, source, run, name):
        self.image, self.source, self.run, self.name = image, source, run, name
        self.verdicts = {}
        self.timer = None
        image.setProperty("opsef.comparison", self)
        link(image, run=run, image=name, project=source.project)

    def listen(self, image=None):
        image = image or self.image
        keys = Keys(self, image)
        for part in (image.getCanvas(), image.getWindow()):
            part.removeKeyListener(IJ.getInstance())
            part.addKeyListener(keys)
        self.tell(image)

    def tell(self, image, text=""):
        verdict = self.verdicts.get(variant_of(image))
        IJ.showStatus(text or caption_of(image) + ("   verdict: " + verdict if verdict else ""))

    def step(self, image, by):
        image.setT(1 + (image.getT() - 1 + by) % image.getNFrames())
        self.tell(image)

    def view(self, image, channel):
        image.setC(1 if image.getC() == channel else channel)
        self.tell(image)

    def judge(self, image, verdict):
        variant = variant_of(image)
        self.source.verdict(self.name, self.run, variant, verdict)
        self.verdicts[variant] = verdict
        self.tell(image)

    def adopt(self, image):
        variant = variant_of(image)
        self.source.adopt(variant, None, self.run)
        record("Adopt Variant", "run=%s variant=%s group=[]" % (self.run, variant))
        self.tell(image, "%s is adopted. Run Batch segments all images with it." % variant)

    def why(self, image):
        variant = variant_of(image)
        rows = [row for row in rows_of(self.source.run(self.run)) if row.get("id") == variant]
        if not rows:
            raise Trouble("The run does not tell about %s." % variant, "Open the report instead.")
        lines = []
        for row in rows:
            for key in ("rank", "group", "score", "agreement", "agreement_07", "plain_mean",
                        "plain_mean_07", "truth", "objects", "object_px", "seconds", "status",
                        "family", "recipe", "engine", "model", "scale", "parameters"):
                if row.get(key) not in (None, ""):
                    lines.append(u"%s\t%s\t%s" % (key, row[key], MEANING.get(key, "")))
        TextWindow("Why %s" % variant, "part\tvalue\tmeaning", "\n".join(lines), 700, 420)

    def beside(self, image):
        """Open a second window on the same pixels; views and zoom stay in step."""
        twin = ImagePlus(image.getTitle() + " (beside)", image.getStack())
        twin.setDimensions(image.getNChannels(), image.getNSlices(), image.getNFrames())
        if image.isComposite():
            twin = CompositeImage(twin, IJ.COLOR)
            twin.setLuts(image.getLuts())
        twin.setOpenAsHyperStack(True)
        twin.setCalibration(image.getCalibration())
        link(twin, run=self.run, image=self.name, project=self.source.project)
        twin.setProperty("opsef.comparison", self)
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

    def key(self, image, letter):
        if letter in VERDICTS:
            aside(self.judge, image, VERDICTS[letter])
        elif letter in VIEWS:
            self.view(image, VIEWS[letter])
        elif letter == " ":
            self.step(image, 1)
        elif letter in "aw":
            aside({"a": self.adopt, "w": self.why}[letter], image)
        elif letter in "be":
            {"b": self.beside, "e": self.edit}[letter](image)
        else:
            return False
        return True


class Aside(Runnable):
    def __init__(self, action, arguments):
        self.action, self.arguments = action, arguments

    def run(self):
        guarded("Open Comparison", self.action, *self.arguments)


def aside(action, *arguments):
    """Ask the service beside the thread of the windows: a hung tunnel must not freeze ImageJ."""
    thread = Thread(Aside(action, arguments), "OpSeF")
    thread.setDaemon(True)
    thread.start()


MEANING = {
    "rank": "place among the variants of its group",
    "score": "what the rank is by: agreement, with truth where there is some",
    "agreement": "how well the other families of variants agree with it (0 to 1)",
    "agreement_07": "the same, counting only close matches (IoU 0.7)",
    "plain_mean": "mean agreement with all variants, related ones too",
    "plain_mean_07": "the same for close matches",
    "object_px": "typical diameter of its objects in pixels",
    "seconds": "time it took",
}


def rows_of(run):
    """Return the rows of the variants of a run, however they are wrapped."""
    if isinstance(run, dict):
        return run.get("variants") or run.get("rows") or []
    return run


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


class Keys(KeyAdapter):
    def __init__(self, comparison, image):
        self.comparison, self.image = comparison, image

    def keyPressed(self, event):
        code, letter = event.getKeyCode(), event.getKeyChar()
        plain = not (event.isControlDown() or event.isMetaDown() or event.isAltDown())
        do = None
        if plain and code == KeyEvent.VK_RIGHT:
            do = (self.comparison.step, self.image, 1)
        elif plain and code == KeyEvent.VK_LEFT:
            do = (self.comparison.step, self.image, -1)
        elif plain and 31 < ord(letter) < 128:
            do = (self.comparison.key, self.image, letter)
        if do is None or guarded("Open Comparison", *do) is False:
            IJ.getInstance().keyPressed(event)
            return
        event.consume()

    def keyReleased(self, event):
        IJ.getInstance().keyReleased(event)


def of_window(image):
    """Return the Comparison of a window, or None."""
    return image.getProperty("opsef.comparison")
