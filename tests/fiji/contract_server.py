"""A server that misbehaves in one way for each path, and a line that does to a real one."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

REPORT = {"conflicts": [{"id": 3}]}


class Handler(BaseHTTPRequestHandler):
    api = 1
    strayed = 0
    came: ClassVar[list[str | None]] = []

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path
        if path == "/v1/health":
            self.answer(200, {"name": "opsef_bridge", "api": self.api, "version": "1"})
        elif self.headers.get("Authorization") != "Bearer right":
            self.answer(401, {"error": {"code": "no-token", "message": "no"}}, Bearer=True)
        elif path == "/v1/me":
            self.answer(200, {"name": "Jürgen"})
        elif path == "/v1/stale":
            error = {"code": "stale", "message": "changed", "hint": "look", "report": REPORT}
            self.answer(412, {"error": error})
        elif path == "/v1/wrong":
            error = {"message": "threshold must be a number", "hint": "Write 0.5"}
            self.answer(422, {"error": error})
        elif path == "/v1/redirect":
            self.send_response(302)
            self.send_header("Location", "/v1/stray")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path == "/v1/stray":
            type(self).strayed += 1
            self.answer(200, {})
        elif path == "/v1/strayed":
            self.answer(200, {"strayed": self.strayed})
        elif path == "/v1/echo":
            self.answer(200, self._body)
        elif path == "/v1/broken":
            self.answer(500, b"<html>oops</html>")
        elif path == "/v1/lost":  # the first answers do not arrive
            self.came.append(self.headers.get("X-Opsef-Request"))
            if self.came.count(self.came[-1]) > 3:  # Java itself sends everything twice
                self.answer(200, {"id": self.came[-1]})
        elif path == "/v1/slow":
            time.sleep(1.0)
            self.answer(200, {})
        elif path == "/v1/cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"short")
            self.close_connection = True
        else:
            self.answer(404, {"error": {"message": f"no {path}"}})

    do_PUT = do_POST = do_GET

    def answer(self, status: int, value: Any, Bearer: bool = False) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        if Bearer:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(certificate: Path | None = None, **changes: Any) -> Iterator[int]:
    """Serve on a free port of loopback, with TLS if there is a certificate; yield the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Changed", (Handler,), changes))
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class Line:
    """A line to a service that holds back, is cut or loses answers, as it is told.

    Attributes
    ----------
    hold, cut : int or None
        After how many bytes a comparison stops coming until `go_on`, or is cut (once).
    lose : int
        How many answers to a PUT or POST of edits get lost, after the service has done it.
    dead : bool
        Whether nothing gets through.
    seen : list of (str, str, str or None)
        Method, path and id of each request that came.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.hold: int | None = None
        self.cut: int | None = None
        self.lose = 0
        self.dead = False
        self.go_on = threading.Event()
        self.seen: list[tuple[str, str, str | None]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Relay,), {"line": self}))
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()


class Relay(BaseHTTPRequestHandler):
    line: Line

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        line = self.line
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line.seen.append((self.command, self.path, self.headers.get("X-Opsef-Request")))
        self.close_connection = True
        if line.dead:
            return
        upstream = HTTPConnection("127.0.0.1", line.target, timeout=60)
        headers = dict(self.headers.items()) | {"Connection": "close"}
        upstream.request(self.command, self.path, body or None, headers)
        answer = upstream.getresponse()
        if line.lose and self.command in ("PUT", "POST"):
            line.lose -= 1
            answer.read()
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self._pass_on(answer, "/compare/" in self.path)
        upstream.close()

    do_PUT = do_POST = do_DELETE = do_GET

    def _pass_on(self, answer: HTTPResponse, watched: bool) -> None:
        line, gone = self.line, 0
        while piece := answer.read(8192):
            gone += len(piece)
            self.wfile.write(piece)
            if watched and line.hold is not None and gone >= line.hold:
                self.wfile.flush()
                line.go_on.wait(60)
            if watched and line.cut is not None and gone >= line.cut:
                line.cut = None
                return
