"""A key and a certificate that nobody vouches for, for development: made once in a folder and kept there."""

import fcntl
import ipaddress
import os
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from core.platform.clock import utc_now

_VALID_FOR: Final = timedelta(days=365)
_RENEWED_BEFORE: Final = timedelta(days=30)


class Pair(NamedTuple):
    """Where the two are."""

    certificate_file: Path
    private_key_file: Path


def pair(folder: Path, host: str, *, bits: int = 3072) -> Pair:
    """The RSA pair for ``host`` (a name or an IP address) in ``folder``, which must exist.

    Made when there is none, or when the certificate ends soon; processes that start together wait for each other.
    """
    found = Pair(folder / f"{host}.certificate.pem", folder / f"{host}.key.pem")
    with (folder / "pair.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _lasts(found):
            _make(found, host, bits)
    return found


def _lasts(found: Pair) -> bool:
    if not (found.certificate_file.exists() and found.private_key_file.exists()):
        return False
    certificate = x509.load_pem_x509_certificate(found.certificate_file.read_bytes())
    return certificate.not_valid_after_utc > utc_now() + _RENEWED_BEFORE


def _make(target: Pair, host: str, bits: int) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    at = utc_now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(minutes=5))  # receivers' clocks may be behind
        .not_valid_after(at + _VALID_FOR)
        .add_extension(x509.SubjectAlternativeName([_alternative(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(target.private_key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    _write(target.certificate_file, certificate.public_bytes(Encoding.PEM), mode=0o644)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, content: bytes, *, mode: int) -> None:
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    partial.rename(path)
