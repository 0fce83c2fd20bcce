"""What can go wrong, in plain words, with the next step."""


class Trouble(Exception):
    """Something a person must know of: what happened, and what to do next."""

    status = None
    """Of HTTP, where a service said it."""

    def __init__(self, message, step=""):
        Exception.__init__(self, message)
        self.message = message
        self.step = step

    def text(self):
        return self.message + ("\n \n" + self.step if self.step else "")


class Cancelled(Exception):
    """The person cancelled; nothing is to be said."""


class NoConnection(Trouble):
    """The service cannot be reached now; it may be later."""


class Stale(Trouble):
    """Somebody saved changes of the same objects since; `report` says which."""

    def __init__(self, message, step="", report=None):
        Trouble.__init__(self, message, step)
        self.report = report or {}
