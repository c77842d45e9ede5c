"""States of a run and the moves between them. Nothing else chooses a state.

A *leased* state is one in which a worker holds the run. From each of them the run may go back to ``queued``, when the
lease has ended without a result (takeover), and may end; forward, phases may be left out but never gone back to.

A hardness assessment is a run that ends after its second phase: it never waits for a person and publishes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Status(StrEnum):
    """What callers see."""

    QUEUED = "queued"
    PREPARING = "preparing"
    ASSESSING = "assessing"
    UNLEARNING = "unlearning"
    EVALUATING = "evaluating"
    PUBLISHING = "publishing"
    SUCCEEDED = "succeeded"
    NEEDS_REVIEW = "needs_review"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Mode(StrEnum):
    """What a run is for."""

    UNLEARN = "unlearn"
    ASSESS = "assess"


PHASES = (Status.PREPARING, Status.ASSESSING, Status.UNLEARNING, Status.EVALUATING, Status.PUBLISHING)
"""In order; a run in one of them is leased."""

LEASED = frozenset(PHASES)
ACTIVE = LEASED | {Status.QUEUED}
FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})


def _from_phase(index: int) -> frozenset[Status]:
    ends = {Status.QUEUED, Status.NEEDS_REVIEW, Status.FAILED, Status.CANCELLED}
    published = {Status.SUCCEEDED} if PHASES[index] == Status.PUBLISHING else set[Status]()
    return frozenset({*PHASES[index + 1 :], *ends, *published})


MOVES: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.PREPARING, Status.FAILED, Status.CANCELLED}),
    **{phase: _from_phase(index) for index, phase in enumerate(PHASES)},
    Status.NEEDS_REVIEW: frozenset({Status.PUBLISHING, Status.FAILED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


_ENDS_EARLY = frozenset({Status.QUEUED, Status.FAILED, Status.CANCELLED})

ASSESSMENT_MOVES: Mapping[Status, frozenset[Status]] = {
    **dict.fromkeys(Status, frozenset[Status]()),
    Status.QUEUED: MOVES[Status.QUEUED],
    Status.PREPARING: _ENDS_EARLY | {Status.ASSESSING},
    Status.ASSESSING: _ENDS_EARLY | {Status.SUCCEEDED},
}
"""The moves of a run that only assesses."""


class IllegalMove(Exception):
    """There is no such move."""

    def __init__(self, before: Status, after: Status) -> None:
        super().__init__(f"a run cannot go from {before} to {after}")
        self.before = before
        self.after = after


@dataclass(frozen=True, slots=True)
class Move:
    """One change of state: from where it was seen, to where, why and when."""

    before: Status
    after: Status
    why: str
    at: datetime


def advance(state: Status, to: Status, *, why: str, at: datetime, mode: Mode = Mode.UNLEARN) -> Move:
    """The move from ``state`` to ``to``. Raises ``IllegalMove`` when there is none."""
    moves = MOVES if mode is Mode.UNLEARN else ASSESSMENT_MOVES
    if to not in moves[state]:
        raise IllegalMove(state, to)
    return Move(state, to, why, at)


def is_ahead(state: Status, phase: Status) -> bool:
    """Whether ``phase`` lies ahead of a leased ``state``: a late report of an earlier phase is not."""
    return state in LEASED and phase in LEASED and PHASES.index(phase) > PHASES.index(state)
