"""Zips of ROI files: names and bytes, in order. The same objects make the same bytes."""
from java.io import ByteArrayInputStream, ByteArrayOutputStream
from java.util import GregorianCalendar
from java.util.zip import ZipEntry, ZipInputStream, ZipOutputStream

from jarray import zeros

from opsef_fiji.trouble import Trouble

MOST_BYTES = 2 ** 30


def pack(entries):
    """Return the zip of [(name, byte[])] as byte[]; entries are called NAME.roi."""
    out = ByteArrayOutputStream()
    archive = ZipOutputStream(out)
    day = GregorianCalendar(2000, 0, 1).getTimeInMillis()
    for name, data in entries:
        entry = ZipEntry(name + ".roi")
        entry.setTime(day)
        archive.putNextEntry(entry)
        archive.write(data, 0, len(data))
        archive.closeEntry()
    archive.close()
    return out.toByteArray()


def unpack(data):
    """Return [(name, byte[])] of the .roi entries of a zip."""
    archive = ZipInputStream(ByteArrayInputStream(data))
    found, left = [], MOST_BYTES
    buffer = zeros(65536, "b")
    while True:
        entry = archive.getNextEntry()
        if entry is None:
            break
        name = entry.getName()
        if not name.lower().endswith(".roi"):
            continue
        out = ByteArrayOutputStream()
        while True:
            count = archive.read(buffer, 0, len(buffer))
            if count < 0:
                break
            left -= count
            if left < 0:
                raise Trouble("The ROIs unpack to more than 1 GiB.", "Is this the right file?")
            out.write(buffer, 0, count)
        found.append((name[:-4].split("/")[-1], out.toByteArray()))
    return found
