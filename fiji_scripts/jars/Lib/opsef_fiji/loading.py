"""The stack of a comparison, frame by frame: the first is shown while the others still come."""
import re

from ij import CompositeImage, IJ, ImagePlus, ImageStack
from ij.io import FileInfo, TiffDecoder
from ij.process import LUT
from jarray import array, zeros
from java.awt import EventQueue
from java.io import ByteArrayInputStream, DataInputStream, IOException, SequenceInputStream
from java.lang import Runnable, System, Thread
from java.util import Arrays

from opsef_fiji.images import open_stream
from opsef_fiji.trouble import Cancelled, NoConnection, Trouble

HEAD, MOST_HEAD = 262144, 2 ** 26
FIRST = 4 * 10 ** 6
"""Bytes of a first frame that is waited for whole; of a larger one the first plane is shown."""
PAUSES_MS = [500, 1500, 4000, 10000]
"""Between tries to go on where a connection was cut."""


def open_comparison(source, run, name, title, show):
    """Return (image, loader or None): shown with its first frame; the others come meanwhile."""
    stream, mark = source.compare_stream(run, name)
    try:
        head, info = head_of(stream)
    except IOException as error:
        raise NoConnection("The connection was cut: %s." % error.getMessage(), "Try again.")
    if info is None:
        image = open_stream(SequenceInputStream(ByteArrayInputStream(head), stream), title, show)
        image.show()
        return image, None
    at = int(info.getOffset() if hasattr(info, "getOffset") else info.offset)
    rest = ByteArrayInputStream(head, at, len(head) - at)
    image = made(info, title)

    def again(start):
        return source.compare_stream(run, name, at + start, mark)

    loader = Loader(image, DataInputStream(SequenceInputStream(rest, stream)), again)
    loader.begin(show)
    image.show()
    show.done()
    loader.go_on()
    return image, loader


def head_of(stream):
    """Return (the bytes that were read, FileInfo or None if it is no plain stack)."""
    head, size = zeros(0, "b"), HEAD
    while size <= MOST_HEAD:
        more = some_bytes(stream, size - len(head))
        whole = len(more) < size - len(head)
        joined = Arrays.copyOf(head, len(head) + len(more))
        System.arraycopy(more, 0, joined, len(head), len(more))
        head, size = joined, size * 2
        info = layout(head)
        if info is not None or whole:
            return head, info
    return head, None


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


def made(info, title):
    """Return the image of a header, with black planes."""
    told = info.description or ""
    sizes = [int(number(told, name)) for name in ("channels", "slices", "frames")]
    if sizes[0] * sizes[1] * sizes[2] != info.nImages:
        sizes = [1, 1, info.nImages]
    stack = ImageStack(info.width, info.height)
    for k in range(info.nImages):
        label = info.sliceLabels[k] if info.sliceLabels and k < len(info.sliceLabels) else None
        stack.addSlice(label, zeros(info.width * info.height, "b"))
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
    return image


class Loader(Runnable):
    """Fills the planes of a stack, one after the other, and goes on where a line was cut.

    again: function that returns (stream, mark) from a byte of the pixels on, or None where
    the stack was made anew meanwhile. heard: called after each frame, by the windows' thread.
    """

    def __init__(self, image, data, again):
        self.images, self.stack = [image], image.getStack()
        self.data, self.again = data, again
        self.frame = image.getNChannels() * image.getNSlices()
        self.frames = image.getNFrames()
        self.area = image.getWidth() * image.getHeight()
        self.came, self.failed = 0, ""
        self.heard = None

    def has(self, index):
        """Tell whether a plane (from 1) has come."""
        return index <= self.came

    def has_frame(self, frame):
        return frame * self.frame <= self.came

    def frames_here(self):
        return self.came // self.frame

    def is_whole(self):
        return self.came == self.stack.getSize()

    def begin(self, show):
        """Read what is shown first; Esc ends it."""
        few = self.frame if self.frame * self.area <= FIRST else 1
        try:
            while self.came < few:
                if show.escaped():
                    raise Cancelled()
                show.progress(self.came, few, "the first variant")
                self.read()
        except IOException as error:
            raise NoConnection("The connection was cut: %s." % error.getMessage(), "Try again.")
        finally:
            if self.came < few:
                self.data.close()

    def go_on(self):
        thread = Thread(self, "OpSeF comparison")
        thread.setDaemon(True)
        thread.start()

    def read(self):
        self.data.readFully(self.stack.getPixels(self.came + 1))
        self.came += 1

    def run(self):
        try:
            while not self.is_whole() and self.is_open():
                try:
                    self.read()
                except IOException as error:
                    self.data.close()
                    if not self.reopened():
                        return self.fail(error)
                if self.came % self.frame == 0:
                    IJ.showProgress(self.frames_here(), self.frames)
                    self.tell()
        finally:
            self.data.close()
            IJ.showProgress(1.0)

    def is_open(self):
        return any(image.getWindow() is not None for image in self.images)

    def reopened(self):
        """Connect again from the plane that is missing."""
        for pause in PAUSES_MS:
            Thread.sleep(pause)
            if not self.is_open():
                return False
            try:
                found = self.again(self.came * self.area)
            except NoConnection:
                continue
            except (Trouble, IOException):
                return False
            if found is None:
                return False
            self.data = DataInputStream(found[0])
            return True
        return False

    def fail(self, error):
        if not self.is_open():
            return
        self.failed = "%d of %d variants came, then the connection was cut (%s). Open it again." % (
            self.frames_here(), self.frames, error.getMessage())
        IJ.log("OpSeF: " + self.failed)
        self.tell()

    def tell(self):
        EventQueue.invokeLater(Arrived(self))


class Arrived(Runnable):
    def __init__(self, loader):
        self.loader = loader

    def run(self):
        loader = self.loader
        for image in loader.images:
            if image.getWindow() is not None and image.getT() == loader.frames_here():
                image.updateAndDraw()
        if loader.heard is not None:
            loader.heard()


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
