"""Answers to questions: one after the other to the service, and kept until they arrived."""
import json

from ij.io import RoiEncoder
from java.lang import Runnable, Thread
from java.util.concurrent import LinkedBlockingQueue

from opsef_fiji import rois, session, zips
from opsef_fiji.asking import new_id
from opsef_fiji.dialogs import guarded
from opsef_fiji.pixels import runs_in, text_of
from opsef_fiji.trouble import Cancelled, NoConnection, Trouble

TITLE = "Answer Questions"
RIGHT, DRAWN, NOTHING = "right", "drawn", "nothing"
PLACE = ("image", "run", "variant", "label")
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
    session.remember(unsent=json.dumps(kept() + [dict(given, project=project)]))


def forget(given):
    left = [one for one in kept() if one["request"] != given["request"]]
    session.remember(unsent=json.dumps(left))


class Post(Runnable):
    """Sends answers in the order in which they were given, beside the thread of the windows.

    told: called with (given, what the service said or None, trouble or None).
    """

    def __init__(self, source, project, told):
        self.source, self.project, self.told = source, project, told
        self.waiting = LinkedBlockingQueue()
        thread = Thread(self, "OpSeF answers")
        thread.setDaemon(True)
        thread.start()

    def give(self, given):
        """Keep an answer, and send it and all that is kept still."""
        keep(given, self.project)
        self.then(self.send_all)

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
        for given in kept(self.project):
            try:
                said = send(self.source, given)
            except (NoConnection, Cancelled) as trouble:
                self.told(given, None, trouble)
                return
            except Trouble as trouble:
                forget(given)  # it would be refused again
                self.told(given, None, trouble)
                raise
            forget(given)
            self.told(given, said, None)

    def close(self):
        """End when all that waits is done."""
        self.then(None)
