"""The plane or volume of a file that is segmented, as the index of a project folder says it.

The service does this with all that it can read. Here ImageJ opens the file, so only what is
simple is done, and all else refused: other pixels under the objects would be wrong truth.
"""
import re

from ij import ImagePlus, ImageStack
from ij.io import FileSaver, Opener
from java.io import ByteArrayInputStream, FileInputStream

from opsef_fiji.trouble import Trouble

PLAIN = ("YX", "ZYX")
"""Axes of files that are segmented whole, plane by plane."""
WORD = re.compile(r"^(?:t=([0-9]+)|([zyx])=([0-9]+):([0-9]+))$")
STEP = ("Connect to the service, which reads it; or open the file in ImageJ, duplicate what was "
        "segmented, and choose Edit Objects there.")


def is_plain(row, how):
    """Tell whether the whole file is what is segmented."""
    return row.get("axes", "YX") in PLAIN and not row.get("part") and not row.get("crop") and (
        row.get("series") or "0") == "0" and projection_of(row, how) == "none"


def projection_of(row, how):
    """Return how planes become one: a word, or none; it matters where there are several."""
    if "Z" not in row.get("axes", "YX"):
        return "none"
    return row.get("projection") or how.get("projection") or "none"


def region_of(row):
    """Return {"t": 3, "z": (0, 5), ...} of a row: its part, where its crop says nothing else."""
    found = {}
    for text in (row.get("part") or "", row.get("crop") or ""):
        for word in text.split():
            match = WORD.match(word)
            if match is None:
                raise refusal(row, "its part is %s" % word)
            t, axis, start, stop = match.groups()
            found[axis or "t"] = (int(start), int(stop)) if axis else (int(t), int(t) + 1)
    return found


def channel_of(row, how):
    """Return the number of the channel that is segmented, from 0."""
    if "C" not in row.get("axes", "YX"):
        return 0
    names = (row.get("channels") or "").split("|")
    wanted = (row.get("segment_channel") or "").split("|")[0].strip()
    if not wanted:
        told = (how.get("segment") or {}).get("channel")
        wanted = u"%s" % (told[0] if isinstance(told, list) and told else told)
    if not wanted.isdigit() and wanted not in names:
        raise refusal(row, "its channel %s is not known" % wanted)
    return int(wanted) if wanted.isdigit() else names.index(wanted)


def cut(path, row, how):
    """Return a stream of the TIFF of what is segmented; of a picture in colour the picture.

    row: of images/index.csv. how: the section `images` of the configuration of a run.
    """
    axes = row.get("axes", "")
    if (row.get("series") or "0") != "0":
        raise refusal(row, "it is image %s of its file" % row["series"])
    if axes == "YXS" and not row.get("part") and not row.get("crop"):
        return coloured(path, row)
    if not axes or [axis for axis in axes if axis not in "TZCYX"]:
        raise refusal(row, "its axes are %s" % axes)
    if projection_of(row, how) != "none":
        raise refusal(row, "its planes become one (%s)" % projection_of(row, how))
    region, channel = region_of(row), channel_of(row, how)
    image = Opener().openImage(path) if path.lower().endswith((".tif", ".tiff")) else None
    if image is None:
        raise refusal(row, "ImageJ alone cannot open it as a TIFF")
    found = planes_of(image, row, region, channel)
    return ByteArrayInputStream(FileSaver(found).serialize())


def coloured(path, row):
    """Return the stream of a file that ImageJ opens as one plane in colour."""
    image = Opener().openImage(path)
    if image is None or image.getStackSize() > 1:
        raise refusal(row, "its colours are no RGB of 8 bit")
    return FileInputStream(path)


def planes_of(image, row, region, channel):
    """Return the planes of an image that were segmented, of one channel and time point."""
    told = dict(zip(row["axes"], [int(size) for size in row["shape"].split("x")]))
    if image.getNChannels() != told.get("C", 1) or (
            image.getNFrames() < 2 if "t" in region else image.getNFrames() > 1):
        raise refusal(row, "ImageJ takes its axes for others")
    t = region.get("t", (0, 1))
    z = region.get("z", (0, image.getNSlices()))
    y, x = region.get("y", (0, image.getHeight())), region.get("x", (0, image.getWidth()))
    sizes = (z[1] - z[0], y[1] - y[0], x[1] - x[0])
    inside = (channel < image.getNChannels() and t[1] <= image.getNFrames()
              and z[1] <= image.getNSlices() and y[1] <= image.getHeight()
              and x[1] <= image.getWidth())
    if not inside or sizes != tuple(told.get(axis, 1) for axis in "ZYX"):
        raise refusal(row, "the file is not as large as the list of images says")
    stack = ImageStack()
    for k in range(*z):
        plane = image.getStack().getProcessor(image.getStackIndex(channel + 1, k + 1, t[1]))
        plane.setRoi(x[0], y[0], sizes[2], sizes[1])
        stack.addSlice(None, plane.crop())
    found = ImagePlus(row["id"], stack)
    found.setCalibration(image.getCalibration().copy())
    found.setDimensions(1, sizes[0], 1)
    return found


def refusal(row, why):
    return Trouble("%s cannot be opened from the folder alone: %s." % (row["id"], why), STEP)
