"""States of a deletion request and of its targets, and the moves between them. Nothing else chooses a state.

A *target* is one model of a request. Its states carry the same names; it alone may go back to ``pending``, when a
run ended without a result and another must take it. What the caller sees is the request's state, which follows from
its targets (``summarise``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Status(StrEnum):
    """What callers see; few and final."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    NEEDS_REVIEW = "needs_review"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = frozenset({Status.PENDING, Status.IN_PROGRESS, Status.NEEDS_REVIEW})
FINAL = frozenset(Status) - OPEN

MOVES: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.IN_PROGRESS, Status.CANCELLED}),
    Status.IN_PROGRESS: frozenset({Status.COMPLETED, Status.NEEDS_REVIEW, Status.FAILED}),
    Status.NEEDS_REVIEW: frozenset({Status.IN_PROGRESS, Status.FAILED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}

TARGET_MOVES: Mapping[Status, frozenset[Status]] = {
    **MOVES,
    Status.IN_PROGRESS: MOVES[Status.IN_PROGRESS] | {Status.PENDING},
    Status.NEEDS_REVIEW: MOVES[Status.NEEDS_REVIEW] | {Status.PENDING},
}


class IllegalMove(Exception):
    """There is no such move."""

    def __init__(self, before: Status, after: Status) -> None:
        super().__init__(f"a deletion request cannot go from {before} to {after}")
        self.before = before
        self.after = after


@dataclass(frozen=True, slots=True)
class Move:
    """One change of state: from where it was seen, to where, why and when."""

    before: Status
    after: Status
    why: str
    at: datetime


def advance(state: Status, to: Status, *, why: str, at: datetime) -> Move:
    """The move of a request from ``state`` to ``to``. Raises ``IllegalMove`` when there is none."""
    if to not in MOVES[state]:
        raise IllegalMove(state, to)
    return Move(state, to, why, at)


def advance_target(state: Status, to: Status, *, why: str, at: datetime) -> Move:
    """The move of a target. Raises ``IllegalMove`` when there is none."""
    if to not in TARGET_MOVES[state]:
        raise IllegalMove(state, to)
    return Move(state, to, why, at)


def route(state: Status, to: Status) -> tuple[Status, ...]:
    """The states to pass on the way from ``state`` (left out) to ``to``: every end lies behind ``in_progress``.

    Empty when ``state`` is ``to``. Raises ``IllegalMove`` when there is no way.
    """
    if state == to:
        return ()
    if to in MOVES[state]:
        return (to,)
    if Status.IN_PROGRESS in MOVES[state] and to in MOVES[Status.IN_PROGRESS]:
        return (Status.IN_PROGRESS, to)
    raise IllegalMove(state, to)


def summarise(current: Status, targets: Iterable[Status]) -> Status:
    """The state of a request in ``current`` whose targets are in ``targets``.

    A target that waits for a person makes the request wait; while any other is open the work goes on; then one
    failure makes a failed request. A final state stays as it is.
    """
    if current in FINAL:
        return current
    states = set(targets)
    if Status.NEEDS_REVIEW in states:
        return Status.NEEDS_REVIEW
    if Status.IN_PROGRESS in states:
        return Status.IN_PROGRESS
    if Status.PENDING in states:
        return Status.PENDING if current == Status.PENDING else Status.IN_PROGRESS
    return Status.FAILED if Status.FAILED in states else Status.COMPLETED
