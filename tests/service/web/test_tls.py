"""The certificate and its pin."""

from __future__ import annotations

import hashlib
import stat

import pytest

from opsef_bridge.errors import ProjectError
from opsef_bridge.service import tls
from opsef_bridge.service.tls import certificate, pin_of

x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed")


def test_it_is_made_once_and_kept(tmp_path):
    file = certificate(tmp_path, ["ws.example", "10.1.2.3"])
    first = file.read_bytes()
    assert certificate(tmp_path, ["another.example"]) == file and file.read_bytes() == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_pin_is_the_sha256_of_the_certificate(tmp_path):
    from cryptography.hazmat.primitives.serialization import Encoding

    file = certificate(tmp_path)
    found = x509.load_pem_x509_certificate(file.read_bytes())
    assert pin_of(file) == hashlib.sha256(found.public_bytes(Encoding.DER)).hexdigest()


def test_it_names_its_hosts_and_is_no_authority(tmp_path):
    found = x509.load_pem_x509_certificate(
        certificate(tmp_path, ["ws.example", "10.1.2.3", "fe80::1", "örtlich"]).read_bytes()
    )
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "ws.example"}
    addresses = {str(one) for one in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "::1", "10.1.2.3", "fe80::1"}
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_two_services_have_two_keys(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert pin_of(certificate(tmp_path / "a")) != pin_of(certificate(tmp_path / "b"))


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN CERTIFICATE-----\nx\n"])
def test_a_damaged_one_is_not_replaced_in_silence(tmp_path, text):
    file = certificate(tmp_path)
    file.write_text(text)
    with pytest.raises(ProjectError, match="invite everybody again"):
        certificate(tmp_path)
    assert file.read_text() == text


def test_one_that_is_over_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tls, "YEARS", 0)
    with pytest.raises(ProjectError, match="is over"):
        certificate(tmp_path)
