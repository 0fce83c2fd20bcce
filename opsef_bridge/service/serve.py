"""Run the service: bind, TLS, start, stop."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from opsef_bridge.errors import InputError, LockedError, NotFoundError
from opsef_bridge.files import lock, write_json
from opsef_bridge.service.app import UPLOAD_LIMIT, create_app
from opsef_bridge.service.people import known_address, service_folder
from opsef_bridge.service.pixels import PIXEL_LIMIT
from opsef_bridge.service.tls import certificate, pin_of

__all__ = ["Running", "is_loopback", "serve"]

GRACE_SECONDS = 5
"""For answers that are under way when the service is stopped."""


@dataclass(frozen=True)
class Running:
    """A service that answers.

    Attributes
    ----------
    address : str
        Name or number by which this machine reaches it.
    port : int
    tls : bool
    pin : str or None
        sha256 of the certificate, with TLS.
    """

    address: str
    port: int
    tls: bool
    pin: str | None
    server: uvicorn.Server = field(repr=False, compare=False)

    @property
    def url(self) -> str:
        """The address with scheme and port."""
        return _url(self.address, self.port, self.tls)

    def stop(self) -> None:
        """Ask it to end; jobs that run go on by themselves."""
        self.server.should_exit = True


def serve(
    root: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    allow_remote: bool = False,
    ready: Callable[[Running], None] | None = None,
    names: Iterable[str] = (),
    upload_limit: int = UPLOAD_LIMIT,
    pixel_limit: int = PIXEL_LIMIT,
) -> None:
    """Serve a folder of projects until it is interrupted.

    Prints the address once it answers. Jobs are processes of their own: they go on when the
    service ends, and are followed when it starts again.

    Parameters
    ----------
    root : Path
        Folder with a folder for each project.
    host : str
        Where to listen. Everything but loopback needs `allow_remote`, and is TLS.
    port : int
        0 takes a free one.
    allow_remote : bool
        Whether other machines may connect.
    ready : callable, optional
        Called with the `Running` service once it listens.
    names : iterable of str
        More names of this machine, such as an alias, under which others ask for it.
    upload_limit : int
        Bytes of an image or a zip.
    pixel_limit : int
        Pixels of an image, over all its channels and planes.

    Raises
    ------
    InputError
        `host` is not this machine alone and `allow_remote` is not given; or it, or the port,
        cannot be listened on.
    NotFoundError
        There is no folder `root`.
    LockedError
        Another service has this folder; the message has its address.
    """
    root = Path(root).resolve()
    if not root.is_dir():
        raise NotFoundError(f"there is no folder {root}", hint="Make it, or name another")
    local = is_loopback(host)
    if not local and not allow_remote:
        raise InputError(
            f"{host} can be reached by other machines",
            hint="Keep 127.0.0.1 and connect by `ssh -L`; or add --allow-remote, with TLS",
        )
    with _alone(root), _listening(host, port) as listener:
        port = listener.getsockname()[1]
        known = [*_names(host), *names]
        options: dict[str, Any] = {}
        pin = None
        if not local:
            file = certificate(root, known)
            pin = pin_of(file)
            options["ssl_certfile"] = str(file)
        allowed = [_in_header(name) for name in known]
        app = create_app(root, hosts=allowed, upload_limit=upload_limit, pixel_limit=pixel_limit)
        config = uvicorn.Config(
            app,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            **options,
        )

        def tell(server: uvicorn.Server) -> None:
            _started(root, Running(_reached_at(host), port, not local, pin, server), ready)

        with suppress(KeyboardInterrupt):  # which uvicorn raises again, once all is done
            _Server(config, app.state.services.stopping, tell).run(sockets=[listener])


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Be the only service of a folder; one that was killed is none."""
    with ExitStack() as held:
        try:
            held.enter_context(lock(service_folder(root) / "service.lock"))
        except LockedError as error:
            there = ""
            with suppress(OSError, ValueError, KeyError, TypeError):  # it may begin just now
                known = known_address(root) or {}
                there = f" at {_url(known['address'], known['port'], known['tls'])}"
            raise LockedError(
                f"another service serves {root}{there} ({error.message.rpartition(' by ')[2]})",
                hint="Use that one (opsef invite writes the file for Connect), or end it first",
            ) from None
        yield


class _Server(uvicorn.Server):
    """Says when it answers, and lets those who follow a job go when it ends."""

    def __init__(
        self, config: uvicorn.Config, stopping: threading.Event, tell: Callable[[_Server], None]
    ) -> None:
        super().__init__(config)
        self.stopping, self.tell = stopping, tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self.tell(self)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.stopping.set()
        await super().shutdown(sockets=sockets)


def _started(root: Path, running: Running, ready: Callable[[Running], None] | None) -> None:
    """Print and write down where the service is, for `opsef invite`."""
    record = {"address": running.address, "port": running.port, "tls": running.tls}
    record |= {"pin": running.pin, "pid": os.getpid()}
    write_json(service_folder(root) / "service.json", record)
    print(f"Serving {root} at {running.url}", flush=True)
    if ready is not None:
        ready(running)


def _url(address: str, port: int, tls: bool) -> str:
    return f"{'https' if tls else 'http'}://{_in_header(address)}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach what listens on `host`.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay (40 ms an answer) off only where the protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.set_inheritable(False)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(
            f"{host}:{port} cannot be listened on ({error})",
            hint="Choose another port, or 0 for a free one; and an address of this machine",
        ) from None
    return listener


def _names(host: str) -> list[str]:
    """Return the names under which other machines reach what listens on `host`."""
    own = [] if is_loopback(host) else [socket.gethostname(), socket.getfqdn()]
    return list(dict.fromkeys([*([] if _is_any(host) else [host]), *own]))


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _in_header(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _reached_at(host: str) -> str:
    return socket.gethostname() if _is_any(host) else host
