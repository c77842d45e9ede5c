"""Signatures, checked by the independent implementation."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from core.platform.errors import InvalidInput
from core.webhooks import signing
from core.webhooks.signing import Algorithm, Key

HMAC = Algorithm.HMAC


def shown(key: Key) -> str:
    assert key.secret is not None
    return key.secret


def _headers(keys: list[Key], body: bytes) -> dict[str, str]:
    now = int(datetime.now(UTC).timestamp())
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signing.signature(keys, message_id="msg_1", timestamp=now, body=body),
    }


def test_the_published_example() -> None:
    key = signing.read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", HMAC)
    made = signing.signature(
        [key], message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=b'{"test": 2432232314}'
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_independent_verifier_accepts_and_refuses() -> None:
    key, body = signing.new_key(HMAC), '{"grüße": 1}'.encode()
    assert Webhook(shown(key)).verify(body, _headers([key], body)) == {"grüße": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(shown(key)).verify(body + b" ", _headers([key], body))
    with pytest.raises(WebhookVerificationError):
        Webhook(shown(signing.new_key(HMAC))).verify(body, _headers([key], body))


def test_during_rotation_old_and_new_secrets_both_verify_and_the_new_comes_first() -> None:
    old, new, body = signing.new_key(HMAC), signing.new_key(HMAC), b"{}"
    headers = _headers([new, old], body)
    assert Webhook(shown(old)).verify(body, headers) == {}
    assert Webhook(shown(new)).verify(body, headers) == {}
    assert headers["webhook-signature"].split(" ")[0] == _headers([new], body)["webhook-signature"]


def test_secrets_have_32_bytes_and_the_usual_form() -> None:
    key = signing.new_key(HMAC)
    assert len(key.material) == 32
    assert shown(key).startswith("whsec_")
    assert signing.read(shown(key), HMAC) == key
    assert signing.new_key(HMAC) != key


@pytest.mark.parametrize(
    "text",
    ["", "whsec_", "whsec_!!!", base64.b64encode(bytes(32)).decode(), "whsec_" + base64.b64encode(bytes(23)).decode()],
)
def test_other_forms_of_secrets_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        signing.read(text, HMAC)


def test_ed25519_signs_the_same_content_and_only_the_public_key_is_shown() -> None:
    key = signing.new_key(Algorithm.ED25519)
    assert key.secret is None
    assert key.public is not None
    assert key.public.startswith("whpk_")
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public.removeprefix("whpk_")))
    token = signing.signature([key], message_id="msg_1", timestamp=7, body=b"{}")
    version, _, signature = token.partition(",")
    assert version == "v1a"
    public.verify(base64.b64decode(signature), b"msg_1.7.{}")
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature), b"msg_1.8.{}")
    assert repr(key.material) not in repr(key)


def test_a_private_key_of_your_own_is_taken_in_both_usual_forms() -> None:
    seed = bytes(range(32))
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    expected = "whpk_" + base64.b64encode(public).decode()
    for raw in (seed, seed + public):
        key = signing.read("whsk_" + base64.b64encode(raw).decode(), Algorithm.ED25519)
        assert (key.material, key.public) == (seed, expected)
    for raw in (seed[:31], seed + seed, seed + public[:31]):
        with pytest.raises(InvalidInput):
            signing.read("whsk_" + base64.b64encode(raw).decode(), Algorithm.ED25519)
    with pytest.raises(InvalidInput):
        signing.read("whsec_" + base64.b64encode(seed).decode(), Algorithm.ED25519)


@settings(deadline=None)
@given(
    st.sampled_from(["", "whsec_", "whsk_"]), st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode())
)
def test_any_text_is_a_key_of_the_right_length_or_refused(prefix: str, text: str) -> None:
    for algorithm in Algorithm:
        try:
            key = signing.read(prefix + text, algorithm)
        except InvalidInput:
            continue
        assert 24 <= len(key.material) <= 64
