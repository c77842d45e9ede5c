"""Deletion requests over HTTP, as the contract has them."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, text

from core.access.service import workspace_named
from core.platform.database import transaction
from core.runs import finishing, service
from core.runs.planning import plan_next
from core.unlearning.job import Failure, Outcome
from tests.builders.estate import AT, Estate, staged
from tests.builders.web import Web, web

pytestmark = pytest.mark.integration

PATH = "/v1/deletion-requests"


@pytest.fixture
def acme(emptied: Engine) -> Web:
    caller = web(emptied).customer("acme")
    with transaction(emptied) as tx:
        built = Estate(workspace_named(tx, "acme").id)
        built.add_dataset(tx, "digits")
        built.add_model(tx, "digits", "digits")
    return caller


def submit(acme: Web, **fields: Any) -> dict[str, Any]:
    answer = acme.post(PATH, {"model": "digits", "record_ids": ["r-0"], **fields})
    assert answer.status_code == 202, answer.text
    return answer.json()


def work(acme: Web, outcome: Outcome) -> None:
    """Plan, claim and finish a run."""
    with transaction(acme.engine) as tx:
        plan_next(tx, at=AT)
        lease = service.claim(tx, run_id=None, owner="w", ttl_s=60, at=AT)
        assert lease is not None
        uri = f"mem://store/models/digits/v2/{lease.row_id}-1/"
        outcome = outcome if outcome.failure else replace(outcome, staged=staged(uri))
        finishing.finish(tx, lease=lease, outcome=outcome, publish_uri=uri, max_attempts=1, at=AT)


def test_a_request_is_accepted_as_the_contract_says(acme: Web) -> None:
    answer = acme.post(
        PATH,
        {
            "model": "digits",
            "dataset": "digits",
            "record_ids": ["r-0", "r-2"],
            "subject_ids": ["writer-1"],
            "identities": [{"type": "email", "value": "a@b.example"}],
            "reason": "gdpr_art_17",
            "external_id": "PRIV-1042",
            "due_at": None,
            "hold_seconds": 0,
            "policy": None,
            "metadata": {},
        },
    )
    body = answer.json()
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"{PATH}/{body['id']}"
    assert int(answer.headers["Retry-After"]) > 0
    assert body["status_url"].endswith(answer.headers["Location"])
    assert (body["status"], body["status_detail"], body["record_count"]) == ("pending", "queued", 5)
    assert (body["models"], body["run_ids"], body["certificate_ids"]) == (["digits"], [], [])


def test_polling_is_cheap_and_says_when_to_come_back(acme: Web) -> None:
    path = f"{PATH}/{submit(acme)['id']}"
    first = acme.get(path)
    assert int(first.headers["Retry-After"]) > 0
    assert acme.get(path, headers={"If-None-Match": first.headers["ETag"]}).status_code == 304
    work(acme, Outcome(stop_reason="target_reached", verdict="passed"))
    ended = acme.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (ended.status_code, ended.json()["status"]) == (200, "completed")
    assert "Retry-After" not in ended.headers
    events = acme.get(f"{path}/events").json()["data"]
    assert [event["type"] for event in events] == ["created", "started", "completed"]


def test_the_same_key_does_it_once(acme: Web) -> None:
    body = {"model": "digits", "record_ids": ["r-0"], "external_id": "X"}
    first, second = (acme.post(PATH, body, headers={"Idempotency-Key": '"k1"'}) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]
    assert acme.post(PATH, body).status_code == 409
    assert len(acme.get(PATH).json()["data"]) == 1


def test_unknown_ids_are_pointed_at(acme: Web) -> None:
    answer = acme.post(PATH, {"model": "digits", "record_ids": ["r-0", "nope", "r-1", "neither"]})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "unknown_records")
    assert [error["pointer"] for error in problem["errors"]] == ["/record_ids/1", "/record_ids/3"]
    assert "nope" not in answer.text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "digits"}, 422, "empty_selection"),
        ({"model": "nope", "record_ids": ["r-0"]}, 404, "model_not_found"),
        ({"model": "digits", "record_ids": ["r-0"], "policy": "nope"}, 404, "policy_not_found"),
        ({"model": "digits", "record_ids": ["r-0"], "colour": "red"}, 422, "invalid_request"),
        ({"model": "digits", "record_ids": ["r-0"], "hold_seconds": -1}, 422, "invalid_request"),
        ({"model": "digits", "record_ids": ["r-0"], "metadata": {"x": "y" * 5000}}, 422, "invalid_request"),
        ({"model": "digits", "record_ids": [f"r-{i}" for i in range(10_001)]}, 422, "too_many_ids"),
    ],
)
def test_bad_requests_are_problems(acme: Web, body: dict[str, Any], status: int, code: str) -> None:
    answer = acme.post(PATH, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert acme.get(PATH).json()["data"] == []


def test_waiting_for_the_end_of_what_ends_at_once(acme: Web) -> None:
    body = {"model": "digits", "subject_ids": ["nobody"]}
    answer = acme.post(PATH, body, headers={"Prefer": "wait=10"})
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    assert "Preference-Applied" in answer.headers
    held = submit(acme, hold_seconds=3600)
    assert held["status_detail"] == "held"
    still = acme.get(f"{PATH}/{held['id']}", headers={"Prefer": "wait=0"})
    assert still.json()["status"] == "pending"


def test_cancelling_by_post_and_by_delete(acme: Web) -> None:
    first, second = submit(acme)["id"], submit(acme)["id"]
    assert acme.post(f"{PATH}/{first}/cancel").json()["status"] == "cancelled"
    assert acme.delete(f"{PATH}/{second}").json()["status"] == "cancelled"
    assert acme.delete(f"{PATH}/{second}").status_code == 409
    assert acme.delete(f"{PATH}/del_nope").status_code == 404


def test_a_failed_request_can_be_an_error_status(acme: Web) -> None:
    path = f"{PATH}/{submit(acme)['id']}"
    assert acme.get(f"{path}?fail_as_error=true").status_code == 200
    work(acme, Outcome(failure=Failure("bad_record", "Row 3 cannot be used.", retryable=False)))
    plain = acme.get(path).json()
    assert (plain["status"], plain["error"]["message"]) == ("failed", "Row 3 cannot be used.")
    error = acme.get(f"{path}?fail_as_error=true")
    assert (error.status_code, error.json()["detail"]) == (422, "Row 3 cannot be used.")


@pytest.mark.parametrize(("decision", "status"), [("approve", "completed"), ("reject", "failed")])
def test_a_person_decides(acme: Web, decision: str, status: str) -> None:
    path = f"{PATH}/{submit(acme)['id']}"
    assert acme.post(f"{path}/{decision}", {"comment": "x"}).status_code == 409
    work(acme, Outcome(stop_reason="target_reached", verdict="failed"))
    assert acme.get(path).json()["status_detail"] == "waiting_for_review"
    assert acme.post(f"{path}/{decision}", {"comment": "seen"}).json()["status"] == status


def test_a_batch_answers_item_by_item(acme: Web) -> None:
    items = [
        {"model": "digits", "record_ids": ["r-0"]},
        {"model": "digits", "record_ids": ["nope"]},
        {"model": "digits", "records": ["r-1"], "a/b~c": 1},
        "nonsense",
        {"model": "digits", "subject_ids": ["nobody"]},
    ]
    answer = acme.post(f"{PATH}/batch", {"requests": items})
    assert answer.status_code == 202, answer.text
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [202, 422, 422, 422, 202]
    assert results[1]["problem"]["errors"][0]["pointer"] == "/record_ids/0"
    assert {error["pointer"] for error in results[2]["problem"]["errors"]} == {"/records", "/…"}
    assert results[1]["problem"]["instance"] == answer.headers["x-request-id"]
    assert [result["request"]["status"] for result in results if result["request"]] == ["pending", "completed"]
    assert acme.post(f"{PATH}/batch", {"requests": []}).status_code == 422
    assert acme.post(f"{PATH}/batch", {"requests": items[:1] * 1001}).status_code == 422


def test_lists_are_paged_and_other_workspaces_see_nothing(acme: Web) -> None:
    ids = [submit(acme, external_id=f"X-{i}")["id"] for i in range(3)]
    page = acme.get(f"{PATH}?limit=2").json()
    assert ([row["id"] for row in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    rest = acme.get(f"{PATH}?limit=2&cursor={page['next_cursor']}").json()
    assert ([row["id"] for row in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    assert [row["id"] for row in acme.get(f"{PATH}?external_id=X-1").json()["data"]] == [ids[1]]
    other = acme.customer("other")
    assert other.get(PATH).json()["data"] == []
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("DELETE", "")):
        assert other.call(method, f"{PATH}/{ids[0]}{path}").status_code == 404
    assert other.post(f"{PATH}/{ids[0]}/approve", {"comment": ""}).status_code == 404


def test_a_hold_that_is_over_shows_without_anybody_writing_it_down(acme: Web) -> None:
    path = f"{PATH}/{submit(acme, hold_seconds=3600)['id']}"
    held = acme.get(path)
    assert int(held.headers["Retry-After"]) == 60
    with transaction(acme.engine) as tx:
        tx.execute(text("update deletion_requests set hold_until = now() - interval '1 second'"))
    due = acme.get(path, headers={"If-None-Match": held.headers["ETag"]})
    assert (due.status_code, due.json()["status_detail"]) == (200, "queued")


def test_lists_are_narrowed_by_model_id(acme: Web) -> None:
    request_id = submit(acme)["id"]
    work(acme, Outcome(stop_reason="target_reached", verdict="passed"))
    assert submit(acme, model=None, dataset="digits", record_ids=[], subject_ids=["nobody"])["record_count"] == 0
    with acme.engine.connect() as connection:
        model_id = connection.execute(text("select id from models")).scalar_one()
    for path, found in ((PATH, request_id), ("/v1/runs", None)):
        rows = acme.get(f"{path}?model_id={model_id}").json()["data"]
        assert [found or row["id"] for row in rows] == [row["id"] for row in rows]
        assert rows
        assert acme.get(f"{path}?model_id=mdl_other").json()["data"] == []


def test_a_repeated_call_that_waits_says_that_it_is_one(acme: Web) -> None:
    body, headers = {"model": "digits", "subject_ids": ["nobody"]}, {"Prefer": "wait=5", "Idempotency-Key": "k"}
    first, again = (acme.post(PATH, body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["id"] == again.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"


def test_a_poller_that_has_the_newest_is_told_when_to_come_back(acme: Web) -> None:
    path = f"{PATH}/{submit(acme)['id']}"
    answer = acme.get(path, headers={"If-None-Match": acme.get(path).headers["etag"]})
    assert (answer.status_code, answer.content) == (304, b"")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_batch_takes_a_thousand_and_no_more(acme: Web) -> None:
    assert acme.post(f"{PATH}/batch", {"requests": ["x"] * 1000}).status_code == 202
    assert acme.post(f"{PATH}/batch", {"requests": ["x"] * 1001}).status_code == 422
    assert acme.post(f"{PATH}/batch", {"requests": []}).status_code == 422


def test_a_data_set_counts_what_requests_have_taken_from_it_and_is_cheap_to_poll(acme: Web) -> None:
    path = "/v1/datasets/digits"
    before = acme.get(path)
    same = acme.get(path, headers={"If-None-Match": before.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    submit(acme, record_ids=["r-0", "r-1"])
    submit(acme, record_ids=["r-1"], subject_ids=[])
    after = acme.get(path, headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.json()["pending_erasure"], after.json()["erased"]) == (200, 2, 0)
    work(acme, Outcome(stop_reason="target_reached", verdict="passed"))
    assert (acme.get(path).json()["pending_erasure"], acme.get(path).json()["erased"]) == (0, 2)
