"""Tables as text: CSV as the person's spreadsheet program reads it."""
from java.lang import Double
from java.text import DecimalFormatSymbols
from java.util import Locale

COLUMNS = ["label", "area", "centroid_z", "centroid_y", "centroid_x", "class", "mean_intensity",
           "unit"]
MICROMETRES = {u"um": 1.0, u"\u00b5m": 1.0, u"\u03bcm": 1.0, u"micron": 1.0, u"microns": 1.0,
               u"nm": 1e-3, u"mm": 1e3, u"cm": 1e4, u"m": 1e6, u"inch": 25400.0}
"""Units of length by the names that ImageJ has for them."""


def decimal_mark():
    return DecimalFormatSymbols.getInstance(Locale.getDefault()).getDecimalSeparator()


def scale_of(calibration):
    """Return (depth, height, width of a pixel, unit) as the service tells them: um, or pixel."""
    if not calibration.scaled():
        return 1.0, 1.0, 1.0, u"pixel"
    unit = calibration.getUnit()
    times = MICROMETRES.get(unit)
    if times is not None:
        unit = u"um"
    sizes = calibration.pixelDepth, calibration.pixelHeight, calibration.pixelWidth
    return tuple(size * (times or 1.0) for size in sizes) + (unit,)


def csv_text(rows, columns, mark="."):
    """Return CSV; where decimals have a comma, columns are parted by semicolons."""
    parting = u";" if mark == "," else u","
    lines = [parting.join(columns)]
    for row in rows:
        lines.append(parting.join(cell(row.get(name), mark) for name in columns))
    return u"\r\n".join(lines) + u"\r\n"


def cell(value, mark):
    if value is None:
        return u""
    if isinstance(value, float):
        return Double.toString(value).replace(".", mark)
    text = u"%s" % value
    if any(letter in text for letter in u";,\"\n"):
        text = u'"%s"' % text.replace(u'"', u'""')
    return text


def columns_of(rows):
    """Return the known columns first, then those that the rows have besides."""
    found = [name for name in COLUMNS if any(name in row for row in rows)]
    others = sorted(set(name for row in rows for name in row) - set(found))
    return found + others
