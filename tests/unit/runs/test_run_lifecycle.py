"""Which moves of runs exist: every pair of states is looked at."""

from datetime import UTC, datetime
from itertools import product

import pytest

from core.runs.lifecycle import FINAL, LEASED, PHASES, IllegalMove, Mode, Status, advance, is_ahead

AT = datetime(2031, 3, 1, tzinfo=UTC)


def allowed(before: Status, after: Status) -> bool:
    """The rules in words, apart from the table."""
    if before in FINAL or before == after:
        return False
    if before == Status.QUEUED:
        return after in (Status.PREPARING, Status.FAILED, Status.CANCELLED)
    if before == Status.NEEDS_REVIEW:
        return after in (Status.PUBLISHING, Status.FAILED)
    if after in (Status.QUEUED, Status.FAILED, Status.CANCELLED, Status.NEEDS_REVIEW):
        return True
    if after == Status.SUCCEEDED:
        return before == Status.PUBLISHING
    return PHASES.index(after) > PHASES.index(before)


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
def test_runs_move_only_as_the_rules_say(before: Status, after: Status) -> None:
    if allowed(before, after):
        move = advance(before, after, why="test", at=AT)
        assert (move.before, move.after, move.why, move.at) == (before, after, "test", AT)
    else:
        with pytest.raises(IllegalMove):
            advance(before, after, why="test", at=AT)


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
def test_an_assessment_is_measured_and_ends(before: Status, after: Status) -> None:
    forward = {Status.QUEUED: Status.PREPARING, Status.PREPARING: Status.ASSESSING, Status.ASSESSING: Status.SUCCEEDED}
    back = after == Status.QUEUED and before in (Status.PREPARING, Status.ASSESSING)
    ended = after in (Status.FAILED, Status.CANCELLED) and before in forward
    if forward.get(before) == after or back or ended:
        assert advance(before, after, why="test", at=AT, mode=Mode.ASSESS).after == after
    else:
        with pytest.raises(IllegalMove):
            advance(before, after, why="test", at=AT, mode=Mode.ASSESS)


def test_every_leased_state_can_be_taken_over_and_cancelled() -> None:
    for state in LEASED:
        assert advance(state, Status.QUEUED, why="takeover", at=AT).after == Status.QUEUED
        assert advance(state, Status.CANCELLED, why="cancel", at=AT).after == Status.CANCELLED


@pytest.mark.parametrize(("state", "phase"), list(product(Status, Status)))
def test_only_leased_states_have_phases_ahead(state: Status, phase: Status) -> None:
    ahead = state in LEASED and phase in LEASED and PHASES.index(phase) > PHASES.index(state)
    assert is_ahead(state, phase) == ahead
