"""A quote from outside: numbers to decide by, and a world that looks as it did before."""

import math
from typing import Any

import pytest

from tests.builders.models import Built
from tests.builders.service import Customer, Receiver, Service
from tests.builders.waiting import wait_until

pytestmark = pytest.mark.e2e

ENDS = {"succeeded", "failed", "cancelled"}
NUMBERS = ("kappa", "kappa_1", "kappa_2", "cosine", "cosine_spread", "forget_capacity", "free_capacity")


def _ended(customer: Customer, assessment_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = customer.get(f"/v1/hardness-assessments/{assessment_id}")
        return found if found["status"] in ENDS else None

    return wait_until(look, timeout_s=120, what=f"the end of {assessment_id}")


def test_a_quote_names_its_price_and_touches_nothing(service: Service, digits: Built) -> None:
    customer = service.customer("quotes")
    customer.register("digits", digits)
    with Receiver() as receiver:
        hook = {"url": receiver.url, "events": ["hardness_assessment.*", "deletion_request.*", "run.*"]}
        customer.post("/v1/webhook-endpoints", hook, expect=201)
        asked = {"model": "digits", "subject_ids": ["writer-03"]}
        made = customer.post("/v1/hardness-assessments", asked, expect=202)
        ended = _ended(customer, made["id"])
        assert ended["status"] == "succeeded", ended
        wait_until(lambda: receiver.of_type("hardness_assessment.completed"), what="the webhook")
        assert len(receiver.received) == 1

    result = ended["result"]
    assert result["verdict"] in {"easy", "hard", "irreconcilable"}
    assert result["advice"].endswith(".")
    assert all(math.isfinite(result[name]) for name in NUMBERS)
    assert 0 < result["free_capacity"] <= result["forget_capacity"]
    assert result["layers"]
    forecast = result["forecast"]
    assert 0 < forecast["steps"]["low"] <= forecast["steps"]["expected"] <= forecast["steps"]["high"] <= 200
    assert 0 < forecast["seconds"]["low"] <= forecast["seconds"]["expected"] <= forecast["seconds"]["high"]
    assert all(math.isfinite(value) for value in forecast["retain_loss_change"].values())
    assert ended["metrics"]["forget"]["loss"] < ended["metrics"]["holdout"]["loss"]

    dataset = customer.get("/v1/datasets/digits")
    assert dataset["erased"] == 0
    assert customer.get("/v1/deletion-requests")["data"] == customer.get("/v1/runs")["data"] == []
    assert [one["version"] for one in customer.get("/v1/models/digits/versions")["data"]] == [1]
    again = customer.post("/v1/hardness-assessments", asked, expect=202)  # the records are still active
    assert (again["record_count"], again["left_out"]["pending_erasure"]) == (ended["record_count"], 0)
    customer.post(f"/v1/hardness-assessments/{again['id']}/cancel", {}, expect=202)  # nobody waits for it
