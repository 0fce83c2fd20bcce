"""Answers to questions: one after the other to the service, and kept until they arrived."""
import json

from ij.io import RoiEncoder
from java.lang import Runnable, Thread
from java.util.concurrent import LinkedBlockingQueue
from java.util.concurrent.locks import ReentrantLock

from opsef_fiji import rois, session, zips
from opsef_fiji.asking import new_id
from opsef_fiji.dialogs import guarded
from opsef_fiji.pixels import runs_in, text_of
from opsef_fiji.trouble import Cancelled, NoConnection, Trouble

TITLE = "Answer Questions"
RIGHT, DRAWN, NOTHING = "right", "drawn", "nothing"
PLACE = ("image", "run", "variant", "label")
FINAL = (404, 412, 422)
"""Statuses of a refusal that stays one. Any other passes: a new invitation, a lock, a full disk."""
LOCK = ReentrantLock()
"""What is kept is read, changed and written by one thread at a time."""
KEPT = "They are kept on this computer; Answer Questions sends them when there is a connection."


def given_of(question, answer, runs=(), plane=0):
    """Return an answer as it is kept. plane: from 1, of a volume; else 0."""
    given = dict((name, question[name]) for name in PLACE)
    return dict(given, answer=answer, pixels=text_of(runs), plane=plane, request=new_id())


def zip_of(given):
    """Return the zip of the one ROI that was drawn, None where nothing was."""
    if not given.get("pixels"):
        return None
    roi, plane = rois.trace(runs_in(given["pixels"])), given.get("plane") or 0
    if plane:
        roi.setPosition(plane)
    name = "0001-%04d" % plane if plane else "0001"
    roi.setName(name)
    return zips.pack([(name, RoiEncoder.saveAsByteArray(roi))])


def send(source, given):
    """Send one answer; return what the service says of it."""
    told = dict((name, given[name]) for name in PLACE + ("answer",))
    return source.answer(told, zip_of(given), given.get("request"))


def kept(project=None):
    """Return the answers that did not arrive: all, or those of a project by its key."""
    try:
        found = json.loads(session.recall("unsent") or "[]")
    except ValueError:
        found = []
    return [one for one in found if project is None or one.get("project") == project]


def keep(given, project):
    put(given["request"], [dict(given, project=project)])


def forget(given):
    put(given["request"], [])


def put(request, instead):
    """Put answers in the place of the one with this id, at the end where there is none."""
    LOCK.lock()
    try:
        found = kept()
        at = ([one["request"] for one in found] + [request]).index(request)
        session.remember(unsent=json.dumps(found[:at] + instead + found[at + 1:]))
    finally:
        LOCK.unlock()


def deliver(source, given):
    """Send one answer that is kept; return (the answer, what the service said, trouble).

    It is kept on after a refusal that passes, by a new id: of the old one the service would
    only tell its refusal again.
    """
    try:
        said = send(source, given)
    except (NoConnection, Cancelled) as trouble:
        return given, None, trouble
    except Trouble as trouble:
        if trouble.status in FINAL:
            forget(given)
            return given, None, trouble
        renewed = dict(given, request=new_id())
        put(given["request"], [renewed])
        return renewed, None, trouble
    forget(given)
    return given, said, None


class Post(Runnable):
    """Sends answers in the order in which they were given, beside the thread of the windows.

    told: called with (given, what the service said or None, trouble or None).
    """

    def __init__(self, source, project, told):
        self.source, self.project, self.told = source, project, told
        self.given = []  # here and not sent yet, whatever becomes of the preferences
        self.waiting = LinkedBlockingQueue()
        thread = Thread(self, "OpSeF answers")
        thread.setDaemon(True)
        thread.start()

    def give(self, given):
        """Keep an answer, and send it and all that is kept still."""
        LOCK.lock()
        try:
            self.given.append(given)
            keep(given, self.project)
        finally:
            LOCK.unlock()
        self.then(self.send_all)

    def left(self):
        """Return what is to be sent still; what was given here and is kept no more is again."""
        LOCK.lock()
        try:
            ids = [one["request"] for one in kept(self.project)]
            for one in self.given:
                if one["request"] not in ids:
                    keep(one, self.project)
            return kept(self.project)
        finally:
            LOCK.unlock()

    def settle(self, given, still=None):
        """Note down that an answer is not to be sent any more, or as another one."""
        LOCK.lock()
        try:
            self.given = [one for one in self.given if one["request"] != given["request"]]
            if still is not None:
                self.given.append(still)
        finally:
            LOCK.unlock()

    def then(self, action, *arguments):
        """Do something after all that is to be sent by now."""
        self.waiting.put((action, arguments))

    def run(self):
        while True:
            action, arguments = self.waiting.take()
            if action is None:
                return
            guarded(TITLE, action, *arguments)

    def send_all(self):
        """Send what is left, up to where no answer comes; raise the first refusal that stays."""
        final = []
        for given in self.left():
            now, said, trouble = deliver(self.source, given)
            if isinstance(trouble, (NoConnection, Cancelled)):
                self.told(now, said, trouble)
                break
            passes = trouble is not None and trouble.status not in FINAL
            self.settle(given, now if passes else None)
            self.told(now, said, trouble)
            if trouble is not None and not passes:
                final.append(trouble)
        if final:
            raise final[0]

    def close(self):
        """End when all that waits is done."""
        self.then(None)
