"""Tables as text: CSV as the person's spreadsheet program reads it."""
from java.lang import Double
from java.text import DecimalFormatSymbols
from java.util import Locale

COLUMNS = ["label", "area", "centroid_y", "centroid_x", "class", "mean_intensity"]


def decimal_mark():
    return DecimalFormatSymbols.getInstance(Locale.getDefault()).getDecimalSeparator()


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
