"""HTTP to the service: JSON and files, a token, a pinned certificate, and time limits."""
import json

from jarray import array, zeros
from java.io import ByteArrayOutputStream, FilterInputStream, IOException
from java.lang import String
from java.net import HttpRetryException, MalformedURLException, Proxy, URL, URLEncoder
from java.security import MessageDigest
from java.security.cert import CertificateException, X509Certificate
from javax.net.ssl import (
    HostnameVerifier,
    HttpsURLConnection,
    SSLContext,
    SSLException,
    SSLPeerUnverifiedException,
    X509ExtendedTrustManager,
)

from opsef_fiji import API
from opsef_fiji.asking import HEADER, new_id, persistently
from opsef_fiji.trouble import Cancelled, NoConnection, Stale, Trouble

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
CONNECT_MS = 10000
READ_MS = 120000
STREAMED = 16 * 2 ** 20
PIECE = 65536
"""Bytes of a body that go at once where somebody waits: between two of them Esc is seen."""
AGAIN = "Is the service running (opsef serve), and the tunnel or network up? Then try again."
INVITE = "Ask for a new invitation (opsef invite NAME) and open it with Connect."


class PinnedTrust(X509ExtendedTrustManager):
    """Trusts the one certificate whose sha256 the invitation names, and no other."""

    def __init__(self, pin):
        self.pin = pin.replace(":", "").lower()

    def checkServerTrusted(self, chain, kind, *more):
        if digest_of_bytes(chain[0].getEncoded()) != self.pin:
            raise CertificateException("this is not the certificate of the invitation")

    def checkClientTrusted(self, chain, kind, *more):
        raise CertificateException("not a server")

    def getAcceptedIssuers(self):
        return array([], X509Certificate)


class AnyName(HostnameVerifier):
    """The pin says who the server is; its name may be another, as through a tunnel."""

    def verify(self, name, session):
        return True


class Answer(object):
    """What came back: status, the body as byte[], and headers."""

    def __init__(self, status, data, connection):
        self.status, self.data, self.connection = status, data, connection

    def header(self, name):
        return self.connection.getHeaderField(name)

    def text(self):
        return String(self.data, "UTF-8") if len(self.data) else u""

    def json(self):
        return json.loads(u"%s" % self.text()) if len(self.data) else {}


class Client(object):
    """Talks to one service as one person."""

    def __init__(self, address, port, token, tls=False, pin=None, name=""):
        self.name = name
        self.token = token
        self.loopback = address.lower() in LOOPBACK
        if not tls and not self.loopback:
            raise Trouble("The invitation has no TLS, but %s is another machine." % address, INVITE)
        if tls and not pin:
            raise Trouble("The invitation does not name the certificate.", INVITE)
        host = "[%s]" % address if ":" in address and not address.startswith("[") else address
        self.base = "%s://%s:%d" % ("https" if tls else "http", host, int(port))
        self.context = None
        if tls:
            self.context = SSLContext.getInstance("TLS")
            self.context.init(None, [PinnedTrust(pin)], None)

    def check(self):
        """Make sure that the service speaks this version, and knows the token; return the name."""
        health = self.get("/v1/health", token=False)
        if health.get("name") != "opsef_bridge":
            raise Trouble("%s answers, but is not OpSeF." % self.base, INVITE)
        if health.get("api") != API:
            raise Trouble(
                "The service speaks version %s, these scripts version %s."
                % (health.get("api"), API),
                "Install the scripts of this service again: unpack %s/fiji.zip." % self.base,
            )
        self.name = self.get("/v1/me").get("name", "")
        return self.name

    def get(self, path, token=True):
        return self.send("GET", path, token=token).json()

    def post(self, path, values=None):
        body = bytes_of(json.dumps(values if values is not None else {}))
        return self.ask("POST", path, body, "application/json").json()

    def ask(self, method, path, body=None, kind=None, headers=None, show=None, request=None):
        """Send what changes something; without an answer again, by the same id: it is done once."""
        headers = dict(headers or {})
        headers[HEADER] = request or new_id()
        return persistently(
            lambda: self.send(method, path, body, kind, headers, show=show), show)

    def send(self, method, path, body=None, kind=None, headers=None, token=True, read_ms=READ_MS,
             show=None):
        """Send a request and return the Answer; troubles of any kind are raised as such.

        show: is told how much of a large body has gone; Esc there raises Cancelled.
        """
        connection, stream, status = self.open(
            method, path, body, kind, headers, token, read_ms, show)
        try:
            data = read_all(stream)
            whole = connection.getContentLength()
            if stream is not None and 0 <= len(data) < whole:
                raise IOException("%d of %d bytes came" % (len(data), whole))
        except IOException as error:
            raise NoConnection("The connection was cut: %s." % said(error), AGAIN)
        finally:
            connection.disconnect()
        answer = Answer(status, data, connection)
        if status >= 300:
            raise refusal(answer)
        return answer

    def open(self, method, path, body=None, kind=None, headers=None, token=True, read_ms=READ_MS,
             show=None):
        """Send a request; return (connection, the stream of the answer or None, status)."""
        connection = self._connection(path)
        connection.setRequestMethod(method)
        connection.setInstanceFollowRedirects(False)
        connection.setUseCaches(False)
        connection.setConnectTimeout(CONNECT_MS)
        connection.setReadTimeout(read_ms)
        if token:
            connection.setRequestProperty("Authorization", "Bearer " + self.token)
        for name, value in (headers or {}).items():
            connection.setRequestProperty(name, value)
        try:
            if body is not None:
                connection.setDoOutput(True)
                connection.setRequestProperty("Content-Type", kind or "application/octet-stream")
                if len(body) > (PIECE if show else STREAMED):
                    connection.setFixedLengthStreamingMode(len(body))
                write(connection, body, show)
            status = connection.getResponseCode()
            stream = connection.getErrorStream() if status >= 400 else connection.getInputStream()
        except HttpRetryException:
            raise Trouble("The service does not know this invitation.", INVITE)
        except SSLException as error:
            if not is_other_machine(error):  # Java calls a line that is cut this, too
                raise NoConnection("No answer from %s: %s." % (self.base, said(error)), AGAIN)
            raise Trouble(
                "The machine that answers is not the one of the invitation: %s." % said(error),
                "Do not go on by hand. " + INVITE,
            )
        except IOException as error:
            raise NoConnection("No answer from %s: %s." % (self.base, said(error)), AGAIN)
        return connection, stream, status

    def _connection(self, path):
        try:
            url = URL(self.base + path)
        except MalformedURLException as error:
            raise Trouble("The address is not one: %s." % said(error), INVITE)
        # A proxy of the system must never see what stays on this machine.
        connection = url.openConnection(Proxy.NO_PROXY) if self.loopback else url.openConnection()
        if self.context is not None and isinstance(connection, HttpsURLConnection):
            connection.setSSLSocketFactory(self.context.getSocketFactory())
            connection.setHostnameVerifier(AnyName())
        return connection


def write(connection, body, show=None):
    """Send a body; a service may answer (no!) before it has read it all."""
    out = connection.getOutputStream()
    try:
        for start in range(0, len(body), PIECE):
            if show and len(body) > PIECE:
                if show.escaped():
                    connection.disconnect()
                    raise Cancelled()
                show.progress(start, len(body), "%.1f of %.1f MB sent" % (
                    start / 1e6, len(body) / 1e6))
            out.write(body, start, min(PIECE, len(body) - start))
        out.close()
    except HttpRetryException:
        raise
    except IOException as error:
        try:
            connection.getResponseCode()
        except IOException:
            raise error


class Whole(FilterInputStream):
    """A stream that ends too early fails, rather than looking complete."""

    def __init__(self, stream, size):
        FilterInputStream.__init__(self, stream)
        self.stream, self.left = stream, size

    def read(self, *where):
        got = self.stream.read(*where)
        if self.left >= 0:
            if got < 0 and self.left > 0:
                raise IOException("%d bytes are missing" % self.left)
            if got > 0:
                self.left -= got if where else 1
        return got


def is_other_machine(error):
    """Tell whether a certificate is what a connection failed for."""
    while error is not None:
        if isinstance(error, (CertificateException, SSLPeerUnverifiedException)):
            return True
        error = error.getCause()
    return False


def digest_of_bytes(data):
    """Return the sha256 of byte[] as hex."""
    return hex_of(MessageDigest.getInstance("SHA-256").digest(data))


def hex_of(data):
    return "".join("%02x" % (byte & 255) for byte in data)


def refusal(answer):
    """Return the trouble that an answer of 300 and more tells of, with its status."""
    trouble = trouble_of(answer)
    trouble.status = answer.status
    return trouble


def trouble_of(answer):
    try:
        error = answer.json().get("error") or {}
    except (ValueError, AttributeError):
        error = {}
    message = error.get("message") or "The service answered with status %d." % answer.status
    hint = error.get("hint") or ""
    if 300 <= answer.status < 400:
        return Trouble("The service sends us elsewhere; that is not done.", INVITE)
    if answer.status == 401:
        return Trouble("The service does not know this invitation.", INVITE)
    if answer.status == 412:
        return Stale(message, hint, error.get("report"))
    if answer.status in (502, 503, 504):
        return NoConnection(message, hint or AGAIN)
    return Trouble(message, hint or "See Plugins > OpSeF > Jobs, or ask who runs the service.")


def path_of(*names, **query):
    """Return a path of names that may hold anything, and a query without what is None."""
    path = "/" + "/".join(quoted(name) for name in names)
    asked = [(key, query[key]) for key in sorted(query) if query[key] not in (None, "")]
    return path + ("?" + "&".join(k + "=" + quoted(v) for k, v in asked) if asked else "")


def quoted(value):
    # Not Python's urllib: importing it takes Jython longer than all the rest of this package.
    text = URLEncoder.encode(u"%s" % value, "UTF-8")
    return text.replace("+", "%20").replace("*", "%2A").replace("%7E", "~")


def said(error):
    return error.getMessage() or error.getClass().getSimpleName()


def bytes_of(text):
    return String(text).getBytes("UTF-8")


def read_all(stream):
    out = ByteArrayOutputStream()
    if stream is None:
        return out.toByteArray()
    buffer = zeros(65536, "b")
    while True:
        count = stream.read(buffer, 0, len(buffer))
        if count < 0:
            stream.close()
            return out.toByteArray()
        out.write(buffer, 0, count)
