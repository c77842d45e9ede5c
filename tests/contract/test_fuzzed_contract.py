"""Calls that schemathesis makes up from the document are answered as it says; more of them: ``benchmarks.fuzz``."""

import pytest
from sqlalchemy import Engine

from benchmarks.fuzzing.contract import Effort, fuzz
from tests.builders.web import web

pytestmark = [pytest.mark.contract, pytest.mark.integration]


@pytest.mark.filterwarnings("default")  # the tool's own
def test_every_made_up_call_is_answered_as_the_document_says(database: Engine) -> None:
    outcome = fuzz(database, Effort(examples=1, walks=5, steps=5))
    assert not outcome.findings, "\n\n".join(f"{what}\n{said}" for what, said in outcome.findings.items())
    assert {"examples", "fuzzing", "stateful"} <= set(outcome.calls)
    # Calls that are all refused would try nothing.
    assert len(outcome.succeeded) >= 25, sorted(outcome.succeeded)
    assert {"POST /v1/deletion-requests", "POST /v1/webhook-endpoints", "GET /v1/runs"} <= outcome.succeeded


@pytest.mark.parametrize("moment", ["0.5", "1740000000", "-1", " 12 "])
def test_a_moment_is_no_number(database: Engine, moment: str) -> None:
    caller = web(database).customer()
    refused = caller.get("/v1/audit-events", params={"created_before": moment})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["parameter"] == "created_before"


def test_true_is_no_number_of_days(database: Engine) -> None:
    refused = web(database).customer().put("/v1/policies/strict", {"originals_days": True})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/originals_days"


def test_a_created_object_leads_to_the_calls_about_it(database: Engine) -> None:
    document = web(database).app.openapi()
    created = document["paths"]["/v1/deletion-requests"]["post"]["responses"]["202"]["links"]
    leads_to = {link["operationId"]: link["parameters"] for link in created.values()}
    for suffix, method in (("", "get"), ("/cancel", "post"), ("/events", "get")):
        operation = document["paths"][f"/v1/deletion-requests/{{request_id}}{suffix}"][method]["operationId"]
        assert leads_to[operation] == {"request_id": "$response.body#/id"}
