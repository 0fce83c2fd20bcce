"""Outlines of a comparison in the colours of support: of each variant when it is shown."""
import json
import re

from ij.gui import Overlay
from java.util.concurrent.locks import ReentrantLock

from opsef_fiji import rois, support
from opsef_fiji.dialogs import Progress, aside
from opsef_fiji.outlines import lined
from opsef_fiji.trouble import Trouble

TITLE = "Open Comparison"


class Colours(object):
    """The overlay of one window of a comparison; a variant is fetched when it is looked at.

    tell: called with what is to be said.
    """

    def __init__(self, comparison, image):
        self.comparison, self.image = comparison, image
        self.on, self.known, self.key = False, {}, None
        self.before, self.lock = image.getOverlay(), ReentrantLock()
        self.overlay = Overlay()
        self.overlay.drawLabels(False)
        if hasattr(self.overlay, "selectable"):  # not in an old Fiji
            self.overlay.selectable(False)

    def toggle(self):
        self.on = not self.on
        self.image.setOverlay(self.overlay if self.on else self.before)
        if self.on:
            self.shown()
        elif self.key is not None:
            self.forget_key()

    def shown(self):
        """A variant is shown: colour it, not in the thread of the windows."""
        if self.on:
            aside(TITLE, self.fetch, self.comparison.variant_of(self.image), self.image.getT())

    def fetch(self, variant, frame):
        self.lock.lock()
        try:
            if not self.on or self.image.getWindow() is None:
                return
            if variant not in self.known:
                self.known[variant] = self.made(variant, frame)
        except:
            self.on = False  # else each step would show the error again
            raise
        finally:
            self.lock.unlock()
        if self.on and self.comparison.variant_of(self.image) == variant:
            found = self.known[variant]
            self.forget_key()
            self.key = support.Key(
                found, found.counts(found.of), self.image.getWindow(), self.gone)
            self.image.updateAndDraw()
            self.comparison.tell(self.image, found.told())

    def made(self, variant, frame):
        """Fetch support and outlines of a variant, and draw them into its frame."""
        source, run, name = (
            self.comparison.source, self.comparison.run, self.comparison.name)
        show = Progress(TITLE)
        told = support.review(source, show, image=name, variant=variant, run=run)
        found = support.Support(told)
        data, _ = source.objects(name, "%s/%s" % (run, variant))
        left, top = place_of(self.comparison.image, source.images(), name)
        volume = self.image.getNSlices() > 1
        for roi in rois.decode(data) if len(data) else []:
            label, plane = rois.id_of(roi.getName(), volume)
            z = rois.plane_of(roi, plane, self.image.getNSlices()) + 1 if volume else 0
            bounds = roi.getBounds()
            lined(roi, found.colour_of(label), 2.0)
            roi.setLocation(bounds.x - left, bounds.y - top)
            roi.setPosition(0, z, frame if self.image.getNFrames() > 1 else 0)
            roi.setProperty(rois.OURS, "support")
            self.overlay.add(roi)
        show.done()
        return found

    def gone(self):
        if self.on:
            self.toggle()

    def forget_key(self):
        if self.key is not None:
            self.key.close()
            self.key = None

    def close(self):
        self.on = False
        self.forget_key()


def place_of(image, rows, name):
    """Return (left, top) of a comparison in its image: it may show a box of it.

    The Info of the stack says which: `opsef compare --crop` shows another than the sweep saw.
    rows: of the images of the project.
    """
    found = re.search(r"(?m)^box: (\{.*\})$", image.getProperty("Info") or "")
    box = json.loads(found.group(1)) if found else size_of(rows, name)
    if box and (image.getHeight(), image.getWidth()) != (box["height"], box["width"]):
        raise Trouble("This comparison is shown in another size than its image has.",
                      "Edit Objects shows the support of its objects: o there.")
    return (box["x"], box["y"]) if found else (0, 0)


def size_of(rows, name):
    """Return {"height", "width"} of an image as it is segmented; None where it is not told."""
    for row in rows:
        if isinstance(row, dict) and row.get("id") == name and row.get("shape"):
            shape = row["shape"]  # of a folder alone it is text: 3x512x512
            sizes = shape if isinstance(shape, list) else shape.split("x")
            sides = dict(zip(row.get("axes") or "", map(int, sizes)))
            if "Y" in sides and "X" in sides:
                return {"height": sides["Y"], "width": sides["X"]}
    return None
