"""Start the service on this machine, by the Python that the person named, and nothing else."""
import os

from java.io import File
from java.lang import IllegalThreadStateException, ProcessBuilder, String, System, Thread

from opsef_fiji.client import read_all
from opsef_fiji.invitation import read_invitation
from opsef_fiji.trouble import Cancelled, Trouble

SECONDS = 60


def start_service(python, root, show):
    """Return the path of an invitation to a service of ROOT, started if it does not answer."""
    if not os.path.isabs(python) or not os.path.isfile(python):
        raise Trouble("%s is no Python interpreter." % python,
                      "Give its whole path, such as C:/opsef/python.exe or /opt/opsef/bin/python.")
    if not root or not os.path.isdir(root):
        raise Trouble("There is no folder %s." % root, "Choose the folder of your projects.")
    file = os.path.join(root, ".opsef", "local", person() + ".opsef")
    if os.path.isfile(file) and answers(file):
        return file
    log = File(os.path.join(root, ".opsef", "serve.log"))
    log.getParentFile().mkdirs()
    builder = ProcessBuilder([python, "-m", "opsef_bridge", "serve", root, "--port", "0"])
    builder.redirectErrorStream(True)
    builder.redirectOutput(log)
    process = builder.start()
    end = System.currentTimeMillis() + SECONDS * 1000
    told = os.path.join(root, ".opsef", "service.json")
    try:
        while System.currentTimeMillis() < end:
            if show.escaped():
                raise Cancelled()
            if ended(process):
                raise Trouble("The service did not start.", "Its reason is in %s." % log.getPath())
            show.progress(0, 0, "starting the service")
            if os.path.isfile(told) and os.path.getmtime(told) * 1000 > end - SECONDS * 1000 - 2000:
                invite(python, root, file)
                if answers(file):
                    return file
            Thread.sleep(300)
    finally:
        show.done()
    raise Trouble("The service did not answer in %d s." % SECONDS, "See %s." % log.getPath())


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
