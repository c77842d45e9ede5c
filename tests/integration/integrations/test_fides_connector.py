"""The Fides connector in the docs does what its page says, against the API in test mode."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import Engine, text

from core.access.service import Credential, authenticate
from core.platform.clock import utc_now
from core.platform.database import transaction
from tests.builders.fides import RETRIES, Connector, TaskFailed
from tests.builders.sandbox import Sandbox, new_test_key, site_on

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parents[3] / "docs/integrations/fides"
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "unlearn_config.yml").read_text())["saas_config"]
DATASET: dict[str, Any] = yaml.safe_load((FOLDER / "unlearn_dataset.yml").read_text())["dataset"][0]
PRIVACY_REQUEST = "pri_8f0c9d7e-4c0f-4a51-9f55-2f8f6f0b7d11"


@pytest.fixture
def box(emptied: Engine) -> Sandbox:
    return Sandbox(site_on(emptied))


@pytest.fixture
def connector(box: Sandbox) -> Connector:
    return _connector(box.engine, new_test_key(box.engine))


def _connector(engine: Engine, key: str) -> Connector:
    return Connector(CONFIG, {"domain": "test", "api_key": key}, site_on(engine).call)


def test_config_and_dataset_belong_together() -> None:
    names = [endpoint["name"] for endpoint in CONFIG["endpoints"]]
    assert [collection["name"] for collection in DATASET["collections"]] == names
    assert CONFIG["fides_key"] == DATASET["fides_key"] == "<instance_fides_key>"
    used = {one["name"] for one in CONFIG["connector_params"]}
    assert used == {"domain", "api_key"}
    assert CONFIG["client_config"]["host"] == "<domain>"


def test_the_connection_can_be_tested(box: Sandbox, connector: Connector) -> None:
    assert connector.test()
    with pytest.raises(TaskFailed, match="401"):
        _connector(box.engine, "unl_test_nonsense").test()


def test_a_person_is_erased_and_the_poll_ends(box: Sandbox, connector: Connector) -> None:
    task = connector.erase(PRIVACY_REQUEST, {"email": "ana@example.org"})
    connector.poll(task)
    assert (task.state, task.rows_masked) == ("polling", 0)
    box.settle()
    connector.poll(task)
    assert (task.state, task.rows_masked) == ("complete", 1)
    (made,) = box.caller.get("/v1/deletion-requests").json()["data"]
    assert (made["external_id"], made["record_count"]) == (PRIVACY_REQUEST, 1)


def test_a_person_whom_nobody_knows_is_complete_at_the_first_poll(connector: Connector) -> None:
    task = connector.erase(PRIVACY_REQUEST, {"email": "notfound@example.org"})
    connector.poll(task)
    assert task.state == "complete"


def test_what_takes_long_or_waits_for_a_person_is_polled_on(box: Sandbox, connector: Connector) -> None:
    tasks = [connector.erase(f"pri_{word}", {"email": f"{word}@example.org"}) for word in ("slow", "review")]
    box.settle()
    for task in tasks:
        connector.poll(task)
        assert task.state == "polling"


def test_a_permanent_failure_ends_the_task_in_error(box: Sandbox, connector: Connector) -> None:
    task = connector.erase(PRIVACY_REQUEST, {"email": "fail@example.org"})
    connector.poll(task)
    box.settle()
    with pytest.raises(TaskFailed, match="422"):
        connector.poll(task)


def test_a_task_that_is_run_again_finds_its_request(box: Sandbox, connector: Connector) -> None:
    first = connector.erase(PRIVACY_REQUEST, {"email": "ana@example.org"})
    again = connector.erase(PRIVACY_REQUEST, {"email": "ana@example.org"})
    assert again.values["correlation_id"] == first.values["correlation_id"]
    assert again.state == "polling"


def test_a_duplicate_is_409_after_a_day_and_taken_for_done(box: Sandbox, connector: Connector) -> None:
    connector.erase(PRIVACY_REQUEST, {"email": "ana@example.org"})
    with box.engine.begin() as connection:
        connection.execute(text("delete from idempotency_records"))
    answers: list[httpx.Response] = []

    def call(method: str, path: str, **parts: Any) -> httpx.Response:
        answers.append(site_on(box.engine).call(method, path, **parts))
        return answers[-1]

    again = Connector(CONFIG, connector.secrets, call).erase(PRIVACY_REQUEST, {"email": "ana@example.org"})
    assert [answer.status_code for answer in answers] == [409]
    assert (again.state, again.rows_masked) == ("complete", 0)
    assert len(box.caller.get("/v1/deletion-requests").json()["data"]) == 1


def test_a_busy_service_is_asked_again(box: Sandbox, connector: Connector) -> None:
    busy: Iterator[httpx.Response] = iter(
        [httpx.Response(503, headers={"Retry-After": "7"}), httpx.Response(429), httpx.Response(502)]
    )

    def call(method: str, path: str, **parts: Any) -> httpx.Response:
        return next(busy, None) or site_on(box.engine).call(method, path, **parts)

    patient = Connector(CONFIG, connector.secrets, call)
    assert patient.erase(PRIVACY_REQUEST, {"email": "ana@example.org"}).state == "polling"
    assert patient.slept == [7, 4, 8]
    away = Connector(CONFIG, connector.secrets, lambda *_, **__: httpx.Response(504))
    with pytest.raises(TaskFailed, match="504"):
        away.erase(PRIVACY_REQUEST, {"email": "ana@example.org"})
    assert len(away.slept) == RETRIES


def test_without_an_address_nothing_is_sent(box: Sandbox, connector: Connector) -> None:
    with pytest.raises(TaskFailed, match="placeholder"):
        connector.erase(PRIVACY_REQUEST, {"phone_number": "+15550100"})
    assert box.caller.get("/v1/deletion-requests").json()["data"] == []


def test_two_scopes_are_enough(box: Sandbox) -> None:
    body = {"name": "fides", "scopes": ["deletions:read", "deletions:write"], "mode": "test"}
    key = box.caller.post("/v1/api-keys", body).json()["secret"]
    with transaction(box.engine) as tx:
        assert authenticate(tx, Credential.of_text(key), at=utc_now()).mode == "test"
    narrow = _connector(box.engine, key)
    assert narrow.test()
    task = narrow.erase(PRIVACY_REQUEST, {"email": "ana@example.org"})
    box.settle()
    narrow.poll(task)
    assert task.state == "complete"
