"""The commands on objects: comparison, edit, classify. Save Back: `saving`."""
from ij import IJ

from opsef_fiji import comparison, editing, exchange, images, loading, rois, session
from opsef_fiji.commands import NEWEST
from opsef_fiji.dialogs import Form, Progress, option, record_option
from opsef_fiji.trouble import Trouble

START = "start"
ACTIONS = [START, "delete", "merge", "split", "add", "undo", "select", "stop",
           exchange.TO_MANAGER, exchange.FROM_MANAGER, exchange.ANNOTATORJ]
OVERLAY = "the overlay of this image"


def open_comparison():
    if option("beside"):
        beside()
        return
    if option("verdict"):
        judge()
        return
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
    if work is None and (action == START or action in exchange.ACTIONS):
        work = begin(shown, *answers[2:])
    if work is None:
        raise Trouble("The objects of this window are not being edited.", "Choose start first.")
    if action == "stop":
        work.stop()
    elif action == START:
        work.listen()
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
    if image.getStackSize() > 1 and image.getStackSize() in (
            image.getNChannels(), image.getNFrames()):
        image.setDimensions(1, image.getStackSize(), 1)  # what is edited is a plane or a volume
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
