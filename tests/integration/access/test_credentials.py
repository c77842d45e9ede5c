"""Who gets in, by which spelling, and what a scope opens."""

import base64
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from core.access import service
from core.platform.clock import utc_now
from core.platform.database import transaction
from tests.builders.web import Clock, Web, new_key, web

pytestmark = pytest.mark.integration


@pytest.fixture
def site(emptied: Engine) -> Web:
    return web(emptied)


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_one_key_in_three_spellings(site: Web) -> None:
    new = new_key(site.engine, scopes=["runs:read"])
    last = new.secret.split("_", 3)[3]
    for headers in (
        {"Authorization": f"Bearer {new.secret}"},
        {"authorization": f"bearer {new.secret}"},
        {"X-API-Key": new.secret},
        _basic(new.key.id, new.secret),
        _basic(new.key.id, last),
    ):
        answer = site.get("/v1/whoami", headers=headers)
        assert answer.status_code == 200, headers
        assert answer.json() == {"workspace": "acme", "key_id": new.key.id, "scopes": ["runs:read"], "mode": "live"}


def test_everything_else_is_401_with_a_challenge(site: Web) -> None:
    new, other = new_key(site.engine), new_key(site.engine)
    wrong = new.secret[:-1] + ("A" if new.secret[-1] != "A" else "B")
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer {wrong}"},
        {"Authorization": f"Bearer {new.secret.replace('live', 'test')}"},
        {"Authorization": f"Digest {new.secret}"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"a\0b:c").decode()},
        {"X-API-Key": ""},
        _basic(other.key.id, new.secret),
        _basic("", new.secret),
        _basic(new.key.id, ""),
    ):
        answer = site.get("/v1/whoami", headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["code"] == "unauthenticated"


def test_expired_and_revoked_keys_do_not_open(emptied: Engine) -> None:
    clock = Clock()
    site = web(emptied, clock)
    new = new_key(emptied, expires_at=clock.now + timedelta(hours=1))
    caller = site.with_key(new.secret)
    assert caller.get("/v1/whoami").status_code == 200
    assert caller.delete(f"/v1/api-keys/{new.key.id}").json()["revoked_at"] is not None
    assert caller.get("/v1/whoami").status_code == 401
    late = new_key(emptied, expires_at=clock.now + timedelta(hours=1))
    clock.now += timedelta(hours=1)
    assert site.with_key(late.secret).get("/v1/whoami").status_code == 401


@pytest.mark.parametrize(
    ("scopes", "status"),
    [
        (["audit:read"], 200),
        (["audit:*"], 200),
        (["*"], 200),
        (["audit:read", "runs:read"], 200),
        (["runs:read"], 403),
        (["models:*", "keys:write"], 403),
    ],
)
def test_a_scope_opens_what_it_names_and_no_more(site: Web, scopes: list[str], status: int) -> None:
    answer = site.customer(scopes=scopes).get("/v1/audit-events")
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "missing_scope"
        assert "audit:read" in answer.json()["detail"]


def test_a_credential_is_asked_for_before_the_body_is_judged(site: Web) -> None:
    assert site.post("/v1/api-keys", {"nonsense": 1}).status_code == 401
    assert site.customer(scopes=["runs:read"]).post("/v1/api-keys", {"nonsense": 1}).status_code == 403


def test_a_key_is_shown_once_and_only_a_digest_is_kept(site: Web) -> None:
    caller = site.customer()
    answer = caller.post("/v1/api-keys", {"name": "platform", "scopes": ["deletions:*"], "mode": "test"})
    assert answer.status_code == 201
    secret = answer.json()["secret"]
    assert secret.startswith("unl_test_")
    assert len(base64.urlsafe_b64decode(secret.split("_", 3)[3] + "=")) == 32
    assert site.with_key(secret).get("/v1/whoami").json()["mode"] == "test"
    listed = caller.get("/v1/api-keys")
    assert secret not in listed.text
    assert secret.split("_", 3)[3] not in listed.text
    with site.engine.connect() as connection:
        rows = connection.execute(text("select k::text from api_keys k union all select a::text from audit_events a"))
        assert not any(secret.split("_", 3)[3] in row[0] for row in rows)


def test_nobody_hands_on_a_scope_they_lack(site: Web) -> None:
    caller = site.customer(scopes=["keys:write", "runs:read"])
    for scopes in (["runs:write"], ["*"], ["runs:*"], ["runs:read", "audit:read"]):
        assert caller.post("/v1/api-keys", {"name": "more", "scopes": scopes}).status_code == 403
    assert caller.post("/v1/api-keys", {"name": "less", "scopes": ["runs:read"]}).status_code == 201
    assert site.customer(scopes=["*"]).post("/v1/api-keys", {"name": "all", "scopes": ["*"]}).status_code == 201


def test_an_unknown_scope_is_pointed_at(site: Web) -> None:
    answer = site.customer().post("/v1/api-keys", {"name": "x", "scopes": ["runs:read", "runs:fly"]})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/scopes/1"]


def test_another_workspaces_key_is_a_404(site: Web) -> None:
    ours, theirs = site.customer("acme"), new_key(site.engine, "rival")
    answer = ours.delete(f"/v1/api-keys/{theirs.key.id}")
    assert answer.status_code == 404
    assert site.with_key(theirs.secret).get("/v1/whoami").status_code == 200
    assert [key["id"] for key in ours.get("/v1/api-keys").json()["data"]] != []
    assert theirs.key.id not in ours.get("/v1/api-keys").text


def test_use_is_noted_once_a_minute_and_never_waits(emptied: Engine) -> None:
    clock = Clock()
    site = web(emptied, clock)
    new = new_key(emptied)
    caller = site.with_key(new.secret)

    def noted() -> object:
        with emptied.connect() as connection:
            return connection.execute(
                text("select last_used_at from api_keys where id = :id"), {"id": new.key.id}
            ).scalar()

    caller.get("/v1/whoami")
    first = noted()
    assert first == clock.now
    clock.now += timedelta(seconds=59)
    caller.get("/v1/whoami")
    assert noted() == first
    clock.now += timedelta(seconds=2)
    with emptied.begin() as holder:
        holder.execute(text("select 1 from api_keys where id = :id for update"), {"id": new.key.id})
        assert caller.get("/v1/whoami").status_code == 200  # does not wait for the row
        assert noted() == first
    caller.get("/v1/whoami")
    assert noted() == clock.now


def test_workspace_names_are_unique_and_plain(emptied: Engine) -> None:
    with transaction(emptied) as tx:
        service.create_workspace(tx, name="acme", actor="cli", at=utc_now())
        with pytest.raises(service.WorkspaceExists):
            service.create_workspace(tx, name="acme", actor="cli", at=utc_now())
        for name in ("", "Acme", "a/b", "-a", "a" * 64, "a\n"):
            with pytest.raises(service.InvalidInput):
                service.create_workspace(tx, name=name, actor="cli", at=utc_now())
        with pytest.raises(service.WorkspaceNotFound):
            service.workspace_named(tx, "nobody")
