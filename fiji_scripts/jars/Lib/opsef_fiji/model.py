"""The objects of an image while a person edits them: a label raster and what is known of each.

An edit touches only pixels of the objects that it names, so 2,000 objects are as fast as
two. Each edit returns the ids that look different now, for whoever draws them.
"""
import math

from java.util import Arrays

from opsef_fiji.pixels import area_of, box_of, joined, runs_of, split
from opsef_fiji.trouble import Trouble


class Thing(object):
    """One object: its pixels by plane (found when first asked for), and its class."""

    def __init__(self, boxes, group=0, runs=None):
        self.boxes = boxes
        self.group = group
        self.runs = runs
        self.shapes = {}

    def of_class(self, group):
        other = Thing(self.boxes, group, self.runs)
        other.shapes = dict(self.shapes)
        return other


class Model(object):
    """Objects that are edited.

    planes: one int[] of labels for each plane, row after row, 0 for background.
    boxes: {id: {plane: (x0, y0, x1, y1)}}; groups: {id: class}.
    """

    def __init__(self, width, height, planes, boxes, groups=None):
        self.width, self.height, self.planes = width, height, planes
        groups = groups or {}
        self.things = dict((key, Thing(boxes[key], groups.get(key, 0))) for key in boxes)
        self.loaded = dict(self.things)
        self.last = max(boxes) if boxes else 0
        self.done = []
        self.seen = set()
        self.order = None

    def ids(self):
        return sorted(self.things)

    def at(self, x, y, z=0):
        """Return the object at a pixel, 0 for none."""
        if not (0 <= x < self.width and 0 <= y < self.height and 0 <= z < len(self.planes)):
            return 0
        return self.planes[z][y * self.width + x]

    def runs(self, key):
        """Return the pixels of an object: {plane: runs}."""
        thing = self.thing(key)
        if thing.runs is None:
            found = dict(
                (z, runs_of(self.planes[z], self.width, key, box))
                for z, box in thing.boxes.items()
            )
            thing.runs = dict((z, runs) for z, runs in found.items() if runs)
        return thing.runs

    def thing(self, key):
        if key not in self.things:
            raise Trouble("There is no object %d." % key, "Click on an object to select it.")
        return self.things[key]

    def area(self, key):
        return sum(area_of(runs) for runs in self.runs(key).values())

    def touched(self):
        """Return the ids that are not as they were loaded."""
        keys = set(self.things) | set(self.loaded)
        return sorted(k for k in keys if self.things.get(k) is not self.loaded.get(k))

    def counts(self):
        """Return how many objects each class has."""
        counts = {}
        for thing in self.things.values():
            counts[thing.group] = counts.get(thing.group, 0) + 1
        return counts

    def delete(self, keys):
        return self._become(dict((key, None) for key in self._some(keys)))

    def merge(self, keys):
        """Make one of several objects; it keeps the lowest id, and that one's class if any."""
        keys = self._some(keys)
        if len(keys) < 2:
            raise Trouble("Merging needs two objects.", "Click on one, shift-click on the others.")
        planes = {}
        for key in keys:
            for z, runs in self.runs(key).items():
                planes.setdefault(z, []).append(runs)
        whole = dict((z, joined(*sets)) for z, sets in planes.items())
        group = ([self.things[k].group for k in keys if self.things[k].group] or [0])[0]
        after = dict((key, None) for key in keys[1:])
        after[keys[0]] = made(whole, group)
        return self._become(after)

    def split(self, key, points, z=0):
        """Cut an object by a path in one plane; the largest part keeps its id."""
        runs = self.runs(key)
        parts = split(runs.get(z, []), points) if runs.get(z) else []
        if len(parts) < 2:
            raise Trouble(
                "The line does not cut object %d in two." % key,
                "Draw it across the whole object, from outside to outside.",
            )
        group = self.things[key].group
        rest = dict(runs)
        rest[z] = parts[0]
        after = {key: made(rest, group)}
        for part in parts[1:]:
            self.last += 1
            after[self.last] = made({z: part}, group)
        return self._become(after)

    def add(self, runs, z=0, group=0):
        """Add an object; pixels that others have, or outside the image, are left out."""
        free = []
        raster = self.planes[z]
        for y, start, end in runs:
            if not 0 <= y < self.height:
                continue
            first = -1
            for x in range(max(start, 0), min(end, self.width)):
                if raster[y * self.width + x] == 0:
                    if first < 0:
                        first = x
                elif first >= 0:
                    free.append((y, first, x))
                    first = -1
            if first >= 0:
                free.append((y, first, min(end, self.width)))
        if not free:
            raise Trouble(
                "There is no free pixel in this selection.",
                "Delete the object that is there, or draw beside it.",
            )
        self.last += 1
        return self._become({self.last: made({z: free}, group)})

    def classify(self, keys, group):
        """Give objects a class, 0 to 255; 0 takes it away."""
        if not 0 <= group <= 255:
            raise Trouble("%d is no class." % group, "Classes are 1 to 255; 0 is none.")
        keys = [key for key in self._some(keys) if self.things[key].group != group]
        for key in keys:
            self.runs(key)
        return self._become(dict((key, self.things[key].of_class(group)) for key in keys))

    def known_before(self, key):
        """Tell whether an object has, or had, this id."""
        return key in self.things or key in self.loaded

    def replace(self, other):
        """Become another Model of the same image: one edit. Ids that are not known are new."""
        after = dict((key, None) for key in self.things)
        for key in other.ids():
            runs, group = other.runs(key), other.thing(key).group
            if not runs:
                continue
            if not self.known_before(key):
                self.last += 1
                key = self.last
            old = self.things.get(key)
            if old is not None and old.group == group and self.runs(key) == runs:
                del after[key]
            else:
                after[key] = made(runs, group)
        return self._become(after)

    def undo(self):
        """Take the last edit back; return the ids, none if there is nothing to undo."""
        if not self.done:
            return []
        before = self.done.pop()
        self._set(before)
        return sorted(before)

    def next_uncertain(self):
        """Return the object that is most unlike the others in size and was not shown, or 0."""
        if self.order is None:
            areas = sorted((self.area(key), key) for key in self.things if self.runs(key))
            middle = float(areas[len(areas) // 2][0]) if areas else 1
            self.order = [
                key for _, key in sorted((-abs(math.log(a / middle)), k) for a, k in areas)
            ]
        for key in self.order:
            if key in self.things and key not in self.seen:
                self.seen.add(key)
                return key
        return 0

    def _some(self, keys):
        keys = sorted(set(keys))
        if not keys:
            raise Trouble("No object is selected.", "Click on an object first.")
        for key in keys:
            self.thing(key)
        return keys

    def _become(self, after):
        if after:
            for key in after:
                if key in self.things:
                    self.runs(key)
            self.done.append(dict((key, self.things.get(key)) for key in after))
            self._set(after)
        return sorted(after)

    def _set(self, after):
        for key in after:
            if key in self.things:
                self._fill(self.runs(key), 0)
        for key, thing in after.items():
            if thing is None:
                self.things.pop(key, None)
            else:
                self.things[key] = thing
                self._fill(thing.runs, key)

    def _fill(self, planes, value):
        for z, runs in planes.items():
            raster = self.planes[z]
            for y, start, end in runs:
                Arrays.fill(raster, y * self.width + start, y * self.width + end, value)


def made(planes, group):
    """Return an object of runs by plane."""
    return Thing(dict((z, box_of(runs)) for z, runs in planes.items()), group, planes)
