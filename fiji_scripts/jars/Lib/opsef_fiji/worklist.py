"""What to look at in a window that is edited: support in colours, doubtful and missing objects."""
from ij.plugin.frame import RoiManager
from java.awt import Color

from opsef_fiji import exchange, rois
from opsef_fiji.outlines import dashed, roi_of_loops, zoom_to
from opsef_fiji.pixels import area_of, clipped, runs_of_loops, text_of
from opsef_fiji.support import Key
from opsef_fiji.trouble import Trouble

CANDIDATE = Color(255, 140, 0)
MARK = "candidate"
DOUBTFUL = 0.5
"""Support below which an object is doubtful, as the service has it."""
NONE = ("The support of these objects is not known: they are of no sweep, or nobody asked for it.",
        "Edit Objects with a tick at Review asks for it.")


class WorkList(object):
    """The support of the objects of a Session, and the places to go to, one after the other.

    same: ids of the objects that are as the variant has them.
    """

    def __init__(self, work, support, same):
        self.work, self.support = work, support
        self.support.of = dict((k, v) for k, v in support.of.items() if k in same)
        self.first = dict((key, work.model.things[key].boxes) for key in self.support.of
                          if key in work.model.things)
        self.places = [one for one in support.work if one["what"] == "missing"
                       or int(one["label"]) in self.support.of]
        self.everywhere = self.places
        self.at, self.candidate, self.key = -1, None, None

    def is_as_it_was(self, label):
        """Tell whether an object has the pixels that its support is of."""
        thing = self.work.model.things.get(label)
        return thing is not None and thing.boxes is self.first.get(label)

    def colour_of(self, label):
        from opsef_fiji.support import UNKNOWN

        return self.support.colour_of(label) if self.is_as_it_was(label) else UNKNOWN

    def counts(self):
        model = self.work.model
        return self.support.counts(
            [label if self.is_as_it_was(label) else None for label in model.things])

    def moved(self, work):
        """Return the list of another Session of the image, which was saved: where we were."""
        same = [label for label, boxes in self.first.items() if self.is_as_it_was(label)
                and label in work.model.things and work.model.things[label].boxes == boxes]
        new = WorkList(work, self.support, same)
        here = self.places[self.at] if 0 <= self.at < len(self.places) else None
        new.at = new.places.index(here) if here in new.places else -1
        if self.is_coloured():
            new.colour(True)
        return new

    # Colours.

    def is_coloured(self):
        return self.work.drawing.colours is not None

    def colour(self, on):
        """Draw the outlines in the colours of their support, or again in those of classes."""
        work = self.work
        work.drawing.colours = self.colour_of if on else None
        if self.key is not None:
            self.key.close()
            self.key = None
        if on:
            self.key = Key(self.support, self.counts(), work.image.getWindow(),
                           lambda: self.colour(False))
        work.draw(set(work.model.things))
        work.tell(self.support.told() if on else "")

    def drawn(self):
        """Something was edited: count anew."""
        if self.key is not None:
            self.key.count(self.counts())

    def close(self):
        self.clear()
        if self.key is not None:
            self.key.close()
            self.key = None

    # Places.

    def is_open(self, place):
        """Tell whether there is something to do at a place still."""
        if place["what"] == "doubtful":
            return self.is_as_it_was(int(place["label"]))
        return not place.get("added") and bool(self.free(place) or self.instead_of(place))

    def runs(self, place):
        model = self.work.model
        return clipped(runs_of_loops(place["outline"]), model.width, model.height)

    def plane(self, place):
        return place.get("plane") or 0 if len(self.work.model.planes) > 1 else 0

    def free(self, place):
        """Return how many pixels of a missing object no other has."""
        raster, width = self.work.model.planes[self.plane(place)], self.work.model.width
        return sum(1 for y, start, end in self.runs(place)
                   for x in range(start, end) if raster[y * width + x] == 0)

    def instead_of(self, place):
        """Return the doubtful objects that lie half or more in a missing one: it is for them."""
        raster, width = self.work.model.planes[self.plane(place)], self.work.model.width
        counts = {}
        for y, start, end in self.runs(place):
            for label in raster[y * width + start:y * width + end]:
                counts[label] = counts.get(label, 0) + 1
        return sorted(label for label, count in counts.items()
                      if self.is_as_it_was(label) and self.support.of[label] < DOUBTFUL
                      and 2 * count >= self.work.model.area(label))

    def keep_in(self, box):
        """Go only to the places with their middle in a box; None is everywhere."""
        self.clear()
        self.places = [one for one in self.everywhere if box is None or has_middle(box, one["box"])]
        self.at = -1

    def step(self, by):
        """Go to the next place (or back by -1); tell where there is none."""
        at = self.at + by
        while 0 <= at < len(self.places) and not self.is_open(self.places[at]):
            at += by
        if not 0 <= at < len(self.places):
            self.clear()
            self.at = -1 if by > 0 else self.at
            self.work.tell("There is nothing more to look at; n begins again." if by > 0 else
                           "This is the first place.")
            return
        self.at = at
        self.show(self.places[at])

    def show(self, place):
        work = self.work
        self.clear()
        work.show_plane(self.plane(place))
        words = "%d of %d: " % (self.at + 1, len(self.places))
        if place["what"] == "doubtful":
            label = int(place["label"])
            work.select([label])
            zoom_to(work.image, place["box"])
            select_in_manager(work, label)
            work.tell(words + "object %d, support %.2f.  d: delete  c: cut  m: merge  n: next" % (
                label, place["support"]))
            return
        work.select([])
        self.candidate = place
        roi = dashed(roi_of_loops(place["outline"]), CANDIDATE)
        roi.setName(MARK)
        roi.setProperty(rois.OURS, MARK)
        work.drawing.place(roi, self.plane(place))
        work.drawing.overlay.add(roi)
        zoom_to(work.image, place["box"])
        work.image.draw()
        work.tell(words + "%s found this, support %.2f; it is missing here.  y: add it  n: next" % (
            place["variant"], place["support"]))

    def clear(self):
        """Take the candidate from the window."""
        self.candidate = None
        exchange.let_go(self.work.image)
        overlay = self.work.drawing.overlay
        for index in range(overlay.size() - 1, -1, -1):
            if overlay.get(index).getProperty(rois.OURS) == MARK:
                overlay.remove(index)
        if self.work.image.getWindow() is not None:
            self.work.image.draw()

    def add(self):
        """Add the missing object that is shown."""
        place, work = self.candidate, self.work
        if place is None:
            raise Trouble("No missing object is shown.", "Press n until one is (dashes).")
        old = self.instead_of(place)
        if old:
            work.keyed_edit("delete", old)
            delete_in_manager(work, old)
        runs, free = self.runs(place), self.free(place)
        work.keyed_edit("add", None, 0, text_of(runs), self.plane(place))
        place["added"] = True
        label = work.model.last
        self.clear()
        work.select([label])
        add_to_manager(work, label)
        whole = area_of(runs)
        work.tell("Object %d is added%s.%s  n: next  u: undo%s" % (
            label, " in place of %s" % " ".join(map(str, old)) if old else "",
            "" if free == whole else
            " Of its %d pixels %d belong to others." % (whole, whole - free),
            " (twice)" if old else ""))


def has_middle(box, other):
    """Tell whether the middle of the other box (y, x, height, width) lies in the first.

    >>> has_middle((0, 0, 10, 10), (4, 7, 2, 4)), has_middle((0, 0, 10, 10), (4, 9, 2, 2))
    (True, False)
    """
    y, x = other[0] + other[2] // 2, other[1] + other[3] // 2
    return box[0] <= y < box[0] + box[2] and box[1] <= x < box[1] + box[3]


def same_objects(image, found, variant):
    """Return the ids of ROIs that lie as those of the same id of a variant do.

    found, variant: lists of ROIs. In a volume all planes of an object have to.
    """
    marks = []
    for group in (found, variant):
        of = {}
        for roi in group:
            key = rois.id_of(roi.getName(), image.getNSlices() > 1)[0]
            of.setdefault(key, set()).add((
                roi.getName(), str(roi.getBounds()), roi.getFloatPolygon().npoints))
        marks.append(of)
    return set(key for key, mark in marks[0].items() if key and marks[1].get(key) == mark)


def manager_of(work):
    """Return the ROI Manager where it holds the objects of this window, else None."""
    manager = RoiManager.getInstance()
    mark = exchange.mark_of(work.image)
    if manager is None or not any(roi.getProperty(exchange.OF) == mark
                                  for roi in manager.getRoisAsArray()):
        return None
    return manager


def select_in_manager(work, label):
    """Select an object in the ROI Manager too, where the objects of the window are there."""
    manager = manager_of(work)
    for index in [] if manager is None else places_in(manager, [label]):
        manager.select(work.image, index)


def places_in(manager, labels):
    """Return where objects are in the ROI Manager."""
    names = set(str(label) for label in labels)
    return [index for index, roi in enumerate(manager.getRoisAsArray())
            if roi.getProperty(exchange.LABEL) in names]


def delete_in_manager(work, labels):
    manager = manager_of(work)
    if manager is None:
        return
    for index in reversed(places_in(manager, labels)):
        manager.select(work.image, index)
        manager.runCommand("Delete")
    exchange.let_go(work.image)


def add_to_manager(work, label):
    manager = manager_of(work)
    if manager is None:
        return
    for roi in exchange.named(work):
        if roi.getProperty(exchange.LABEL) == str(label):
            roi.setProperty(exchange.OF, exchange.mark_of(work.image))
            manager.addRoi(roi)
