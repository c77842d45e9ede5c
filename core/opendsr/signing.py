"""Signatures by which controllers know that an answer or a callback is ours: RSASSA-PKCS1-v1_5 with SHA-256."""

import base64
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from core.platform.embedded import Misconfigured
from core.platform.settings import Settings

SMALLEST_KEY_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class Signer:
    """The key in use and the certificate that controllers check it by."""

    domain: str
    pem: str
    """The published chain, leaf first."""
    fingerprint: str
    """Hex SHA-256 of the leaf."""
    self_signed: bool
    key: rsa.RSAPrivateKey = field(repr=False)

    def sign(self, body: bytes) -> str:
        """The signature of these very bytes: base64 on one line."""
        return base64.b64encode(self.key.sign(body, padding.PKCS1v15(), hashes.SHA256())).decode()

    def headers(self, body: bytes, *, legacy: bool) -> dict[str, str]:
        """Domain and signature; ``legacy``: under the names of OpenGDPR 1.0 as well."""
        signature = self.sign(body)
        standards = ("OpenDSR", "OpenGDPR") if legacy else ("OpenDSR",)
        named = [(f"X-{name}-Processor-Domain", f"X-{name}-Signature") for name in standards]
        return {name: value for pair in named for name, value in zip(pair, (self.domain, signature), strict=True)}


def open_signer(settings: Settings) -> Signer | None:
    """The signer of the files in the settings; None when there are none, and so no OpenDSR.

    Raises ``Misconfigured`` for a file that cannot be read, a key that is not RSA of 2048 bits or more or does not
    belong to the certificate, and a certificate whose name is not the processor domain.
    """
    files = settings.opendsr
    if files.certificate_file is None or files.private_key_file is None:
        return None
    try:
        chain = files.certificate_file.read_bytes()
        leaf = x509.load_pem_x509_certificates(chain)[0]
        key = load_pem_private_key(files.private_key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise Misconfigured(
            f"UNLEARN_OPENDSR__CERTIFICATE_FILE or __PRIVATE_KEY_FILE cannot be read ({type(error).__name__}); "
            "both must be PEM, the key without a password"
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < SMALLEST_KEY_BITS:
        raise Misconfigured(f"the OpenDSR key must be RSA with at least {SMALLEST_KEY_BITS} bits")
    if key.public_key() != leaf.public_key():
        raise Misconfigured("the OpenDSR certificate is not that of the private key")
    _check_names(leaf, settings.processor_domain)
    return Signer(
        domain=settings.processor_domain,
        pem=chain.decode("ascii", errors="ignore"),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        self_signed=leaf.issuer == leaf.subject,
        key=key,
    )


def _check_names(leaf: x509.Certificate, domain: str) -> None:
    common = [str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = {str(name.value) for name in alternatives}
    except x509.ExtensionNotFound:
        names = set[str]()
    if common != [domain] or domain not in names:
        raise Misconfigured(
            f"the OpenDSR certificate must have the processor domain {domain} as common name and among its alternative "
            "names; see UNLEARN_OPENDSR__PROCESSOR_DOMAIN"
        )
