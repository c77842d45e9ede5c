"""Which moves of requests and targets exist: every pair of states is looked at."""

from datetime import UTC, datetime
from itertools import product

import pytest

from core.deletions.lifecycle import (
    FINAL,
    OPEN,
    IllegalMove,
    Status,
    advance,
    advance_target,
    route,
    summarise,
)

AT = datetime(2031, 3, 1, tzinfo=UTC)
P, G, R, C, F, X = (
    Status.PENDING,
    Status.IN_PROGRESS,
    Status.NEEDS_REVIEW,
    Status.COMPLETED,
    Status.FAILED,
    Status.CANCELLED,
)
REQUEST_MOVES = {(P, G), (P, X), (G, C), (G, R), (G, F), (R, G), (R, F)}
TARGET_MOVES = REQUEST_MOVES | {(G, P), (R, P)}


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
def test_requests_move_only_as_the_contract_says(before: Status, after: Status) -> None:
    if (before, after) in REQUEST_MOVES:
        move = advance(before, after, why="test", at=AT)
        assert (move.before, move.after, move.why, move.at) == (before, after, "test", AT)
    else:
        with pytest.raises(IllegalMove):
            advance(before, after, why="test", at=AT)


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
def test_targets_may_also_wait_for_another_run(before: Status, after: Status) -> None:
    if (before, after) in TARGET_MOVES:
        assert advance_target(before, after, why="test", at=AT).after == after
    else:
        with pytest.raises(IllegalMove):
            advance_target(before, after, why="test", at=AT)


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
def test_every_route_is_made_of_legal_moves(before: Status, after: Status) -> None:
    try:
        steps = route(before, after)
    except IllegalMove:
        assert after != before
        return
    state = before
    for step in steps:
        state = advance(state, step, why="test", at=AT).after
    assert state == after


def test_final_states_have_no_way_out() -> None:
    for final, other in product(FINAL, OPEN):
        with pytest.raises(IllegalMove):
            route(final, other)


@pytest.mark.parametrize(
    ("current", "targets", "expected"),
    [
        (P, [P, P], P),
        (P, [P, C], P),
        (P, [P, G], G),
        (P, [C, C], C),
        (G, [P, C], G),
        (G, [G, F], G),
        (G, [G, R], R),
        (G, [C, C], C),
        (G, [C, F], F),
        (R, [R, C], R),
        (R, [P, C], G),
        (R, [F, C], F),
        (G, [], C),
        (F, [C, C], F),
        (X, [P], X),
    ],
)
def test_a_request_follows_its_targets(current: Status, targets: list[Status], expected: Status) -> None:
    assert summarise(current, targets) == expected
