"""Start the service on this machine, by the Python that the person named, and nothing else."""
import io
import json
import os

from java.io import File
from java.lang import IllegalThreadStateException, ProcessBuilder, String, System, Thread

from opsef_fiji.client import Client, read_all
from opsef_fiji.invitation import read_invitation
from opsef_fiji.trouble import Cancelled, Trouble

SECONDS = 60


def start_service(python, root, show):
    """Return the path of an invitation to the service of ROOT: one that runs, or a new one."""
    if System.getProperty("os.name").startswith("Windows"):
        raise Trouble("The service runs on Linux and macOS, not on Windows.",
                      "Start it on another computer, and open its invitation here.")
    if not os.path.isabs(python) or not os.path.isfile(python):
        raise Trouble("%s is no Python interpreter." % python,
                      "Give its whole path, such as /opt/opsef/bin/python.")
    if not root or not os.path.isdir(root):
        raise Trouble("There is no folder %s." % root, "Choose the folder of your projects.")
    file = os.path.join(root, ".opsef", "local", person() + ".opsef")
    record = record_of(root)
    if record is not None and is_there(record) and let_in(python, root, file, record):
        return file
    log = File(os.path.join(root, ".opsef", "serve.log"))
    log.getParentFile().mkdirs()
    builder = ProcessBuilder([python, "-m", "opsef_bridge", "serve", root, "--port", "0"])
    builder.redirectErrorStream(True)
    builder.redirectOutput(log)
    process = builder.start()
    end = System.currentTimeMillis() + SECONDS * 1000
    try:
        while System.currentTimeMillis() < end:
            if show.escaped():
                raise Cancelled()
            if ended(process):
                raise Trouble("The service did not start.", "Its reason is in %s." % log.getPath())
            show.progress(0, 0, "starting the service")
            now = record_of(root)
            if now is not None and now != record and is_there(now):
                if let_in(python, root, file, now):
                    return file
            Thread.sleep(300)
    finally:
        show.done()
    raise Trouble("The service did not answer in %d s." % SECONDS, "See %s." % log.getPath())


def record_of(root):
    """Return what a service of ROOT wrote down about itself when it started, or None."""
    try:
        with io.open(os.path.join(root, ".opsef", "service.json"), encoding="utf-8") as file:
            return json.load(file)
    except (IOError, ValueError):
        return None


def is_there(record):
    """Tell whether OpSeF answers where a service said that it is."""
    try:
        client = Client(record["address"], record["port"], "", record.get("tls"),
                        record.get("pin"))
        return client.get("/v1/health", token=False).get("name") == "opsef_bridge"
    except (Trouble, KeyError):
        return False


def let_in(python, root, file, record):
    """Tell whether we get in: by the invitation that is there, else by a new one."""
    if os.path.isfile(file):
        move(file, record)
        if answers(file):
            return True
    invite(python, root, file)
    return answers(file)


def move(file, record):
    """Let an invitation say where the service listens now; the token in it stays."""
    try:
        with io.open(file, encoding="utf-8") as opened:
            told = json.load(opened)
    except (IOError, ValueError):
        return
    moved = dict(told, **dict((key, record.get(key)) for key in ("address", "port", "tls", "pin")))
    if moved != told:
        with io.open(file, "w", encoding="utf-8") as opened:
            opened.write(u"%s" % json.dumps(moved))


def person():
    name = System.getProperty("user.name") or "me"
    return "".join(c if c.isalnum() else "_" for c in name) or "me"


def ended(process):
    try:
        process.exitValue()
        return True
    except IllegalThreadStateException:
        return False


def answers(file):
    try:
        read_invitation(file).check()
        return True
    except Trouble:
        return False


def invite(python, root, file):
    folder = os.path.dirname(file)
    File(folder).mkdirs()
    builder = ProcessBuilder([python, "-m", "opsef_bridge", "invite", person(), "--root", root,
                              "--to", folder])
    builder.redirectErrorStream(True)
    process = builder.start()
    said = String(read_all(process.getInputStream()), "UTF-8")
    if process.waitFor() != 0:
        raise Trouble("No invitation could be made: %s" % said, "Make one: opsef invite NAME.")
