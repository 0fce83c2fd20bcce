"""The commands of the menu: projects, sweeps, jobs. Objects: `object_commands`."""
import os

from ij import IJ, WindowManager
from ij.gui import PlotWindow
from ij.text import TextWindow

from opsef_fiji import images, reasons, session
from opsef_fiji.dialogs import Form, Progress, guarded
from opsef_fiji.online import Online, Segmenting, new_project
from opsef_fiji.trouble import Cancelled, Trouble
from opsef_fiji.waiting import wait_for

NEWEST = "(newest)"
SAID = 6
"""Sentences of a ranking that a dialog shows at once."""
WAIT, GO_ON = "wait until it ends", "go on (Jobs shows it)"
PRESETS = ["fluorescence", "stained", "brightfield", "cobblestones", "leaves", "small-nuclei",
           "colon-3d", "epithelial", "muscle", "kidney-he"]


def run(name):
    """Do a command by the name of its script; what goes wrong is shown in plain words."""
    from opsef_fiji import (
        connecting, correcting, object_commands, offers, questions, saving, training)

    found = {
        "Connect": connecting.connect, "Segment_Image": segment_image, "New_Project": make_project,
        "Run_Sweep": run_sweep, "Adopt_Variant": adopt_variant, "Run_Batch": run_batch,
        "Jobs": jobs, "Open_Comparison": object_commands.open_comparison,
        "Answer_Questions": questions.answer_questions,
        "Edit_Objects": object_commands.edit_objects,
        "Classify_Objects": object_commands.classify_objects,
        "Correct_Next": correcting.correct_next,
        "Train_From_Corrections": training.train_from_corrections,
        "Save_Back": saving.save_back, "Analyse": offers.analyse, "Help": offers.help,
    }
    guarded(name.replace("_", " "), found[name])


def segment_image():
    from opsef_fiji import editing

    image = images.current()
    old = editing.session_of(image)
    if old is not None and old.model.touched():
        raise Trouble("This window has edits that are not saved.",
                      "Save Back first, or segment a duplicate (Image > Duplicate).")
    service = Segmenting(session.client())
    choices = model_choices(service.engines())
    form = Form("Segment Image")
    form.choice("Model", choices, session.recall("model"))
    form.number("Scale (1: as it is)", float(session.recall("scale", "1")), 2)
    form.number("Diameter of objects (0: not known)", float(session.recall("diameter", "0")), 1,
                "pixels")
    form.tick("Volume (all slices, not only the one shown)")
    model, scale, diameter, volume = form.ask()
    if model not in choices:
        raise Trouble("There is no model %s." % model, "These are there: " + ", ".join(choices))
    session.remember(model=model, scale=str(scale), diameter=str(diameter))
    engine, _, weights = model.partition(": ")
    options = {"engine": engine, "weights": weights}
    if engine == "cellpose":
        options["diameter"] = diameter or None
    elif scale != 1:
        options["scale"] = scale
    data, box = images.tiff_of(image, volume)
    place = image.getZ(), image.getT()
    show = Progress("Segment Image")
    show.progress(0, 0, "sending %.1f MB" % (len(data) / 1e6))
    try:
        job = service.start(data, show, **options)
    finally:
        show.done()
    wait_for(service, job, show)
    show_objects(image, service.objects(job), box, None if volume else place)


def model_choices(engines):
    """Return "engine: weights" for all that can be used, "engine" where none are needed."""
    found = []
    for one in engines:
        here = [weights["name"] for weights in one["weights"] if weights.get("here")]
        found += ["%s: %s" % (one["engine"], name) for name in here]
        if not one.get("needs_weights") and not here:
            found.append(one["engine"])
    return found or ["watershed"]


def show_objects(image, data, box, place=None):
    """Show the objects of a zip over an image, or its (slice, frame) from 1, to be edited."""
    from opsef_fiji import editing, rois

    found = rois.decode(data) if len(data) else []
    for roi in found:
        if box:
            bounds = roi.getBounds()
            roi.setLocation(bounds.x + box[0], bounds.y + box[1])
        if place is not None and image.getNFrames() > 1:
            roi.setPosition(0, place[0] if rois.depth_of(image) > 1 else 0, place[1])
        elif place is not None and rois.depth_of(image) > 1:
            roi.setPosition(place[0])
    image.deleteRoi()
    old = editing.session_of(image)
    if old is not None:
        old.stop()
    # These objects are of no project: Save Back must not take them for edits of what was here.
    images.link(image, project=None, image=None, etag=None, place=None, key=None, mark=None)
    editing.start(image, found)
    IJ.showStatus("OpSeF: %d objects. Edit Objects corrects them." % len(found))


def make_project():
    image = images.current() if images.has_image() else None
    size, pixel, words = measured(image)
    form = Form("New Project")
    form.say("Images: all that are open, or those of a folder.\n" + words)
    form.text("Name", "")
    form.choice("Sample", PRESETS, session.recall("preset"))
    form.number("Object size (0: not known)", size, 2, "um")
    form.number("Pixel size (0: not known)", pixel, 4, "um")
    form.folder("Folder of images (empty: all that are open)", "")
    name, preset, size, pixel, folder = form.ask()
    if not name.strip():
        raise Trouble("The project has no name.", "Give it a short name, such as the experiment.")
    found = files_of(folder) if folder else open_images()
    if not found:
        raise Trouble("There are no images.", "Open some, or choose a folder with images.")
    client = session.client()
    values = {"name": name, "preset": preset}
    if size > 0:
        values.update(object_um=size, pixel_um=pixel or None)
    show = Progress("New Project")
    project = new_project(client, **values)
    session.remember(project=project, folder="", preset=preset)
    source = Online(client, project)
    try:
        for k, (title, read) in enumerate(found):
            if show.escaped():
                raise Cancelled()
            show.progress(k, len(found), "sending %s" % title)
            name, data = read()
            source.upload(name, data, show)
    except Cancelled:
        raise Trouble("Stopped after %d of %d images." % (k, len(found)),
                      "The project %s keeps those." % project)
    finally:
        show.done()
    IJ.showStatus("OpSeF: project %s with %d images. Next: Run Sweep." % (project, len(found)))


def measured(image):
    """Return (length of the line selection, pixel size) in um and what to say of it."""
    if image is None:
        return 0, 0, "No image is open."
    calibration = image.getCalibration()
    unit = (calibration.getUnit() or "").lower()
    factor = {"um": 1.0, "micron": 1.0, "microns": 1.0, u"\u00b5m": 1.0, u"\u03bcm": 1.0,
              "micrometer": 1.0, "nm": 0.001, "mm": 1000.0}.get(unit, 0)
    roi = image.getRoi()
    if not factor:
        return 0, 0, "The image is not calibrated in um (Image > Properties)."
    pixel = calibration.pixelWidth * factor
    if roi is None or not roi.isLine():
        return 0, pixel, "Draw a line across a typical object first to measure its size."
    return roi.getLength() * factor, pixel, "Object size is the length of your line."


def open_images():
    """Return (title, read) of the open images that are somebody's pictures, none made by us."""
    found = []
    for number in WindowManager.getIDList() or []:
        image = WindowManager.getImage(number)
        if is_picture(image):
            found.append((image.getTitle(), reader_of(image)))
    return found


def is_picture(image):
    """Tell whether an image is neither a plot (of Analyse) nor a comparison of variants."""
    plot = image.getProperty("thePlot") is not None or isinstance(image.getWindow(), PlotWindow)
    return not plot and all(image.getProperty("opsef." + name) is None
                            for name in ("comparison", "questions", "plot"))


def reader_of(image):
    def read():
        title = image.getTitle()
        stem = title[:-4] if title.lower().endswith(".tif") else title
        return file_stem(stem) + ".tif", images.tiff_of_all(image)

    return read


def file_stem(title):
    """Return a title as the service takes file names: "a.lif - Series/1" has more than letters."""
    kept = u"".join(c if c.isalnum() or c in u" ._-()" else u"-" for c in u"%s" % title)
    return kept.strip(u" .-") or u"image"


def files_of(folder):
    """Return (title, read) of the images of a folder; read returns name and bytes."""
    if not os.path.isdir(folder):
        raise Trouble("There is no folder %s." % folder, "Choose one.")
    names = [n for n in sorted(os.listdir(folder)) if not n.startswith(".")]
    return [(name, opener_of(os.path.join(folder, name))) for name in names
            if os.path.isfile(os.path.join(folder, name)) and looks_like_image(name)]


def looks_like_image(name):
    return name.lower().rpartition(".")[2] in (
        "tif", "tiff", "png", "jpg", "jpeg", "bmp", "gif", "czi", "nd2", "lif", "lsm", "oib", "oif")


def opener_of(path):
    def read():
        name = os.path.basename(path)
        if name.lower().endswith((".tif", ".tiff", ".png")):
            from java.io import FileInputStream

            from opsef_fiji.client import read_all

            stem, dot, end = name.rpartition(".")
            return file_stem(stem) + dot + end, read_all(FileInputStream(path))
        image = IJ.openImage(path)
        if image is None:
            raise Trouble("ImageJ cannot open %s." % name, "Move it out of the folder.")
        return file_stem(name) + ".tif", images.tiff_of_all(image)

    return read


def run_sweep():
    source = session.source()
    plan = source.plan()
    form = Form("Run Sweep")
    form.say(cost_of(plan))
    form.tick("Resume the newest sweep")
    form.choice("Then", [WAIT, GO_ON])
    resume, then = form.ask()
    begin(source, "sweep", then != GO_ON, "Run Sweep", resume=resume)


def cost_of(plan):
    if plan is None:
        return "The request goes into the inbox of the project."
    minutes = plan.get("seconds", 0) / 60.0
    time = "%.0f min" % minutes if minutes >= 1.5 else "%.0f s" % max(1, plan.get("seconds", 0))
    return (
        "%s of %s\n%s (%d not done before)\nabout %s%s\n"
        "%.1f MB of disk (%.1f GB are free)" % (
            counted(plan, "variants"), counted(plan, "images"),
            counted(plan, "passes").replace("pass", "network pass"),
            plan.get("new_passes", 0), time, "" if plan.get("measured") else " (a first guess)",
            plan.get("disk_bytes", 0) / 1e6, plan.get("free_bytes", 0) / 1e9))


def counted(plan, name):
    number = plan.get(name, 0)
    one = name[:-2] if name.endswith("sses") else name[:-1]
    return "%d %s" % (number, one if number == 1 else name)


def run_batch():
    source = session.source()
    form = Form("Run Batch")
    form.say("Segments all images with the adopted variant.\nAdopted: " + adopted_of(source))
    form.choice("Then", [WAIT, GO_ON])
    begin(source, "batch", form.ask()[0] != GO_ON, "Run Batch")


def adopted_of(source):
    adopted = source.about().get("adopted") or {}
    parts = ["%s: %s %s of %s" % (group, one.get("id"), one.get("slug"), one.get("run"))
             for group, one in sorted(adopted.items())]
    return "\n".join(parts) or "nothing yet (Adopt Variant comes first)"


def begin(source, kind, wait, title, **options):
    job = source.start(kind, **options)
    session.remember(job=job)
    if not source.online:
        IJ.showStatus("OpSeF: %s waits in the inbox; `opsef inbox run` does it." % job)
        return
    if wait:
        done = wait_for(source, job, Progress(title))
        IJ.showStatus("OpSeF: %s is done. %s" % (title, done.get("message") or ""))
    else:
        IJ.showStatus("OpSeF: %s has begun; Jobs shows how far it is." % job)


def adopt_variant():
    from opsef_fiji import comparison

    source = session.source()
    window = images.current() if images.has_image() else None
    open_one = comparison.of_window(window) if window is not None else None
    run, sentences = reasons_of(source, open_one)
    form = Form("Adopt Variant")
    if sentences:
        form.say("Why is this first, in %s? (Help shows all of it)\n%s" % (run, "\n".join(
            reasons.wrapped(words) for words in sentences[:SAID])))
        form.help(reasons.page_of(sentences))
    form.text("Run (empty: newest)", open_one.run if open_one else "")
    form.text("Variant", comparison.variant_of(window) if open_one else "")
    form.text("Group (empty: all)", "")
    chosen, variant, group = [value.strip() for value in form.ask()]
    if not variant:
        raise Trouble("No variant was named.", "Its id stands above the comparison: v0001.")
    source.adopt(variant, group, chosen)
    IJ.showStatus("OpSeF: %s is adopted. Run Batch segments all images with it." % variant)


def reasons_of(source, open_one):
    """Return (run, why its first variant is first): of the comparison that is open, or newest."""
    try:
        runs = [one["id"] for one in source.runs() if one.get("purpose", "sweep") == "sweep"]
        run = open_one.run if open_one else runs[-1] if runs else None
        groups = source.ranking(run) if run else {}
        rows = source.run(run).get("variants") or [] if run else []
    except Trouble:  # of an older service; to adopt is possible all the same
        return None, []
    return run, reasons.sentences_of(groups, dict((r.get("id"), r.get("slug")) for r in rows))


def line_of(job):
    """Return what a choice shows of a job: what it is, and its id as the last word."""
    words = [job.get("kind"), job.get("author"), job.get("state")]
    if job.get("state") == "running":
        words.append("%s of %s" % (job.get("current") or 0, job.get("maximum") or 0))
    return u"%s  %s" % (u", ".join(word for word in words if word), job["id"])


def jobs():
    source = session.source()
    found = sorted(source.jobs(), key=lambda job: job.get("at") or "", reverse=True)
    if not found:
        raise Trouble("There are no jobs.", "Run Sweep or Run Batch starts one.")
    lines = [line_of(one) for one in found]
    open_ones = [line_of(one) for one in found if one.get("state") in ("waiting", "running")]
    form = Form("Jobs")
    form.choice("Job", lines, open_ones[0] if open_ones else lines[0])
    form.choice("Do", ["list all", "wait for it", "stop it"])
    chosen, action = form.ask()
    job = chosen.split()[-1]  # a macro may name the id alone
    if action == "list all":
        rows = [u"\t".join(u"%s" % cell for cell in (
            one["id"], one.get("kind", ""), one.get("state", ""), one.get("author", ""),
            "%s/%s" % (one.get("current") or 0, one.get("maximum") or 0),
            (one.get("message") or "").replace("\n", " "))) for one in found]
        TextWindow("OpSeF jobs of %s" % source.project, "id\tkind\tstate\tauthor\tdone\tmessage",
                   "\n".join(rows), 900, 300)
    elif action == "stop it":
        source.cancel(job)
        IJ.showStatus("OpSeF: %s was told to stop." % job)
    elif action == "wait for it":
        wait_for(source, job, Progress("Jobs"), cancel=False)
        IJ.showStatus("OpSeF: %s is done." % job)
    else:
        raise Cancelled()
