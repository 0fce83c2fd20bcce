"""Train From Corrections: what was corrected becomes a network, compared with its parent."""
import os

from ij import IJ
from ij.text import TextWindow

from opsef_fiji import session
from opsef_fiji.classifying import wrapped
from opsef_fiji.commands import GO_ON, WAIT
from opsef_fiji.dialogs import Form, Progress, option
from opsef_fiji.offline import INBOX
from opsef_fiji.online import filled
from opsef_fiji.trouble import NoConnection, Trouble
from opsef_fiji.waiting import checked, ended, wait_for

TITLE = "Train From Corrections"
TRAIN, SEE = "train", "see what the newest training made"
VOUCHED, NEWEST = "what I vouched for", "all newest revisions (I vouch for them)"
SHIPPED = ["nuclei-unet", "nuclei-stardist", "nuclei-cellpose", "nuclei-fpn2ws", "nuclei-maskrcnn",
           "he-stardist"]
MINUTES = 10
KEPT = ("Edit Objects corrects an image. Save Back asks what you checked: say the whole image, "
        "or a box of it.")
WHAT = ("The service goes on training a network on what you corrected. Then it compares both on\n"
        "images that the new one did not learn from. Nothing changes until you say: use it.")


def train_from_corrections():
    source = session.source()
    facts = facts_of(source)
    form = Form(TITLE)
    form.say("\n".join([WHAT] + told_before(facts)))
    form.choice("Do", [TRAIN, SEE])
    form.choice("Start from (weights)", starts_of(source, facts),
                facts["start"] if facts else session.recall("trained.start"))
    form.choice("Corrections", [VOUCHED, NEWEST],
                NEWEST if facts and facts["vouched"] < facts["least"] <= facts["newest"]
                else VOUCHED)
    form.tick("Keep what it knows (learn the bundled images too)", True)
    form.number("Minutes", MINUTES, 0)
    form.text("Name of the new network (empty: the service names it)", "")
    form.choice("Then", [WAIT, GO_ON])
    do, start, which, keep, minutes, name, then = form.ask()
    if do == SEE:
        show(source, newest(source))
        return
    check(facts, which)
    job = source.train(**given(start, which, keep, minutes, name, option("steps")))
    session.remember(job=job)
    session.remember(**{"trained.start": start})
    if not source.online:
        IJ.showStatus("OpSeF: " + INBOX)
    elif then == GO_ON:
        IJ.showStatus("OpSeF: it trains; Jobs shows how far it is. Then choose this again: " + SEE)
    else:
        show(source, wait_for(source, job, Progress(TITLE))["result"])


def facts_of(source):
    """Return what there is to train on and from; None where no service says it."""
    try:
        facts = source.training()
    except NoConnection:
        raise
    except Trouble as trouble:
        raise Trouble("The service does not say what it can train: %s" % trouble.message,
                      "It may be older than these scripts. " + trouble.step)
    if facts is not None and not facts["able"]:
        raise Trouble(
            "This service cannot train: torch is not installed where it runs.",
            "Ask who runs it for: pip install 'opsef_bridge[train]'. Your corrections are kept.")
    if facts is not None and not facts["newest"]:
        raise Trouble("Nothing is corrected yet, and nothing is vouched for.", KEPT)
    return facts


def starts_of(source, facts):
    """Return names of weights; without a service those that come along, and of the project."""
    if facts is not None:
        return [one["name"] for one in facts["weights"]] or ["none"]
    models = source.file("models")
    own = sorted(os.listdir(models)) if os.path.isdir(models) else []
    return SHIPPED + [name for name in own if os.path.isdir(os.path.join(models, name))
                      and not name.startswith(".")]


def told_before(facts):
    """Return sentences on how much there is, and how long it takes."""
    if facts is None:
        return [INBOX]
    return ["%s vouched for; %s a revision, or are vouched for." % (
        many(facts["vouched"], "is", "are"), many(facts["newest"], "has", "have")),
        "It takes the minutes that you give, and a few to compare. Other long jobs of the project",
        "wait for it; Save Back does not. Stopped, it goes on when you ask for the same again."]


def many(count, one, more):
    return "1 image %s" % one if count == 1 else "%d images %s" % (count, more)


def check(facts, which):
    """Refuse what the service would refuse after a while."""
    if which not in (VOUCHED, NEWEST):
        raise Trouble("%s is no answer." % which, "Choose of %s, %s." % (VOUCHED, NEWEST))
    if facts is None:
        return
    count, least = facts["newest" if which == NEWEST else "vouched"], facts["least"]
    other = ""
    if which == VOUCHED and facts["newest"] >= least:
        other = "\nOr choose: %s." % NEWEST
    if not count:
        raise Trouble("Nothing is vouched for yet.", KEPT + other)
    if count < least:
        raise Trouble(
            "%s vouched for; %d are needed: to learn from, to choose by and to judge by." % (
                many(count, "is", "are"), least),
            "Correct %d more. %s%s" % (least - count, KEPT, other))


def given(start, which, keep, minutes, name, steps=""):
    """Return the parameters of the request."""
    if not steps and not minutes > 0:
        raise Trouble("%g minutes are no time to train." % minutes, "Give 1 or more.")
    return filled({
        "start": start.strip(), "latest": which == NEWEST, "name": name.strip(),
        "rehearse": "fluorescence" if keep else "none",
        "steps": int(steps) if steps else None, "minutes": None if steps else float(minutes)})


def newest(source):
    """Return the result of the newest training; wait for it where it is not done."""
    found = [job for job in source.jobs() if job.get("kind") == "train"]
    if not found:
        raise Trouble("Nothing was trained in this project yet.", "Choose: %s." % TRAIN)
    job = max(found, key=lambda one: one.get("at") or "")
    if not ended(job):
        if not source.online:
            raise Trouble("It is not done yet.", INBOX)
        job = wait_for(source, job["id"], Progress(TITLE), cancel=False)
    return checked(job)["result"]


def show(source, told):
    """Show what came of a training, and use it if that is wanted."""
    TextWindow("Training of %s" % told["candidate"], "\n".join(lines_of(told)), 800, 320)
    form = Form(TITLE + ": " + told["candidate"])
    form.say("\n".join(wrapped(words) for words in told["words"]))
    form.tick("Use it (it becomes a model of the project)")
    form.text("Model (its name)", told["candidate"])
    form.tick("Force (also if it is worse than its parent)")
    use, name, force = form.ask()
    if use:
        promote(source, told, name.strip(), force)
    else:
        IJ.showStatus("OpSeF: %s is kept in %s, and not used." % (
            told["candidate"], told["training"]))


def lines_of(told):
    """Return what came of a training: sentences, and F1 at each IoU."""
    lines = [wrapped(words) for words in told["said"]]
    named = [(told["candidate"], told["scores"]["candidate"]),
             (told["parent"], told["scores"].get("parent")), ("difference", told["gain"])]
    lines += ["", "F1 on %s of %s, and in brackets where it is in 95 of 100 such tests:" % (
        "1 test image" if told["images"] == 1 else "%d test images" % told["images"],
        told["dataset"])]
    for threshold in sorted(told["scores"]["candidate"]):
        lines.append("IoU %s: " % threshold + ", ".join(
            "%s %s" % (name, of_score(scores[threshold]))
            for name, scores in named if scores and threshold in scores))
    return lines + ["", "The report is %s of the project." % told["report"]]


def of_score(score):
    if score["low"] is None:
        return "%.3f" % score["value"]
    return "%.3f (%.3f to %.3f)" % (score["value"], score["low"], score["high"])


def promote(source, told, name, force):
    """Have a candidate become a model of the project; say the next step."""
    wanted = {"name": told["candidate"], "training": told["training"], "force": force}
    if name and name != told["candidate"]:
        wanted["to"] = name
    job = source.promote(**wanted)
    session.remember(job=job)
    if not source.online:
        IJ.showStatus("OpSeF: " + INBOX)
        return
    done = used(source, job)
    lines = [wrapped(words) for words in done["said"]]
    lines += ["", "Then Run Sweep tries it beside the others, and Adopt Variant takes it."]
    TextWindow("%s is a model" % done["name"], "\n".join(lines), 800, 240)


def used(source, job):
    """Return the result of a promotion; say of a refusal what can be done here."""
    try:
        return wait_for(source, job, Progress(TITLE))["result"]
    except NoConnection:
        raise
    except Trouble as trouble:
        message, step = wrapped(trouble.message), trouble.step
        if "--force" in step:
            step = ("Correct more images and train again. To use it all the same choose this\n"
                    "command again, %s, and tick Force." % SEE)
        raise Trouble(message, step)
