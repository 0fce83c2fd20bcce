"""Pages in a browser: a link that opens once, and a key for the page that it opens.

A browser that follows a link sends no token, and a token in an address would lie in its
history. So who has a token gets a *ticket* for one page, a report or the page of objects: an
address that is good for a minute and opens once. The page that comes gets a *key* of its own,
which only it knows, for what it saves (verdicts, or classes) in that project and nothing else.
Both are kept in memory, with the token of the person: who is shut out is shut out of the pages
too. No cookies are used, so other pages cannot speak for this one.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["KEY_SECONDS", "MOST", "PREFIX", "TICKET_SECONDS", "Page", "Pages", "Ticket"]

Page = Literal["report", "objects"]

PREFIX = "/report/"
"""Beginning of the address that a ticket makes."""

TICKET_SECONDS, KEY_SECONDS = 60.0, 12 * 3600.0
"""How long a link may be followed, and how long the page that it opened may save."""

DOORS: dict[Page, tuple[str, tuple[str, ...]]] = {
    "report": ("verdicts", ("GET", "POST")),
    "objects": ("classes", ("POST",)),
}
"""What the key of a page opens: a path below that of its project, and by which methods."""

MOST = 256
"""Tickets, and keys, at a time; the oldest make room."""


@dataclass(frozen=True)
class Ticket:
    """Who may see which page, until when; `run` is of a report."""

    token: str
    project: str
    page: Page
    until: float
    run: str = ""


class Pages:
    """The tickets and keys of a service.

    Parameters
    ----------
    who : callable
        Returns the name for a token, or None.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self, who: Callable[[str], str | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._who, self._clock = who, clock
        self._lock = threading.Lock()
        self._tickets: dict[str, Ticket] = {}
        self._keys: dict[str, Ticket] = {}

    def ticket(self, token: str, project: str, page: Page, run: str = "") -> str:
        """Return a ticket for a page, of a report for that of a run; for who has that token."""
        until = self._clock() + TICKET_SECONDS
        return self._add(self._tickets, Ticket(token, project, page, until, run))

    def take(self, ticket: str) -> tuple[Ticket, str, str] | None:
        """Use a ticket up.

        Returns
        -------
        (Ticket, str, str) or None
            The ticket, the name of its person, and the key of the page; None where the ticket
            is unknown, was used, is too old, or its person is shut out by now.
        """
        with self._lock:
            found = self._tickets.pop(ticket, None)
        author = self._author(found)
        if found is None or author is None:
            return None
        page = replace(found, until=self._clock() + KEY_SECONDS)
        return found, author, self._add(self._keys, page)

    def who(self, method: str, path: str, key: str) -> str | None:
        """Return the name of the person whose page has that key, where a page may ask that."""
        found = self._keys.get(key)
        if found is None:
            return None
        door, methods = DOORS[found.page]
        opens = path == f"/v1/projects/{found.project}/{door}" and method in methods
        return self._author(found) if opens else None

    def _author(self, ticket: Ticket | None) -> str | None:
        if ticket is None or ticket.until < self._clock():
            return None
        return self._who(ticket.token)

    def _add(self, where: dict[str, Ticket], ticket: Ticket) -> str:
        name = secrets.token_urlsafe(32)
        with self._lock:
            now = self._clock()
            for old in [one for one, there in where.items() if there.until < now]:
                del where[old]
            while len(where) >= MOST:
                del where[next(iter(where))]
            where[name] = ticket
        return name
