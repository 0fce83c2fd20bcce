"""The three-way report of a stale save: who did what to which object, shown in the image."""
from ij import IJ
from ij.text import TextWindow
from java.awt import Button, Color, FlowLayout, Label, Panel
from java.awt.event import ActionListener, WindowAdapter

from opsef_fiji import rois
from opsef_fiji.dialogs import aside, record
from opsef_fiji.listeners import RowChosen
from opsef_fiji.trouble import Trouble

SIDES = ("before", "theirs", "yours")
COLOURS = {"before": Color(255, 255, 255), "theirs": Color(255, 140, 0),
           "yours": Color(0, 160, 255)}
WIDTHS = {"before": 5.0, "theirs": 3.0, "yours": 1.5}
"""So that outlines at the same place are all seen."""
MARK = "conflict "


class Conflicts(object):
    """A window with a row for each object that both changed; a click shows it."""

    def __init__(self, image, work, source, name, report, truth, checked):
        self.image, self.work, self.name = image, work, name
        self.truth, self.checked = truth, checked
        self.found = (report or {}).get("conflicts") or []
        self.theirs = their_model(image, source, name)
        self.window = TextWindow(
            "Not saved: %s was changed meanwhile" % name,
            "object\t" + "\t".join(SIDES), "\n".join(lines_of(report or {})), 860, 320)
        self.window.add("South", self.buttons())
        self.window.validate()
        shown = image.getWindow()
        if shown is not None:  # beside the image, which the rows are about
            x = min(shown.getX(), IJ.getScreenSize().width - self.window.getWidth())
            self.window.setLocation(max(0, x), shown.getY() + shown.getHeight() + 4)
        self.window.addWindowListener(Gone(self))
        panel = self.window.getTextPanel()
        for part in panel.getComponents():
            part.addMouseListener(RowChosen(panel, self.show))

    def buttons(self):
        panel = Panel(FlowLayout())
        panel.add(Label("A click on a row shows the object:"))
        for side in SIDES:
            label = Label(" %s " % side)
            label.setBackground(COLOURS[side])
            label.setForeground(Color.black)
            panel.add(label)
        panel.add(Label("   Of all these objects:"))
        for words in ("take mine", "take theirs"):
            button = Button(words[0].upper() + words[1:])
            button.addActionListener(Decide(self, words))
            panel.add(button)
        return panel

    def show(self, row):
        """Outline what became of an object on each side, and go there."""
        if not 0 <= row < len(self.found) or self.image.getWindow() is None:
            return
        conflict = self.found[row]
        self.clear()
        boxes = []
        for side, model, things in self.sides(conflict):
            for key, thing in things:
                for z in sorted(thing.boxes):
                    shape = shape_in(model, thing, z)
                    if shape is None:
                        continue
                    boxes.append((z, thing.boxes[z]))
                    self.outline(shape, side, z)
        if boxes:
            place = conflict.get("place") or []
            z = place[0] if len(place) == 3 else boxes[0][0]
            self.work.show_plane(z)
            self.work.centre([box for at, box in boxes if at == z][0]
                             if z in [at for at, _ in boxes] else boxes[0][1])
        self.image.draw()
        self.work.tell("Object %s: before %s, theirs %s, yours %s" % (
            (conflict.get("id"),) + states_of(conflict)))

    def sides(self, conflict):
        """Return (side, model, [(id, Thing)]) of the three states of an object."""
        key, place = conflict.get("id"), conflict.get("place") or []
        ours, loaded = self.work.model, self.work.model.loaded
        found = [("before", ours, [(key, loaded[key])] if key in loaded else [])]
        if self.theirs is not None:
            keys = [k for k in [key] + list(conflict.get("others") or [])
                    if k in self.theirs.things]
            found.append(("theirs", self.theirs, [(k, self.theirs.things[k]) for k in keys]))
        # An object that we added has another number here than the service would give it.
        keys = set([key] if key in loaded and key in ours.things else [])
        if len(place) > 1:
            keys.add(ours.at(place[-1], place[-2], place[0] if len(place) == 3 else 0))
        found.append(("yours", ours, [(k, ours.things[k]) for k in sorted(keys)
                                      if k in ours.things]))
        return found

    def outline(self, shape, side, z):
        roi = shape.clone()
        roi.setGroup(0)
        roi.setStrokeColor(COLOURS[side])
        roi.setFillColor(None)
        roi.setStrokeWidth(WIDTHS[side])
        roi.setName("%s%s" % (MARK, side))
        roi.setProperty(rois.OURS, "conflict")
        self.work.drawing.place(roi, z)
        self.work.drawing.overlay.add(roi)

    def clear(self):
        overlay = self.work.drawing.overlay
        for index in range(overlay.size() - 1, -1, -1):
            if overlay.get(index).getProperty(rois.OURS) == "conflict":
                overlay.remove(index)

    def close(self):
        self.clear()
        self.image.draw()
        self.window.dispose()

    def decide(self, words):
        from opsef_fiji import editing, saving

        if self.image.getWindow() is None or editing.session_of(self.image) is not self.work:
            raise Trouble("The window of %s is no more as it was." % self.name,
                          "Choose Save Back there.")
        self.close()
        record("Save Back", "checked=[%s] conflicts=[%s]" % (self.checked, words))
        saving.send(self.image, self.work, self.truth, words, self.checked)


def their_model(image, source, name):
    try:
        data, _ = source.objects(name)
    except Trouble:
        return None
    return rois.model_of(rois.decode(data) if len(data) else [], image.getWidth(),
                         image.getHeight(), rois.depth_of(image))


def shape_in(model, thing, z):
    """Return the ROI of a state of an object in a plane, which may be no more."""
    if z not in thing.shapes and thing.runs and z in thing.runs:
        thing.shapes[z] = rois.trace(thing.runs[z])
    return thing.shapes.get(z)


def states_of(conflict):
    """Return what is said of an object before, theirs, yours."""
    told = []
    for side in ("base", "theirs", "ours"):
        text = u"%s" % (conflict.get(side) or "")
        text = text.replace("reclassified 0 ->", "class none ->").replace("reclassified", "class")
        told.append({"absent": u"not there", "present": u"as it was"}.get(text, text))
    if told[0] == u"as it was":
        told[0] = u"there"
    return tuple(told)


def lines_of(report):
    """Return the rows: each object, then who saved what."""
    rows = [u"%s\t%s\t%s\t%s" % ((one.get("id", ""),) + states_of(one))
            for one in report.get("conflicts") or []]
    sides = []
    for side in ("base", "theirs", "ours"):
        told = report.get(side)
        if isinstance(told, dict):
            words = [told.get("revision") or told.get("name"), told.get("author"),
                     told.get("at"), told.get("summary")]
            told = u" ".join(u"%s" % word for word in words if word)
        sides.append(u"%s" % (told or ""))
    return rows + [u"all\t%s\t%s\t%s" % tuple(sides)]


class Decide(ActionListener):
    def __init__(self, conflicts, words):
        self.conflicts, self.words = conflicts, words

    def actionPerformed(self, event):
        aside("Save Back", self.conflicts.decide, self.words)


class Gone(WindowAdapter):
    def __init__(self, conflicts):
        self.conflicts = conflicts

    def windowClosing(self, event):
        self.conflicts.clear()
        self.conflicts.image.draw()
