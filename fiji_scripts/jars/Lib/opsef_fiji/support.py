"""Support of objects: how well the other variants stand behind each, as colours of outlines."""
from java.awt import Color, Frame, GridLayout, Label
from java.awt.event import WindowAdapter

from opsef_fiji.reasons import wrapped
from opsef_fiji.trouble import Trouble
from opsef_fiji.waiting import wait_for

UNKNOWN = Color(190, 190, 190)
"""Of objects that are not as the variant has them: nothing is known of their support."""
WAITS = ("The request waits in the inbox of the project. `opsef inbox run` on the workstation "
         "does it; then try again.")


class Support(object):
    """What a review says of one image: support by object, classes, places to work on.

    result: of a job of the kind `review`.
    """

    def __init__(self, result):
        self.image, self.run = result.get("image"), result["run"]
        self.variant = result["variant"]
        self.of = dict((int(label), float(support)) for label, support in result["support"])
        self.classes = [(float(one["from"]), float(one["to"]), Color.decode(one["colour"]))
                        for one in result["classes"]]
        self.work = result["work"]
        self.left = result.get("left") or {}
        self.words = result.get("words") or []

    def class_of(self, label):
        """Return the number of the class of an object, None where nothing is known of it."""
        value = self.of.get(label)
        if value is None:
            return None
        for number, (_, end, _) in enumerate(self.classes):
            if value < end:
                return number
        return len(self.classes) - 1

    def colour_of(self, label):
        number = self.class_of(label)
        return UNKNOWN if number is None else self.classes[number][2]

    def counts(self, labels):
        """Return how many of some objects are of each class, those not known last."""
        found = [0] * (len(self.classes) + 1)
        for label in labels:
            number = self.class_of(label)
            found[-1 if number is None else number] += 1
        return found

    def told(self):
        """Return in one line how much is to be looked at."""
        return "%s: %d doubtful objects, %d that others found and it lacks." % (
            self.variant, self.left.get("doubtful") or 0, self.left.get("missing") or 0)


def review(source, show, image=None, variant=None, run=None, group=None, count=None):
    """Return the result of a review; of a folder alone the newest that is done.

    count: places that are asked for, if not as many as the service likes.
    """
    values = dict(image=image, variant=variant, run=run, group=group)
    if source.online:
        done = wait_for(source, source.review(count=count, **values), show)
        return done.get("result") or {}
    wanted = dict((name, value) for name, value in values.items() if value)
    found = source.newest_result("review", lambda told: all(
        told.get(name) == value or (name == "variant" and told.get("slug") == value)
        for name, value in wanted.items()))
    if found is None:
        source.review(count=count, **values)
        raise Trouble("The support of these objects is not known yet.", WAITS)
    return found


def order_of(jobs, run):
    """Return {image: its row} of the newest review of a run among jobs, {} where none is done."""
    done = [job["result"] for job in sorted(jobs, key=lambda job: job.get("at") or "")
            if job.get("kind") == "review" and job.get("state") == "done" and job.get("result")
            and job["result"].get("run") == run]
    found = {}
    for result in done:  # of each group the newest
        found.update((row["image"], row) for row in result.get("images") or [])
    return found


class Key(object):
    """A small window with the classes of support, their colours and counts."""

    def __init__(self, support, counts, window, closed):
        self.frame = Frame("Support of %s" % support.variant)
        words = ["%.1f to %.1f" % one[:2] for one in support.classes] + ["changed, or not known"]
        colours = [one[2] for one in support.classes] + [UNKNOWN]
        self.words, self.labels = words, []
        notes = [line for said in support.words for line in wrapped(said, 60).split("\n")]
        self.frame.setLayout(GridLayout(len(words) + len(notes) + 1, 1))
        self.frame.add(Label("Support by other variants: bright is doubtful"))
        for colour in colours:
            label = Label("")
            label.setBackground(colour)
            bright = colour.getRed() * 3 + colour.getGreen() * 6 + colour.getBlue() > 1200
            label.setForeground(Color.black if bright else Color.white)
            self.labels.append(label)
            self.frame.add(label)
        for line in notes:
            self.frame.add(Label(line))
        self.count(counts)
        self.frame.pack()
        self.frame.setSize(max(230, self.frame.getWidth()), self.frame.getHeight())
        if window is not None:
            self.frame.setLocation(window.getX() + window.getWidth() + 4, window.getY())
        self.frame.setFocusableWindowState(False)
        self.frame.addWindowListener(Gone(closed))
        self.frame.setVisible(True)

    def count(self, counts):
        for label, words, count in zip(self.labels, self.words, counts):
            label.setText(" %s: %d" % (words, count))

    def close(self):
        self.frame.dispose()


class Gone(WindowAdapter):
    def __init__(self, closed):
        self.closed = closed

    def windowClosing(self, event):
        self.closed()
