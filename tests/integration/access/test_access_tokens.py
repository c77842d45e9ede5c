"""OAuth 2.0 client credentials: what RFC 6749 asks for, and that a token is worth no more than its key."""

import base64
from datetime import timedelta
from urllib.parse import quote, urlencode

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from sqlalchemy import Engine

from core.access.service import NewKey
from core.access.tokens import LONGEST
from tests.builders.web import Clock, Web, keyring, new_key, web

pytestmark = pytest.mark.integration

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def site(emptied: Engine, clock: Clock) -> Web:
    return web(emptied, clock)


def _ask(site: Web, form: dict[str, str], headers: dict[str, str] | None = None) -> httpx.Response:
    return site.call("POST", "/oauth/token", content=urlencode(form), headers={**FORM, **(headers or {})})


def _body(new: NewKey, **more: str) -> dict[str, str]:
    return {**GRANT, "client_id": new.key.id, "client_secret": new.secret, **more}


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _token(site: Web, new: NewKey, **more: str) -> str:
    return _ask(site, _body(new, **more)).json()["access_token"]


def test_a_key_gets_a_token_by_basic_or_in_the_form(site: Web) -> None:
    new = new_key(site.engine, scopes=["runs:read", "deletions:*"])
    last = new.secret.split("_", 3)[3]
    for answer in (
        _ask(site, _body(new)),
        _ask(site, GRANT, _basic(new.key.id, new.secret)),
        _ask(site, GRANT, _basic(new.key.id, last)),
        _ask(site, {**GRANT, "client_id": new.key.id}, _basic(new.key.id, new.secret)),
        _ask(site, _body(new, scope="", resource="ignored")),
    ):
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
        assert body["scope"].split() == ["deletions:*", "runs:read"]
        assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
        seen = site.with_key(body["access_token"]).get("/v1/whoami").json()
        assert (seen["key_id"], seen["scopes"]) == (new.key.id, ["deletions:*", "runs:read"])


@pytest.mark.parametrize("client_id", ["\0", "key_\n", "key_\u202e", "key_" + "x" * 1000, "%00"])
def test_what_can_be_no_client_id_is_an_invalid_client(site: Web, client_id: str) -> None:
    for answer in (
        _ask(site, {**GRANT, "client_id": client_id, "client_secret": "x"}),
        _ask(site, GRANT, _basic(quote(client_id), "x")),
    ):
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_a_token_may_be_narrowed_and_never_widened(site: Web) -> None:
    new = new_key(site.engine, scopes=["deletions:*", "keys:write"])
    narrow = site.with_key(_token(site, new, scope="deletions:read deletions:read"))
    assert narrow.get("/v1/whoami").json()["scopes"] == ["deletions:read"]
    assert narrow.get("/v1/deletion-requests").status_code == 200
    assert narrow.post("/v1/deletion-requests", {}).status_code == 403
    assert narrow.get("/v1/api-keys").status_code == 403
    for scope in ("runs:read", "deletions:read *", "no:such", "deletions"):
        answer = _ask(site, _body(new, scope=scope))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope"), scope


def test_a_token_opens_opendsr_too(site: Web) -> None:
    token = _token(site, new_key(site.engine, scopes=["deletions:read"]))
    path = "/opendsr/v2/requests/0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f10"
    assert site.with_key(token).get(path).status_code == 404
    assert site.with_key(token[:-2] + "AA").get(path).status_code == 401


def test_revoking_the_key_ends_its_tokens_at_once(site: Web) -> None:
    new = new_key(site.engine)
    caller = site.with_key(_token(site, new))
    assert caller.get("/v1/whoami").status_code == 200
    assert site.with_key(new.secret).delete(f"/v1/api-keys/{new.key.id}").status_code == 200
    assert caller.get("/v1/whoami").status_code == 401
    assert _ask(site, _body(new)).json()["error"] == "invalid_client"


def test_a_token_ends_after_an_hour_or_with_its_key(site: Web, clock: Clock) -> None:
    lasting, ending = new_key(site.engine), new_key(site.engine, expires_at=clock.now + timedelta(minutes=10))
    caller = site.with_key(_token(site, lasting))
    assert _ask(site, _body(ending)).json()["expires_in"] == 600
    clock.now += LONGEST - timedelta(seconds=2)
    assert caller.get("/v1/whoami").status_code == 200
    clock.now += timedelta(seconds=3)
    assert caller.get("/v1/whoami").status_code == 401


def test_only_tokens_of_this_service_count(site: Web, clock: Clock) -> None:
    new = new_key(site.engine)
    url, now = "http://127.0.0.1:8000", int(clock.now.timestamp())
    good = {"iss": url, "aud": url, "sub": new.key.id, "scope": "*", "exp": now + 60}
    ours = keyring().key("access-token")

    def status(claims: dict[str, object], key: bytes = ours, typ: str = "at+jwt") -> int:
        made = jwt.encode({"alg": "HS256", "typ": typ}, claims, OctKey.import_key(key))
        return site.with_key(made).get("/v1/whoami").status_code

    assert status(good) == 200
    assert status({**good, "sub": "key_none"}) == 401
    assert status({**good, "iss": "https://other.example"}) == 401
    assert status({**good, "aud": "https://other.example"}) == 401
    assert status({name: value for name, value in good.items() if name != "exp"}) == 401
    assert status(good, typ="JWT") == 401
    assert status(good, key=b"x" * 32) == 401
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').decode().rstrip("=")
    body = jwt.encode({"alg": "HS256"}, good, OctKey.import_key(ours)).split(".")[1]
    for text in (f"{unsigned}.{body}.", "a.b.c", "..", "ü.b.c"):
        headers = {"Authorization": f"Bearer {text}".encode("latin-1")}
        assert site.call("GET", "/v1/whoami", headers=headers).status_code == 401, text


def test_failures_come_in_the_form_of_the_standard(site: Web) -> None:
    new = new_key(site.engine)
    wrong = new.secret[:-1] + ("A" if new.secret[-1] != "A" else "B")
    for form, headers, status, error in (
        (_body(new) | {"client_secret": wrong}, {}, 401, "invalid_client"),
        (GRANT, _basic("key_none", new.secret), 401, "invalid_client"),
        (GRANT, {"Authorization": "Basic !!!"}, 401, "invalid_client"),
        (GRANT, {"Authorization": f"Bearer {new.secret}"}, 401, "invalid_client"),
        (GRANT, {}, 401, "invalid_client"),
        (_body(new), _basic(new.key.id, new.secret), 400, "invalid_request"),
        ({"client_id": new.key.id, "client_secret": new.secret}, {}, 400, "invalid_request"),
        (_body(new) | {"grant_type": "password"}, {}, 400, "unsupported_grant_type"),
        (_body(new, scope="x" * 20_000), {}, 400, "invalid_request"),
        (_body(new), {"Content-Type": "application/json"}, 400, "invalid_request"),
    ):
        answer = _ask(site, form, headers)
        assert (answer.status_code, answer.json()["error"]) == (status, error), (form.keys(), headers.keys())
        assert answer.json()["error_description"]
        assert answer.headers["cache-control"] == "no-store"
        assert ("www-authenticate" in answer.headers) is (status == 401)
        assert new.secret not in answer.text
    twice = f"{urlencode(_body(new))}&grant_type=client_credentials".encode()
    for content in (twice, b"\xff\xfe=1", b"&".join(b"a%d=1" % n for n in range(50))):
        answer = site.call("POST", "/oauth/token", content=content, headers=FORM)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_guessing_secrets_here_is_counted_as_everywhere(emptied: Engine) -> None:
    site = web(emptied, limits={"failures": 1, "writes": 1})
    new = new_key(emptied)
    guess = _body(new) | {"client_secret": "a" * 43}
    assert [_ask(site, guess).status_code for _ in range(2)] == [401, 429]
    assert [_ask(site, _body(new)).status_code for _ in range(2)] == [200, 429]


def test_the_metadata_names_the_endpoint(emptied: Engine) -> None:
    site = web(emptied, api={"public_url": "https://unlearn.example"})
    described = site.get("/.well-known/oauth-authorization-server").json()
    assert described["issuer"] == "https://unlearn.example"
    assert described["token_endpoint"] == "https://unlearn.example/oauth/token"
    assert described["grant_types_supported"] == ["client_credentials"]
    assert "deletions:write" in described["scopes_supported"]
