"""Objects to the ROI Manager and back, and to files that AnnotatorJ loads."""
import os
import re

from ij import IJ
from ij.io import FileSaver, RoiEncoder
from ij.plugin.frame import RoiManager
from java.io import File, FileOutputStream, IOException
from java.nio.file import Files, StandardCopyOption

from opsef_fiji import images, rois, zips
from opsef_fiji.dialogs import Form
from opsef_fiji.trouble import Trouble

TO_MANAGER, FROM_MANAGER, ANNOTATORJ = "to ROI Manager", "from ROI Manager", "AnnotatorJ files"
LABEL = "label"
"""The property of a ROI that keeps the id of its object; AnnotatorJ and ImageJ save it."""
OF = "opsef.image"
"""The property of a ROI in the Manager that names the image it was made of."""
MOST_CLASSES = 8


def named(work, consecutive=False):
    """Return the ROIs of all objects by id, or numbered from 1 without gaps."""
    model, found = work.model, []
    for place, key in enumerate(model.ids()):
        thing = model.thing(key)
        for z in sorted(thing.boxes):
            if z not in thing.shapes and z not in model.runs(key):
                continue
            roi = rois.shape_of(model, key, z).clone()
            number = place + 1 if consecutive else key
            volume = len(model.planes) > 1
            # The Manager takes names like 0007-0003 for its own, and makes them new.
            roi.setName("%04d z%d" % (number, z + 1) if volume else "%04d" % number)
            roi.setProperty(LABEL, str(key))
            roi.setGroup(thing.group)
            roi.setFillColor(None)
            roi.setStrokeWidth(0)
            roi.setStrokeColor(rois.colour_of(thing.group))
            work.drawing.place(roi, z)
            found.append(roi)
    return found


def mark_of(image):
    """Return what names the image of a window, in letters that every ROI file keeps."""
    name = images.linked(image, "image")
    words = u"%s of %s" % (name, images.linked(image, "project")) if name else image.getTitle()
    plain = words.replace("\\", "/").replace("\n", " ").strip()
    return plain.encode("ascii", "xmlcharrefreplace").decode("ascii")


def strangers(found, mark):
    """Return in words what ROIs of the Manager were made of another image, "" for none."""
    names = sorted(set(roi.getProperty(OF) for roi in found) - set([None, mark]))
    return re.sub(r"&#([0-9]+);", lambda one: unichr(int(one.group(1))), u", ".join(names))


def let_go(image):
    """Take the selection away that the ROI Manager has made of an object; nobody has drawn it."""
    roi = image.getRoi()
    if roi is not None and roi.getProperty(OF):
        image.deleteRoi()


def to_manager(work):
    manager, mark = RoiManager.getRoiManager(), mark_of(work.image)
    found = manager.getRoisAsArray()
    if strangers(found, mark):
        raise Trouble("The ROI Manager holds objects of %s." % strangers(found, mark),
                      "Take them back there (\"%s\"), or delete them." % FROM_MANAGER)
    unknown = [roi for roi in found if not roi.getProperty(LABEL)]
    if unknown:
        raise Trouble("The ROI Manager holds %d ROIs that are not from here." % len(unknown),
                      "Save them (More, Save) and delete them, then try again.")
    manager.reset()
    for roi in named(work):
        roi.setProperty(OF, mark)
        manager.addRoi(roi)
    IJ.showStatus("OpSeF: %d ROIs are in the ROI Manager; \"%s\" takes them back." % (
        manager.getCount(), FROM_MANAGER))


def from_manager(work):
    """Take the ROIs of the Manager as the objects of the window: one edit, which can be undone."""
    manager = RoiManager.getInstance()
    found = list(manager.getRoisAsArray()) if manager is not None else []
    areas = [roi for roi in found if rois.is_object(roi)]
    if strangers(areas, mark_of(work.image)):
        raise Trouble("The ROI Manager holds objects of %s, not of this window." % strangers(
            areas, mark_of(work.image)), "Choose \"%s\" in that window." % FROM_MANAGER)
    if not areas:
        raise Trouble("The ROI Manager holds no areas.",
                      "Choose \"%s\" first, or load ROIs there." % TO_MANAGER)
    taken = []
    for roi in areas:
        one, label = roi.clone(), roi.getProperty(LABEL)
        if label and label.isdigit() and work.model.known_before(int(label)):
            one.setName("%04d" % int(label))  # its position says in which plane
        taken.append(one)
    depth = len(work.model.planes)
    new = rois.model_of(taken, work.model.width, work.model.height, depth)
    changed = work.replace(new)
    IJ.showStatus("OpSeF: %d ROIs; %d objects changed; u takes it back.%s" % (
        len(areas), len(changed), "" if len(areas) == len(found) else
        " %d that are no areas were left out." % (len(found) - len(areas))))


def annotatorj_files(work):
    """Write the image, and a zip into the folder of a class beside it, as AnnotatorJ loads it."""
    form = Form("AnnotatorJ files")
    form.say("The image, and NAME_ROIs.zip in a folder of that class. In AnnotatorJ: Open, Load.")
    form.folder("Folder", "")
    form.text("Class", "normal", 12)
    folder, group = [value.strip() for value in form.ask()]
    check(work, folder, group)
    image = work.image
    stem = stem_of(image.getTitle())
    zipped = os.path.join(folder, group, stem + "_ROIs.zip")
    picture = os.path.join(folder, stem + ".tif")
    for path in (zipped, picture):
        if os.path.exists(path):
            raise Trouble("%s is there already." % path, "Choose another folder, or move it away.")
    entries = [(roi.getName(), RoiEncoder.saveAsByteArray(roi)) for roi in named(work, True)]
    File(os.path.dirname(zipped)).mkdirs()
    bare = image.duplicate()
    bare.setHideOverlay(False)
    bare.setOverlay(None)
    bare.deleteRoi()
    write(picture, FileSaver(bare).serialize())
    write(zipped, zips.pack(entries))
    IJ.showStatus("OpSeF: wrote %s and %d objects beside it." % (picture, len(entries)))


def check(work, folder, group):
    """Refuse what AnnotatorJ cannot hold, before anything is written."""
    work.fits()
    if not folder or not os.path.isdir(folder):
        raise Trouble("There is no folder %s." % folder, "Choose one.")
    if not group or group in (".", "..") or any(c in group for c in "/\\:"):
        raise Trouble("%s is no name of a folder." % group, "Give one word, such as normal.")
    if not work.model.things:
        raise Trouble("There are no objects.", "AnnotatorJ cannot open an empty zip.")
    if len(work.model.planes) > 1:
        raise Trouble("This is a volume; AnnotatorJ knows planes only.",
                      "Duplicate one slice, with its overlay, and export that.")
    most = max(work.model.counts())
    if most > MOST_CLASSES:
        raise Trouble("There is a class %d; AnnotatorJ has colours for 1 to %d." % (
            most, MOST_CLASSES), "Classify these objects anew, or use the ROI Manager.")


def stem_of(title):
    from opsef_fiji.commands import file_stem

    stem, dot, end = title.rpartition(".")
    return file_stem(stem if dot and end.lower() in ("tif", "tiff", "png", "jpg") else title)


def write(path, data):
    """Write a file at once: under another name first."""
    partial = File(path + ".partial")
    try:
        out = FileOutputStream(partial)
        try:
            out.write(data, 0, len(data))
        finally:
            out.close()
        Files.move(partial.toPath(), File(path).toPath(), [StandardCopyOption.REPLACE_EXISTING])
    except IOException as error:
        partial.delete()
        raise Trouble("%s could not be written: %s." % (path, error.getMessage()), "Is the folder "
                      "there, and the file open in another program? Close it, or choose another.")


ACTIONS = {TO_MANAGER: to_manager, FROM_MANAGER: from_manager, ANNOTATORJ: annotatorj_files}
