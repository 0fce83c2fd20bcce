"""Editing objects in an image window: click on the pixel, keys, undo; recorded as commands."""
from ij import IJ
from ij.gui import Toolbar
from java.awt.event import KeyEvent, MouseAdapter, WindowAdapter

from opsef_fiji import exchange, rois
from opsef_fiji.dialogs import guarded, record
from opsef_fiji.fitting import Picture
from opsef_fiji.listeners import Keys, is_plain_click
from opsef_fiji.pixels import line_pixels, path_of, runs_in
from opsef_fiji.trouble import Trouble

KEYS = """click: select    shift-click: select more    Esc: select none
d or Delete: delete    m: merge    u: undo    h: outlines on or off
n, p: next doubtful or missing object, or the one before    y: add the missing one (dashes)
o: outlines in colours of support, or of classes
c: cut by a line (draw it, then c again)
a: add what is drawn freehand (draw, then a again)    w: the same with the wand
0 to 9: class of the selected objects    s: Save Back    q: stop editing"""
DRAWING = {"c": ("line", "Draw a line across the object, then press c again."),
           "a": ("freehand", "Draw around the new object, then press a again."),
           "w": ("wand", "Click with the wand, then press a.")}


class Session(object):
    """The edits of one window. It stays with the image until the window closes."""

    def __init__(self, image, model, names=None, frame=0, kept=()):
        self.image, self.model, self.frame = image, model, frame
        self.names = names or {}
        self.drawing = rois.Drawing(model, image.getNChannels() > 1, frame, kept)
        self.picture = Picture(image, [middle_of(thing) for thing in model.things.values()])
        self.drawn = ""  # the pixels of the last line or area, for the Recorder
        self.selected = []
        self.brush = None
        self.ears = None
        self.legend = None
        self.came = ()  # the ROIs that it began with
        self.work_list = None  # a worklist.WorkList, where the support of the objects is known
        image.setOverlay(self.drawing.overlay)
        image.setProperty("opsef.session", self)

    def plane(self):
        return self.image.getZ() - 1 if len(self.model.planes) > 1 else 0

    def fits(self):
        """Refuse where the picture was cropped, scaled, flipped or rotated under its objects."""
        self.picture.check(self.image)

    def is_here(self):
        """Tell whether the frame is shown that the objects are of."""
        return not self.frame or self.image.getT() == self.frame

    def select(self, keys, more=False):
        before = list(self.selected)
        keys = [key for key in keys if key in self.model.things]
        if more:
            keys = [k for k in before if k not in keys] + [k for k in keys if k not in before]
        self.selected = keys
        self.draw(set(before) ^ set(keys))

    def draw(self, keys):
        if self.image.getOverlay() is not self.drawing.overlay:
            self.image.setOverlay(self.drawing.overlay)  # ImageJ makes another by Crop and Undo
        region = self.drawing.update(keys, self.selected)
        canvas = self.image.getCanvas()
        if region is not None and canvas is not None:
            # With 2,000 objects painting is what takes time: only what changed is painted.
            margin = 2 + int(8 / canvas.getMagnification())
            self.image.draw(region.x - margin, region.y - margin,
                            region.width + 2 * margin, region.height + 2 * margin)
        self.tell()

    def tell(self, text=""):
        counts = self.model.counts()
        words = ["%d objects" % len(self.model.things)]
        words += ["class %s: %d" % (self.names.get(str(g), g), counts[g])
                  for g in sorted(counts) if g]
        if self.selected:
            words.append("selected: %s" % " ".join(str(k) for k in self.selected[:8]))
        IJ.showStatus(text or "   ".join(words))
        if self.legend is not None:
            self.legend.show(counts)
        if self.work_list is not None:
            self.work_list.drawn()

    def do(self, action, keys=None, group=0, pixels="", plane=None):
        """Do one edit on objects (those selected, if none are named); return what changed.

        pixels, plane: the line or area as the Recorder wrote it, in place of the selection.
        """
        self.drawn = ""
        self.fits()
        if action in ("split", "add") and not pixels and not self.is_here():
            raise Trouble("The objects of this window are of frame %d." % self.frame, "Go there.")
        plane = self.plane() if plane is None else plane
        keys = list(keys or self.selected)
        model = self.model
        if action == "delete":
            changed = model.delete(keys)
        elif action == "merge":
            changed = model.merge(keys)
        elif action == "split":
            changed = self.cut(keys, path_of(pixels), plane)
        elif action == "add":
            changed = self.add(runs_in(pixels), plane)
        elif action == "classify":
            changed = model.classify(keys, group)
        elif action == "undo":
            changed = model.undo()
        elif action == "select":
            self.select(keys)
            return []
        else:
            raise Trouble("%s is no edit." % action, "See Plugins > OpSeF > Help.")
        if changed:
            self.image.changes = True  # ImageJ asks before it closes the window
            exchange.let_go(self.image)
        chosen = list(self.selected)
        self.selected = [] if action not in ("classify", "merge") else [
            k for k in keys if k in model.things]
        self.draw(set(changed) | set(chosen) | set(self.selected))
        return changed

    def replace(self, other):
        """Take the objects of another Model of this image, as one edit."""
        self.fits()
        changed = self.model.replace(other)
        if changed:
            self.image.changes = True
        chosen, self.selected = list(self.selected), []
        self.draw(set(changed) | set(chosen))
        return changed

    def cut(self, keys, path, plane):
        if not path:
            roi = self.image.getRoi()
            if roi is None or not roi.isLine():
                raise Trouble("There is no line.", DRAWING["c"][1])
            points = roi.getFloatPolygon()
            path = [(int(points.xpoints[k]), int(points.ypoints[k]))
                    for k in range(points.npoints)]
        if not keys:
            keys = self.crossed(path, plane)
        if len(keys) != 1:
            raise Trouble("The line crosses %d objects." % len(keys), "Click on one first.")
        changed = self.model.split(keys[0], path, plane)
        self.drawn = " ".join("%d,%d" % place for place in path)
        self.image.deleteRoi()
        return changed

    def crossed(self, path, plane):
        found = set(self.model.at(x, y, plane) for x, y in line_pixels(path))
        return sorted(found - set([0]))

    def add(self, runs, plane):
        if not runs:
            roi = self.image.getRoi()
            if roi is None or not roi.isArea():
                raise Trouble("There is no area selection.", DRAWING["a"][1])
            runs = rois.runs_of_roi(roi)
        changed = self.model.add(runs, plane)
        self.drawn = " ".join("%d,%d,%d" % run for run in runs)
        self.image.deleteRoi()
        return changed

    def next(self, by=1):
        """Go to the next place of the work list; without one to what is unlike the others."""
        if self.work_list is not None:
            self.work_list.step(by)
            return
        key = self.model.next_uncertain()
        if not key:
            self.model.seen.clear()
            self.tell("Every object was shown; n begins again.")
            return
        self.go_to(key)

    def go_to(self, key):
        """Select an object and show it; in a volume in the middle one of its slices."""
        self.select([key])
        thing = self.model.thing(key)
        planes = sorted(thing.boxes)
        here = self.plane()
        z = here if here in thing.boxes else planes[len(planes) // 2]
        self.show_plane(z)
        self.centre(thing.boxes[z])

    def show_plane(self, z):
        if (len(self.model.planes) > 1 and z != self.plane()) or not self.is_here():
            z = z + 1 if len(self.model.planes) > 1 else self.image.getZ()
            self.image.setPosition(self.image.getC(), z, self.frame or self.image.getT())

    def centre(self, box):
        canvas = self.image.getCanvas()
        if canvas is None:
            return
        part = canvas.getSrcRect()
        if part.width < self.image.getWidth() or part.height < self.image.getHeight():
            part.x = (box[0] + box[2] - part.width) // 2
            part.y = (box[1] + box[3] - part.height) // 2
            part.x = max(0, min(part.x, self.image.getWidth() - part.width))
            part.y = max(0, min(part.y, self.image.getHeight() - part.height))
            canvas.setSourceRect(part)
            canvas.repaint()

    # From here on: the window.

    def listen(self, brush=None):
        """Take the keys and clicks of the window; ImageJ gets those that we do not use."""
        self.brush = brush
        if self.ears is None:
            self.ears = Ears(self)
        if brush is None and self.legend is not None:
            self.legend.close()
            self.legend = None
        if brush is not None:
            self.select([])  # else the key that chooses a class would give it to them
        IJ.setTool("hand")
        self.tell()

    def stop(self):
        if self.ears is not None:
            self.ears.leave()
            self.ears = None
        if self.legend is not None:
            self.legend.close()
            self.legend = None
        if self.work_list is not None:
            self.work_list.close()

    def clicked(self, x, y, more):
        self.fits()
        if not self.is_here():
            self.tell("The objects of this window are of frame %d." % self.frame)
            return
        key = self.model.at(x, y, self.plane())
        if self.brush is not None and key and not more:
            self.keyed_edit("classify", [key], self.brush)
            self.select([])
            return
        self.select([key] if key else [], more)

    def keyed_edit(self, action, keys=None, group=0, pixels="", plane=None):
        named = list(keys or self.selected)
        changed = self.do(action, named, group, pixels, plane)
        if not changed:
            return changed
        options = "action=%s" % action
        if named and action in ("delete", "merge", "split", "classify"):
            options += " objects=[%s]" % " ".join(str(key) for key in named)
        if self.drawn:
            options += " pixels=[%s]" % self.drawn
            if len(self.model.planes) > 1:
                options += " plane=%d" % ((self.plane() if plane is None else plane) + 1)
        if action == "classify":
            record("Classify Objects", "class=%d %s" % (group, options.split(" ", 1)[1]))
        else:
            record("Edit Objects", options)
        return changed

    def pressed(self, code, letter):
        """Do what a key of the keyboard means; return False where it means nothing here."""
        if code == KeyEvent.VK_ESCAPE:
            self.select([])
            return True
        if code in (KeyEvent.VK_DELETE, KeyEvent.VK_BACK_SPACE):
            letter = u"d"
        return self.key(letter) if 32 < ord(letter) < 128 else False

    def key(self, letter):
        """Do what a key means; return False where it means nothing here."""
        roi = self.image.getRoi()
        if roi is not None and roi.getProperty(exchange.OF):
            roi = None  # the ROI Manager shows an object; that is not drawn
        if letter in "du" or letter == "m":
            self.keyed_edit({"d": "delete", "u": "undo", "m": "merge"}[letter])
        elif letter == "c" and roi is not None and roi.isLine():
            self.keyed_edit("split")
            IJ.setTool("hand")
        elif letter == "a" and roi is not None and roi.isArea():
            self.keyed_edit("add")
            IJ.setTool("hand")
        elif letter in DRAWING:
            tool, words = DRAWING[letter]
            IJ.setTool(tool)
            self.tell(words)
        elif letter in "np":
            self.next(1 if letter == "n" else -1)
        elif letter in "oy":
            self.by_support(letter)
        elif letter == "h":
            self.image.setHideOverlay(not self.image.getHideOverlay())
        elif letter.isdigit():
            if self.brush is not None:
                self.brush = int(letter)
                self.tell("A click gives class %s" % letter)
            else:
                self.keyed_edit("classify", None, int(letter))
        elif letter == "s":
            IJ.doCommand("Save Back")
        elif letter == "q":
            self.stop()
            self.tell("Editing has stopped; Edit Objects goes on.")
        else:
            return False
        return True


    def by_support(self, letter):
        from opsef_fiji import worklist

        if self.work_list is None:
            raise Trouble(*worklist.NONE)
        if letter == "y":
            self.work_list.add()
        else:
            self.work_list.colour(not self.work_list.is_coloured())


class Ears(object):
    """The listeners of a window; ImageJ's own keys wait until they leave."""

    def __init__(self, session):
        self.session = session
        image = session.image
        self.canvas, self.window = image.getCanvas(), image.getWindow()
        if self.canvas is None or self.window is None:
            raise Trouble("This image has no window.", "Show it first.")
        self.keys = Keys("Edit Objects", session.pressed)
        self.mouse, self.closing = Mouse(session), Closing(session)
        for part in (self.canvas, self.window):
            part.removeKeyListener(IJ.getInstance())
            part.addKeyListener(self.keys)
        self.canvas.addMouseListener(self.mouse)
        self.window.addWindowListener(self.closing)

    def leave(self):
        for part in (self.canvas, self.window):
            part.removeKeyListener(self.keys)
            part.addKeyListener(IJ.getInstance())
        self.canvas.removeMouseListener(self.mouse)
        self.window.removeWindowListener(self.closing)


class Mouse(MouseAdapter):
    """A click without a drag selects; drags and multi-click tools are ImageJ's."""

    def __init__(self, session):
        self.session = session

    def mouseClicked(self, event):
        if Toolbar.getToolId() in (Toolbar.WAND, Toolbar.POLYGON, Toolbar.POLYLINE, Toolbar.ANGLE):
            return
        if not is_plain_click(event):
            return
        canvas = event.getSource()
        guarded("Edit Objects", self.session.clicked, canvas.offScreenX(event.getX()),
                canvas.offScreenY(event.getY()), event.isShiftDown())


class Closing(WindowAdapter):
    def __init__(self, session):
        self.session = session

    def windowClosed(self, event):
        self.session.stop()


def session_of(image):
    """Return the edits of a window, or None."""
    return image.getProperty("opsef.session")


def start(image, found, names=None):
    """Begin to edit ROIs in an image (those that came, or those of its Overlay)."""
    frame = rois.frame_of(image, found)
    found = [roi for roi in found if rois.frame_at(image, roi) in (0, frame)]
    model = rois.model_of(found, image.getWidth(), image.getHeight(), rois.depth_of(image))
    work = Session(image, model, names, frame, rois.others(image, found, frame))
    work.came = found
    return work


def middle_of(thing):
    """Return the middle pixel of the box of an object, in one of its planes."""
    x0, y0, x1, y1 = thing.boxes[min(thing.boxes)]
    return (x0 + x1) // 2, (y0 + y1) // 2
