"""Lists: whole, in order, stable while rows come in; cursors that cannot be carried elsewhere."""

import base64

import pytest
from sqlalchemy import Engine

from tests.builders.web import Web, web

pytestmark = pytest.mark.integration

KEYS = "/v1/api-keys"


@pytest.fixture
def caller(emptied: Engine) -> Web:
    return web(emptied).customer()


def _add(caller: Web, count: int) -> list[str]:
    return [caller.post(KEYS, {"name": str(n), "scopes": ["runs:read"]}).json()["id"] for n in range(count)]


def test_pages_join_to_the_whole_list_while_rows_come_in(caller: Web) -> None:
    made = _add(caller, 5)
    seen: list[str] = []
    path = f"{KEYS}?limit=2"
    while path:
        answer = caller.get(path)
        page = answer.json()
        seen += [row["id"] for row in page["data"]]
        _add(caller, 1)
        assert page["has_more"] is (page["next_cursor"] is not None) is ("link" in answer.headers)
        path = answer.headers["link"].split(">")[0].lstrip("<") if page["has_more"] else ""
    assert seen[:5] == made[::-1]
    assert len(seen) == len(set(seen)) == 6


def test_the_link_keeps_filters_and_limit(emptied: Engine) -> None:
    caller = web(emptied).customer()
    for number in range(3):
        caller.put("/v1/policies/p", {"retention_days": number})
    answer = caller.get("/v1/audit-events?limit=1&action=policy.changed")
    link = answer.headers["link"]
    assert link.endswith('; rel="next"')
    following = caller.get(link.split(">")[0].lstrip("<")).json()
    assert [event["sequence"] for event in following["data"]] == [4]
    assert len(following["data"]) == 1


def test_the_last_page_says_so(caller: Web) -> None:
    _add(caller, 1)
    answer = caller.get(f"{KEYS}?limit=2")
    assert (answer.json()["has_more"], answer.json()["next_cursor"]) == (False, None)
    assert "link" not in answer.headers


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "1.5"])
def test_limits_go_from_1_to_200(caller: Web, limit: str) -> None:
    assert caller.get(f"{KEYS}?limit={limit}").status_code == 422


def test_a_cursor_of_another_list_filter_or_workspace_is_400(emptied: Engine) -> None:
    site = web(emptied)
    caller, rival = site.customer("acme"), site.customer("rival")
    _add(caller, 3)
    cursor = caller.get(f"{KEYS}?limit=1").json()["next_cursor"]
    assert caller.get(f"{KEYS}?limit=3&cursor={cursor}").status_code == 200
    for who, path in (
        (rival, f"{KEYS}?limit=1&cursor={cursor}"),
        (caller, f"/v1/audit-events?cursor={cursor}"),
        (caller, f"{KEYS}?extra=1&cursor={cursor}"),
    ):
        answer = who.get(path)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")


def test_a_cursor_that_was_touched_is_400(caller: Web) -> None:
    _add(caller, 3)
    cursor = caller.get(f"{KEYS}?limit=1").json()["next_cursor"]
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    touched = base64.urlsafe_b64encode(raw[:-2] + b"zz").decode().rstrip("=")
    for bad in (touched, cursor[:-4], "", "x", "!!!", "ü", base64.urlsafe_b64encode(b"[]").decode()):
        answer = caller.call("GET", KEYS, params={"cursor": bad})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor"), bad
