"""Hardness assessments over HTTP."""

from typing import Any

import pytest
from sqlalchemy import Engine, text

from core.access.service import workspace_named
from core.platform.database import transaction
from core.runs import finishing, service
from core.unlearning.job import Outcome
from tests.builders.estate import AT, Estate
from tests.builders.web import Web, web

pytestmark = pytest.mark.integration

PATH = "/v1/hardness-assessments"
GUESS = {"low": 1.0, "expected": 2.0, "high": 3.0}
HARDNESS = {
    "verdict": "hard",
    "advice": "Go on.",
    "kappa": 0.1,
    "kappa_1": -0.4,
    "kappa_2": 0.9,
    "cosine": 0.3,
    "cosine_spread": 0.1,
    "forget_capacity": 0.8,
    "free_capacity": 0.7,
    "layers": [{"name": "w", "kappa": 0.1, "cosine": 0.3, "retain_norm": 1.0, "forget_norm": 2.0}],
    "forecast": {"steps": {"low": 1, "expected": 2, "high": 3}, "seconds": GUESS, "retain_loss_change": GUESS},
    "a field of a newer worker": 1,
}


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


def work(acme: Web) -> None:
    """Claim and finish the assessment."""
    with transaction(acme.engine) as tx:
        lease = service.claim(tx, run_id=None, owner="w", ttl_s=60, at=AT)
        assert lease is not None
        outcome = Outcome(hardness=HARDNESS, metrics={"before": {"membership_auc": 0.9}})
        finishing.finish(tx, lease=lease, outcome=outcome, publish_uri="", max_attempts=1, at=AT)


def test_an_assessment_is_accepted_polled_and_read(acme: Web) -> None:
    answer = acme.post(PATH, {"model": "digits", "subject_ids": ["writer-1"]})
    body = answer.json()
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"{PATH}/{body['id']}"
    assert int(answer.headers["Retry-After"]) > 0
    assert body["status_url"].endswith(answer.headers["Location"])
    assert (body["status"], body["record_count"], body["result"]) == ("queued", 3, None)
    first = acme.get(answer.headers["Location"])
    assert int(first.headers["Retry-After"]) > 0
    held = {"If-None-Match": first.headers["ETag"]}
    assert acme.get(answer.headers["Location"], headers=held).status_code == 304
    work(acme)
    ended = acme.get(answer.headers["Location"], headers={**held, "Prefer": "wait=5"})
    assert ended.headers["Preference-Applied"] == "wait=5"
    assert "Retry-After" not in ended.headers
    result = ended.json()["result"]
    assert (ended.json()["status"], result["verdict"], result["forecast"]["steps"]["expected"]) == (
        "succeeded",
        "hard",
        2,
    )
    assert ended.json()["metrics"] == {"membership_auc": 0.9}
    assert "a field of a newer worker" not in result


def test_the_layers_of_an_assessment_are_drawn_once_it_has_ended(acme: Web) -> None:
    path = f"{PATH}/{submit(acme)['id']}/plots/layers.svg"
    early = acme.get(path)
    assert (early.status_code, early.json()["code"]) == (409, "nothing_to_plot")
    work(acme)
    drawn = acme.get(path)
    assert (drawn.status_code, "<svg" in drawn.text) == (200, True)
    assert acme.get(path, headers={"If-None-Match": drawn.headers["ETag"]}).status_code == 304
    assert acme.customer("other").get(path).status_code == 404


def test_the_same_key_does_it_once(acme: Web) -> None:
    body = {"model": "digits", "record_ids": ["r-0"]}
    first, second = (acme.post(PATH, body, headers={"Idempotency-Key": '"k1"'}) for _ in range(2))
    assert first.json() == second.json()
    assert len(acme.get(PATH).json()["data"]) == 1


def test_unknown_records_are_pointed_at_and_a_model_is_needed(acme: Web) -> None:
    refused = acme.post(PATH, {"model": "digits", "record_ids": ["r-0", "nope"]})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_records")
    assert [one["pointer"] for one in refused.json()["errors"]] == ["/record_ids/1"]
    missing = acme.post(PATH, {"record_ids": ["r-0"]})
    assert (missing.status_code, missing.json()["errors"][0]["pointer"]) == (422, "/model")
    nobody = acme.post(PATH, {"model": "digits", "subject_ids": ["nobody"]})
    assert (nobody.status_code, nobody.json()["code"]) == (422, "nothing_to_assess")
    assert acme.post(PATH, {"model": "none", "record_ids": ["r-0"]}).status_code == 404
    assert acme.post(PATH, {"model": "digits", "record_ids": ["r-0"], "hold_seconds": 1}).status_code == 422


def test_assessments_of_others_are_not_found(acme: Web) -> None:
    path = f"{PATH}/{submit(acme)['id']}"
    other = acme.customer("other")
    assert other.get(path).status_code == 404
    assert other.get(path).json()["code"] == "hardness_assessment_not_found"
    assert other.post(f"{path}/cancel").status_code == 404
    assert other.get(PATH).json()["data"] == []
    assert other.post(PATH, {"model": "digits", "record_ids": ["r-0"]}).status_code == 404
    reader = acme.customer("acme", ["deletions:read"])
    assert reader.get(path).status_code == 200
    assert reader.post(f"{path}/cancel").status_code == 403


def test_lists_keep_runs_and_assessments_apart(acme: Web) -> None:
    made = submit(acme)
    assert [one["id"] for one in acme.get(f"{PATH}?status=queued&model=digits").json()["data"]] == [made["id"]]
    assert acme.get(f"{PATH}?status=succeeded").json()["data"] == []
    assert acme.get("/v1/runs").json()["data"] == []
    (run,) = acme.get("/v1/runs?mode=assess").json()["data"]
    assert (run["id"], run["mode"], run["deletion_request_ids"]) == (made["id"], "assess", [])
    assert acme.get("/v1/runs?mode=other").status_code == 422


def test_cancelling_over_http(acme: Web) -> None:
    path = f"{PATH}/{submit(acme)['id']}"
    answer = acme.post(f"{path}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert acme.post(f"{path}/cancel").status_code == 409
    with transaction(acme.engine) as tx:
        assert tx.execute(text("select count(*) from records where state <> 'active'")).scalar_one() == 0
        assert tx.execute(text("select count(*) from deletion_requests")).scalar_one() == 0
