"""Correct Next: a table of what to correct next; a double click opens the image, or its box."""
from ij import IJ, WindowManager
from ij.gui import Roi
from ij.text import TextWindow
from java.awt import Color

from opsef_fiji import editing, images, rois, session, support, worklist
from opsef_fiji.dialogs import Progress, aside, option, record
from opsef_fiji.listeners import RowOpened
from opsef_fiji.offline import INBOX
from opsef_fiji.outlines import dashed, fill_with
from opsef_fiji.trouble import Trouble
from opsef_fiji.waiting import wait_for

TITLE = "Correct Next"
COLUMNS = "#\timage\tbox (y,x,h,w)\twrong\tminutes\tuntil\tobjects\tplaces\tedited"
MARK = "box to correct"
BOX = Color.magenta
PLACES = 2000
"""Places of an image that are asked for where only those in a box of it are shown."""
NOTHING = "Nothing is expected wrong in images that nobody has vouched for."


def correct_next():
    source = session.source()
    told = told_of(source, tile_in(option("tile")))
    entries = told.get("next") or []
    if not entries:
        raise Trouble(NOTHING, "Run Sweep on more images, or Train From Corrections.")
    for title in WindowManager.getNonImageTitles() or []:
        if title.startswith(title_of(told, True)):  # also one that says how old it is
            WindowManager.getWindow(title).close()
    rows = "\n".join(lines_of(entries))
    window = TextWindow(title_of(told, source.online), COLUMNS, rows, 860, 360)
    panel = window.getTextPanel()
    opening = Opening(source, panel, entries)
    for part in panel.getComponents():
        part.addMouseListener(RowOpened(panel, opening.chosen))
    IJ.showStatus("OpSeF: a double click on a row opens it; wrong: expected wrong objects.")


def tile_in(text):
    """Return the side of boxes that a macro says (0: none), None where it says nothing."""
    if not text.strip():
        return None
    try:
        return int(text)
    except ValueError:
        raise Trouble("%s is no size of boxes." % text, "Give pixels: tile=1024; 0 for none.")


def told_of(source, tile=None):
    """Return the result of the service; of a folder alone the newest that is done."""
    if source.online:
        done = wait_for(source, source.correct_next(tile=tile), Progress(TITLE))
        return done.get("result") or {}
    found = source.newest_result("next", lambda told: True)
    waits = [job for job in source.jobs()
             if job.get("kind") == "next" and job.get("state") in ("waiting", "running")]
    if not waits:  # what was corrected since is not in the last answer
        source.correct_next(tile=tile)
    if found is None:
        raise Trouble("What to correct next is not known yet.", support.WAITS)
    IJ.log(u"OpSeF: %s %s" % (as_of(found), INBOX))
    return found


def title_of(told, online):
    """Return the title of the table: without a service it says how old the answer is."""
    title = "Correct next, of %s" % told["run"]
    return title if online else "%s (as of %s)" % (title, made_when(told))


def as_of(told):
    """Say how old an answer is."""
    return ("This order is of %s; what was corrected since is not in it. It was asked for anew."
            % made_when(told))


def made_when(told):
    made = told.get("made")
    return "%s UTC" % made[:16].replace("T", " ") if made else "the last answer"


def lines_of(entries):
    """Return the rows of the table; `until` adds up the minutes."""
    lines, until = [], 0.0
    for number, one in enumerate(entries):
        until += one["minutes"]
        lines.append(u"\t".join(u"%s" % cell for cell in (
            number + 1, one["image"], one["scope"], "%.1f" % one["wrong"],
            "%.1f" % one["minutes"], "%.1f" % until, one["objects"], one["places"],
            one.get("edited") or "")))
    return lines


class Opening(object):
    """Opens the entry of a row, one at a time."""

    def __init__(self, source, panel, entries):
        self.source, self.panel, self.entries, self.busy = source, panel, entries, False

    def chosen(self, row):
        if self.busy or not 0 <= row < self.panel.getLineCount():
            return
        number = int(self.panel.getLine(row).split("\t")[0])  # rows may have been sorted
        self.busy = True
        aside(TITLE, self.go, self.entries[number - 1])

    def go(self, entry):
        try:
            open_entry(self.source, entry)
        finally:
            self.busy = False


def open_entry(source, entry):
    """Open an image with its newest objects, or go to its window; show the box and its places."""
    work = window_of(source, entry["image"])
    if work is None:
        from opsef_fiji.object_commands import begin
        from opsef_fiji.project_analysis import newest_of

        # Not as the table says: somebody may have saved since.
        saved = newest_of(source, entry["image"])
        base = "" if saved else "%s/%s" % (entry["run"], entry["variant"])
        work = begin(None, entry["image"], base)
        record("Edit Objects", "action=start image=[%s] from=[%s]" % (entry["image"], base))
    IJ.selectWindow(work.image.getID())
    work.listen()
    box = entry.get("box")
    mark(work, box)
    if box:
        fill_with(work.image, box)
    if not has_places(work.work_list, PLACES if box else 1):
        from opsef_fiji.object_commands import add_work_list

        if work.work_list is not None:
            if work.work_list.is_coloured():
                work.work_list.colour(False)
            work.work_list.close()
        add_work_list(source, work, "%s/%s" % (entry["run"], entry["variant"]),
                      PLACES if box else None)
    if isinstance(work.work_list, worklist.WorkList):
        work.work_list.keep_in(box)
        places = len(work.work_list.places)
        work.tell("%s: %d places.  %ss: Save Back, %s" % (
            entry["image"], places, "n: go there  " if places else "Look through it.  ",
            "this box" if box else "the whole image"))


def has_places(found, wanted):
    """Tell whether a work list is one of support that has so many places, or all there are."""
    if not isinstance(found, worklist.WorkList):
        return False
    return len(found.support.work) >= min(wanted, sum(found.support.left.values()))


def window_of(source, name):
    """Return the Session of the window that shows an image of the project, or None."""
    for number in WindowManager.getIDList() or []:
        image = WindowManager.getImage(number)
        here = (images.linked(image, "image") == name
                and images.linked(image, "project") == source.project)
        if here and editing.session_of(image) is not None:
            return editing.session_of(image)
    return None


def mark(work, box):
    """Outline a box (y, x, height, width) with dashes; None takes the last one away."""
    overlay = work.drawing.overlay
    for index in range(overlay.size() - 1, -1, -1):
        if overlay.get(index).getProperty(rois.OURS) == MARK:
            overlay.remove(index)
    if box:
        y, x, tall, wide = box
        roi = dashed(Roi(x, y, wide, tall), BOX)
        roi.setName(MARK)
        roi.setProperty(rois.OURS, MARK)
        overlay.add(roi)
    work.image.draw()


def marked(image):
    """Return (x, y, width, height) of the box that is outlined, or None."""
    overlay = image.getOverlay()
    for roi in overlay.toArray() if overlay is not None else ():
        if roi.getProperty(rois.OURS) == MARK:
            box = roi.getBounds()
            return box.x, box.y, box.width, box.height
    return None
