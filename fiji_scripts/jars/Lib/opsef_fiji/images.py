"""Images in and out: as TIFF bytes, from streams, and what project image a window shows."""
from ij import IJ, ImagePlus, ImageStack
from ij.io import FileSaver, Opener
from jarray import zeros
from java.io import File, FileOutputStream, IOException

from opsef_fiji.trouble import Cancelled, NoConnection, Trouble


def current():
    image = IJ.getImage() if has_image() else None
    if image is None:
        raise Trouble("No image is open.", "Open one first.")
    return image


def has_image():
    from ij import WindowManager

    return WindowManager.getCurrentImage() is not None


def link(window, **values):
    """Remember in the window which image of which project it shows, and the ETag."""
    for name, value in values.items():
        window.setProperty("opsef." + name, value)


def linked(image, name):
    return image.getProperty("opsef." + name)


def link_place(window, source, image):
    """Remember which service or folder a window is of, so that it is known again."""
    try:
        mark = source.image_mark(image)
    except Trouble:
        mark = None
    link(window, project=source.project, place=source.place, key=source.key, mark=mark)


def check_place(window, source, image):
    """Refuse to save a window into a project that it is not of, even one of the same name.

    The same token says that it is the same service, wherever it listens now. With another
    token the address has to be the same, and the very picture.
    """
    project, place = linked(window, "project"), linked(window, "place")
    same = project == source.project
    if same and (not source.key or linked(window, "key") != source.key):
        same = place == source.place and linked(window, "mark") == source.image_mark(image)
    if not same:
        raise Trouble(
            "This image is of project %s at %s. You are connected to %s at %s." % (
                project, place, source.project, source.place),
            "Nothing was saved, your edits are still in the window. Connect to the project that "
            "it is of, then Save Back.")


def box_of_selection(image):
    """Return the bounds of an area selection as (x, y, width, height), or None."""
    roi = image.getRoi()
    if roi is None or not roi.isArea():
        return None
    box = roi.getBounds()
    x, y = max(0, box.x), max(0, box.y)
    right = min(image.getWidth(), box.x + box.width)
    bottom = min(image.getHeight(), box.y + box.height)
    return (x, y, right - x, bottom - y) if right > x and bottom > y else None


def tiff_of(image, volume=False, whole=False):
    """Return (byte[] of a TIFF, box): the plane that is shown, or all slices of its channel."""
    box = None if whole else box_of_selection(image)
    stack = ImageStack()
    planes = range(1, image.getNSlices() + 1) if volume else [image.getZ()]
    for z in planes:
        index = image.getStackIndex(image.getC(), z, image.getT())
        plane = image.getStack().getProcessor(index).duplicate()
        if box:
            plane.setRoi(*box)
            plane = plane.crop()
        stack.addSlice(None, plane)
    sent = ImagePlus(image.getTitle(), stack)
    sent.setCalibration(image.getCalibration().copy())
    if len(planes) > 1:
        sent.setDimensions(1, len(planes), 1)
    return FileSaver(sent).serialize(), box


def open_stream(stream, title, show=None):
    """Return the ImagePlus of a TIFF that comes through a stream; by way of a temporary file."""
    file = File.createTempFile("opsef", ".tif")
    try:
        out = FileOutputStream(file)
        buffer, gone = zeros(262144, "b"), 0
        try:
            while True:
                count = stream.read(buffer, 0, len(buffer))
                if count < 0:
                    break
                out.write(buffer, 0, count)
                gone += count
                if show:
                    if show.escaped():
                        raise Cancelled()
                    show.progress(0, 0, "%.1f MB of %s" % (gone / 1e6, title))
        except IOException as error:
            raise NoConnection("The connection was cut: %s." % error.getMessage(), "Try again.")
        finally:
            out.close()
            stream.close()
        image = Opener().openImage(file.getPath())
    finally:
        file.delete()
    if image is None:
        raise Trouble("ImageJ cannot open %s." % title, "Is it a TIFF?")
    image.setTitle(title)
    info = image.getOriginalFileInfo()
    if info is not None:
        info.directory = ""
    return image
