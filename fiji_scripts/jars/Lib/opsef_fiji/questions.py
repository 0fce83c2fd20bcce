"""Answer Questions: what is right at places where the leading variants disagree."""
from ij import IJ

from opsef_fiji import answers, comparison, images, session
from opsef_fiji.dialogs import Form, Progress, option
from opsef_fiji.object_commands import sweeps_of
from opsef_fiji.trouble import Trouble
from opsef_fiji.waiting import wait_for

TITLE = answers.TITLE
NEWEST = "(newest)"
MOST = 100
WORDS = {answers.RIGHT: "right", answers.DRAWN: "drawn anew", answers.NOTHING: "nothing here"}


class Round(object):
    """Some questions: which is asked now, and what was said of each."""

    def __init__(self, questions):
        self.questions = list(questions)
        self.at = 0
        self.said = {}

    def question(self):
        return self.questions[self.at]

    def is_over(self):
        return self.at >= len(self.questions)

    def say(self, answer):
        self.said[self.at] = answer
        self.at += 1

    def skip(self):
        self.at += 1

    def back(self):
        """Go to the question before; return False at the first one."""
        if self.at == 0:
            return False
        self.at -= 1
        return True

    def unsay(self, given):
        """Take back what the service refused."""
        for number, one in enumerate(self.questions):
            if all(one[name] == given[name] for name in answers.PLACE):
                self.said.pop(number, None)

    def counted(self):
        """Return in words how many were answered, and how."""
        ways = [self.said.values().count(answer) for answer in sorted(WORDS)]
        words = ["%d %s" % (count, WORDS[answer])
                 for count, answer in zip(ways, sorted(WORDS)) if count]
        return "%d of %d answered%s" % (
            len(self.said), len(self.questions), ": " + ", ".join(words) if words else "")


def answer_questions():
    source = session.source()
    if option("answer"):
        answer_one(source)
        return
    runs, groups, shown = choices(source)
    form = Form(TITLE)
    form.say("Each question shows one outline in its image. One key answers it:\n"
             "y right    n nothing here    d draw the right one    s skip    b back    Esc stop")
    form.choice("Run", [NEWEST] + runs[::-1], shown)
    if len(groups) > 1:
        form.choice("Group", groups)
    form.number("Questions (how many)", 5)
    values = form.ask()
    run, group, count = values[0], values[1] if len(groups) > 1 else None, values[-1]
    if not 1 <= count <= MOST or count != int(count):
        raise Trouble("%s is no number of questions." % count, "Ask for 1 to %d." % MOST)
    begin(source, runs[-1] if run == NEWEST else run, group, int(count))


def choices(source):
    """Return the sweeps, the groups of the one that is looked at, and that one."""
    runs = sweeps_of(source)
    if not runs:
        raise Trouble("There is no sweep yet.", "Run Sweep makes one.")
    window = images.current() if images.has_image() else None
    open_one = comparison.of_window(window) if window is not None else None
    shown = open_one.run if open_one is not None and open_one.run in runs else NEWEST
    rows = comparison.rows_of(source.run(runs[-1] if shown == NEWEST else shown))
    return runs, sorted(set(row.get("group") or "" for row in rows) - set([""])), shown


def begin(source, run, group, count):
    from opsef_fiji.question_window import Asking

    project = source.project_key()
    found = asked(source, run, group, count)
    if found is None:
        return
    if not found:
        say_none(source, run, project)
        return
    Asking(source, Round(found), run, project).begin()


def say_none(source, run, project):
    """Nothing is to be asked; send what is kept from before all the same."""
    for given in answers.kept(project):
        _, _, trouble = answers.deliver(source, given)
        if trouble is not None:
            raise trouble
    IJ.showMessage("OpSeF", "There is no place left in %s where the leading variants disagree "
                   "and nothing is said yet." % run)


def asked(source, run, group, count):
    """Return the questions; None where somebody has to choose them first (a folder alone)."""
    if source.online:
        job = source.ask_questions(count, group, run)
        done = wait_for(source, job, Progress(TITLE))
        return (done.get("result") or {}).get("questions") or []
    result = source.newest_result("ask", lambda told: open_ones(source, told, run, group))
    if result is not None:
        return open_ones(source, result, run, group)[:count]
    job = source.ask_questions(count, group, run)
    IJ.showMessage("OpSeF", "The questions are not chosen yet: request %s waits in the inbox.\n"
                   "Choose Answer Questions again after `opsef inbox run`." % job)
    return None


def open_ones(source, result, run, group):
    """Return the questions of a result about a run that have no answer in the inbox."""
    plan = source.json("runs", run, "plan.json") or {}
    groups = dict((one["id"], one.get("group")) for one in plan.get("images") or [])
    said = [tuple(told.get(name) for name in answers.PLACE) for told in source.asked("answer")]
    return [one for one in result.get("questions") or []
            if one["run"] == run and group in (None, groups.get(one["image"]))
            and tuple(one[name] for name in answers.PLACE) not in said]


def answer_one(source):
    """What a key of an answer does, as it is recorded."""
    given = dict((name, option(name)) for name in answers.PLACE)
    given.update(answer=option("answer"), pixels=option("pixels"), request=None,
                 plane=int(option("plane") or 0))
    whole = all(given[name] for name in answers.PLACE) and given["label"].isdigit()
    if given["answer"] not in WORDS or not whole or (
            (given["answer"] == answers.DRAWN) != bool(given["pixels"])):
        raise Trouble("This is no answer: %s." % " ".join(
            "%s=%s" % (name, given[name]) for name in ("answer",) + answers.PLACE),
            "Write answer=right (or nothing; or drawn with pixels=[...]) image=... run=... "
            "variant=v0001 label=1.")
    said = answers.send(source, dict(given, label=int(given["label"])))
    IJ.showStatus("OpSeF: " + status_of(said))


def status_of(said):
    """Return in one line what an answer has done."""
    if said.get("first"):
        return "%d answers; %s comes first now." % (said.get("answers") or 0, said["first"])
    return " ".join(said.get("said") or said.get("words") or ["It is noted down."])
