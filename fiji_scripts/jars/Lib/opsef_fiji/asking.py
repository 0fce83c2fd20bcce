"""Ask for something once, however often it takes: every try carries the same id."""
from java.util import UUID

from opsef_fiji.trouble import Cancelled, NoConnection
from opsef_fiji.waiting import sleep

HEADER = "X-Opsef-Request"
PAUSES_MS = [500, 1500, 4000]


class Silent(object):
    """Progress that nobody looks at."""

    def progress(self, current, maximum, message):
        pass

    def escaped(self):
        return False

    def done(self):
        pass


def new_id():
    return UUID.randomUUID().toString()


def persistently(action, show=None):
    """Return action(); where no answer comes ask again, a few times. Esc ends the asking."""
    show = show or Silent()
    tries = len(PAUSES_MS) + 1
    for number, pause in enumerate(PAUSES_MS + [None]):
        try:
            return action()
        except NoConnection as trouble:
            if pause is None:
                raise NoConnection("%s It was asked %d times." % (trouble.message, tries),
                                   trouble.step)
        show.progress(0, 0, "no answer; asking again (%d of %d)" % (number + 2, tries))
        sleep(pause, show)
        if show.escaped():
            raise Cancelled()
