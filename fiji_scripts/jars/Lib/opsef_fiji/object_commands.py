"""The commands on objects: comparison, edit, classify. Save Back: `saving`."""
from ij import IJ
from ij.text import TextWindow

from opsef_fiji import (
    classifying, comparison, editing, exchange, images, loading, rois, session, support)
from opsef_fiji.commands import NEWEST
from opsef_fiji.dialogs import Form, Progress, option, record_option
from opsef_fiji.trouble import Cancelled, Trouble

START, FIRST = "start", "which image first?"
ACTIONS = [START, "delete", "merge", "split", "add", "undo", "select", "stop",
           exchange.TO_MANAGER, exchange.FROM_MANAGER, exchange.ANNOTATORJ, FIRST]
OVERLAY = "the overlay of this image"
DOUBT = "  doubt "
VARIANTS, QUESTIONS = "the variants of an image", "questions (Answer Questions)"


def open_comparison():
    if option("beside"):
        beside()
        return
    if option("verdict"):
        judge()
        return
    source = session.source()
    runs = sweeps_of(source)
    if not runs:
        raise Trouble("There is no sweep yet.", "Run Sweep makes one.")
    names = ids_of(source.images())
    form = Form("Open Comparison")
    form.choice("Run", [NEWEST] + runs[::-1])
    form.choice("Image", names)
    form.choice("Show", [VARIANTS, QUESTIONS])
    form.say("Keys in the window:\n" + comparison.KEYS)
    run, name, show = form.ask()
    if show == QUESTIONS:
        IJ.doCommand("Answer Questions")
        return
    run = runs[-1] if run == NEWEST else run
    have = [one["id"] if isinstance(one, dict) else one
            for one in source.run(run).get("images", [])
            if not isinstance(one, dict) or one.get("compare", True)]
    if name not in have:
        raise Trouble("%s has no comparison of %s." % (run, name),
                      "It has: %s" % (", ".join(have) or "none yet"))
    title = "%s %s" % (run, name)
    image, loader = loading.open_comparison(source, run, name, title, Progress("Open Comparison"))
    comparison.Comparison(image, source, run, name, loader).listen()


def beside():
    """What the key b does, as it is recorded."""
    image = images.current()
    open_one = comparison.of_window(image)
    if open_one is None:
        raise Trouble("This window is not a comparison.", "Open one: Open Comparison.")
    open_one.beside(image)


def judge():
    """What the keys of verdicts do, as they are recorded."""
    verdict, variant, image, run = [
        option(name) for name in ("verdict", "variant", "image", "run")]
    if verdict not in comparison.VERDICTS.values() or not (variant and image and run):
        raise Trouble(
            "This is no verdict on a variant: %s %s %s %s." % (verdict, variant, image, run),
            "Write verdict=good (or over, under, missed) variant=v0001 image=... run=...")
    session.source().verdict(image, run, variant, verdict)
    IJ.showStatus("OpSeF: %s of %s is %s" % (variant, image, verdict))


def sweeps_of(source):
    """Return the ids of the sweeps, oldest first."""
    return [one["id"] if isinstance(one, dict) else one for one in source.runs()
            if not isinstance(one, dict) or one.get("purpose", "sweep") == "sweep"]


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
    if action == FIRST:
        show_order(session.source())
        return
    if work is None and (action == START or action in exchange.ACTIONS):
        work = begin(shown, name_in(answers[2]), answers[3])
    if work is None:
        raise Trouble("The objects of this window are not being edited.", "Choose start first.")
    if action == "stop":
        work.stop()
    elif action == START:
        work.listen()
        if len(answers) > 2 and answers[-1] and images.linked(work.image, "image"):
            add_work_list(session.source(), work, answers[3])
    elif action in exchange.ACTIONS:
        exchange.ACTIONS[action](work)
    else:
        plane = option("plane")
        work.do(action, keys, 0, option("pixels"), int(plane) - 1 if plane else None)
        record_option("pixels", work.drawn)


def add_where(form, shown, open_one):
    """Ask which image to edit, and what of it."""
    choices = []
    if shown is not None and open_one is None:
        choices.append(OVERLAY)
    try:
        source = session.source()
        choices += in_order(ids_of(source.images()), known_order(source))
    except Trouble:
        if not choices:
            raise
    chosen = [one for one in choices if open_one and name_in(one) == open_one.name]
    form.choice("Image", choices, chosen[0] if chosen else None)
    base = "%s/%s" % (open_one.run, comparison.variant_of(shown)) if open_one else ""
    form.text("From (empty: newest; r0001 or run-0001/v0001)", base)
    form.tick("Review (support of objects in colours, list of what is doubtful or missing)",
              session.recall("review", "yes") == "yes")


def known_order(source):
    """Return {image: its row of the newest review of the newest sweep}, {} where none is done."""
    runs = sweeps_of(source)
    return support.order_of(source.jobs(), runs[-1]) if runs else {}


def in_order(names, rows):
    """Return the names of images, those with most doubt first, each with its doubt."""
    known = sorted((name for name in names if name in rows), key=lambda n: -rows[n]["doubt"])
    return ["%s%s%.1f" % (name, DOUBT, rows[name]["doubt"]) for name in known] + [
        name for name in names if name not in rows]


def name_in(choice):
    """Return the id of an image as it was chosen, with its doubt or without."""
    return choice.split(DOUBT)[0]


def show_order(source):
    """Review the newest sweep; show which image to correct first, also in the next dialog."""
    runs = sweeps_of(source)
    if not runs:
        raise Trouble("There is no sweep yet.", "Run Sweep makes one.")
    rows = comparison.rows_of(source.run(runs[-1]))
    found = []
    for group in sorted(set(row.get("group") or "" for row in rows)):
        told = support.review(source, Progress("Edit Objects"), run=runs[-1], group=group or None)
        found += told.get("images") or []
    found.sort(key=lambda row: -row["doubt"])
    lines = [u"\t".join(u"%s" % cell for cell in (
        row["image"], "%.1f" % row["doubt"], row["doubtful"], row["missing"], row["objects"],
        row["variant"], row.get("edited") or "")) for row in found]
    TextWindow("Which image first, of %s" % runs[-1],
               "image\tdoubt\tdoubtful\tmissing\tobjects\tvariant\tedited", "\n".join(lines),
               760, 320)
    IJ.showStatus("OpSeF: doubt is how many objects are probably wrong; Edit Objects lists the "
                  "images in this order.")


def add_work_list(source, work, base, count=None):
    """Ask for the support of the objects of a window; without it editing goes on as ever."""
    from opsef_fiji import worklist

    name, (run, slash, variant) = images.linked(work.image, "image"), base.strip().partition("/")
    show = Progress("Review")
    try:
        told = support.review(source, show, image=name, run=run if slash else None,
                              variant=variant if slash else None, count=count)
        found = support.Support(told)
        data, _ = source.objects(name, "%s/%s" % (found.run, found.variant))
    except Trouble as trouble:
        IJ.log("OpSeF: no support of objects: " + trouble.message)
        IJ.showStatus("OpSeF: there is no support of these objects; the Log says why.")
        return
    except Cancelled:
        return
    finally:
        show.done()
    same = worklist.same_objects(work.image, work.came, rois.decode(data) if len(data) else [])
    work.work_list = worklist.WorkList(work, found, same)
    work.tell(found.told() + "  n: go there    o: colours")


def begin(shown, name, base):
    """Open an image of the project with its objects, or begin on what the window shows."""
    if name == OVERLAY:
        if shown is None:
            raise Trouble("No image is open.", "Open one, or name an image of the project.")
        return editing.start(shown, rois.rois_of_overlay(shown))
    source = session.source()
    show = Progress("Edit Objects")
    data, etag = source.objects(name, base.strip() or None)
    image = images.open_project_image(source, name, show)
    image.show()
    images.link(image, image=name, etag=etag)
    images.link_place(image, source, name)
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
             "With ids below, only these get it, at once. By a gate: all of which it is true.")
    form.number("Class (0: none)", 1)
    form.text("Objects (ids; empty: by clicks)", "")
    form.choice("By", classifying.WAYS)
    group, keys, way = form.ask()
    if not 0 <= int(group) <= 255 or group != int(group):
        raise Trouble("%g is no class." % group, "Classes are 1 to 255; 0 is none.")
    if way != classifying.CLICKS:
        classifying.classify(work, way, int(group))
        return
    if keys.strip():
        work.do("classify", numbers(keys), int(group))
        return
    from opsef_fiji.legend import Legend

    if work.legend is None:
        work.legend = Legend(work)
    work.listen(int(group))
