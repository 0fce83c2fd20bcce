"""A certificate for a service that is reached over a network.

It is signed by itself: nobody vouches for it but the pin, its sha256, which the invitation
brings along. So it is kept for years, and is not made anew when the address changes: every
invitation would be void.
"""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from opsef_bridge.errors import ProjectError
from opsef_bridge.files import lock
from opsef_bridge.service.people import service_folder, write_private

__all__ = ["certificate", "pin_of"]

YEARS = 10


def certificate(root: Path, hosts: Iterable[str] = ()) -> Path:
    """Return the file of certificate and key (PEM, 0600); make it where there is none.

    Parameters
    ----------
    root : Path
        The folder of projects; the file is ``.opsef/tls.pem`` in it.
    hosts : iterable of str
        Names and addresses to write into a new certificate, besides those of this machine.

    Raises
    ------
    ProjectError
        There is one that cannot be read, or that is over.
    """
    folder = service_folder(root)
    file = folder / "tls.pem"
    with lock(folder / "tls.lock"):
        if not file.exists():
            write_private(file, _made(["localhost", "127.0.0.1", "::1", *hosts]))
    if _end_of(file) < datetime.now(UTC):
        raise ProjectError(
            f"the certificate {file} is over", hint="Delete it, and invite everybody again"
        )
    return file


def pin_of(file: Path) -> str:
    """Return the sha256 of the certificate in a PEM file, 64 hexadecimal digits.

    Raises
    ------
    ProjectError
        It holds no certificate.
    """
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(_certificate_text(file))).hexdigest()


def _certificate_text(file: Path) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    text = Path(file).read_text(encoding="ascii", errors="replace")
    if begin not in text or end not in text:
        raise ProjectError(
            f"{file} holds no certificate", hint="Delete it, and invite everybody again"
        )
    return text[text.index(begin) : text.index(end) + len(end)] + "\n"


def _end_of(file: Path) -> datetime:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(_certificate_text(file).encode()).not_valid_after_utc
    except ValueError as error:
        raise ProjectError(
            f"{file} cannot be read ({error})", hint="Delete it, and invite everybody again"
        ) from None


def _made(hosts: list[str]) -> str:
    """Make a key on the curve P-256 and a certificate that it signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "opsef_bridge")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # The clock of a laptop may be behind.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return (private + made.public_bytes(serialization.Encoding.PEM)).decode("ascii")


def _names(hosts: Iterable[str]) -> list:
    """Return the hosts as a certificate has them; what it cannot hold is left out."""
    from cryptography import x509

    names = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if host.isascii():
                names.append(x509.DNSName(host))
    return names
