"""Signatures, checked by the independent implementation."""

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from core.platform.errors import InvalidInput
from core.webhooks import signing


def _headers(keys: list[bytes], body: bytes) -> dict[str, str]:
    now = int(datetime.now(UTC).timestamp())
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signing.signature(keys, message_id="msg_1", timestamp=now, body=body),
    }


def test_the_published_example() -> None:
    key = signing.read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signing.signature(
        [key], message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=b'{"test": 2432232314}'
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_independent_verifier_accepts_and_refuses() -> None:
    key, body = signing.new_secret(), '{"grüße": 1}'.encode()
    shown = signing.shown(key)
    assert Webhook(shown).verify(body, _headers([key], body)) == {"grüße": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(shown).verify(body + b" ", _headers([key], body))
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.shown(signing.new_secret())).verify(body, _headers([key], body))


def test_during_rotation_old_and_new_secrets_both_verify_and_the_new_comes_first() -> None:
    old, new, body = signing.new_secret(), signing.new_secret(), b"{}"
    headers = _headers([new, old], body)
    assert Webhook(signing.shown(old)).verify(body, headers) == {}
    assert Webhook(signing.shown(new)).verify(body, headers) == {}
    assert headers["webhook-signature"].split(" ")[0] == _headers([new], body)["webhook-signature"]


def test_secrets_have_32_bytes_and_the_usual_form() -> None:
    key = signing.new_secret()
    assert len(key) == 32
    assert signing.shown(key).startswith("whsec_")
    assert signing.read(signing.shown(key)) == key
    assert signing.new_secret() != key


@pytest.mark.parametrize(
    "text",
    ["", "whsec_", "whsec_!!!", base64.b64encode(bytes(32)).decode(), "whsec_" + base64.b64encode(bytes(23)).decode()],
)
def test_other_forms_of_secrets_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        signing.read(text)
