"""Ask a service, by an invitation, for a link that opens a page in a browser."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from opsef_bridge.errors import InputError, NotFoundError, OpsefError, WorkerError
from opsef_bridge.files import read_json
from opsef_bridge.sweep.reporting import run_to_report

__all__ = ["objects_link", "report_link"]

SECONDS = 30.0
"""To wait for an answer."""

Ask = Callable[[str, str], dict[str, Any]]
"""Takes a method and a path; returns what the service answers."""


def report_link(invitation: Path, project: str, run: str | None = None) -> str:
    """Return an address that opens the report of a run once, within a minute.

    Parameters
    ----------
    invitation : Path
        ``NAME.opsef``, as `opsef invite` writes it.
    project : str
        Its id in the service: the name of its folder.
    run : str, optional
        Id; by default the newest run that is no batch.

    Raises
    ------
    NotFoundError
        There is no such file, project or run, or the run has no report (yet).
    InputError
        The file is no invitation, or the service does not take its token.
    WorkerError
        The service cannot be reached, or is not the one that invited.
    """

    def find(ask: Ask) -> str:
        base = f"/v1/projects/{quote(project, safe='')}/runs"
        purposes = {one["id"]: one["purpose"] for one in ask("GET", base)["runs"]}
        name = quote(run_to_report(purposes, run), safe="")
        return ask("POST", f"{base}/{name}/report/ticket")["path"]

    return _link(invitation, find)


def objects_link(invitation: Path, project: str) -> str:
    """Return an address that opens the page of objects once, within a minute.

    Parameters
    ----------
    invitation, project
        As `report_link`.

    Raises
    ------
    NotFoundError
        There is no such file or project, or the project has no page of objects (yet).
    InputError
        The file is no invitation, the service does not take its token, or the page is of another
        version.
    WorkerError
        The service cannot be reached, or is not the one that invited.
    """
    path = f"/v1/projects/{quote(project, safe='')}/objects/ticket"
    return _link(invitation, lambda ask: ask("POST", path)["path"])


def _link(invitation: Path, find: Callable[[Ask], str]) -> str:
    """Return the address of a path that a service tells."""
    if not invitation.is_file():
        raise NotFoundError(
            f"there is no invitation {invitation}", hint="Ask for one: opsef invite NAME"
        )
    try:
        told = read_json(invitation)
        address, port, token = str(told["address"]), int(told["port"]), str(told["token"])
        pin = str(told["pin"]) if told["tls"] else None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{invitation} is no invitation", hint="Ask for a new one: opsef invite NAME"
        ) from None
    try:
        link = find(lambda method, path: _ask(address, port, pin, token, method, path))
    except OpsefError:
        raise
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise WorkerError(
            f"the service at {address}:{port} cannot be reached ({error})",
            hint="Is `opsef serve` running there, and the tunnel (`ssh -L`) open?",
        ) from None
    host = f"[{address}]" if ":" in address else address
    return f"{'https' if pin else 'http'}://{host}:{port}{link}"


def _ask(
    address: str, port: int, pin: str | None, token: str, method: str, path: str
) -> dict[str, Any]:
    """Ask once. With a pin the token goes to that certificate only."""
    if pin is None:
        connection = http.client.HTTPConnection(address, port, timeout=SECONDS)
    else:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the pin vouches
        connection = http.client.HTTPSConnection(address, port, timeout=SECONDS, context=context)
    try:
        connection.connect()
        if pin is not None:
            shown = connection.sock.getpeercert(binary_form=True) or b""  # type: ignore[union-attr]
            if not hmac.compare_digest(hashlib.sha256(shown).hexdigest(), pin):
                raise WorkerError(
                    f"{address}:{port} shows another certificate than the one of the invitation",
                    hint="Ask for a new invitation; nothing was sent",
                )
        connection.request(method, path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        told = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status >= 400:
        error = told["error"]
        kind = NotFoundError if answer.status == 404 else InputError
        raise kind(error["message"], hint=error["hint"])
    return told
