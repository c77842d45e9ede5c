"""Every route of the document: who may not use it learns nothing, of a workspace that is not theirs least of all."""

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from core.access.principal import SCOPES
from core.certificates import keys
from core.certificates.tables import Certificate
from core.platform.clock import rfc3339, utc_now
from core.platform.database import transaction
from core.platform.ids import new_id
from tests.builders.tour import Tour, tour
from tests.builders.web import Web, keyring

pytestmark = pytest.mark.integration

FREE = {
    ("GET", "/.well-known/jwks.json"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/healthz"),
    ("POST", "/oauth/token"),
    ("GET", "/opendsr/v2/certificate.pem"),
    ("GET", "/opendsr/v2/certificates/{fingerprint}.pem"),
    ("GET", "/opendsr/v2/discovery"),
    ("GET", "/readyz"),
    ("GET", "/v1/storage/{token}"),
    ("PUT", "/v1/storage/{token}"),
}
"""Public by design, or opened by a signed link or by the credentials in the form."""
ANY_KEY = {("GET", "/v1/whoami")}
MAKES_ITS_OWN = {("PUT", "/v1/policies/{name}")}
"""The name in the path is made, not looked up."""
BODIES: dict[str, Any] = {
    "/versions": {"upload_id": "up_01k9d3v6m2q8r4t6w8y0a2c4e6"},
    "/aliases/{alias}": {"version": 1},
    "/extend": {"reason": "x"},
    "/approve": {"comment": "x"},
    "/reject": {"comment": "x"},
    "/rotate-secret": {},
    "/test": {"type": "run.succeeded"},
    "/release": {"reason": "x"},
    "/replay": {"since": rfc3339(utc_now())},
    "/webhook-endpoints/{endpoint_id}": {"description": "x"},
}
NEVER = "01k9d3v6m2q8r4t6w8y0a2c4e6"


def _routes(web: Web) -> Iterator[tuple[str, str]]:
    for path, methods in web.app.openapi()["paths"].items():
        yield from ((method.upper(), path) for method in methods)


def _call(web: Web, method: str, template: str, ids: dict[str, str]) -> httpx.Response:
    path = re.sub(r"\{(\w+)\}", lambda match: ids.get(match[1], "x"), template)
    body = next((body for end, body in BODIES.items() if template.endswith(end)), None)
    has_body = body is not None and method in ("POST", "PUT", "PATCH")
    params = {"record_id": ids["record_id"]} if template.endswith("/proof") else None
    return web.call(method, path, params=params, **({"json": body} if has_body else {}))


def _told(answer: httpx.Response, asked: dict[str, str]) -> str:
    """What an answer says, without the id of its request and whatever was asked for."""
    told = json.dumps({name: value for name, value in answer.json().items() if name != "instance"}, sort_keys=True)
    longest_first = sorted(asked.values(), key=len, reverse=True)
    return functools.reduce(lambda text, value: text.replace(value, "…"), longest_first, told)


def _ids_of(made: Tour) -> dict[str, str]:
    with transaction(made.scene.engine) as tx:
        certificate_id, kid = new_id("crt"), keys.in_use(tx, keyring(), at=made.scene.clock.now).kid
        tx.add(
            Certificate(
                id=certificate_id, workspace_id=made.scene.built.workspace_id, run_id=made.ids["run_id"],
                kind="report", jws="a.b.c", kid=kid, sealed_salt=keyring().seal("certificate-salt", b"salt"),
            )
        )  # fmt: skip
    fixed = {"name": "digits", "record_id": "r-1", "version": "1", "alias": "latest", "plot": "losses"}
    return {**made.ids, **fixed, "certificate_id": certificate_id}


def test_another_workspace_gets_what_it_would_get_for_what_never_was(emptied: Engine) -> None:
    made = tour(emptied)
    theirs = _ids_of(made)
    never = {name: re.sub(r"(?<=_)\w{26}$", NEVER, value) for name, value in theirs.items()}
    never |= {"name": "never-was", "record_id": "never", "subject_request_id": "7b1c0a5e-7a61-4a3e-9d59-1f0d1b6a5e11"}
    stranger = made.scene.anyone.customer("stranger")
    leaks: list[str] = []
    looked = 0
    for method, template in _routes(stranger):
        if "{" not in template or (method, template) in FREE | MAKES_ITS_OWN:
            continue
        looked += 1
        real, made_up = (_call(stranger, method, template, ids) for ids in (theirs, never))
        told = {_told(real, theirs), _told(made_up, never)}
        if real.status_code != 404 or made_up.status_code != 404 or len(told) != 1:
            leaks.append(f"{method} {template}: {real.status_code} {real.text} / {made_up.status_code} {made_up.text}")
    assert not leaks, "\n".join(leaks)
    assert looked > 30


def test_every_route_needs_a_key_and_its_own_scope(emptied: Engine) -> None:
    made = tour(emptied)
    anyone, ids = made.scene.anyone, dict.fromkeys((*made.ids, "record_id"), "x")
    holders: dict[frozenset[str], Web] = {}
    wrong: list[str] = []

    def answered(method: str, template: str, *scopes: str) -> httpx.Response:
        caller = holders.setdefault(frozenset(scopes), anyone.customer("acme", scopes))
        return _call(caller, method, template, ids)

    for method, template in sorted(set(_routes(anyone)) - FREE):
        if _call(anyone, method, template, ids).status_code != 401:
            wrong.append(f"{method} {template}: no key is needed")
        if (method, template) in ANY_KEY:
            continue
        other = "reports:read" if "audit" in template else "audit:read"
        named = re.search(r"lacks the scope ([a-z]+:[a-z]+)", answered(method, template, other).text)
        if named is None:
            wrong.append(f"{method} {template}: no scope is needed")
            continue
        scope = named[1]
        refused = answered(method, template, *(each for each in SCOPES if each != scope))
        if refused.status_code != 403 or scope not in refused.text:
            wrong.append(f"{method} {template}: all scopes but {scope} are enough")
        if answered(method, template, scope).status_code == 403:
            wrong.append(f"{method} {template}: {scope} is not enough")
    assert not wrong, "\n".join(wrong)
