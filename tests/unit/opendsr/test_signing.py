"""Certificates: made for development, loaded with care, refused in words an operator can act on."""

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from core.opendsr.signing import open_signer
from core.platform import self_signed
from core.platform.embedded import Misconfigured
from core.platform.settings import Settings
from tests.builders.web import DOMAIN, opendsr_pair, settings


def configured(**opendsr: Any) -> Settings:
    return settings(opendsr=opendsr)


@pytest.mark.parametrize(
    ("host", "kind"), [("localhost", x509.DNSName), ("127.0.0.1", x509.IPAddress), ("::1", x509.IPAddress)]
)
def test_a_pair_for_development_has_one_name_in_both_places(tmp_path: Path, host: str, kind: Any) -> None:
    made = self_signed.pair(tmp_path, host, bits=2048)
    certificate = x509.load_pem_x509_certificate(made.certificate_file.read_bytes())
    assert certificate.subject.rfc4514_string() == f"CN={host}"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name) for name in names.get_values_for_type(kind)] == [host]
    assert made.private_key_file.stat().st_mode & 0o077 == 0
    before = made.certificate_file.read_bytes()
    assert self_signed.pair(tmp_path, host) == made
    assert made.certificate_file.read_bytes() == before
    files = {"certificate_file": made.certificate_file, "private_key_file": made.private_key_file}
    signer = open_signer(configured(processor_domain=host, **files))
    assert signer is not None
    assert signer.self_signed
    assert signer.domain == host


def test_without_files_there_is_no_signer() -> None:
    assert open_signer(configured(certificate_file=None, private_key_file=None)) is None
    with pytest.raises(ValidationError, match="UNLEARN_OPENDSR__CERTIFICATE_FILE"):
        configured(private_key_file=None)


def test_a_certificate_of_another_name_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"other\.example"):
        open_signer(configured(processor_domain="other.example"))


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    other = self_signed.pair(tmp_path, DOMAIN, bits=2048)
    with pytest.raises(Misconfigured, match="not that of the private key"):
        open_signer(configured(private_key_file=other.private_key_file))


def test_keys_that_are_too_weak_or_not_rsa_are_refused(tmp_path: Path) -> None:
    weak = self_signed.pair(tmp_path, DOMAIN, bits=1024)
    with pytest.raises(Misconfigured, match="2048"):
        open_signer(configured(certificate_file=weak.certificate_file, private_key_file=weak.private_key_file))
    curve = tmp_path / "curve.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    curve.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(Misconfigured, match="RSA"):
        open_signer(configured(private_key_file=curve))


def test_files_that_are_no_pem_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("not PEM")
    for wrong in ({"certificate_file": broken}, {"private_key_file": broken}, {"private_key_file": tmp_path / "none"}):
        with pytest.raises(Misconfigured, match="cannot be read"):
            open_signer(configured(**wrong))


def test_the_key_does_not_show(tmp_path: Path) -> None:
    signer = open_signer(configured())
    assert "key=" not in repr(signer).replace("_key", "")
    assert opendsr_pair().private_key_file.read_text() not in repr(signer)
