"""States of a data subject request and the moves between them. Nothing else chooses a state."""

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """The standard's four. There is none for failure: what cannot be finished stays ``in_progress``."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


FINAL = frozenset({Status.COMPLETED, Status.CANCELLED})

MOVES: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.IN_PROGRESS, Status.CANCELLED}),
    Status.IN_PROGRESS: frozenset({Status.COMPLETED}),
    Status.COMPLETED: frozenset(),
    Status.CANCELLED: frozenset(),
}


class IllegalMove(Exception):
    """There is no such move."""

    def __init__(self, before: Status, after: Status) -> None:
        super().__init__(f"a data subject request cannot go from {before} to {after}")


def advance(state: Status, to: Status) -> Status:
    """``to``, if a request in ``state`` may go there. Raises ``IllegalMove``."""
    if to not in MOVES[state]:
        raise IllegalMove(state, to)
    return to
