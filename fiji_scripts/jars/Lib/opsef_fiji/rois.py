"""ROIs, label rasters and Overlays: from a zip to a Model, and back with the same names."""
from ij.gui import ImageRoi, Overlay, Roi, TextRoi
from ij.io import RoiDecoder, RoiEncoder
from ij.plugin.filter import ThresholdToSelection
from ij.process import ByteProcessor, ColorProcessor, ImageProcessor
from java.awt import Color
from java.util import Arrays, IdentityHashMap

from opsef_fiji import zips
from opsef_fiji.model import Model
from opsef_fiji.pixels import centre_of

COLOURS = {
    0: (0, 220, 220), 1: (255, 0, 0), 2: (0, 255, 0), 3: (0, 0, 255), 4: (0, 255, 255),
    5: (255, 0, 255), 6: (255, 255, 0), 7: (255, 200, 0), 8: (255, 255, 255),
}
"""AnnotatorJ's colours of classes, and one for objects without a class."""
SELECTED = Color(255, 255, 255)
SELECTED_WIDTH = 3.0
OURS = "opsef"
"""The property of what we draw into an Overlay; all else there is hers, and stays."""


def colour_of(group):
    if group in COLOURS:
        return Color(*COLOURS[group])
    hue = group * 0.6180339887498949 % 1
    return Color.getHSBColor(hue, (0.9, 0.6, 0.75)[group % 3], (0.95, 0.7)[group % 2])


def decode(data):
    """Return the ROIs of a zip (byte[]), named as their entries."""
    found = []
    for name, one in zips.unpack(data):
        roi = RoiDecoder(one, name).getRoi()
        if is_object(roi):
            roi.setName(name)
            found.append(roi)
    return found


def is_object(roi):
    """Tell whether a ROI is an area of pixels: no text, no picture, no bar with a scale."""
    if roi is None or not roi.isArea() or isinstance(roi, (TextRoi, ImageRoi)):
        return False
    name = roi.getName() or ""
    # ImageJ's scale bar is |SB|, its bar of grey values |CB|.
    return not (len(name) > 1 and name.startswith("|") and name.endswith("|"))


def id_of(name, volume):
    """Return (id or 0, plane from 0 or None) that a name tells of."""
    parts = (name or "").split("-")
    if all(part.isdigit() for part in parts):
        if len(parts) == 1:
            return int(parts[0]), None
        if len(parts) == 2 and volume:
            return int(parts[0]), int(parts[1]) - 1
    return 0, None


def plane_of(roi, named, depth):
    place = named if named is not None else (roi.getZPosition() or roi.getPosition()) - 1
    return min(max(place, 0), depth - 1)


def model_of(rois, width, height, depth=1):
    """Return the Model of ROIs; where they overlap the later one has the pixels."""
    planes = [ColorProcessor(width, height) for _ in range(depth)]
    boxes, groups, shapes, names = {}, {}, {}, {}
    told = [id_of(roi.getName(), depth > 1) for roi in rois]
    last = max([key for key, _ in told] or [0])
    for roi, (key, named) in zip(rois, told):
        z = plane_of(roi, named, depth)
        if not key or z in boxes.get(key, {}):
            last += 1
            key = last
            names[key] = roi.getName()
        bounds = roi.getBounds()
        box = (max(0, bounds.x), max(0, bounds.y),
               min(width, bounds.x + bounds.width), min(height, bounds.y + bounds.height))
        if box[0] >= box[2] or box[1] >= box[3]:
            continue
        boxes.setdefault(key, {})[z] = box
        groups[key] = roi.getGroup() or groups.get(key, 0)
        shapes[key, z] = roi
        planes[z].setValue(float(key))
        planes[z].fill(roi)
    model = Model(width, height, [plane.getPixels() for plane in planes], boxes, groups)
    model.last = max(last, model.last)
    model.known = set(boxes)
    model.names = names
    for (key, z), roi in shapes.items():
        model.things[key].shapes[z] = roi
    return model


def trace(runs):
    """Return the ROI of exactly the pixels of some runs."""
    x0, y0 = min(run[1] for run in runs), runs[0][0]
    width = max(run[2] for run in runs) - x0
    mask = ByteProcessor(width, runs[-1][0] + 1 - y0)
    pixels = mask.getPixels()
    for y, start, end in runs:
        row = (y - y0) * width - x0
        Arrays.fill(pixels, row + start, row + end, -1)
    mask.setThreshold(255.0, 255.0, ImageProcessor.NO_LUT_UPDATE)
    roi = ThresholdToSelection().convert(mask)
    bounds = roi.getBounds()
    roi.setLocation(bounds.x + x0, bounds.y + y0)
    return roi


def runs_of_roi(roi):
    """Return the runs of the pixels of an area ROI, in the image."""
    bounds = roi.getBounds()
    mask = roi.getMask()
    if mask is None:
        return [(y, bounds.x, bounds.x + bounds.width)
                for y in range(bounds.y, bounds.y + bounds.height)]
    from opsef_fiji.pixels import runs_of

    width, height = mask.getWidth(), mask.getHeight()
    found = runs_of(mask.getPixels(), width, -1, (0, 0, width, height))
    return [(y + bounds.y, start + bounds.x, end + bounds.x) for y, start, end in found]


def shape_of(model, key, z):
    """Return the ROI of an object in a plane: the one that came, or a traced one."""
    thing = model.thing(key)
    if z not in thing.shapes:
        thing.shapes[z] = trace(model.runs(key)[z])
    return thing.shapes[z]


def name_of(model, key, z):
    """Return the name in the zip: of known objects the id; of new ones as ImageJ names ROIs.

    In a volume new ones have their number here, else their planes would be objects each.
    """
    if key in model.names:
        return model.names[key]
    if len(model.planes) > 1:
        return "%04d-%04d" % (key, z + 1)
    if key in model.known:
        return "%04d" % key
    x, y = centre_of(model.runs(key)[z])
    return "%04d-%04d" % (int(round(y)), int(round(x)))


def dressed(model, key, z):
    """Return a ROI of its own with name, class and plane."""
    roi = shape_of(model, key, z).clone()
    roi.setName(name_of(model, key, z))
    roi.setGroup(model.thing(key).group)
    roi.setFillColor(None)
    if len(model.planes) > 1:
        roi.setPosition(z + 1)
    return roi


def pack(model):
    """Return (zip as byte[], objects); nothing where no object is left."""
    entries, taken = [], set()
    for key in model.ids():
        for z in sorted(model.thing(key).boxes):
            if z not in model.thing(key).shapes and z not in model.runs(key):
                continue
            roi = dressed(model, key, z)
            name, more = roi.getName(), 1
            while name in taken:
                more += 1
                name = "%s_%d" % (roi.getName(), more)
            taken.add(name)
            roi.setName(name)
            entries.append((name, RoiEncoder.saveAsByteArray(roi)))
    return zips.pack(entries), len(model.ids())


class Drawing(object):
    """The Overlay of a Model; only what changed is drawn anew.

    channels: whether planes are slices of a hyperstack that has channels too.
    frame: the one (from 1) of a series that the objects are of; 0 where there is no series.
    kept: ROIs of others, which stay in the Overlay.
    """

    def __init__(self, model, channels=False, frame=0, kept=()):
        self.model, self.channels, self.frame = model, channels, frame
        self.overlay = Overlay()
        self.overlay.drawLabels(False)
        if hasattr(self.overlay, "selectable"):  # not in an old Fiji
            self.overlay.selectable(False)  # else a long click makes a selection of an object
        self.places = {}
        self.drawn = {}
        self.colours = None  # a function of an id, where colours are not those of classes
        for key in model.ids():
            self._add(key, False)
        for roi in kept:
            self.overlay.add(roi)

    def update(self, keys, selected=()):
        """Draw some objects anew; return the Rectangle that looks different now, or None."""
        bounds = []
        for key in keys:
            for label in self.places.pop(key, ()):
                index = self._index(self.drawn.pop(label), label)
                if index >= 0:
                    bounds.append(self.overlay.get(index).getBounds())
                    self.overlay.remove(index)
            if key in self.model.things:
                bounds += self._add(key, key in selected)
        region = None
        for box in bounds:
            region = box if region is None else region.union(box)
        return region

    def _index(self, roi, label):
        """Return where a ROI of ours is, -1 for nowhere: another one may have its name."""
        index = self.overlay.getIndex(label)
        if index < 0 or self.overlay.get(index) is roi:
            return index
        for index in range(self.overlay.size()):
            if self.overlay.get(index) is roi:
                return index
        return -1

    def _add(self, key, selected):
        thing, bounds = self.model.thing(key), []
        volume = len(self.model.planes) > 1
        for z in thing.boxes:
            if z not in thing.shapes and z not in self.model.runs(key):
                continue
            roi = shape_of(self.model, key, z).clone()
            label = "%04d-%04d" % (key, z + 1) if volume else "%04d" % key
            roi.setName(label)
            roi.setGroup(thing.group)
            roi.setFillColor(None)
            colour = self.colours(key) if self.colours else colour_of(thing.group)
            roi.setStrokeColor(SELECTED if selected else colour)
            roi.setStrokeWidth(SELECTED_WIDTH if selected else 1.0)
            roi.setProperty(OURS, "object")
            self.place(roi, z)
            self.overlay.add(roi)
            self.drawn[label] = roi
            self.places.setdefault(key, []).append(label)
            bounds.append(roi.getBounds())
        return bounds

    def place(self, roi, z):
        """Let a ROI show in its plane and frame only."""
        z = z + 1 if len(self.model.planes) > 1 else 0
        if (z or self.frame) and (self.channels or (z and self.frame)):
            roi.setPosition(0, z, self.frame)
        else:
            roi.setPosition(z or self.frame)


def depth_of(image):
    """Return how many planes the objects of a window have: its slices, those of one frame."""
    return image.getNSlices()


def frame_at(image, roi):
    """Return the frame that a ROI is of, 0 for all."""
    series = image.getNFrames() > 1 and image.getNSlices() == 1 and image.getNChannels() == 1
    return roi.getTPosition() or (roi.getPosition() if series else 0)


def frame_of(image, found):
    """Return the frame of the objects of a series: theirs if they have one, or that shown."""
    if image.getNFrames() == 1:
        return 0
    told = set(frame_at(image, roi) for roi in found) - set([0])
    return told.pop() if len(told) == 1 else image.getT()


def rois_of_overlay(image):
    """Return the ROIs of the Overlay of an image that can be objects."""
    overlay = image.getOverlay()
    return [roi for roi in overlay.toArray() if is_object(roi)] if overlay is not None else []


def others(image, found, frame=0):
    """Return what the Overlay of an image holds besides objects, ours and those found there.

    Objects of ours in another frame stay too: they are not replaced by those of this one.
    """
    overlay, taken = image.getOverlay(), IdentityHashMap()
    for roi in found:
        taken.put(roi, True)
    return [roi for roi in (overlay.toArray() if overlay is not None else ())
            if not taken.containsKey(roi)
            and (roi.getProperty(OURS) is None or frame_at(image, roi) not in (0, frame))]


def set_groups(names):
    """Tell ImageJ how classes are called ({number: name})."""
    for number, name in names.items():
        Roi.setGroupName(int(number), name)
