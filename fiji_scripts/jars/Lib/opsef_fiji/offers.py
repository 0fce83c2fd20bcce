"""Analyse: a table whose rows are objects, plots, CSV. Help: what every command does."""
from ij import IJ, Macro, WindowManager
from ij.gui import Plot
from ij.measure import ResultsTable
from ij.text import TextWindow
from java.awt import Color
from java.awt.event import MouseAdapter

from opsef_fiji import editing, images, rois, session
from opsef_fiji.client import bytes_of
from opsef_fiji.dialogs import Form
from opsef_fiji.exchange import write
from opsef_fiji.listeners import RowChosen, is_plain_click
from opsef_fiji.pixels import area_of, centre_of
from opsef_fiji.tables import columns_of, csv_text, decimal_mark, scale_of
from opsef_fiji.trouble import Trouble


HERE, PROJECT = "this image", "all images of the project"


def analyse():
    image, work, why = None, None, None
    try:
        image = images.current()
        work = measurable(image)
    except Trouble as trouble:
        why = trouble
        if not is_connected():
            raise
    form = Form("Analyse")
    form.choice("Of", [HERE, PROJECT], HERE if work or Macro.getOptions() else PROJECT)
    form.tick("Table", True)
    form.tick("Plots", True)
    form.file("CSV file (empty: none)", "")
    form.choice("Decimals", [".", ","], decimal_mark())
    of, table, plots, path, mark = form.ask()
    if of == PROJECT:
        from opsef_fiji.project_analysis import analyse_project

        analyse_project(table, plots, path.strip())
        return
    if work is None:
        raise why
    rows = rows_of(image, work)
    if table:
        show_table(image, work, rows)
    if plots:
        show_plots(image, rows)
    if path.strip():
        write(path.strip(), bytes_of(csv_text(rows, columns_of(rows), mark)))
        IJ.showStatus("OpSeF: %d rows are in %s" % (len(rows), path.strip()))


def is_connected():
    try:
        session.source()
    except Trouble:
        return False
    return True


def measurable(image):
    """Return the Session of a window whose objects can be measured."""
    work = editing.session_of(image)
    found = rois.rois_of_overlay(image) if work is None else work.model.things
    if not found:
        raise Trouble("This window shows no objects.", "Segment Image or Edit Objects first.")
    if work is None:
        work = editing.start(image, found)
    if not work.model.things:  # all lie outside the image, or in other frames
        raise Trouble("This view shows no objects.", "Go to the frame that has some.")
    work.fits()
    return work


def rows_of(image, work):
    """Return the rows of the service for what was saved, or measured here for what was not."""
    name = images.linked(image, "image")
    if name and not work.model.touched():
        base = (images.linked(image, "etag") or "").strip('"')
        try:
            rows = session.source().table(name, base if base != "none" else None)
        except Trouble as trouble:
            IJ.log("OpSeF: measured by ImageJ, as the service could not: " + trouble.message)
            rows = None
        if rows:
            return rows
    return measured(image, work)


def measured(image, work):
    """Measure objects with ImageJ, in the units and columns of the service."""
    model, rows, volume = work.model, [], len(work.model.planes) > 1
    depth, height, width, unit = scale_of(image.getCalibration())
    for key in model.ids():
        area, x, y, middle, total = 0, 0.0, 0.0, 0.0, 0.0
        for z, runs in model.runs(key).items():
            index = image.getStackIndex(image.getC(), z + 1 if volume else image.getZ(),
                                        work.frame or image.getT())
            pixels = image.getStack().getProcessor(index)
            shape = rois.shape_of(model, key, z)
            pixels.setRoi(shape)
            found = pixels.getStatistics()
            area += found.pixelCount
            total += found.mean * found.pixelCount
            centre, size = centre_of(runs), area_of(runs)
            x, y, middle = x + centre[0] * size, y + centre[1] * size, middle + z * size
        if area:
            size = float(model.area(key))
            scale = (depth if volume else 1.0) * height * width
            rows.append({"label": key, "area": area if unit == "pixel" else area * scale,
                         "centroid_y": y / size * height, "centroid_x": x / size * width,
                         "class": model.thing(key).group, "mean_intensity": total / area,
                         "unit": unit})
            if volume:
                rows[-1]["centroid_z"] = middle / size * depth
    return rows


def show_table(image, work, rows):
    table = ResultsTable()
    table.showRowNumbers(False)
    columns = columns_of(rows)
    for row in rows:
        table.incrementCounter()
        for name in columns:
            value = row.get(name)
            if value is None:
                continue
            table.addValue(name, value if isinstance(value, (str, type(u""))) else float(value))
    table.setDecimalPlaces(0, 0)
    title = u"Objects of %s" % image.getTitle()
    table.show(title)
    window = WindowManager.getWindow(title)
    panel = window.getTextPanel()
    for part in panel.getComponents():
        part.addMouseListener(RowChosen(panel, lambda row: show_object(panel, image, row)))
    canvas = image.getCanvas()
    if canvas is not None:
        for old in canvas.getMouseListeners():
            if isinstance(old, ObjectChosen):
                canvas.removeMouseListener(old)
        canvas.addMouseListener(ObjectChosen(panel, image))


def label_of(panel, row):
    """Return the object of a row, 0 for none; rows may have been sorted."""
    if not 0 <= row < panel.getLineCount():
        return 0
    try:
        return int(float(panel.getLine(row).split("\t")[0]))
    except ValueError:
        return 0


def show_object(panel, image, row):
    """Select the object of a row."""
    key, work = label_of(panel, row), editing.session_of(image)
    if work is not None and key in work.model.things:
        work.go_to(key)


class ObjectChosen(MouseAdapter):
    """A click on an object selects its row."""

    def __init__(self, panel, image):
        self.panel, self.image = panel, image

    def mouseClicked(self, event):
        work = editing.session_of(self.image)
        if work is None or not self.panel.isShowing() or not is_plain_click(event):
            return
        if not work.is_here():
            return
        canvas = event.getSource()
        key = work.model.at(canvas.offScreenX(event.getX()),
                            canvas.offScreenY(event.getY()), work.plane())
        if not key:
            return
        for row in range(self.panel.getLineCount()):
            if label_of(self.panel, row) == key:
                self.panel.setSelection(row, row)
                break
        if work.ears is None:
            work.select([key])


def show_plots(image, rows):
    areas = sorted(float(row["area"]) for row in rows)
    bins = max(5, min(30, int(len(areas) ** 0.5) + 1))
    low, high = areas[0], areas[-1]
    width = (high - low) / bins or 1.0
    counts = [0] * bins
    for area in areas:
        counts[min(bins - 1, int((area - low) / width))] += 1
    plot = Plot("Areas of %s" % image.getTitle(), "Area", "Objects")
    plot.setColor(Color(60, 90, 160), Color(150, 180, 230))
    plot.add("bar", [low + (k + 0.5) * width for k in range(bins)], [float(c) for c in counts])
    plot.show()
    pairs = [row for row in rows if row.get("mean_intensity") is not None]
    if not pairs:
        return
    plot = Plot("Area and intensity of %s" % image.getTitle(), "Area", "Mean intensity")
    for group in sorted(set(int(row.get("class") or 0) for row in pairs)):
        some = [row for row in pairs if int(row.get("class") or 0) == group]
        plot.setColor(rois.colour_of(group) if group else Color.darkGray)
        plot.add("circle", [float(row["area"]) for row in some],
                 [float(row["mean_intensity"]) for row in some])
    plot.setLimitsToFit(False)
    plot.show()


def help():
    from opsef_fiji.comparison import KEYS as COMPARISON_KEYS

    lines = HELP.splitlines()
    for name, keys in (("Open Comparison", COMPARISON_KEYS), ("Edit Objects", editing.KEYS)):
        lines += ["", "Keys of " + name]
        lines += [u"%s\t%s" % tuple(part.split(": ", 1))
                  for row in keys.splitlines() for part in row.split("    ")]
    TextWindow("OpSeF help", "command or key\twhat it does", "\n".join(lines), 760, 620)


HELP = u"""Connect\topen the invitation (NAME.opsef) that you were sent, choose a project;
\tor a project folder, where there is no service
Segment Image\tobjects of the open image or selection, by one model, in seconds
New Project\tfrom all open images or a folder; a line across an object tells its size
Run Sweep\ttries all variants of the project; says before what it costs
Open Comparison\tthe variants of an image, best first, one after the other
Answer Questions\ta key for each place where the leading variants disagree: right, nothing
\there, or draw it. From five answers on the worst choices get rarer; ten make the order
\tof the variants better on average, three do not
Adopt Variant\ttake the one that you like
Run Batch\tsegments all images with it
Edit Objects\tdelete, merge, split, add; each has a key. Of a volume an object is edited in
\tall its slices; a line cuts, and a new object is drawn, in the slice that is shown
\tActions: to ROI Manager and from it, and AnnotatorJ files (image and zip of ROIs)
Classify Objects\tclass by click or key, with a legend; by a gate (area > 200 and solidity < 0.9),
\tby clusters, or learned from those that have one; uncertain next: n goes to the
\tobject that the learned classes are least sure of, 0 to 9 says what it is;
\twhen none is left, choose it again: the next image opens
Correct Next\ta table of images, and of boxes of large ones, that to correct next mends most in
\tthe same time; a double click opens one, n goes through its places, Save Back
\tvouches for the box that is outlined
Save Back\tsaves your corrections as a revision, under your name. Without an answer it asks
\tagain, and saves once. Where somebody changed the same objects, a table shows them:
\ta click outlines one, then take mine or take theirs
Analyse\ttable, plots, CSV; a click on a row selects the object, a click on the object its row.
\tOf all images of the project: its tables, plots, statistics; a click on a row opens
\tthe image at that object
Train From Corrections\tgoes on training a network on what you vouched for (Save Back),
\tand compares both on images that the new one did not learn from; nothing changes
\tuntil you say use it: then it is a model of the project
Jobs\twhat runs, how far it is; stop it, or wait for it

\tEsc stops what is waited for. A job goes on when the laptop sleeps; Jobs finds it again.
\tAll commands can be recorded (Plugins > Macros > Record).
"""
