"""A project on a service. `offline.Folder` has the same methods."""
from opsef_fiji.client import bytes_of, path_of
from opsef_fiji.trouble import Trouble

TIFF = "image/tiff"
ZIP = "application/zip"
NO = ("no", "false", "0")


class Online(object):
    """One project, by its id, through a Client."""

    online = True

    def __init__(self, client, project):
        self.client, self.project = client, project
        self.place = client.base

    def path(self, *names, **query):
        if not self.project:
            raise Trouble("No project is chosen.", "Plugins > OpSeF > Connect, or New Project.")
        return path_of("v1", "projects", self.project, *names, **query)

    def about(self):
        return self.client.get(self.path())

    def project_key(self):
        """Return what no other project has, be it of the same name; the same at any address."""
        return self.about().get("key")

    def images(self):
        """Return the images that are not excluded."""
        found = listed(self.client.get(self.path("images")), "images")
        return [one for one in found if not isinstance(one, dict) or included(one)]

    def runs(self):
        return listed(self.client.get(self.path("runs")), "runs")

    def run(self, run):
        return self.client.get(self.path("runs", run))

    def image_stream(self, image):
        return self._stream(self.path("images", image, "data"))[0]

    def image_mark(self, image):
        """Return what only this very picture has: its ETag."""
        stream, mark = self._stream(self.path("images", image, "data"), {"Range": "bytes=0-0"})
        stream.close()
        return mark

    def compare_stream(self, run, image, start=0, mark=None):
        """Return (stream, mark) of a comparison from a byte on; None where it is another now."""
        path = self.path("runs", run, "compare", image)
        if not start:
            return self._stream(path)
        return self._stream(path, {"Range": "bytes=%d-" % start, "If-Range": mark}, 206)

    def _stream(self, path, headers=None, wanted=None):
        from opsef_fiji.client import Answer, Whole, read_all, refusal

        connection, stream, status = self.client.open("GET", path, headers=headers)
        if status >= 300:
            raise refusal(Answer(status, read_all(stream), connection))
        if wanted not in (None, status):
            connection.disconnect()
            return None
        whole = Whole(stream, connection.getContentLengthLong())
        return whole, connection.getHeaderField("ETag")

    def objects(self, image, base=None):
        """Return (zip as byte[], ETag) of r0002, run-0001/v0007, or the newest there is."""
        query = {}
        if base and "/" in base:
            query["run"], query["variant"] = base.split("/")
        elif base:
            query["revision"] = base
        answer = self.client.send("GET", self.path("rois", image, **query))
        return answer.data, answer.header("ETag") or '"none"'

    def save(self, image, data, count, etag, truth=None, resolve=None, show=None, request=None):
        """Save objects as a revision; return what the service says. Stale if others did too.

        request: the id that an earlier try had, of which no answer came.
        """
        path = self.path("rois", image, truth=truth, resolve=resolve)
        headers = {"If-Match": etag}
        if not count:
            headers["X-Opsef-Objects"] = "0"
        answer = self.client.ask("PUT", path, data, ZIP, headers, show, request)
        # What was sent is a form of this from now on: the base of what is edited after it.
        return dict(answer.json(), base=answer.header("ETag"))

    def plan(self):
        return self.client.get(self.path("plan"))

    def start(self, kind, **options):
        """Start a sweep or a batch; return the id of its job."""
        return job_id(self.client.post(self.path("runs"), filled(dict(options, kind=kind))))

    def adopt(self, variant, group=None, run=None):
        values = {"variant": variant, "group": group or None, "run": run or None}
        return self.client.post(self.path("adopt"), filled(values))

    def verdict(self, image, run, variant, verdict):
        values = {"image": image, "run": run, "variant": variant, "verdict": verdict}
        return self.client.post(self.path("verdicts"), values)

    def ask_questions(self, count, group=None, run=None):
        """Start choosing places where variants disagree; return the id of the job."""
        values = {"count": count, "group": group or None, "run": run or None}
        return job_id(self.client.post(self.path("questions"), filled(values)))

    def answer(self, given, data=None, request=None):
        """Send an answer ({"image", "run", "variant", "label", "answer"}) with a zip, if drawn."""
        path = self.path("answers", **given)
        return self.client.ask(
            "POST", path, data or bytes_of(""), ZIP, request=request).json()

    def review(self, **values):
        """Start a review of an image, or of the order of all; return the id of the job."""
        return job_id(self.client.post(self.path("review"), filled(values)))

    def analyse(self, **values):
        """Start measuring all images; return the id of the job."""
        return job_id(self.client.post(self.path("analyse"), filled(values)))

    def classify(self, **values):
        """Start giving classes by a gate, by clusters or by learning; return the id of the job."""
        return job_id(self.client.post(self.path("classify"), filled(values)))

    def training(self):
        """Return what can be trained, from which weights and on how many images."""
        return self.client.get(self.path("train"))

    def train(self, **values):
        """Start a training; return the id of the job."""
        return job_id(self.client.post(self.path("train"), filled(values)))

    def correct_next(self, **values):
        """Start looking for what to correct next; return the id of the job."""
        return job_id(self.client.post(self.path("next"), filled(values)))

    def promote(self, **values):
        """Start making a candidate a model of the project; return the id of the job."""
        return job_id(self.client.post(self.path("promote"), filled(values)))

    def made_stream(self, path):
        """Return a file that an analysis wrote: tables/objects.csv, plots/pca.png."""
        return self._stream(self.path("files", path=path))[0]

    def ranking(self, run):
        """Return what the ranking of a run says of each group: words, first choice, ties."""
        return self.client.get(self.path("runs", run, "ranking")).get("groups") or {}

    def table(self, image, base=None):
        query = {"format": "json"}
        if base and "/" in base:
            query["run"], query["variant"] = base.split("/")
        elif base:
            query["revision"] = base
        return listed(self.client.get(self.path("table", image, **query)), "rows")

    def upload(self, name, data, show=None):
        path = self.path("images", name=name)
        return self.client.ask("POST", path, data, TIFF, show=show).json()["image"]

    def jobs(self):
        return listed(self.client.get(self.path("jobs")), "jobs")

    def job(self, job):
        return self.client.get(self.path("jobs", job))

    def cancel(self, job):
        return self.client.send("DELETE", self.path("jobs", job)).json()


class Segmenting(object):
    """The jobs of Segment Image, which belong to no project."""

    def __init__(self, client):
        self.client = client

    def engines(self):
        return listed(self.client.get("/v1/models"), "engines")

    def start(self, data, show=None, **options):
        path = path_of("v1", "segment", **options)
        return job_id(self.client.ask("POST", path, data, TIFF, show=show).json())

    def job(self, job):
        return self.client.get(path_of("v1", "segment", job))

    def cancel(self, job):
        return self.client.send("DELETE", path_of("v1", "segment", job)).json()

    def objects(self, job):
        return self.client.send("GET", path_of("v1", "segment", job, "rois")).data


def projects(client):
    """Return the ids of the projects of a service."""
    found = listed(client.get("/v1/projects"), "projects")
    return [one.get("id") if isinstance(one, dict) else one for one in found]


def new_project(client, **values):
    return client.post("/v1/projects", filled(values))["id"]


def job_id(answer):
    job = answer.get("job", answer)
    return job["id"] if isinstance(job, dict) else job


def listed(answer, name):
    """Return a list that comes bare, or under its name."""
    return answer.get(name, []) if isinstance(answer, dict) else answer


def filled(values):
    return dict((key, value) for key, value in values.items() if value not in (None, ""))


def included(row):
    """Tell whether an image, of the service or of a folder, is not excluded by hand."""
    return (u"%s" % row.get("include", "")).strip().lower() not in NO
