"""Classes by a gate, by clusters or by learning: the service does it, the window shows it."""
from ij import IJ
from ij.text import TextWindow

from opsef_fiji import editing, images, session
from opsef_fiji.dialogs import Form, Progress
from opsef_fiji.offline import INBOX
from opsef_fiji.project_analysis import METHODS, newest_of, variant_in, window_base
from opsef_fiji.trouble import NoConnection, Trouble
from opsef_fiji.waiting import wait_for

TITLE = "Classify Objects"
CLICKS, GATE, CLUSTERS, LEARNING, UNSURE = (
    "clicks and keys", "a gate", "clusters", "learning from classes", "uncertain next")
WAYS = [CLICKS, GATE, CLUSTERS, LEARNING, UNSURE]
ALL, HERE = "all of the project", "this one"
GATES = ("The objects of which it is true get class %d. For example:\n"
         "area > 200 and (solidity < 0.9 or circularity < 0.5)\n"
         "Analyse lists the columns (tables/columns.md says what they mean).")
HOW = "Classify Objects, by a gate, has it still. For example: area > 200 and solidity < 0.9"


def classify(work, way, group):
    """Do one of the ways that need the service; the window has to be saved."""
    source = session.source()
    if work.model.touched():
        raise Trouble("This window has edits that are not saved.", "Save Back first.")
    if way == UNSURE:
        from opsef_fiji import unsure

        unsure.begin(source, work)
        return
    if way not in WAYS:
        raise Trouble("%s is no way to classify." % way, "Choose of " + ", ".join(WAYS))
    values = ask(work, way, group)
    job = source.classify(**values)
    if not source.online:
        IJ.showStatus("OpSeF: " + INBOX)
        return
    told = waited(source, job, way)["result"]
    TextWindow("Classes by %s" % way, "\n".join(lines_of(told)), 900, 320)
    work = refreshed(work, source, told)
    if told.get("uncertain"):
        from opsef_fiji import unsure

        unsure.begin(source, work, told)


def waited(source, job, way):
    """Return the job when it is done; say of a gate how one is written, and that it is kept."""
    try:
        return wait_for(source, job, Progress(TITLE))
    except NoConnection:
        raise
    except Trouble as trouble:
        if way == GATE and trouble.step.startswith("Plugins > OpSeF > Jobs"):
            trouble.step = HOW
        trouble.step = wrapped(trouble.step)
        raise trouble


def wrapped(text, most=100):
    """Return lines of about so many letters: a dialog of ImageJ is as wide as its longest one."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= most:
            lines.append("")
        lines[-1] += " " * bool(lines[-1]) + word
    return "\n".join(lines)


def ask(work, way, group):
    """Ask how; return the parameters of the request."""
    form, here = Form(TITLE + " by " + way), images.linked(work.image, "image")
    if way == GATE:
        form.say(GATES % group)
        form.text("Gate", session.recall("gate"), 40)
    elif way == CLUSTERS:
        form.say("Each cluster becomes a class, the largest 1. Classes of before go.")
        form.choice("Method", METHODS)
        form.number("Number (0: as the silhouette says)", 0)
    else:
        form.say("Learns from the objects that people classified, and says how well.\n"
                 "What it is least sure of comes one after the other, to be classified next:\n"
                 "keys 0 to 9 give a class, n goes on, p goes back.")
        form.number("Least share of trees that agree, to give a class (0: give none)", 0, 2)
    if way != GATE:
        form.text("Features (columns; empty: all)", "")
    form.choice("Images", [ALL, HERE] if here else [ALL])
    form.text("Variant (of all images; empty: newest edits, else batch)", "")
    form.tick("Dry run (say it, save nothing)")
    answers = form.ask()
    images_of, variant, dry = answers[-3:]
    if images_of == HERE:
        if not here:
            raise Trouble("This window shows no image of the project.", "Choose: " + ALL)
        base, newest = window_base(work.image), newest_of(session.source(), here)
        if newest and base != newest and not dry:
            raise Trouble("This window shows %s of %s; the newest is %s." % (
                base or "what was never saved", here, newest),
                "Close it; Edit Objects opens the newest.")
        values = dict(of_base(base), images=[here])
    else:
        values = variant_in(variant)
    values.update(given(way, answers, group), dry_run=dry)
    return values


def given(way, answers, group):
    """Return the parameters of one way."""
    if way == GATE:
        gate = answers[0].strip()
        if not gate:
            raise Trouble("There is no gate.", "Write one, such as area > 200.")
        session.remember(gate=gate)
        return {"where": gate, "class": "%d" % group}
    features = answers[-4].replace(",", " ").split() or None
    if way == CLUSTERS:
        return {"cluster": answers[0], "count": int(answers[1]) or None, "features": features}
    return {"learn": True, "least": answers[0] or None, "features": features}


def of_base(base):
    """Return the parameters that name what a window shows."""
    if "/" in base:
        return variant_in(base)
    return {"revision": base} if base.startswith("r") else {}


def lines_of(told):
    lines = list(told["said"])
    if told["report"]:
        lines += ["", "class   objects   precision   recall   f1"]
        lines += ["%5d   %7d   %9.2f   %6.2f   %.2f" % tuple(
            row[name] for name in ("class", "objects", "precision", "recall", "f1"))
            for row in told["report"]]
    return lines


def refreshed(work, source, told):
    """Show the new revision of the image of a window, if it got one; return its Session."""
    from opsef_fiji import saving
    from opsef_fiji.legend import Legend

    image = work.image
    name = images.linked(image, "image")
    mine = images.linked(image, "project") == source.project
    new = [one for one in told["images"] if mine and one["image"] == name and one["revision"]]
    if not new or not saving.is_shown(image):
        return work
    listening, brush = work.ears is not None, work.brush
    work.stop()
    saving.saved(image, work, source, name, new[0], listening, brush)
    image.changes = False
    work = editing.session_of(image)
    if work.legend is None:
        work.legend = Legend(work)
    return work
