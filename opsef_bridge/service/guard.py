"""What stands before every handler: Host, token, and the size of what comes in.

It wraps the whole application, so that a new route is closed unless it is named here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["JSON_LIMIT", "OPEN", "Guard", "local_names"]

OPEN = frozenset({"/v1/health", "/fiji.zip"})
"""Paths that need no token."""

JSON_LIMIT = 2**20
"""Bytes of a body that is no upload; routes that take one have a limit of their own."""

_ENCODED = (b"%2f", b"%5c", b"%00")


def local_names() -> set[str]:
    """Return the names by which this machine calls itself."""
    return {"localhost", "127.0.0.1", "[::1]"}


class Guard:
    """ASGI middleware: answers 421, 404, 401 or 413 itself, and lets the rest through.

    The name of the person is then in ``scope["state"]["author"]``.

    Parameters
    ----------
    app : ASGI application
    who : callable
        Takes method, path and token; returns the name of who may ask that with it, or None.
    is_open : callable
        Tells by method and path what needs no token, besides `OPEN`.
    hosts : iterable of str
        What may stand in the header Host, besides the names of this machine. A page on the web
        can let its own name point here (DNS rebinding); the browser then sends that name.
    upload_limit : int
        Bytes of any body.
    is_upload : callable
        Tells by method and path whether a body may be larger than `JSON_LIMIT`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        who: Callable[[str, str, str], str | None],
        is_open: Callable[[str, str], bool] = lambda method, path: False,
        hosts: Iterable[str] = (),
        upload_limit: int,
        is_upload: Callable[[str, str], bool],
    ) -> None:
        self.app = app
        self.who = who
        self.is_open = is_open
        self.hosts = {host.lower() for host in hosts} | local_names()
        self.upload_limit = upload_limit
        self.is_upload = is_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = _headers(scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        upload = self.is_upload(scope["method"], scope["path"])
        limit = self.upload_limit if upload else JSON_LIMIT
        told = headers.get("content-length", "0")
        if not told.isdecimal() or int(told) > limit:
            await _answer(send, 413, "too-large", *too_large(limit))
            return
        await self.app(scope, _limited(receive, limit), send)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[Any, ...] | None:
        name = _without_port(headers.get("host", "")).lower()
        if name not in self.hosts and name != _own_address(scope):
            return 421, "wrong-host", f"{name!r} is not this service", "Use the address it printed"
        raw = scope.get("raw_path", b"").lower()
        if any(part in raw for part in _ENCODED) or "\0" in scope["path"]:
            return 404, "not-found", "there is no such address", "Ids hold no slashes"
        method, path = scope["method"], scope["path"]
        if path in OPEN or self.is_open(method, path):
            return None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = scheme.lower() == "bearer" and token
        author = self.who(method, path, token.strip()) if bearer else None
        if author is None:
            return 401, "no-token", "the token is missing or wrong", "Ask for a new invitation"
        scope.setdefault("state", {})["author"] = author
        return None


def too_large(limit: int) -> tuple[str, str]:
    """Return message and hint for a body above a limit."""
    return (
        f"the body is larger than {limit / 2**20:g} MiB",
        "Send a part of it, or put the file into the project folder on the workstation",
    )


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _without_port(host: str) -> str:
    """Return the name in a Host header; IPv6 addresses keep their brackets."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _own_address(scope: Scope) -> str:
    """Return the address at which the request arrived: one of ours, whatever it is."""
    address = str((scope.get("server") or ("",))[0])
    return f"[{address}]" if ":" in address else address


def _limited(receive: Receive, limit: int) -> Receive:
    """Count what comes, for bodies that do not say how large they are."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, too_large(limit)[0])
        return message

    return counted


async def _answer(send: Send, status: int, code: str, message: str, hint: str) -> None:
    body = json.dumps({"error": {"code": code, "message": message, "hint": hint}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
