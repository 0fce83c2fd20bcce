"""The objects that learned classes are least sure of, one after the other."""
from java.io import BufferedReader, IOException, InputStreamReader

from opsef_fiji import images
from opsef_fiji.dialogs import Progress
from opsef_fiji.outlines import zoom_to
from opsef_fiji.project_analysis import base_of, newest_of, window_base
from opsef_fiji.trouble import Cancelled, NoConnection, Trouble

TABLE = "tables/uncertain.csv"
"""All uncertain objects of the newest learning; a result tells the first ones only."""
WORDS = ["image", "run", "variant", "revision"]
COLUMNS = WORDS + ["label", "predicted_class", "probability"]
PAGE = 10000
"""Rows between two looks at Esc."""

KEYS = "0 to 9: class  n: next  p: back"
SHORT = "0-9 n p"
AGAIN = "Choose Classify Objects, by learning from classes, again."


class Unsure(object):
    """The work list of a Session, as `worklist.WorkList` is one: n and p go through it.

    rows: what the service says of each object of this image. others: {image: how many}.
    unlisted: how many there are besides, of images that nobody can say any more.
    been: images that were gone through before this one.
    """

    def __init__(self, work, rows, others, unlisted=0, been=()):
        self.work, self.rows, self.others, self.unlisted = work, rows, others, unlisted
        self.been = been
        self.at = -1

    def moved(self, work):
        """Return the list of another Session of the image, which was saved: where we were."""
        new = Unsure(work, self.rows, self.others, self.unlisted, self.been)
        new.at = self.at
        return new

    def is_there(self, row):
        return int(row["label"]) in self.work.model.things

    def is_open(self, row):
        """Tell whether an object has no class still."""
        return self.is_there(row) and not self.work.model.thing(int(row["label"])).group

    def left(self):
        """Return how many objects of this image have no class still."""
        return len([row for row in self.rows if self.is_open(row)])

    def step(self, by):
        """Go to the next object without a class; with -1 back, also to one that has got one."""
        wanted, at = self.is_open if by > 0 else self.is_there, self.at + by
        while 0 <= at < len(self.rows) and not wanted(self.rows[at]):
            at += by
        if not 0 <= at < len(self.rows):
            self.at = -1 if by > 0 else self.at
            self.work.tell("This is the first one." if by < 0 else self.over())
            return
        self.at = at
        self.show(self.rows[at])

    def show(self, row):
        work, label = self.work, int(row["label"])
        work.go_to(label)
        box = work.model.thing(label).boxes.get(work.plane())
        if box is not None:
            zoom_to(work.image, (box[1], box[0], box[3] - box[1], box[2] - box[0]))
        group = row["predicted_class"]
        # The status bar of ImageJ holds about 70 letters: what matters most comes first.
        work.tell("%d of %d, %s: object %d, class %s? %d %% of trees  %s" % (
            self.at + 1, len(self.rows), self.told_left(), label,
            work.names.get(str(group), group), round(100 * row["probability"]), SHORT))

    def told_left(self):
        words = "%d left" % self.left()
        elsewhere = sum(self.others.values()) + self.unlisted
        return words + (", %d elsewhere" % elsewhere if elsewhere else "")

    def over(self):
        """Say that the list of this image is at its end, and what is left."""
        left = self.left()
        words = "%d left here (n: again)." % left if left else "None is left here: Save Back."
        if self.others:
            name = most_of(self.others)
            words += " Next: %s (%d of %d)." % (
                name, self.others[name], sum(self.others.values()))
        if self.unlisted:
            words += " %d more: learn again." % self.unlisted
        return words

    # What the keys of the other work list do.

    def is_coloured(self):
        return False

    def colour(self, on):
        raise Trouble("These objects have the colours of their classes.",
                      "Edit Objects with a tick at Review shows support.")

    def add(self):
        raise Trouble("Nothing is missing in this list.", KEYS)

    def drawn(self):
        pass

    def close(self):
        pass


def begin(source, work, told=None, been=()):
    """Go through the uncertain objects of a window: of a result, or of the newest there is.

    Where a person asks for it and none is left in this image, the next image opens.
    """
    name = images.linked(work.image, "image")
    if not name:
        raise Trouble("This window shows no image of the project.", "Edit Objects opens one.")
    asked, old = told is None, work.work_list
    if asked and isinstance(old, Unsure):
        if old.left():
            work.listen()
            work.next()
            return
        been = old.been
    told = newest(source) if asked else told
    rows, others, unlisted = everything(source, told, name)
    for one in been:
        others.pop(one, None)
    if not rows and not asked:
        work.tell(where_next(others))
        return
    found = Unsure(work, rows, others, unlisted, been)
    if asked and not found.left():
        go_on(source, told, others, been + (name,))
        return
    made = [one["revision"] for one in told["images"] if one["image"] == name]
    if window_base(work.image) not in [base_of(rows[0])] + made:
        if asked:
            raise Trouble("The list is of %s; this window shows %s." % (
                base_of(rows[0]), window_base(work.image) or "what was never saved"), AGAIN)
        work.tell("The list of uncertain objects is of %s: Edit Objects, From, opens it." %
                  base_of(rows[0]))
        return
    work.work_list = found
    work.listen()
    work.next()


def go_on(source, told, others, been):
    """Open the image with the most uncertain objects that has some still, and begin there."""
    others = dict(others)
    while others:
        name = most_of(others)
        rows = everything(source, told, name)[0]
        work = opened(name, newest_of(source, name) or base_of(rows[0]))
        if Unsure(work, rows, {}).left():
            begin(source, work, None, been)
            return
        work.image.close()  # all of it got classes since
        been += (name,)
        del others[name]
    raise Trouble("Nothing uncertain is left in the images of this list.", AGAIN)


def opened(name, base):
    from opsef_fiji.object_commands import begin as begin_edits

    return begin_edits(None, name, base)


def everything(source, told, name):
    """Return (rows of an image, {other image: how many}, how many more) of a result.

    A result tells the first objects; the others are in the table, if it is of this result.
    """
    first = told["uncertain"]
    more = (told.get("uncertain_count") or 0) - len(first)
    if more > 0:
        found = read_table(source, first, name)
        if found is not None:
            return found + (0,)
    rows = [row for row in first if row["image"] == name]
    return rows, counted(row for row in first if row["image"] != name), max(more, 0)


def read_table(source, first, name):
    """Return (rows of an image, {other image: how many}); None where the table is another's."""
    try:
        stream = source.made_stream(TABLE)
    except NoConnection:
        raise
    except Trouble:  # somebody has removed it
        return None
    reader, show = BufferedReader(InputStreamReader(stream, "UTF-8")), Progress("Uncertain next")
    rows, others, count = [], {}, 0
    try:
        heading = reader.readLine() or u""
        mark = u";" if u";" in heading else u","
        names = heading.split(mark)
        if not set(COLUMNS) <= set(names):
            return None
        at = dict((column, names.index(column)) for column in COLUMNS)
        last = max(at.values()) + 1  # what follows may be quoted; these never are
        while True:
            line = reader.readLine()
            if line is None:
                break
            cells = line.split(mark, last)
            if count < len(first) and not same(first[count], cells, at):
                return None
            count += 1
            if cells[at["image"]] == name:
                rows.append(row_of(cells, at))
            else:
                others[cells[at["image"]]] = others.get(cells[at["image"]], 0) + 1
            if count % PAGE == 0:
                show.progress(0, 0, "%d objects read" % count)
                if show.escaped():
                    raise Cancelled()
    except IOException as error:
        raise NoConnection("The connection was cut: %s." % error.getMessage(), "Try again.")
    finally:
        reader.close()
        show.done()
    return (rows, others) if count >= len(first) else None


def same(row, cells, at):
    """Tell whether a row of a result is one of the table."""
    return number(cells[at["label"]]) == int(row["label"]) and all(
        cells[at[column]] == (row.get(column) or "") for column in WORDS)


def row_of(cells, at):
    """Return a row of the table as a result tells it."""
    row = dict((column, cells[at[column]] or None) for column in WORDS)
    row["label"] = number(cells[at["label"]])
    row["predicted_class"] = number(cells[at["predicted_class"]])
    row["probability"] = float(cells[at["probability"]].replace(u",", u"."))
    return row


def number(cell):
    return int(float(cell.replace(u",", u".")))


def newest(source):
    """Return the result of the newest learning."""
    done = [job for job in source.jobs() if job.get("kind") == "classify"
            and job.get("state") == "done" and (job.get("result") or {}).get("uncertain")]
    if not done:
        raise Trouble("Nothing was learned yet, or nothing is uncertain.",
                      "Give a few objects of two classes a class, Save Back, then choose "
                      "Classify Objects by learning from classes.")
    return max(done, key=lambda job: job.get("at") or "")["result"]


def counted(rows):
    found = {}
    for row in rows:
        found[row["image"]] = found.get(row["image"], 0) + 1
    return found


def most_of(counts):
    return sorted(counts, key=lambda name: (-counts[name], name))[0]


def where_next(counts):
    if not counts:
        return ""
    name = most_of(counts)
    return "Most are in %s (%d): Classify Objects, uncertain next." % (name, counts[name])
