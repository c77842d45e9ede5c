"""Several callers at the same time: nobody waits for ever, nothing is counted twice."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core.datasets.tables import Record
from core.deletions import service
from core.deletions.commands import SubmitDeletion
from core.deletions.errors import ExternalIdTaken, TooManyOpenRequests
from core.deletions.repository import Requests
from core.deletions.room import Room
from core.deletions.tables import DeletionRequest
from core.platform.database import transaction
from core.platform.errors import DomainError
from core.runs.planning import plan_next
from tests.builders.estate import AT, KEYRING, Estate, estate

pytestmark = pytest.mark.integration


def at_once(*works: Callable[[], object]) -> list[object]:
    """Results or domain errors of calls that begin together."""
    barrier = threading.Barrier(len(works))

    def one(work: Callable[[], object]) -> object:
        barrier.wait()
        try:
            return work()
        except DomainError as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, works, timeout=60))


def built_in(database: Engine) -> Estate:
    with transaction(database) as tx:
        return estate(tx)


def test_requests_in_opposite_order_do_not_deadlock(database: Engine) -> None:
    built = built_in(database)

    def submit(ids: tuple[str, ...]) -> Callable[[], object]:
        def work() -> object:
            with transaction(database) as tx:
                return service.submit_many(
                    tx,
                    workspace_id=built.workspace_id,
                    actor="k",
                    commands=[SubmitDeletion(model="digits", record_ids=(record_id,)) for record_id in ids],
                    keyring=KEYRING,
                    max_ids=10,
                    at=AT,
                )

        return work

    ids = tuple(f"r-{i}" for i in range(6))
    results = at_once(*(submit(ids if i % 2 else ids[::-1]) for i in range(8)))
    assert not [result for result in results if isinstance(result, Exception)]
    with transaction(database) as tx:
        assert len(tx.scalars(select(DeletionRequest.id)).all()) == 48


def test_the_same_records_in_opposite_order_do_not_deadlock(database: Engine) -> None:
    built = built_in(database)
    ids = tuple(f"r-{i}" for i in range(6))

    def submit(named: tuple[str, ...]) -> Callable[[], object]:
        def work() -> object:
            with transaction(database) as tx:
                return built.submit(tx, *named)

        return work

    results = at_once(*(submit(ids if i % 2 else ids[::-1]) for i in range(8)))
    assert not [result for result in results if isinstance(result, Exception)]
    with transaction(database) as tx:
        assert set(tx.scalars(select(Record.record_id).where(Record.state == "pending_erasure"))) == set(ids)


def test_requests_are_accepted_beside_each_other_but_not_beside_a_cancellation(database: Engine) -> None:
    built = built_in(database)
    with transaction(database) as tx:
        first = built.submit(tx, "r-0").request.id
    with transaction(database) as waiting:
        Requests(waiting).submit_among_others(built.workspace_id)
        with impatient(database) as tx:
            built.submit(tx, "r-0", "r-1")
        with impatient(database) as tx, pytest.raises(OperationalError, match="lock timeout"):
            service.cancel(tx, workspace_id=built.workspace_id, request_id=first, actor="k", at=AT)


@contextmanager
def impatient(database: Engine) -> Generator[Session]:
    """A transaction that waits for nobody."""
    with transaction(database) as tx:
        tx.execute(text("set local lock_timeout = '50ms'"))
        yield tx


def test_no_more_are_accepted_at_once_than_there_is_room_for(database: Engine) -> None:
    built, room = built_in(database), Room(3)

    def submit() -> object:
        with transaction(database) as tx:
            return built.submit(tx, "r-0", room=room)

    results = at_once(*[submit] * 6)
    assert sum(isinstance(result, TooManyOpenRequests) for result in results) == 3


def test_one_of_many_gets_an_external_id(database: Engine) -> None:
    built = built_in(database)

    def submit() -> object:
        with transaction(database) as tx:
            return built.submit(tx, "r-0", external_id="PRIV-1")

    results = at_once(*[submit] * 6)
    assert sum(isinstance(result, ExternalIdTaken) for result in results) == 5


def test_a_request_is_either_cancelled_or_planned(database: Engine) -> None:
    built = built_in(database)
    for _ in range(5):
        with transaction(database) as tx:
            request_id = built.submit(tx, "r-0").request.id

        def cancel(request_id: str = request_id) -> object:
            with transaction(database) as tx:
                return service.cancel(
                    tx, workspace_id=built.workspace_id, request_id=request_id, actor="k", at=AT
                ).request.status

        def plan() -> object:
            with transaction(database) as tx:
                return plan_next(tx, at=AT)

        cancelled, planned = at_once(cancel, plan)
        with transaction(database) as tx:
            request = service.get(tx, workspace_id=built.workspace_id, request_id=request_id)
            state = tx.scalar(select(Record.state).where(Record.record_id == "r-0"))
            if cancelled == "cancelled":
                assert (request.request.status, planned, state) == ("cancelled", None, "active")
            else:
                assert isinstance(cancelled, DomainError)
                assert (request.request.status, state) == ("in_progress", "pending_erasure")
                assert len(request.run_ids) == 1
                return  # the model is busy from now on


def test_cancelling_and_submitting_the_same_records_agree(database: Engine) -> None:
    built = built_in(database)
    ids = tuple(f"r-{i}" for i in range(6))
    for _ in range(5):
        with transaction(database) as tx:
            request_id = built.submit(tx, *ids).request.id

        def cancel(request_id: str = request_id) -> object:
            with transaction(database) as tx:
                return service.cancel(tx, workspace_id=built.workspace_id, request_id=request_id, actor="k", at=AT)

        def submit() -> str:
            with transaction(database) as tx:
                return built.submit(tx, *ids[::-1]).request.id

        _, second = at_once(cancel, submit)
        with transaction(database) as tx:
            waiting = tx.scalars(select(Record.record_id).where(Record.state == "pending_erasure")).all()
            assert set(waiting) == set(ids)
            service.cancel(tx, workspace_id=built.workspace_id, request_id=str(second), actor="k", at=AT)
            assert tx.scalars(select(Record.record_id).where(Record.state == "pending_erasure")).all() == []
