"""Wait for a job: through lost connections and a sleeping laptop, until it ends or Esc."""
from java.lang import System, Thread

from opsef_fiji.trouble import Cancelled, NoConnection, Trouble

ENDED = ("done", "failed", "cancelled")
FIRST_MS, LONGEST_MS = 200, 2000
LATER = "It can go on without you: Plugins > OpSeF > Jobs shows it."


def wait_for(source, job_id, show, cancel=True):
    """Return the finished job.

    source: has job(id) and cancel(id). show: has progress(current, maximum, message),
    escaped() -> bool and done(). Esc cancels the job, or only the waiting with cancel=False.
    """
    pause, said_so = FIRST_MS, False
    try:
        while True:
            if show.escaped():
                give_up(source, job_id, cancel)
            try:
                job = source.job(job_id)
            except NoConnection:
                # The job does not need us; it is found again when the connection is back.
                show.progress(0, 0, "No connection; trying again. Esc stops waiting.")
                said_so = True
                job = None
            if job is not None:
                if said_so:
                    pause, said_so = FIRST_MS, False
                if ended(job):
                    return checked(job)
                words = job.get("message") or job.get("state") or ""
                show.progress(job.get("current") or 0, job.get("maximum") or 0, words)
            sleep(pause, show)
            pause = min(LONGEST_MS, pause * 3 // 2)
    finally:
        show.done()


def ended(job):
    """Tell whether a job is over; one that was interrupted may be begun again."""
    return job.get("state") in ENDED or (job.get("state") == "interrupted" and job.get("error"))


def give_up(source, job_id, cancel):
    if not cancel:
        raise Cancelled()
    try:
        source.cancel(job_id)
    except NoConnection:
        raise Trouble("Stopped waiting, but the service cannot be told to stop.", LATER)
    raise Trouble("Job %s was told to stop." % job_id, "What is done so far is kept.")


def checked(job):
    """Return a job that is done; raise what went wrong otherwise."""
    if job.get("state") == "done":
        return job
    error = job.get("error") or {}
    message = error.get("message") or job.get("message") or "it said nothing"
    step = error.get("hint") or "Plugins > OpSeF > Jobs tells more."
    if job.get("state") == "failed":
        raise Trouble("It failed: %s" % message, step)
    raise Trouble("The job was %s: %s" % (job.get("state"), message), step)


def sleep(milliseconds, show):
    """Sleep in short naps, so that Esc is seen at once."""
    end = System.currentTimeMillis() + milliseconds
    while System.currentTimeMillis() < end and not show.escaped():
        Thread.sleep(min(50, max(1, end - System.currentTimeMillis())))
