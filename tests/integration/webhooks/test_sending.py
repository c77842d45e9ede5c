"""One call to a user's address, on real sockets: where it connects, how long it lasts, how much it reads."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.platform.settings import WebhookSettings
from core.webhooks.sending import LONGEST_ANSWER_BYTES, HttpSender
from tests.builders.receiver import Receiver, Reply

pytestmark = pytest.mark.integration

LOCAL = WebhookSettings(allow_http=True, allow_networks=("127.0.0.0/8",), timeout_s=10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private


def test_the_connection_goes_to_the_checked_address_with_the_name_for_tls_and_host(tmp_path: Path) -> None:
    chain, private = _certificate(tmp_path, "hooks.acme.example")
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(chain, private)
    asked_for: list[str | None] = []
    server_tls.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    trusting = ssl.create_default_context(cafile=chain)
    resolved: list[str] = []

    def resolve(host: str, _port: int) -> list[str]:
        resolved.append(host)
        return ["127.0.0.1"]

    with Receiver(tls=server_tls) as receiver:
        sender = HttpSender(LOCAL, resolve=resolve, tls=trusting)
        answer = sender(f"https://hooks.acme.example:{receiver.port}/in", {}, b"{}")
        assert (answer.status_code, answer.error) == (204, None)
        assert resolved == ["hooks.acme.example"]
        assert asked_for == ["hooks.acme.example"]
        assert receiver.received[0].headers["host"] == f"hooks.acme.example:{receiver.port}"
        # the certificate is for another name
        assert sender(f"https://other.acme.example:{receiver.port}/in", {}, b"{}").error == "tls"
        # the certificate's issuer is not known
        assert (
            HttpSender(LOCAL, resolve=resolve)(f"https://hooks.acme.example:{receiver.port}/", {}, b"").error == "tls"
        )
        assert len(receiver.received) == 1


def test_a_name_that_was_pointed_elsewhere_is_not_called(receiver: Receiver) -> None:
    closed = WebhookSettings(allow_http=True)
    sender = HttpSender(closed, resolve=lambda _host, _port: ["127.0.0.1"])
    refused = sender(f"http://rebind.example:{receiver.port}/", {}, b"{}")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    nobody = HttpSender(LOCAL)(f"http://127.0.0.1:{port}/", {}, b"{}")
    # The log must not tell a refused address from one where nobody listens.
    assert (refused.status_code, refused.error) == (nobody.status_code, nobody.error) == (None, "unreachable")
    assert receiver.received == []


def test_a_url_stored_under_older_rules_is_checked_again(receiver: Receiver) -> None:
    strict = WebhookSettings(allow_networks=("127.0.0.0/8",))
    assert HttpSender(strict)(receiver.url, {}, b"{}").error == "unreachable"
    assert receiver.received == []


def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        raise socket.gaierror("no such name")

    assert HttpSender(LOCAL, resolve=resolve)("https://gone.example/", {}, b"").error == "unreachable"


def test_the_next_address_is_tried_when_one_does_not_answer(receiver: Receiver) -> None:
    sender = HttpSender(LOCAL, resolve=lambda _host, _port: ["127.0.0.99", "127.0.0.1"])
    assert sender(f"http://two.example:{receiver.port}/", {}, b"{}").status_code == 204


def test_redirects_are_not_followed_and_proxies_are_ignored(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    receiver.answer = lambda _: Reply(307, {"Location": receiver.url})
    assert HttpSender(LOCAL)(receiver.url, {}, b"{}").status_code == 307
    assert len(receiver.received) == 1


def test_only_the_beginning_of_an_answer_is_read_and_less_is_kept(receiver: Receiver) -> None:
    receiver.answer = lambda _: Reply(200, {"Content-Encoding": "gzip"}, body=b"x" * (50 * LONGEST_ANSWER_BYTES))
    answer = HttpSender(LOCAL)(receiver.url, {}, b"{}")
    assert answer.status_code == 200
    assert answer.response == "x" * 1024


@pytest.mark.parametrize(
    "drip", [b"", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"]
)
def test_the_whole_call_ends_by_its_deadline_however_slowly_the_other_side_drips(drip: bytes) -> None:
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(drip)
                while drip and not ended.wait(0.05):
                    try:
                        connection.sendall(b"x")  # each byte alone would never reach a read timeout
                    except OSError:
                        return
                ended.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        quick = WebhookSettings(allow_http=True, allow_networks=("127.0.0.0/8",), timeout_s=0.5)
        began = time.monotonic()
        answer = HttpSender(quick)(f"http://127.0.0.1:{server.getsockname()[1]}/", {}, b"{}")
        assert (answer.status_code, answer.error) == (None, "timeout")
        assert time.monotonic() - began < 5
        ended.set()
        thread.join()


def test_an_answer_that_is_no_http_is_a_protocol_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        assert HttpSender(LOCAL)(f"http://127.0.0.1:{server.getsockname()[1]}/", {}, b"{}").error == "protocol"
        thread.join()
