"""Analyse all images of the project: the service measures; tables, plots and words come here."""
from ij import IJ, ImagePlus, WindowManager
from ij.measure import ResultsTable
from ij.text import TextWindow
from java.io import BufferedReader, File, FileOutputStream, IOException, InputStreamReader
from javax.imageio import ImageIO

from opsef_fiji import editing, images, session
from opsef_fiji.client import bytes_of, read_all
from opsef_fiji.dialogs import Form, Progress, aside
from opsef_fiji.exchange import write
from opsef_fiji.listeners import RowChosen
from opsef_fiji.offline import INBOX
from opsef_fiji.trouble import NoConnection, Trouble
from opsef_fiji.waiting import wait_for

TITLE = "Analyse"
TABLE = "tables/objects.csv"
MOST_ROWS, MOST_PLOTS = 20000, 12
NO = "none"
METHODS = ["kmeans", "ward", "hdbscan"]


def analyse_project(table, plots, path):
    """Measure all images; show what was asked for, and write the CSV to a path if there is one."""
    source = session.source()
    form = Form("Analyse all images")
    form.say("Measures the objects of all images. Tables and plots are kept in the project too.")
    form.text("Variant (empty: newest edits, else batch)", "")
    form.text("By (column whose kinds are compared; empty: as the project says)", "")
    form.choice("Embedding", ["pca", "tsne", "umap"])
    form.choice("Clusters", [NO] + METHODS)
    form.number("Number (of clusters; 0: as the silhouette says)", 0)
    variant, by, embedding, clusters, number = form.ask()
    job = source.analyse(
        by=by.strip(), embed=[embedding], cluster=clusters if clusters != NO else None,
        count=int(number) if clusters != NO and number > 0 else None,
        plots="png" if plots else None, **variant_in(variant))
    if not source.online:
        IJ.showStatus("OpSeF: " + INBOX)
        return
    told = wait_for(source, job, Progress(TITLE))["result"]
    lines = list(told["said"])
    lines += ["%s could not be measured." % name for name in told["failed"]]
    if table:
        lines += show_table(source, told["objects"])
    if plots:
        lines += show_plots(source, [name for name in told["files"] if name.endswith(".png")])
    if path:
        write(path, read_all(source.made_stream(TABLE)))
        lines.append("The table of objects is in %s." % path)
    TextWindow("Analysis of %s" % source.project, "\n".join(lines), 1000, 360)


def variant_in(text):
    """Return {run, variant} of v0001 or run-0001/v0001; {} of nothing."""
    run, slash, variant = text.strip().rpartition("/")
    return dict((key, value) for key, value in (("run", run), ("variant", variant)) if value)


def show_table(source, count):
    """Show the first rows of the table of objects; return sentences."""
    table = table_of(with_points(first_lines(source.made_stream(TABLE), MOST_ROWS + 1)))
    title = "Objects of all images of %s" % source.project
    table.show(title)
    panel = WindowManager.getWindow(title).getTextPanel()
    opening = Opening(source, panel)
    for part in panel.getComponents():
        part.addMouseListener(RowChosen(panel, opening.chosen))
    if count > MOST_ROWS:
        return ["The table shows the first %d of %d objects; the CSV has all." % (
            MOST_ROWS, count)]
    return []


def table_of(lines):
    """Return the ResultsTable of the lines of a CSV, read by ImageJ, as it is fast."""
    file = File.createTempFile("opsef", ".csv")
    try:
        out = FileOutputStream(file)
        out.write(bytes_of(u"\n".join(lines) + u"\n"))
        out.close()
        table = ResultsTable.open(file.getPath())
    finally:
        file.delete()
    table.showRowNumbers(False)
    return table


def cells_of(headings, line):
    """Return the cells of a row by their columns; an empty one may be NaN in a table of ImageJ."""
    cells = zip(headings.split("\t"), line.split("\t"))
    return dict((name, "" if cell == "NaN" else cell) for name, cell in cells)


def first_lines(stream, most):
    reader, lines = BufferedReader(InputStreamReader(stream, "UTF-8")), []
    try:
        while len(lines) < most:
            line = reader.readLine()
            if line is None:
                break
            lines.append(line)
    except IOException as error:
        raise NoConnection("The connection was cut: %s." % error.getMessage(), "Try again.")
    finally:
        reader.close()
    return lines


def with_points(lines):
    """Return lines as ImageJ reads them: a project may have decimal commas and semicolons."""
    if not lines or u";" not in lines[0]:
        return lines
    return [line.replace(u",", u".").replace(u";", u",") for line in lines]


class Opening(object):
    """A click on a row opens the image at that object, or goes there in its window."""

    def __init__(self, source, panel):
        self.source, self.panel, self.busy = source, panel, False

    def chosen(self, row):
        if self.busy or not 0 <= row < self.panel.getLineCount():
            return
        self.busy = True
        cells = cells_of(self.panel.getColumnHeadings(), self.panel.getLine(row))
        aside(TITLE, self.go, cells)

    def go(self, cells):
        try:
            name, base = cells["image"], base_of(cells)
            work = window_of(self.source, name, base)
            if work is None:
                from opsef_fiji.object_commands import begin

                work = begin(None, name, base)
            IJ.selectWindow(work.image.getID())
            work.listen()
            label = int(float(cells["label"]))
            if label not in work.model.things:
                raise Trouble("There is no object %d of %s any more." % (label, name),
                              "Analyse again: the table is of what was there before.")
            work.go_to(label)
            newest = newest_of(self.source, name)
            if newest and base != newest:
                work.tell("Object %d of %s, which the table is of; the newest is %s." % (
                    label, base, newest))
        finally:
            self.busy = False


def newest_of(source, name):
    """Return the newest revision of an image, or None."""
    if not source.online:
        return source.newest(name)
    found = source.client.get(source.path("rois", name, "log"))["revisions"]
    return found[-1]["id"] if found else None


def base_of(row):
    """Return what the objects of a row are of: r0002 or run-0001/v0007."""
    return row.get("revision") or "%s/%s" % (row["run"], row["variant"])


def window_base(image):
    """Return the same of a window; "" where it is of no project."""
    return (images.linked(image, "etag") or "").strip('"').replace(":own", "")


def window_of(source, name, base):
    """Return the Session of the window that shows these objects, or None."""
    for number in WindowManager.getIDList() or []:
        image = WindowManager.getImage(number)
        here = (images.linked(image, "image") == name and window_base(image) == base
                and images.linked(image, "project") == source.project)
        if here and editing.session_of(image) is not None:
            return editing.session_of(image)
    return None


def show_plots(source, names):
    """Open the plots as images; return sentences."""
    for name in names[:MOST_PLOTS]:
        stream = source.made_stream(name)
        try:
            picture = ImageIO.read(stream)
        except IOException as error:
            raise NoConnection("The connection was cut: %s." % error.getMessage(), "Try again.")
        finally:
            stream.close()
        image = ImagePlus(name.rpartition("/")[2], picture)
        image.setProperty("opsef.plot", True)
        image.show()
    if len(names) > MOST_PLOTS:
        return ["%d plots are shown; the folder plots of the project has %d." % (
            MOST_PLOTS, len(names))]
    return []
