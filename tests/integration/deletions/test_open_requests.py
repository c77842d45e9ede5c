"""A workspace has at most so many requests that have not ended; what has ended makes room."""

import pytest
from sqlalchemy import Engine

from core.access.service import workspace_named
from core.platform.database import transaction
from tests.builders.estate import Estate
from tests.builders.opendsr import BASE, erasure
from tests.builders.web import Web, web

pytestmark = pytest.mark.integration

PATH = "/v1/deletion-requests"
ONE = {"model": "digits", "record_ids": ["r-0"]}


@pytest.fixture
def acme(emptied: Engine) -> Web:
    """May have two open requests."""
    caller = web(emptied, api={"max_open_requests": 2}).customer("acme")
    with transaction(emptied) as tx:
        built = Estate(workspace_named(tx, "acme").id)
        built.add_dataset(tx, "digits")
        built.add_model(tx, "digits", "digits")
    return caller


def test_the_third_open_request_has_to_wait_and_an_end_makes_room(acme: Web) -> None:
    first, _ = (acme.post(PATH, ONE).json()["id"] for _ in range(2))
    refused = acme.post(PATH, ONE, headers={"Idempotency-Key": '"third"'})
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_open_requests")
    assert int(refused.headers["retry-after"]) == 3600
    assert len(acme.get(PATH).json()["data"]) == 2

    assert acme.post(f"{PATH}/{first}/cancel").status_code == 200
    accepted = acme.post(PATH, ONE, headers={"Idempotency-Key": '"third"'})
    assert accepted.status_code == 202, "a refusal for lack of room must not be replayed"


def test_a_batch_that_has_no_room_is_refused_as_a_whole(acme: Web) -> None:
    refused = acme.post(f"{PATH}/batch", {"requests": [ONE, ONE, ONE]})
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_open_requests")
    assert acme.get(PATH).json()["data"] == []
    assert acme.post(f"{PATH}/batch", {"requests": [ONE, ONE]}).status_code == 202


def test_another_workspace_has_room_of_its_own(acme: Web) -> None:
    for _ in range(2):
        acme.post(PATH, ONE)
    unknown = {"subject_ids": ["nobody"]}
    assert acme.customer("other").post(PATH, unknown).status_code == 202


def test_an_opendsr_request_without_room_is_refused_and_leaves_nothing(acme: Web) -> None:
    for _ in range(2):
        acme.post(PATH, ONE)
    wanted = erasure()
    refused = acme.post(f"{BASE}/requests", wanted)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == 429
    assert acme.get(f"{BASE}/requests/{wanted['subject_request_id']}").status_code == 404
