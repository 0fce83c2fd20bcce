"""The objects that learned classes are least sure of, one after the other."""
from opsef_fiji import images
from opsef_fiji.outlines import zoom_to
from opsef_fiji.project_analysis import base_of, window_base
from opsef_fiji.trouble import Trouble

KEYS = "0 to 9: class  n: next  p: back"
AGAIN = "Choose Classify Objects, by learning from classes, again."


class Unsure(object):
    """The work list of a Session, as `worklist.WorkList` is one: n and p go through it.

    rows: what the service says of each object of this image. others: {image: how many}.
    """

    def __init__(self, work, rows, others):
        self.work, self.rows, self.others = work, rows, others
        self.at = -1

    def moved(self, work):
        """Return the list of another Session of the image, which was saved: where we were."""
        new = Unsure(work, self.rows, self.others)
        new.at = self.at
        return new

    def is_there(self, row):
        return int(row["label"]) in self.work.model.things

    def is_open(self, row):
        """Tell whether an object has no class still."""
        return self.is_there(row) and not self.work.model.thing(int(row["label"])).group

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
        work.tell("%d of %d: object %d, class %s? (%d %% of trees)  %s" % (
            self.at + 1, len(self.rows), label, work.names.get(str(group), group),
            round(100 * row["probability"]), KEYS))

    def over(self):
        """Say that the list of this image is at its end, and which image has more."""
        words = "Nothing uncertain is left here: Save Back."
        if self.others:
            name = most_of(self.others)
            words += " Next image: %s, with %d." % (name, self.others[name])
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


def begin(source, work, told=None):
    """Go through the uncertain objects of a window: of a result, or of the newest there is."""
    name = images.linked(work.image, "image")
    if not name:
        raise Trouble("This window shows no image of the project.", "Edit Objects opens one.")
    asked = told is None
    if asked and isinstance(work.work_list, Unsure):
        work.listen()
        work.next()
        return
    told = newest(source) if asked else told
    rows = [row for row in told["uncertain"] if row["image"] == name]
    if not rows and not asked:
        work.tell(where_next(told["uncertain"]))
        return
    if not rows:
        raise Trouble("None of the %d least certain objects is in this image." % len(
            told["uncertain"]), where_next(told["uncertain"]) or AGAIN)
    made = [one["revision"] for one in told["images"] if one["image"] == name]
    if window_base(work.image) not in [base_of(rows[0])] + made:
        if asked:
            raise Trouble("The list is of %s; this window shows %s." % (
                base_of(rows[0]), window_base(work.image)), AGAIN)
        work.tell("The list of uncertain objects is of %s: Edit Objects, From, opens it." %
                  base_of(rows[0]))
        return
    others = counted(row for row in told["uncertain"] if row["image"] != name)
    work.work_list = Unsure(work, rows, others)
    work.listen()
    work.next()


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


def where_next(rows):
    counts = counted(rows)
    if not counts:
        return ""
    name = most_of(counts)
    return "Most are in %s (%d): Edit Objects opens it." % (name, counts[name])
