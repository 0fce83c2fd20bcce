"""The commands on objects: comparison, edit, classify, save back."""
from ij import IJ
from ij.text import TextWindow

from opsef_fiji import comparison, editing, images, rois, session
from opsef_fiji.commands import NEWEST
from opsef_fiji.dialogs import Form, Progress
from opsef_fiji.trouble import Stale, Trouble

START = "start"
ACTIONS = [START, "delete", "merge", "split", "add", "undo", "select", "stop"]
WHOLE, BOX, TOUCHED, NOTHING = (
    "the whole image", "this box (the selection)", "only what I touched", "nothing")
STOP = "stop and show them"
RESOLVE = {STOP: None, "take mine": "ours", "take theirs": "theirs"}
OVERLAY = "the overlay of this image"


def open_comparison():
    source = session.source()
    runs = [one["id"] if isinstance(one, dict) else one for one in source.runs()
            if not isinstance(one, dict) or one.get("purpose", "sweep") == "sweep"]
    if not runs:
        raise Trouble("There is no sweep yet.", "Run Sweep makes one.")
    names = ids_of(source.images())
    form = Form("Open Comparison")
    form.choice("Run", [NEWEST] + runs[::-1])
    form.choice("Image", names)
    form.say("Keys in the window:\n" + comparison.KEYS)
    run, name = form.ask()
    run = runs[-1] if run == NEWEST else run
    have = [one["id"] if isinstance(one, dict) else one
            for one in source.run(run).get("images", [])
            if not isinstance(one, dict) or one.get("compare", True)]
    if name not in have:
        raise Trouble("%s has no comparison of %s." % (run, name),
                      "It has: %s" % (", ".join(have) or "none yet"))
    title = "%s %s" % (run, name)
    image = comparison.open_comparison(
        source.compare_stream(run, name), title, Progress("Open Comparison"))
    comparison.Comparison(image, source, run, name).listen()


def ids_of(found):
    return [one["id"] if isinstance(one, dict) else one for one in found] or ["(none)"]


def edit_objects():
    shown = images.current() if images.has_image() else None
    work = editing.session_of(shown) if shown is not None else None
    form = Form("Edit Objects")
    form.say("Keys in the window:\n" + editing.KEYS)
    form.choice("Action", ACTIONS)
    form.text("Objects (ids; empty: those selected)", "")
    if work is None:
        open_one = comparison.of_window(shown) if shown is not None else None
        add_where(form, shown, open_one)
    else:
        form.say("This window is being edited: %d objects." % len(work.model.things))
    answers = form.ask()
    action, keys = answers[0], numbers(answers[1])
    if work is None and action == START:
        work = begin(shown, *answers[2:])
    if work is None:
        raise Trouble("The objects of this window are not being edited.", "Choose start first.")
    if action == "stop":
        work.stop()
    elif action == START:
        work.listen()
    else:
        work.do(action, keys)


def add_where(form, shown, open_one):
    """Ask which image to edit, and what of it."""
    choices = []
    if shown is not None and open_one is None:
        choices.append(OVERLAY)
    try:
        choices += ids_of(session.source().images())
    except Trouble:
        if not choices:
            raise
    form.choice("Image", choices, open_one.name if open_one else None)
    base = "%s/%s" % (open_one.run, comparison.variant_of(shown)) if open_one else ""
    form.text("From (empty: newest; r0001 or run-0001/v0001)", base)


def begin(shown, name, base):
    """Open an image of the project with its objects, or begin on what the window shows."""
    if name == OVERLAY:
        if shown is None:
            raise Trouble("No image is open.", "Open one, or name an image of the project.")
        return editing.start(shown, rois.rois_of_overlay(shown))
    source = session.source()
    show = Progress("Edit Objects")
    data, etag = source.objects(name, base.strip() or None)
    image = images.open_stream(source.image_stream(name), name, show)
    show.done()
    if image.getNChannels() > 1 and image.getNSlices() == 1 and image.getNFrames() == 1:
        image.setDimensions(1, image.getStackSize(), 1)
    image.show()
    images.link(image, project=source.project, place=source.place, image=name, etag=etag)
    classes = source.about().get("classes") or {}
    rois.set_groups(classes)
    return editing.start(image, rois.decode(data) if len(data) else [], classes)


def numbers(text):
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise Trouble("%s are no ids of objects." % text, "Give numbers: 12 15.")


def classify_objects():
    shown = images.current()
    work = editing.session_of(shown)
    if work is None:
        found = rois.rois_of_overlay(shown)
        if not found:
            raise Trouble("This window shows no objects.", "Edit Objects opens some.")
        work = editing.start(shown, found)
    form = Form("Classify Objects")
    form.say("A click gives an object the class; keys 0 to 9 choose another, u undoes.\n"
             "With ids below, only these get it, at once.")
    form.number("Class (0: none)", 1)
    form.text("Objects (ids; empty: by clicks)", "")
    group, keys = form.ask()
    if not 0 <= int(group) <= 255 or group != int(group):
        raise Trouble("%s is no class." % group, "Classes are 1 to 255; 0 is none.")
    if keys.strip():
        work.do("classify", numbers(keys), int(group))
        return
    from opsef_fiji.legend import Legend

    if work.legend is None:
        work.legend = Legend(work)
    work.listen(int(group))


def save_back():
    image = images.current()
    work = editing.session_of(image)
    name = images.linked(image, "image")
    if work is None or not name:
        raise Trouble(
            "This window does not show an image of the project.",
            "Open one with Edit Objects; or make a project of it with New Project.")
    form = Form("Save Back")
    form.say("%s: %d objects, %d changed.\nWhat did you check? It is kept as truth." % (
        name, len(work.model.things), len(work.model.touched())))
    form.choice("Checked", [WHOLE, BOX, TOUCHED, NOTHING], session.recall("checked", TOUCHED))
    form.choice("Conflicts (others changed the same)", [STOP, "take mine", "take theirs"])
    checked, conflicts = form.ask()
    if conflicts not in RESOLVE:
        raise Trouble("%s is no answer." % conflicts, "Choose of " + ", ".join(RESOLVE))
    truth = scope_of(checked, image)
    session.remember(checked=checked)
    source = session.source()
    if (images.linked(image, "project") != source.project
            or images.linked(image, "place") != source.place):
        raise Trouble("This image is of project %s." % images.linked(image, "project"),
                      "Choose that project with Connect, then save.")
    # What is edited while the answer is awaited would be lost: the objects come anew then.
    listening, brush = work.ears is not None, work.brush
    work.stop()
    try:
        data, count = rois.pack(work.model)
        if not count:
            data = data[0:0]
        etag = images.linked(image, "etag")
        said = source.save(name, data, count, etag, truth, RESOLVE[conflicts])
        images.link(image, etag=said.get("base") or etag)
    except Stale as stale:
        go_on(work, listening, brush)
        show_report(name, stale)
        raise
    except:  # whatever it is, also of Java: the edits stay, and can be gone on with
        go_on(work, listening, brush)
        raise
    image.changes = False
    saved(image, work, source, name, said, listening, brush)


def go_on(work, listening, brush):
    """Take keys and clicks again as before."""
    if listening:
        work.listen(brush)
        if brush is not None:
            from opsef_fiji.legend import Legend

            work.legend = Legend(work)


def scope_of(checked, image):
    if checked == BOX:
        box = images.box_of_selection(image)
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
        work = editing.start(image, rois.decode(data) if len(data) else [], work.names)
        go_on(work, listening, brush)
        words = "%s %s. %s" % ("saved as" if said.get("new") else "nothing new since",
                               said["revision"], words)
    else:
        go_on(work, listening, brush)
    IJ.log("OpSeF: %s: %s" % (name, words))
    IJ.showStatus("OpSeF: " + words)


def show_report(name, stale):
    """Show who changed what, side by side."""
    report = stale.report or {}
    lines = []
    for conflict in report.get("conflicts") or []:
        lines.append(u"%s\t%s\t%s\t%s" % (
            conflict.get("id", ""), conflict.get("base", ""), conflict.get("theirs", ""),
            conflict.get("ours", "")))
    sides = []
    for side in ("base", "theirs", "ours"):
        told = report.get(side)
        if isinstance(told, dict):
            told = u" ".join(u"%s" % told[key] for key in
                             ("revision", "author", "at", "changes", "summary") if told.get(key))
        sides.append(u"%s" % (told or ""))
    lines.append(u"\t%s\t%s\t%s" % tuple(sides))
    TextWindow("Not saved: %s was changed meanwhile" % name,
               "object\tbefore\ttheirs\tyours", "\n".join(lines), 800, 300)
