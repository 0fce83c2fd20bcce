"""A real server on a free port."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

from opsef_bridge.errors import InputError, LockedError, NotFoundError
from opsef_bridge.service.people import invite, known_address, revoke

pytest.importorskip("uvicorn", reason="the extra `service` is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from opsef_bridge.service.serve import _listening, is_loopback, serve  # noqa: E402


def asking(running, token: str, **more) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=running.url, headers=headers, timeout=30, **more)


def raw(running, text: bytes) -> bytes:
    """Send bytes as they are, and return what comes back until the server closes."""
    with socket.create_connection((running.address, running.port), timeout=10) as connection:
        connection.sendall(text)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # it closes before it has read all
            while part := connection.recv(65536):
                answer += part
        return answer


def test_it_answers_prints_its_address_and_ends(root, start_server, capfd):
    running = start_server(root)
    _, token = invite(root, "ada")
    with asking(running, token) as client:
        assert client.get("/v1/health").json()["api"] == 1
        assert client.get("/v1/projects").json()["projects"] == ["demo"]
    assert running.url == f"http://127.0.0.1:{running.port}"
    assert f"at {running.url}\n" in capfd.readouterr().out
    known = known_address(root)
    assert (known["address"], known["port"], known["pin"]) == ("127.0.0.1", running.port, None)
    running.stop()
    with pytest.raises(OSError):
        for _ in range(1000):
            socket.create_connection(("127.0.0.1", running.port), timeout=5).close()
            time.sleep(0.02)


def test_only_loopback_without_the_flag(root):
    for host in ("0.0.0.0", "::", "", "192.168.0.1", "example.org", "127.0.0.1.example.org"):
        assert not is_loopback(host)
        with pytest.raises(InputError, match="other machines"):
            serve(root, host, ready=lambda running: running.stop())


def test_one_service_a_folder_and_one_a_port(root, start_server, tmp_path):
    running = start_server(root)
    with pytest.raises(LockedError, match=f"at {running.url} .*process") as caught:
        serve(root, ready=lambda other: other.stop())
    assert "opsef invite" in caught.value.hint
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="cannot be listened on"):
        serve(tmp_path / "other", port=running.port, ready=lambda other: other.stop())
    with pytest.raises(NotFoundError):
        serve(tmp_path / "missing")


@pytest.mark.parametrize("left", ["as it was", "half"])
def test_what_a_killed_service_left_behind_is_no_obstacle(root, start_server, left):
    code = "import sys; from opsef_bridge.service.serve import serve; serve(sys.argv[1])"
    command = [sys.executable, "-c", code, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        try:
            assert "http" in first.stdout.readline()
        finally:
            first.kill()
    file = root / ".opsef" / "service.json"
    assert json.loads(file.read_text())["pid"] == first.pid
    if left == "half":
        file.write_text("{")
    running = start_server(root)
    assert known_address(root)["port"] == running.port
    file.write_text("{")
    with pytest.raises(LockedError, match="another service serves"):
        serve(root, ready=lambda other: other.stop())


def test_answers_are_not_held_back():
    # asyncio sets TCP_NODELAY only on sockets whose protocol is named; else each answer of two
    # packets waits 40 ms for the other side.
    with _listening("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_tls_is_pinned(root, start_server):
    running = start_server(root, host="0.0.0.0", allow_remote=True)
    _, token = invite(root, "ada")
    text = ssl.get_server_certificate(("127.0.0.1", running.port))
    served = hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest()
    assert running.tls and running.pin == served == known_address(root)["pin"]
    trusted = ssl.create_default_context(cadata=text)
    headers = {"Authorization": f"Bearer {token}"}
    url = f"https://127.0.0.1:{running.port}/v1"
    with httpx.Client(verify=trusted, headers=headers) as client:
        assert client.get(f"{url}/me").json() == {"name": "ada"}
        assert client.get(f"{url}/me", headers={"Host": "evil.example"}).status_code == 421
        name = socket.gethostname()
        assert client.get(f"{url}/me", headers={"Host": name}).status_code == 200
    with pytest.raises(httpx.ConnectError), httpx.Client() as client:
        client.get(f"{url}/health")
    plain = raw(
        running_at(running),
        b"GET /v1/health HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n\r\n",
    )
    assert b"opsef" not in plain


def running_at(running):
    """Return a service on all addresses as seen on loopback."""
    return dataclasses.replace(running, address="127.0.0.1")


ODD = [
    b"/../../etc/passwd", b"/v1/projects/../../../etc/passwd", b"//etc/passwd",
    b"/v1/projects/%2e%2e%2f%2e%2e%2fetc%2fpasswd", b"/v1/projects/demo/images/..%2f..",
    b"/v1/projects/a%00b", b"/v1/projects/%ff%fe", b"/v1/projects/demo%5c..%5c..",
    b"/v1/projects/" + b"a" * 5000, b"http://evil.example/v1/projects", b"*", b"/v1/\x80",
]  # fmt: skip


def test_odd_addresses_as_they_are(root, start_server):
    running = start_server(root)
    _, token = invite(root, "ada")
    head = b"Connection: close\r\nHost: localhost\r\nAuthorization: Bearer " + token.encode()
    for path in ODD:
        answer = raw(running, b"GET " + path + b" HTTP/1.1\r\n" + head + b"\r\n\r\n")
        assert answer.split(b" ", 2)[1] in (b"400", b"404", b"421", b"422"), (path, answer[:200])
        assert b"root:" not in answer


def test_no_host_and_two_hosts(root, start_server):
    running = start_server(root)
    for hosts in (b"", b"Host: localhost\r\nHost: evil.example\r\n", b"Host: evil.example\r\n"):
        answer = raw(running, b"GET /v1/health HTTP/1.1\r\nConnection: close\r\n" + hosts + b"\r\n")
        assert answer.split(b" ", 2)[1] in (b"400", b"421")
    assert b" 421 " in raw(running, b"GET /v1/health HTTP/1.0\r\n\r\n")


def test_the_token_is_never_in_the_log(root, start_server, capfd, until):
    running = start_server(root)
    _, token = invite(root, "ada")
    with asking(running, token) as client:
        for path in ("/v1/me", "/v1/projects/none", "/v1/projects/demo/rois/x", "/nothing"):
            client.get(path)
        (root / ".opsef" / "people.json").write_text("{")
        assert client.get("/v1/me").status_code == 500  # a fault, which is logged
    said = ""

    def logged() -> bool:
        nonlocal said
        captured = capfd.readouterr()
        said += captured.err + captured.out
        return "invite everybody again" in said

    until(logged)
    assert token not in said


def test_a_person_who_is_revoked_loses_an_open_connection(root, start_server):
    running = start_server(root)
    _, token = invite(root, "ada")
    with asking(running, token) as client:
        assert client.get("/v1/me").status_code == 200
        revoke(root, "ada")
        assert client.get("/v1/me").status_code == 401


def test_a_cut_upload_leaves_nothing(root, start_server, until):
    running = start_server(root)
    _, token = invite(root, "ada")
    before = {path for path in (root / "demo").rglob("*")}
    connection = http.client.HTTPConnection(running.address, running.port, timeout=10)
    connection.putrequest("POST", "/v1/projects/demo/images?name=x.tif")
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Length", "100000")
    connection.endheaders()
    connection.send(b"II*\0" + bytes(1000))
    uploads = root / ".opsef" / "uploads"
    until(lambda: uploads.is_dir() and list(uploads.iterdir()))
    connection.close()
    until(lambda: not list(uploads.iterdir()))
    assert {path for path in (root / "demo").rglob("*")} == before


def test_a_large_upload_is_refused_before_it_comes(root, start_server):
    running = start_server(root, upload_limit=10_000)
    _, token = invite(root, "ada")
    head = (
        "PUT /v1/projects/demo/rois/x HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: 99999999999\r\n\r\n"
    )
    assert b" 413 " in raw(running, head.encode())
    chunked = head.replace("Content-Length: 99999999999", "Transfer-Encoding: chunked").encode()
    assert b" 413 " in raw(running, chunked + b"4e20\r\n" + bytes(20_000) + b"\r\n0\r\n\r\n")


def test_an_image_is_segmented_by_a_job(root, start_server, make_discs):
    import io

    import tifffile

    running = start_server(root)
    _, token = invite(root, "ada")
    file = io.BytesIO()
    tifffile.imwrite(file, make_discs(4), imagej=True)
    with asking(running, token) as client:
        started = client.post("/v1/segment?engine=watershed", content=file.getvalue())
        assert started.status_code == 202, started.text
        job = started.json()["job"]
        end = time.monotonic() + 60
        while (state := client.get(f"/v1/segment/{job}").json())["state"] in ("waiting", "running"):
            assert time.monotonic() < end, state
            time.sleep(0.1)
        assert state["state"] == "done", state
        zip_ = client.get(f"/v1/segment/{job}/rois")
        assert zip_.status_code == 200 and zip_.content.startswith(b"PK")
        assert int(zip_.headers["x-opsef-objects"]) == state["result"]["objects"] > 5


def test_who_follows_a_job_does_not_keep_the_service_from_ending(root, start_server):
    running = start_server(root, upload_limit=10_000)
    _, token = invite(root, "ada")
    from opsef_bridge.project import Project
    from opsef_bridge.service.requests import write_request

    request = write_request(Project(root / "demo"), "sweep", {}, author="ada")
    heard = []

    def follow():
        path = f"/v1/projects/demo/jobs/{request}/events"
        with asking(running, token) as client, client.stream("GET", path) as answer:
            heard.extend(line for line in answer.iter_lines() if line.startswith("data:"))

    thread = threading.Thread(target=follow)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert json.loads(heard[-1][5:])["state"] == "done"
    states = [json.loads(line[5:])["state"] for line in heard]
    assert states == sorted(states, key=["waiting", "running", "done"].index)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(root, number):
    code = "import sys, pathlib; from opsef_bridge.service.serve import serve; serve(sys.argv[1])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        url = process.stdout.readline().split(" at ")[-1].strip()
        assert httpx.get(f"{url}/v1/health").status_code == 200
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == (0 if number == signal.SIGINT else -number)
    assert "Traceback" not in err
