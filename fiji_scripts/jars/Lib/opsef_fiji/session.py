"""What is remembered between commands: the invitation file, the project, the last answers.

Kept in ImageJ's preferences. The token is in none of them: it is read from its file.
"""
from ij import Prefs

from opsef_fiji.invitation import read_invitation
from opsef_fiji.offline import Folder
from opsef_fiji.online import Online
from opsef_fiji.trouble import Trouble

FIRST = "Plugins > OpSeF > Connect comes first."


def recall(name, otherwise=""):
    return Prefs.get("opsef." + name, otherwise)


def remember(**values):
    for name, value in values.items():
        Prefs.set("opsef." + name, value)
    Prefs.savePreferences()


def client():
    path = recall("invitation")
    if not path:
        raise Trouble("There is no connection to a service yet.", FIRST)
    return read_invitation(path)


def source():
    """Return the project that is in use: of the service, or a folder."""
    folder = recall("folder")
    if folder:
        return Folder(folder)
    project = recall("project")
    if not project:
        raise Trouble("No project is chosen yet.", FIRST)
    return Online(client(), project)
