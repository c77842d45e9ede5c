"""Registering, changing and deleting webhook endpoints, and their log, over HTTP."""

import base64

import jsonschema
import pytest
from sqlalchemy import Engine, text

from core.platform.clock import utc_now
from core.platform.database import transaction
from core.platform.outbox import OutboxMessage
from core.webhooks.catalogue import CATALOGUE
from core.webhooks.messages import fan_out
from tests.builders.web import Web, settings
from tests.builders.webhooks import LOCAL, Scene, data_of

pytestmark = pytest.mark.integration

HOOKS = "/v1/webhook-endpoints"


@pytest.fixture
def site(emptied: Engine) -> Web:
    return Scene(emptied).anyone


def _register(caller: Web, **body: object) -> dict[str, object]:
    answer = caller.post(HOOKS, {"url": "https://hooks.acme.example/in", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


def _workspace(engine: Engine, name: str = "acme") -> str:
    with engine.connect() as connection:
        return connection.execute(text("select id from workspaces where name = :name"), {"name": name}).scalar_one()


def _raise(engine: Engine, workspace_id: str, name: str) -> int:
    at = utc_now()
    message = OutboxMessage(1, "event", name, workspace_id, {"data": data_of(name), "at": at.isoformat()}, at)
    with transaction(engine) as tx:
        return fan_out(tx, message)


def test_the_secret_is_shown_once_and_sealed(site: Web) -> None:
    caller = site.customer()
    made = _register(caller, events=["run.*"], description="mine")
    secret = str(made.pop("secret"))
    assert (made.pop("public_key"), made.pop("headers")) == (None, {})
    assert secret.startswith("whsec_")
    one = caller.get(f"{HOOKS}/{made['id']}")
    assert one.json() == made
    listed = caller.get(HOOKS)
    assert listed.json()["data"] == [made]
    assert secret not in one.text + listed.text + caller.get("/v1/audit-events").text
    with site.engine.connect() as connection:
        (row,) = connection.execute(text("select w::text from webhook_endpoints w")).scalars()
    assert secret.removeprefix("whsec_") not in row


def test_addresses_and_events_are_checked(site: Web) -> None:
    caller = site.customer()
    answer = caller.post(HOOKS, {"url": "https://169.254.169.254/latest"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/url"
    assert "169.254" not in answer.text
    answer = caller.post(HOOKS, {"url": "https://a.example", "events": ["run.*", "nothing.*"]})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/events/1"]
    made = _register(caller)
    assert caller.patch(f"{HOOKS}/{made['id']}", {"url": "ftp://a.example"}).status_code == 422
    assert caller.patch(f"{HOOKS}/{made['id']}", {"events": ["x"]}).status_code == 422


def test_a_change_changes_what_was_sent_and_nothing_else(site: Web) -> None:
    caller = site.customer()
    made = _register(caller, events=["run.*"], description="mine")
    changed = caller.patch(f"{HOOKS}/{made['id']}", {"events": ["ping"]}).json()
    assert (changed["events"], changed["description"], changed["url"]) == (["ping"], "mine", made["url"])
    assert caller.patch(f"{HOOKS}/{made['id']}", {"description": None}).json()["description"] is None
    off = caller.patch(f"{HOOKS}/{made['id']}", {"enabled": False}).json()
    assert (off["enabled"], off["disabled_reason"]) == (False, "by request")
    on = caller.patch(f"{HOOKS}/{made['id']}", {"enabled": True}).json()
    assert (on["enabled"], on["disabled_reason"]) == (True, None)


def test_another_workspaces_endpoint_is_a_404_everywhere(site: Web) -> None:
    made = _register(site.customer("acme"))
    rival = site.customer("rival")
    path = f"{HOOKS}/{made['id']}"
    assert rival.get(HOOKS).json()["data"] == []
    for answer in (
        rival.get(path),
        rival.patch(path, {"enabled": False}),
        rival.delete(path),
        rival.post(f"{path}/rotate-secret"),
        rival.post(f"{path}/test"),
        rival.get(f"{path}/secret"),
        rival.get(f"{path}/stats"),
        rival.get(f"{path}/deliveries"),
        rival.get(f"{path}/replays"),
        rival.post(f"{path}/replay", {"since": utc_now().isoformat()}),
        rival.post(f"{path}/deliveries/msg_x/retry"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "webhook_endpoint_not_found")
    assert site.customer("acme").get(path).json()["enabled"] is True


def test_reading_does_not_let_one_write(site: Web) -> None:
    made = _register(site.customer())
    reader = site.customer(scopes=["webhooks:read"])
    assert reader.get(f"{HOOKS}/{made['id']}").status_code == 200
    assert reader.post(HOOKS, {"url": "https://a.example"}).status_code == 403
    assert reader.post(f"{HOOKS}/{made['id']}/rotate-secret").status_code == 403
    assert reader.get(f"{HOOKS}/{made['id']}/secret").status_code == 403
    assert reader.post(f"{HOOKS}/{made['id']}/replay", {"since": utc_now().isoformat()}).status_code == 403
    assert reader.delete(f"{HOOKS}/{made['id']}").status_code == 403


def test_an_event_goes_to_every_endpoint_that_wants_it_and_to_no_other(site: Web) -> None:
    caller = site.customer()
    wanted = [_register(caller, events=events)["id"] for events in ([], ["run.*"], ["run.failed", "ping"], ["*"])]
    unwanted = [_register(caller, events=events)["id"] for events in (["run.succeeded"], ["deletion_request.*"])]
    off, gone = _register(caller)["id"], _register(caller)["id"]
    caller.patch(f"{HOOKS}/{off}", {"enabled": False})
    assert caller.delete(f"{HOOKS}/{gone}").status_code == 204
    _register(site.customer("rival"))
    assert _raise(site.engine, _workspace(site.engine), "run.failed") == 4
    with site.engine.connect() as connection:
        sent = connection.execute(text("select endpoint_id, message_id from webhook_deliveries")).all()
    assert {row.endpoint_id for row in sent} == set(wanted)
    assert len({row.message_id for row in sent}) == 1
    assert not {row.endpoint_id for row in sent} & {*unwanted, off, gone}


def test_an_event_that_nobody_wants_is_kept_to_be_fetched(site: Web) -> None:
    caller = site.customer()
    _register(caller, events=["ping"])
    assert _raise(site.engine, _workspace(site.engine), "run.failed") == 0
    (event,) = caller.get("/v1/events").json()["data"]
    assert caller.get(f"/v1/events/{event['id']}/deliveries").json()["data"] == []


def test_deleting_and_disabling_discard_what_waits(site: Web) -> None:
    caller = site.customer()
    first, second = _register(caller)["id"], _register(caller)["id"]
    _raise(site.engine, _workspace(site.engine), "run.failed")
    caller.patch(f"{HOOKS}/{first}", {"enabled": False})
    caller.delete(f"{HOOKS}/{second}")
    assert caller.get(f"{HOOKS}/{second}").status_code == 404
    with site.engine.connect() as connection:
        assert set(connection.execute(text("select status from webhook_deliveries")).scalars()) == {"discarded"}
        kept = connection.execute(
            text("select sealed_secret from webhook_endpoints where id = :id"), {"id": second}
        ).scalar_one()
    assert bytes(kept) == b""


def test_deliveries_are_listed_newest_first_and_filtered(site: Web) -> None:
    caller = site.customer()
    made = _register(caller)["id"]
    for _ in range(3):
        _raise(site.engine, _workspace(site.engine), "run.failed")
    path = f"{HOOKS}/{made}/deliveries"
    first = caller.get(f"{path}?limit=2").json()
    assert first["has_more"] is True
    rest = caller.get(f"{path}?limit=2&cursor={first['next_cursor']}").json()
    ids = [row["message_id"] for row in first["data"] + rest["data"]]
    with site.engine.connect() as connection:
        made_at = connection.execute(text("select id, created_at from webhook_messages order by position")).all()
    assert ids == [row.id for row in reversed(made_at)]
    created = [row.created_at.isoformat() for row in made_at]
    assert len(set(ids)) == 3
    assert caller.get(f"{path}?status=delivered").json()["data"] == []
    assert len(caller.get(f"{path}?status=pending").json()["data"]) == 3
    assert len(caller.get(f"{path}?type=run.*").json()["data"]) == 3
    assert caller.get(f"{path}?type=deletion_request.*").json()["data"] == []
    middle = {"created_after": created[0], "created_before": created[2]}
    assert [row["message_id"] for row in caller.get(path, params=middle).json()["data"]] == [ids[1]]
    assert caller.get(f"{path}?status=lost").status_code == 422


def test_a_test_event_is_flagged_and_goes_to_one_endpoint(site: Web) -> None:
    caller = site.customer()
    made, other = _register(caller, events=["run.*"])["id"], _register(caller)["id"]
    at_once = {"Prefer": "respond-async"}
    answer = caller.post(f"{HOOKS}/{made}/test", {"type": "deletion_request.completed"}, headers=at_once)
    assert answer.status_code == 202
    assert caller.get(answer.headers["location"]).json() == answer.json()
    assert (answer.json()["test"], answer.json()["status"], answer.json()["attempts"]) == (True, "pending", [])
    assert caller.get(f"{HOOKS}/{other}/deliveries").json()["data"] == []
    assert caller.post(f"{HOOKS}/{made}/test", headers=at_once).json()["type"] == "ping"
    assert caller.post(f"{HOOKS}/{made}/test", {"type": "no.such"}).status_code == 422
    caller.patch(f"{HOOKS}/{made}", {"enabled": False})
    refused = caller.post(f"{HOOKS}/{made}/test")
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook_endpoint_disabled")


def test_what_was_done_to_endpoints_is_in_the_audit_log(site: Web) -> None:
    caller = site.customer()
    made = _register(caller)["id"]
    caller.patch(f"{HOOKS}/{made}", {"events": ["ping"]})
    caller.post(f"{HOOKS}/{made}/rotate-secret", {"grace_seconds": 60})
    caller.get(f"{HOOKS}/{made}/secret")
    caller.delete(f"{HOOKS}/{made}")
    actions = [event["action"] for event in caller.get(f"/v1/audit-events?object_id={made}").json()["data"]]
    assert actions == [
        f"webhook_endpoint.{what}" for what in ("deleted", "secret_read", "secret_rotated", "changed", "created")
    ]


def test_your_own_secret_is_taken_at_creation_and_rotation_and_read_back(site: Web) -> None:
    caller = site.customer()
    mine, other = (f"whsec_{base64.b64encode(bytes([n]) * 24).decode()}" for n in (1, 2))
    made = _register(caller, secret=mine)
    path = f"{HOOKS}/{made['id']}"
    assert made["secret"] == caller.get(f"{path}/secret").json()["secret"] == mine
    assert caller.post(f"{path}/rotate-secret", {"secret": other}).json()["secret"] == other
    assert caller.get(f"{path}/secret").json()["secret"] == other
    refused = caller.post(f"{path}/rotate-secret", {"secret": "whsec_short"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/secret")


def test_headers_that_may_not_be_sent_are_pointed_at_and_nothing_is_registered(site: Web) -> None:
    caller = site.customer()
    headers = {"X-Fine": "yes", "webhook-id": "mine", "Host": "elsewhere", "X-Split": "a\r\nb"}
    answer = caller.post(HOOKS, {"url": "https://hooks.acme.example/in", "headers": headers})
    assert answer.status_code == 422
    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert pointers == {"/headers/webhook-id", "/headers/Host", "/headers/X-Split"}
    assert caller.get(HOOKS).json()["data"] == []


def test_metadata_is_kept_and_replaced_as_a_whole(site: Web) -> None:
    caller = site.customer()
    made = _register(caller, metadata={"team": "privacy", "n": 1})
    assert made["metadata"] == {"team": "privacy", "n": 1}
    changed = caller.patch(f"{HOOKS}/{made['id']}", {"metadata": {"team": "legal"}}).json()
    assert changed["metadata"] == caller.get(f"{HOOKS}/{made['id']}").json()["metadata"] == {"team": "legal"}
    assert caller.patch(f"{HOOKS}/{made['id']}", {"metadata": {"x": "y" * 5000}}).status_code == 422


def test_where_messages_come_from_is_published(site: Web) -> None:
    caller = site.customer()
    told = caller.get("/v1/webhook-sender").json()
    assert (told["addresses"], told["timeout_s"], len(told["schedule_s"])) == ([], 15, 10)
    caller.app.state.settings = settings(webhooks={"egress_addresses": ["192.0.2.10"]})
    try:
        assert caller.get("/v1/webhook-sender").json()["addresses"] == ["192.0.2.10"]
    finally:
        caller.app.state.settings = settings(webhooks=LOCAL)


def test_every_type_is_published_with_schema_and_example(site: Web) -> None:
    types = site.customer().get("/v1/event-types").json()["data"]
    assert {kind["type"] for kind in types} == {kind.type for kind in CATALOGUE}
    for kind in types:
        jsonschema.validate(kind["example"], kind["schema"])
