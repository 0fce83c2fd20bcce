"""A server that speaks the contract, and misbehaves in one way for each path."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REPORT = {"conflicts": [{"id": 3}]}


class Handler(BaseHTTPRequestHandler):
    api = 1
    strayed = 0

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
