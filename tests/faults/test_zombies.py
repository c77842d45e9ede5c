"""A worker that stops for longer than its lease and then wakes: another has its run, and it writes nothing more."""

from contextlib import ExitStack

import pytest

from core.deletions.lifecycle import Status
from tests.builders.rig import Rig

pytestmark = pytest.mark.faults


def test_a_worker_that_wakes_after_its_lease_writes_nothing(rig: Rig) -> None:
    with rig.held("unlearning"):
        request_id = rig.ask("faces", 45)
        run_id = rig.run_of(request_id)
        rig.wait_phase(run_id, "unlearning", 1)
        asleep = rig.worker_of(run_id)
        zombie = rig.child_of(run_id)
        assert zombie is not None
        with rig.paused(asleep):
            rig.wait_phase(run_id, "unlearning", 2)
            assert rig.worker_of(run_id) != asleep
        zombie.wait(timeout=60)  # its worker has noticed, and ended it
        before = len(rig.events(run_id))
        assert (rig.run(run_id).attempt, rig.run(run_id).status) == (2, "unlearning")
    assert rig.ended(request_id) == Status.COMPLETED
    added = [event.detail.get("attempt") for event in rig.events(run_id)[before:] if "attempt" in event.detail]
    assert set(added) == {2}


def test_a_worker_that_stops_within_a_transaction_does_not_keep_its_locks(rig: Rig) -> None:
    """It holds the lock on the run's row, which the reaper passes by; the database ends the transaction for it."""
    with rig.held("assessing"):
        request_id = rig.ask("faces", 46)
        run_id = rig.run_of(request_id)
        rig.wait_phase(run_id, "assessing", 1)
        asleep = rig.worker_of(run_id)
        with ExitStack() as sleep:
            with rig.locked("run_events") as locked:
                (rig.lead / "assessing").rename(rig.lead / "unlearning")
                locked.wait_blocked()
                sleep.enter_context(rig.paused(asleep))
            rig.wait_attempt(run_id, 2)
        (rig.lead / "unlearning").rename(rig.lead / "assessing")
    assert rig.ended(request_id) == Status.COMPLETED
