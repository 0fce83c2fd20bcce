"""A project as a folder that is shared or copied: read its files, write requests to its inbox.

`opsef inbox run` or `opsef inbox watch` on the workstation does what the requests ask.
"""
import csv
import io
import json
import os
import re
import time

from java.io import File, FileInputStream, FileOutputStream
from java.lang import System
from java.nio.file import Files, StandardCopyOption
from java.util import UUID

from opsef_fiji.client import bytes_of, read_all
from opsef_fiji.online import filled, included
from opsef_fiji.trouble import Trouble

SAFE = re.compile(r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
PICTURE = ("sha256", "series", "part", "crop", "segment_channel", "projection")
"""Columns of images/index.csv that say which picture an image is."""
INBOX = "It waits in the inbox of the project; `opsef inbox run` on the workstation does it."


class Folder(object):
    """A project folder. The methods are those of `online.Online`."""

    online = False

    def __init__(self, root):
        self.root = root
        self.project = os.path.basename(root.rstrip("/\\"))
        self.place = File(root).getCanonicalPath()
        if not os.path.isfile(os.path.join(root, "opsef.yaml")):
            raise Trouble(
                "%s is no project: it holds no opsef.yaml." % root,
                "Choose the folder of a project in Connect.",
            )

    def file(self, *names):
        return os.path.join(self.root, *names)

    def images(self):
        """Return the rows of the images that are not excluded."""
        return [row for row in self.rows("images", "index.csv") if included(row)]

    def rows(self, *names):
        path = self.file(*names)
        if not os.path.isfile(path):
            return []
        with open(path, "rb") as file:
            return [
                dict((key, (value or "").decode("utf-8")) for key, value in row.items() if key)
                for row in csv.DictReader(file)
            ]

    def json(self, *names):
        path = self.file(*names)
        if not os.path.isfile(path):
            return None
        with io.open(path, encoding="utf-8") as file:
            return json.load(file)

    def about(self):
        return {"id": self.project, "images": self.images(), "runs": self.runs()}

    def runs(self):
        folder = self.file("runs")
        names = os.listdir(folder) if os.path.isdir(folder) else []
        found = []
        for name in sorted(names):
            plan = self.json("runs", name, "plan.json")
            if plan is not None:
                found.append({"id": name, "purpose": plan.get("purpose", "sweep")})
        return found

    def run(self, run):
        folder = self.file("runs", safe(run), "compare")
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        return {
            "id": run, "variants": self.rows("runs", safe(run), "variants.csv"),
            "images": [name[:-4] for name in names if name.endswith(".tif")],
        }

    def row(self, image):
        """Return the row of an image, of one that is excluded too; {} where there is none."""
        found = [row for row in self.rows("images", "index.csv") if row["id"] == image]
        return found[0] if found else {}

    def image_stream(self, image):
        """Return the TIFF of the plane or volume that is segmented."""
        from opsef_fiji.cutting import cut, is_plain

        row = self.row(image)
        path = row.get("source", "")
        path = path if os.path.isabs(path) else self.file(path)
        if not row or not os.path.isfile(path):
            raise Trouble(
                "The file of %s is not here." % image, "Open it by hand, then choose Edit Objects.")
        how = self.how()
        return FileInputStream(path) if is_plain(row, how) else cut(path, row, how)

    def how(self):
        """Return how the newest run read the images; {} where there is none."""
        for run in reversed(self.runs()):
            return (self.json("runs", run["id"], "plan.json").get("config") or {}).get("images", {})
        return {}

    def image_mark(self, image):
        """Return what only this very picture has: the sha256 of its file, and its part of it."""
        row = self.row(image)
        return " ".join(row.get(name) or "" for name in PICTURE) if row.get("sha256") else None

    def project_key(self):
        """Return what tells the project from others: where it lies."""
        return self.place

    def compare_stream(self, run, image, start=0, mark=None):
        """Return (stream, mark) of a comparison from a byte on."""
        stream = self.stream("runs", safe(run), "compare", safe(image) + ".tif")
        stream.skip(start)
        return stream, None

    def stream(self, *names):
        path = self.file(*names)
        if not os.path.isfile(path):
            raise Trouble("There is no %s." % "/".join(names), "Is the folder copied whole?")
        return FileInputStream(path)

    def objects(self, image, base=None):
        if not base:
            base = self.newest(image)
        if base is None:
            raise Trouble("There are no objects of %s yet." % image, "Name a variant, run/v0001.")
        if "/" in base:
            run, variant = base.split("/")
            names = ("runs", safe(run), "rois", safe(variant), safe(image) + "_ROIs.zip")
            return read_all(self.stream(*names)), '"%s"' % base
        told = self.json("annotations", safe(image), safe(base) + ".json") or {}
        if not told.get("objects"):
            return bytes_of(""), '"%s"' % base
        data = read_all(self.stream("annotations", safe(image), safe(base) + ".zip"))
        return data, '"%s"' % base

    def newest(self, image):
        """Return the newest revision, or else None."""
        folder = self.file("annotations", safe(image))
        names = os.listdir(folder) if os.path.isdir(folder) else []
        found = [name[:-5] for name in names if re.match(r"^r[0-9]{4,}\.json$", name)]
        return max(found, key=lambda name: int(name[1:])) if found else None

    def save(self, image, data, count, etag, truth=None, resolve=None, show=None, request=None):
        base = etag.strip('"')
        values = {"image": image, "base": base, "truth": truth, "resolve": resolve}
        if not count:
            values["empty"] = True
        asked = self.ask("rois", filled(values), data if count else None)
        # The request stands for its result, which is not known here: the base of further edits.
        return {"revision": None, "new": False, "objects": count, "said": [INBOX], "job": asked,
                "base": '"%s"' % asked}

    def plan(self):
        return None

    def start(self, kind, **options):
        return self.ask(kind, filled(options))

    def adopt(self, variant, group=None, run=None):
        return {"job": self.ask("adopt", filled({"variant": variant, "group": group, "run": run}))}

    def verdict(self, image, run, variant, verdict):
        values = {"image": image, "run": run, "variant": variant, "verdict": verdict}
        return {"job": self.ask("verdict", values)}

    def ask_questions(self, count, group=None, run=None):
        return self.ask("ask", filled({"count": count, "group": group, "run": run}))

    def answer(self, given, data=None, request=None):
        return {"job": self.ask("answer", filled(given), data), "said": [INBOX]}

    def review(self, **values):
        return self.ask("review", filled(values))

    def analyse(self, **values):
        return self.ask("analyse", filled(values))

    def classify(self, **values):
        return self.ask("classify", filled(values))

    def training(self):
        """Return None: what can be trained is not known here."""
        return None

    def train(self, **values):
        return self.ask("train", filled(values))

    def correct_next(self, **values):
        return self.ask("next", filled(values))

    def promote(self, **values):
        return self.ask("promote", filled(values))

    def made_stream(self, path):
        folder, _, name = path.partition("/")
        if folder not in ("tables", "plots"):
            raise Trouble("%s is no file of an analysis." % path, "They are in tables and plots.")
        return self.stream(folder, safe(name))

    def ranking(self, run):
        return (self.json("runs", safe(run), "ranking.json") or {}).get("groups") or {}

    def asked(self, kind):
        """Return the parameters of all requests of a kind, those that are done too."""
        found = []
        for names in (("inbox",), ("inbox", "done")):
            folder = self.file(*names)
            files = os.listdir(folder) if os.path.isdir(folder) else []
            found += [self.json(*(names + (name,))) for name in files if name.endswith(".json")]
        return [one.get("parameters") or {} for one in found if one and one.get("kind") == kind]

    def newest_result(self, kind, fits):
        """Return the result of the newest request of a kind that is done and fits, or None."""
        done = [job for job in self.jobs() if job.get("kind") == kind
                and job.get("state") == "done" and job.get("result")]
        for job in sorted(done, key=lambda job: job.get("at") or "", reverse=True):
            if fits(job["result"]):
                return job["result"]
        return None

    def table(self, image, base=None):
        return None

    def jobs(self):
        folder = self.file("inbox")
        names = os.listdir(folder) if os.path.isdir(folder) else []
        waiting = [name[:-5] for name in names if name.endswith(".json")]
        done = self.file("inbox", "jobs")
        names = os.listdir(done) if os.path.isdir(done) else []
        known = [name[:-5] for name in names if name.endswith(".json")]
        return [self.job(name) for name in sorted(set(waiting) | set(known))]

    def job(self, job):
        told = self.json("inbox", "jobs", safe(job) + ".json")
        if told is None:
            asked = self.json("inbox", safe(job) + ".json") or {}
            told = {"id": job, "state": "waiting", "message": INBOX}
            told.update((name, asked.get(name) or "") for name in ("kind", "author", "at"))
        return told

    def cancel(self, job):
        """Take a request back that was not begun yet."""
        path = File(self.file("inbox", safe(job) + ".json"))
        if self.json("inbox", "jobs", safe(job) + ".json") is not None or not path.delete():
            raise Trouble("Job %s has begun; it cannot be stopped from here." % job,
                          "Stop it on the workstation.")
        return {}

    def ask(self, kind, values, data=None):
        """Write a request: its attachment first, its JSON last and at once."""
        name = "q" + UUID.randomUUID().toString().replace("-", "")[:16]
        attachment = None
        if data is not None:
            attachment = name + ".zip"
            self.write(attachment, data)
        request = {
            "opsef": 1, "id": name, "kind": kind,
            "author": System.getProperty("user.name") or "fiji",
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "parameters": values, "attachment": attachment,
        }
        self.write(name + ".json", bytes_of(json.dumps(request, indent=2)))
        return name

    def write(self, name, data):
        folder = File(self.file("inbox"))
        folder.mkdirs()
        partial, final = File(folder, name + ".partial"), File(folder, name)
        out = FileOutputStream(partial)
        try:
            out.write(data, 0, len(data))
        finally:
            out.close()
        Files.move(partial.toPath(), final.toPath(), [StandardCopyOption.REPLACE_EXISTING])


def safe(name):
    if not SAFE.match(name):
        raise Trouble("%r is no id." % name, "Ids hold letters, digits, '-', '_' and '.'.")
    return name
