"""The file NAME.opsef that a person gets: where the service is, and a token of their own."""
import io
import json

from opsef_fiji.client import INVITE, Client
from opsef_fiji.trouble import Trouble


def read_invitation(path):
    """Return the Client of an invitation file."""
    try:
        with io.open(path, encoding="utf-8") as file:
            told = json.load(file)
        if told["opsef"] != 1:
            raise Trouble("This invitation is of another version.", INVITE)
        return Client(
            told["address"], told["port"], told["token"], bool(told.get("tls")),
            told.get("pin"), told.get("name", ""),
        )
    except IOError:
        raise Trouble("There is no file %s." % path, "Choose the .opsef file that you were sent.")
    except (ValueError, KeyError, TypeError):
        raise Trouble("%s is not an invitation." % path, INVITE)
