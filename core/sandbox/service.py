"""Use cases of sandboxes: entering one, moving its clock, and forgetting what is old."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from core.access import audit
from core.access.principal import Principal
from core.platform.errors import NotFound
from core.sandbox import world
from core.sandbox.repository import Sandboxes

KEPT_FOR: Final = timedelta(days=30)
"""Requests and runs of sandboxes are deleted after this time of the real clock."""


class OnlyInTestMode(NotFound):
    """This exists in test mode only: call it with a test key."""

    code = "only_in_test_mode"


def enter(tx: Session, *, caller: Principal, uri: Callable[[str], str], at: datetime) -> None:
    """Let a test key find a furnished sandbox; any other caller needs none."""
    if caller.mode == "test":
        world.furnish(tx, workspace_id=caller.workspace_id, uri=uri, at=at)


def advance_clock(tx: Session, *, caller: Principal, seconds: int, at: datetime) -> int:
    """Let that much time pass in the caller's sandbox; how many deletion requests grew older.

    Clocks cannot be moved, so everything that has happened is put further into the past: holds, deadlines and warnings
    come nearer by as much, and the loops find what has become due. Raises ``OnlyInTestMode``.
    """
    if caller.mode != "test":
        raise OnlyInTestMode("The clock is moved in test mode only: use a test key.")
    tx.flush()
    aged = Sandboxes(tx).age(caller.workspace_id, timedelta(seconds=seconds))
    tx.expire_all()
    audit.note(
        tx, workspace_id=caller.workspace_id, actor=caller.key_id, action="sandbox.clock_advanced",
        object_id=caller.workspace_id, details={"seconds": seconds}, at=at,
    )  # fmt: skip
    return aged


def expire(tx: Session, *, at: datetime) -> int:
    """Delete a portion of what was made in sandboxes longer ago than ``KEPT_FOR``; how many objects."""
    return Sandboxes(tx).remove_before(at - KEPT_FOR)
