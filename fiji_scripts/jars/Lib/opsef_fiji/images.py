"""Images in and out: as TIFF bytes, from streams, and what project image a window shows."""
from ij import IJ, ImagePlus, ImageStack
from ij.io import FileSaver, Opener
from jarray import zeros
from java.io import File, FileOutputStream, IOException
from java.security import MessageDigest

from opsef_fiji.client import hex_of
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
    """Remember of which project and picture a window is, so that both are known again."""
    try:
        key, mark = source.project_key(), source.image_mark(image)
    except Trouble:
        key = mark = None
    link(window, project=source.project, place=source.place, key=key, mark=mark)


def check_place(window, source, image):
    """Refuse to save a window into a project that it is not of, even one of the same name.

    The key says which project it is, wherever it listens now and whoever asks. The picture has
    to be the same as well: objects of another one would be kept as truth.
    """
    try:
        same = linked(window, "project") == source.project and (
            linked(window, "key") == source.project_key()) and same_picture(window, source, image)
    except NoConnection as trouble:
        raise NoConnection(trouble.message, "Your edits are still in this window. " + trouble.step)
    if not same:
        raise Trouble(
            "This image is of project %s at %s. You are connected to %s at %s." % (
                linked(window, "project"), linked(window, "place"), source.project, source.place)
            + " It is another project or another picture, even where the names are the same.",
            "Nothing was saved, your edits are still in the window. Connect to the project that "
            "it is of, then Save Back.")


def same_picture(window, source, image):
    """Tell whether a picture is the one that a window was opened with: by mark, else by bytes."""
    if linked(window, "mark") and linked(window, "mark") == source.image_mark(image):
        return True
    digest = linked(window, "sha256")
    return bool(digest) and digest == digest_of_stream(source.image_stream(image))


def digest_of_stream(stream):
    """Return the sha256 of all that comes through a stream."""
    digest, buffer = MessageDigest.getInstance("SHA-256"), zeros(262144, "b")
    try:
        count = stream.read(buffer, 0, len(buffer))
        while count >= 0:
            digest.update(buffer, 0, count)
            count = stream.read(buffer, 0, len(buffer))
    except IOException as error:
        raise NoConnection("The connection was cut: %s." % error.getMessage(), "Try again.")
    finally:
        stream.close()
    return hex_of(digest.digest())


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


def tiff_of(image, volume=False):
    """Return (byte[] of a TIFF, box): the plane that is shown, or all slices of its channel.

    box: (x, y, width, height) of the selection, whatever its form, or None; only that is sent.
    """
    if volume and image.getNFrames() > 1:
        raise Trouble(
            "This is a time series of %d: its slices at one time are a volume, all are not."
            % image.getNFrames(),
            "Duplicate one time point first (Image > Duplicate), then segment that.")
    box = box_of_selection(image)
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


def tiff_of_all(image):
    """Return byte[] of the TIFF of a whole image, without its overlay; a virtual stack is read."""
    bare = image
    if image.getOverlay() is not None or image.getStack().isVirtual():
        bare = image.duplicate()  # all of it, whatever is selected
        bare.setOverlay(None)
    data = FileSaver(bare).serialize()
    if data is None or not len(data):
        raise Trouble("%s cannot be made a TIFF." % image.getTitle(),
                      "Duplicate it (Image > Duplicate) and close the first, then try again.")
    return data


def open_project_image(source, name, show):
    """Return an image of the project, not shown yet: the plane or volume that is segmented."""
    image = open_stream(source.image_stream(name), name, show)
    show.done()
    if image.getStackSize() > 1 and image.getStackSize() in (
            image.getNChannels(), image.getNFrames()):
        image.setDimensions(1, image.getStackSize(), 1)  # what is edited is a plane or a volume
    return image


def open_stream(stream, title, show=None):
    """Return the ImagePlus of a TIFF that comes through a stream; by way of a temporary file."""
    file = File.createTempFile("opsef", ".tif")
    digest = MessageDigest.getInstance("SHA-256")
    try:
        out = FileOutputStream(file)
        buffer, gone = zeros(262144, "b"), 0
        try:
            while True:
                count = stream.read(buffer, 0, len(buffer))
                if count < 0:
                    break
                out.write(buffer, 0, count)
                digest.update(buffer, 0, count)
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
    link(image, sha256=hex_of(digest.digest()))
    info = image.getOriginalFileInfo()
    if info is not None:
        info.directory = ""
    return image
