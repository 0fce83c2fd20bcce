"""Connect: to a service by an invitation, to a folder, or to a service that is started here."""
from ij import IJ, Macro

from opsef_fiji import session
from opsef_fiji.dialogs import Form, Progress
from opsef_fiji.online import projects
from opsef_fiji.trouble import Trouble

INVITATION, FOLDER, HERE = "the invitation", "the folder", "a service started here"
WAYS = [INVITATION, FOLDER, HERE]
NONE = "(none)"


def connect():
    form = Form("Connect")
    form.say("Open the invitation that you were sent (NAME.opsef), or choose a project folder.")
    form.choice("Connect to", WAYS, FOLDER if session.recall("folder") else session.recall("way"))
    form.file("Invitation file", session.recall("invitation")).turns_to(INVITATION)
    form.folder("Folder of a project (without a service)", session.recall("folder"))
    form.turns_to(FOLDER)
    form.text("Interpreter (to start a service here)", session.recall("interpreter"), 30)
    form.turns_to(HERE)
    form.folder("Root of its projects", session.recall("root")).turns_to(HERE)
    way, invitation, folder, interpreter, root = form.ask()
    way = way_of(way, Macro.getOptions())
    if way == FOLDER:
        if not folder:
            raise Trouble("No folder was chosen.", "Choose the folder of a project.")
        from opsef_fiji.offline import Folder

        project = Folder(folder)
        session.remember(folder=folder)
        IJ.showStatus("OpSeF: working on the folder of %s" % project.project)
        return
    if way == HERE:
        if not interpreter:
            raise Trouble("No interpreter was named.", "Give the path of the Python with OpSeF.")
        from opsef_fiji.local import start_service

        invitation = start_service(interpreter, root, Progress("Connect"))
        session.remember(interpreter=interpreter, root=root)
    if not invitation:
        raise Trouble("No invitation was chosen.", "Ask who runs the service: opsef invite NAME.")
    from opsef_fiji.invitation import read_invitation

    client = read_invitation(invitation)
    name = client.check()
    session.remember(invitation=invitation, folder="", way=way)
    known = projects(client)
    choose = Form("Connected as %s" % name)
    choose.choice("Project", [NONE] + known, session.recall("project"))
    project = choose.ask()[0]
    if project != NONE and project not in known:
        raise Trouble("There is no project %s." % project, "These are there: " + ", ".join(known))
    session.remember(project="" if project == NONE else project)
    IJ.showStatus("OpSeF: connected as %s%s" % (
        name, "" if project == NONE else ", project " + project))


def way_of(chosen, options):
    """Return what Connect connects to.

    options: of a macro, or None. Macros from before there was this choice name no way: then it
    is what their first field is that is not empty: folder, interpreter, invitation.
    """
    if options is None or Macro.getValue(options, "connect", ""):
        if chosen not in WAYS:
            raise Trouble("%s is no answer." % chosen, "Choose of " + ", ".join(WAYS))
        return chosen
    if Macro.getValue(options, "folder", ""):
        return FOLDER
    return HERE if Macro.getValue(options, "interpreter", "") else INVITATION
