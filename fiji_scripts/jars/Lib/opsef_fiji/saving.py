"""Save Back: send the objects of a window, once, and go on from what became of them."""
from ij import IJ

from opsef_fiji import correcting, editing, images, rois, session
from opsef_fiji.asking import new_id
from opsef_fiji.client import digest_of_bytes
from opsef_fiji.dialogs import Form, Progress
from opsef_fiji.trouble import Cancelled, NoConnection, Stale, Trouble

WHOLE, BOX, TOUCHED, NOTHING = (
    "the whole image", "this box (the selection)", "only what I touched", "nothing")
STOP, MINE, THEIRS = "stop and show them", "take mine", "take theirs"
RESOLVE = {STOP: None, MINE: "ours", THEIRS: "theirs"}
GONE = ("Its window was closed meanwhile. What did not arrive went with it; Edit Objects shows "
        "what is saved.")
STAY = ("Your edits are still in this window. Save Back asks again; if they did arrive, they are "
        "not saved twice.")
CHOOSE = ("Nothing was saved, your edits are still in this window. The table shows each object "
          "that both changed: a click on its row outlines it. Take mine or Take theirs decides.")


def save_back():
    image = images.current()
    work = editing.session_of(image)
    name = images.linked(image, "image")
    if work is None or not name:
        raise Trouble(
            "This window does not show an image of the project.",
            "Open one with Edit Objects; or make a project of it with New Project.")
    work.fits()
    form = Form("Save Back")
    form.say("%s: %d objects, %d changed.\nWhat did you check? It is kept as truth." % (
        name, len(work.model.things), len(work.model.touched())))
    usual = BOX if correcting.marked(image) else session.recall("checked", TOUCHED)
    form.choice("Checked", [WHOLE, BOX, TOUCHED, NOTHING], usual)
    form.choice("Conflicts (others changed the same)", [STOP, MINE, THEIRS])
    checked, conflicts = form.ask()
    if conflicts not in RESOLVE:
        raise Trouble("%s is no answer." % conflicts, "Choose of " + ", ".join(RESOLVE))
    truth = scope_of(checked, image)
    session.remember(checked=checked)
    send(image, work, truth, conflicts, checked)


def send(image, work, truth, conflicts, checked):
    """Save the objects of a window; where others changed the same, show who did what."""
    name, source = images.linked(image, "image"), session.source()
    images.check_place(image, source, name)
    work.fits()
    # What is edited while the answer is awaited would be lost: the objects come anew then.
    listening, brush = work.ears is not None, work.brush
    work.stop()
    show = Progress("Save Back")
    shown = is_shown(image)

    def step(words):
        return GONE if shown and not is_shown(image) else words

    try:
        data, count = rois.pack(work.model)
        if not count:
            data = data[0:0]
        etag = images.linked(image, "etag")
        request = same_request(work, data, etag, truth, conflicts)
        said = source.save(name, data, count, etag, truth, RESOLVE[conflicts], show, request)
        work.asked = None
        images.link(image, etag=said.get("base") or etag)
    except (NoConnection, Cancelled) as trouble:
        show.done()
        go_on(work, listening, brush)
        why = getattr(trouble, "message", "") or "You stopped it."
        raise NoConnection("No answer came, so it is not known whether it is saved. %s" % why,
                           step(STAY))
    except Stale as stale:
        work.asked = None
        go_on(work, listening, brush)
        if step(CHOOSE) == CHOOSE:
            from opsef_fiji.conflicts import Conflicts

            Conflicts(image, work, source, name, stale.report, truth, checked)
        raise Stale(stale.message, step(CHOOSE), stale.report)
    except:  # whatever it is, also of Java: the edits stay, and can be gone on with
        work.asked = None
        go_on(work, listening, brush)
        raise
    image.changes = False
    if shown and not is_shown(image):
        IJ.log("OpSeF: %s: saved; its window was closed meanwhile" % name)
        return
    saved(image, work, source, name, said, listening, brush)


def is_shown(image):
    return image.getWindow() is not None


def same_request(work, data, *more):
    """Return the id of the request: as before, where this very thing was asked without answer."""
    what = (digest_of_bytes(data),) + more
    asked = getattr(work, "asked", None)
    if not asked or asked[0] != what:
        work.asked = asked = (what, new_id())
    return asked[1]


def go_on(work, listening, brush):
    """Take keys and clicks again as before, unless the window was closed meanwhile."""
    if listening and is_shown(work.image):
        work.listen(brush)
        if brush is not None:
            from opsef_fiji.legend import Legend

            work.legend = Legend(work)


def scope_of(checked, image):
    if checked == BOX:
        box = images.box_of_selection(image) or correcting.marked(image)
        if box is None:
            raise Trouble("There is no selection.", "Draw a box around what you checked.")
        return "%d,%d,%d,%d" % (box[1], box[0], box[3], box[2])
    scopes = {WHOLE: "whole", TOUCHED: "touched", NOTHING: None}
    if checked not in scopes:
        raise Trouble("%s is no answer." % checked, "Choose what was checked.")
    return scopes[checked]


def saved(image, work, source, name, said, listening, brush):
    """Go on from the new revision: its ids are the service's from now on."""
    words = " ".join(said.get("said") or [])
    if said.get("revision"):
        try:
            data, etag = source.objects(name, said["revision"])
        except:  # it is saved; only what others did is not shown yet
            go_on(work, listening, brush)
            raise
        images.link(image, etag=etag)
        image.deleteRoi()
        old = work
        work = editing.start(image, rois.decode(data) if len(data) else [], work.names)
        if old.work_list is not None:
            work.work_list = old.work_list.moved(work)
        go_on(work, listening, brush)
        words = "%s %s. %s" % ("saved as" if said.get("new") else "nothing new since",
                               said["revision"], words)
    else:
        go_on(work, listening, brush)
    IJ.log("OpSeF: %s: %s" % (name, words))
    IJ.showStatus("OpSeF: " + words)
