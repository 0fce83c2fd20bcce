"""Outlines that the service tells (loops along pixel edges) as ROIs, and the view of a place."""
from ij.gui import PolygonRoi, Roi, ShapeRoi
from jarray import array
from java.awt import BasicStroke, EventQueue, Rectangle
from java.awt.geom import GeneralPath
from java.lang import Runnable

VIEW = 520
"""Pixels of the screen that a place is shown in."""
AROUND, LEAST = 3.0, 48
"""How much more than an object is shown, and how many pixels at least."""
SEEN = 40
"""Pixels of the screen from which an object is large enough to be looked at."""


def roi_of_loops(loops):
    """Return the ROI of exactly the pixels inside loops of corners (x, y)."""
    if len(loops) == 1:
        xs, ys = [array([place[k] for place in loops[0]], "i") for k in (0, 1)]
        return PolygonRoi(xs, ys, len(xs), Roi.POLYGON)
    path = GeneralPath(GeneralPath.WIND_EVEN_ODD)
    for loop in loops:
        path.moveTo(*[float(v) for v in loop[0]])
        for place in loop[1:]:
            path.lineTo(*[float(v) for v in place])
        path.closePath()
    return ShapeRoi(path)


def lined(roi, colour, width, group=0):
    """Give a ROI a line of some pixels of the screen, however far one zooms; return it."""
    roi.setGroup(group)  # it sets a colour, so it comes first
    roi.setStrokeColor(colour)
    roi.setFillColor(None)
    if hasattr(roi, "setUnscalableStrokeWidth"):  # not in an old Fiji
        roi.setUnscalableStrokeWidth(width)
    else:
        roi.setStrokeWidth(width)
    return roi


def dashed(roi, colour):
    """Give a ROI a line of dashes."""
    roi.setStrokeColor(colour)
    roi.setFillColor(None)
    roi.setStroke(BasicStroke(1.0, BasicStroke.CAP_BUTT, BasicStroke.JOIN_MITER, 10.0,
                              array([2.0, 2.0], "f"), 0.0))
    return roi


def region_around(box, width, height):
    """Return the square (x, y, width, height) around a box (y, x, height, width), in an image.

    >>> region_around((10, 20, 20, 10), 200, 100)
    (0, 0, 60, 60)
    """
    y, x, tall, wide = box
    side = int(max(LEAST, AROUND * max(tall, wide)))
    across, down = min(side, width), min(side, height)
    left = min(max(0, x + wide // 2 - across // 2), width - across)
    top = min(max(0, y + tall // 2 - down // 2), height - down)
    return left, top, across, down


class Looking(Runnable):
    def __init__(self, image, box):
        self.image, self.box = image, box

    def run(self):
        canvas, window = self.image.getCanvas(), self.image.getWindow()
        if canvas is None or window is None:  # closed meanwhile
            return
        left, top, across, down = region_around(
            self.box, self.image.getWidth(), self.image.getHeight())
        zoom = min(32.0, float(VIEW) / max(across, down))
        canvas.setSize(int(across * zoom), int(down * zoom))
        window.pack()  # its layout sets another zoom, so ours comes after it
        canvas.setSourceRect(Rectangle(left, top, across, down))
        canvas.setMagnification(zoom)
        canvas.repaint()


def look_at(image, box):
    """Make the window of an image show a box (y, x, height, width) and what is around it."""
    looking = Looking(image, box)
    if EventQueue.isDispatchThread():
        looking.run()
    else:
        EventQueue.invokeAndWait(looking)


def zoom_to(image, box):
    """Zoom to a box (y, x, height, width) in the window as large as it is, if it is not seen."""
    canvas = image.getCanvas()
    if canvas is None:
        return
    y, x, tall, wide = box
    zoom = canvas.getMagnification()
    seen = canvas.getSrcRect().contains(Rectangle(x, y, max(wide, 1), max(tall, 1)))
    if seen and max(tall, wide) * zoom >= SEEN:
        return
    side = max(LEAST, AROUND * max(tall, wide))
    least = min(canvas.getWidth(), canvas.getHeight())
    show_part(image, box, max(zoom, min(32.0, least / float(side))))


def fill_with(image, box):
    """Have a box (y, x, height, width) and a little around it fill the window, as it is."""
    canvas = image.getCanvas()
    if canvas is not None:
        across, down = canvas.getWidth() / (1.1 * box[3]), canvas.getHeight() / (1.1 * box[2])
        show_part(image, box, min(32.0, across, down))


def show_part(image, box, zoom):
    """Show the middle of a box at some zoom, in the window as large as it is."""
    canvas = image.getCanvas()
    y, x, tall, wide = box
    across, down = canvas.getWidth(), canvas.getHeight()
    width = min(image.getWidth(), int(across / zoom) or 1)
    height = min(image.getHeight(), int(down / zoom) or 1)
    left = min(max(0, x + wide // 2 - width // 2), image.getWidth() - width)
    top = min(max(0, y + tall // 2 - height // 2), image.getHeight() - height)
    canvas.setSourceRect(Rectangle(left, top, width, height))
    canvas.setMagnification(zoom)
    canvas.repaint()
