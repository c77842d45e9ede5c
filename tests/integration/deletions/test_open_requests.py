"""A workspace has at most so many requests that have not ended; what has ended makes room."""

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from core.access.service import workspace_named
from core.deletions.errors import TooManyOpenRequests
from core.deletions.room import Room
from core.platform.database import transaction
from tests.builders.estate import Estate, estate
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


def test_where_there_is_plenty_of_room_it_is_counted_again_after_a_second_and_nobody_waits(emptied: Engine) -> None:
    now = 0.0
    room = Room(6000, lambda: now)
    with transaction(emptied) as tx:
        workspace_id = estate(tx).workspace_id
    with transaction(emptied) as first:
        room.check(first, workspace_id)
        with transaction(emptied) as tx:
            tx.execute(text("set local lock_timeout = '50ms'"))
            room.check(tx, workspace_id)
            _fill(tx, workspace_id, 6000)
    now = 0.9
    with transaction(emptied) as tx:
        room.check(tx, workspace_id)
    now = 1.0
    with transaction(emptied) as tx, pytest.raises(TooManyOpenRequests):
        room.check(tx, workspace_id)


def test_where_there_is_little_room_it_is_counted_every_time(emptied: Engine) -> None:
    room = Room(100, lambda: 0.0)
    with transaction(emptied) as tx:
        workspace_id = estate(tx).workspace_id
        room.check(tx, workspace_id)
        _fill(tx, workspace_id, 1)
        room.check(tx, workspace_id)
        _fill(tx, workspace_id, 99)
        with pytest.raises(TooManyOpenRequests):
            room.check(tx, workspace_id)


def _fill(tx: Session, workspace_id: str, count: int) -> None:
    tx.execute(
        text(
            "insert into deletion_requests"
            " (id, workspace_id, status, status_detail, reason, metadata, record_count, already_erased)"
            " select 'del_' || gen_random_uuid(), :workspace_id, 'pending', 'queued', 'x', '{}', 0, 0"
            " from generate_series(1, :count)"
        ),
        {"workspace_id": workspace_id, "count": count},
    )
