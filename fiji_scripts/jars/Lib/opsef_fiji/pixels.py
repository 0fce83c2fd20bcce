"""Sets of pixels as runs: (row, first column, column after the last), sorted.

Everything costs as much as the object is large, never as much as the image is.
"""
from opsef_fiji.trouble import Trouble


def runs_of(raster, width, value, box):
    """Return the runs of the pixels that have a value, within (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    runs = []
    for y in range(y0, y1):
        row = raster[y * width + x0:y * width + x1]
        start = -1
        x = x0
        for pixel in row:
            if pixel == value:
                if start < 0:
                    start = x
            elif start >= 0:
                runs.append((y, start, x))
                start = -1
            x += 1
        if start >= 0:
            runs.append((y, start, x1))
    return runs


def runs_of_loops(loops):
    """Return the runs of the pixels inside loops of corners (x, y) along pixel edges.

    Holes and further parts are loops of their own, as the service tells outlines.
    """
    crossed = {}
    for loop in loops:
        for (x, y0), (_, y1) in zip(loop, loop[1:] + loop[:1]):
            for y in range(min(y0, y1), max(y0, y1)):
                crossed.setdefault(y, []).append(x)
    found = []
    for y in sorted(crossed):
        xs = sorted(crossed[y])
        found += [(y, xs[k], xs[k + 1]) for k in range(0, len(xs), 2) if xs[k] < xs[k + 1]]
    return found


def clipped(runs, width, height):
    """Return the part of runs that lies in an image."""
    return [(y, max(0, start), min(width, end)) for y, start, end in runs
            if 0 <= y < height and start < width and end > 0 and max(0, start) < min(width, end)]


def share(one, two):
    """Tell whether two sets of runs have a pixel in common."""
    rows = by_row(one)
    return any(start < other[1] and other[0] < end
               for y, start, end in two for other in rows.get(y, ()))


def area_of(runs):
    return sum(end - start for _, start, end in runs)


def box_of(runs):
    """Return (x0, y0, x1, y1), ends not included."""
    return (min(run[1] for run in runs), runs[0][0], max(run[2] for run in runs), runs[-1][0] + 1)


def centre_of(runs):
    """Return the mean column and row of the pixels."""
    area = float(area_of(runs))
    x = sum((start + end - 1) * (end - start) / 2.0 for _, start, end in runs) / area
    y = sum(row * (end - start) for row, start, end in runs) / area
    return x, y


def by_row(runs, mark=None):
    """Return the runs by row: {row: [(first, after the last, mark)]}."""
    rows = {}
    for y, start, end in runs:
        rows.setdefault(y, []).append((start, end, mark))
    return rows


def components(runs):
    """Part runs into sets that touch, also at corners (as ImageJ counts)."""
    parent = list(range(len(runs)))

    def root(k):
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    before, now, row = [], [], None
    for k, (y, start, end) in enumerate(runs):
        if y != row:
            before = now if row is not None and y == row + 1 else []
            now, row = [], y
        now.append(k)
        for other in before:
            if runs[other][1] <= end and start <= runs[other][2]:
                parent[root(other)] = root(k)
    found = {}
    for k, run in enumerate(runs):
        found.setdefault(root(k), []).append(run)
    return sorted(found.values())


def line_pixels(points):
    """Return the pixels (x, y) of a path; each shares an edge with the next.

    So nothing gets through between two of them, not even at a corner.
    """
    x, y = [int(v) for v in points[0]]
    pixels = [(x, y)]
    for point in points[1:]:
        end_x, end_y = [int(v) for v in point]
        across, down = abs(end_x - x), abs(end_y - y)
        step_x = 1 if end_x > x else -1
        step_y = 1 if end_y > y else -1
        gone_x = gone_y = 0
        while gone_x < across or gone_y < down:
            # The axis that lags behind the straight line makes the next step.
            if (2 * gone_x + 1) * down < (2 * gone_y + 1) * across:
                x += step_x
                gone_x += 1
            else:
                y += step_y
                gone_y += 1
            pixels.append((x, y))
    return pixels


def without(runs, pixels):
    """Return the runs less some pixels."""
    gone = {}
    for x, y in pixels:
        gone.setdefault(y, set()).add(x)
    left = []
    for y, start, end in runs:
        for x in sorted(x for x in gone.get(y, ()) if start <= x < end):
            if x > start:
                left.append((y, start, x))
            start = x + 1
        if start < end:
            left.append((y, start, end))
    return left


def joined(*sets):
    """Return the runs of all pixels of some sets of runs."""
    runs = []
    for y, start, end in sorted(run for part in sets for run in part):
        if runs and runs[-1][0] == y and start <= runs[-1][2]:
            runs[-1] = (y, runs[-1][1], max(end, runs[-1][2]))
        else:
            runs.append((y, start, end))
    return runs


def split(runs, points):
    """Cut a set along a path; return the parts, the largest first.

    The pixels of the cut go to the parts beside it, so none is lost. Pieces that the path
    does not touch stay with the largest part. One part only: the path does not cut through.
    """
    path = line_pixels(points)
    rows = by_row(runs)
    cut = [(x, y) for x, y in path if any(a <= x < b for a, b, _ in rows.get(y, ()))]
    if not cut:
        return [runs]
    pieces = components(without(runs, cut))
    owner = {}
    for mark, piece in enumerate(pieces):
        for y, found in by_row(piece, mark).items():
            owner.setdefault(y, []).extend(found)

    def piece_at(x, y):
        for start, end, mark in owner.get(y, ()):
            if start <= x < end:
                return mark
        return None

    corners = ((0, -1), (-1, 0), (1, 0), (0, 1), (-1, -1), (1, -1), (-1, 1), (1, 1))
    beside = set(piece_at(x + right, y + down) for x, y in cut for right, down in corners)
    beside.discard(None)
    if len(beside) < 2:
        return [runs]
    given = {}
    waiting = sorted(set(cut))
    while waiting:
        later, now = [], {}
        for x, y in waiting:
            for right, down in corners:
                place = (x + right, y + down)
                mark = given.get(place)
                if mark is None:
                    mark = piece_at(*place)
                if mark is not None:
                    now[(x, y)] = mark
                    break
            else:
                later.append((x, y))
        if not now:  # a piece that the path covers whole
            now, later = dict((place, min(beside)) for place in later), []
        given.update(now)
        waiting = later
    parts = dict((mark, []) for mark in beside)
    for (x, y), mark in given.items():
        parts[mark].append((y, x, x + 1))
    whole = [joined(pieces[mark], parts[mark]) for mark in sorted(parts)]
    whole.sort(key=area_of, reverse=True)
    rest = [pieces[mark] for mark in range(len(pieces)) if mark not in parts]
    whole[0] = joined(whole[0], *rest)
    return whole


def text_of(runs):
    """Return runs as the Recorder writes them: row, first column, column after the last."""
    return " ".join("%d,%d,%d" % run for run in runs)


def path_of(text):
    """Return the points of a recorded line: "10,20 30,40"."""
    return numbers_of(text, 2)


def runs_in(text):
    """Return the runs of a recorded area: rows with first column and column after the last."""
    return numbers_of(text, 3)


def numbers_of(text, count):
    try:
        found = [tuple(int(part) for part in place.split(",")) for place in text.split()]
    except ValueError:
        found = [()]
    if any(len(place) != count for place in found):
        raise Trouble("These pixels cannot be understood: %s." % text[:60],
                      "Leave them out, and draw a selection.")
    return found
