"""When waiting requests are taken: the deadline first, then the privacy floor, then size and window."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.deletions.commands import Waiter
from core.deletions.deadlines import NO_DEADLINE, turn
from core.policies.body import Policy
from core.runs.batching import Rules, Take, Wait, decide

NOW = datetime(2027, 3, 1, 9, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
RULES = Rules(window=DAY, size=3, floor=2, force_before=7 * DAY)


def waiter(*people: str, age: timedelta = HOUR, due: timedelta | None = 30 * DAY) -> Waiter:
    return Waiter(NOW - age, None if due is None else NOW + due, frozenset(people))


@pytest.mark.parametrize(
    ("waiting", "decision"),
    [
        ([waiter("a")], Wait(NOW + 23 * DAY, "waiting_for_subjects")),
        ([waiter("a"), waiter("a")], Wait(NOW + 23 * DAY, "waiting_for_subjects")),  # one person, twice
        ([waiter("a"), waiter("b")], Wait(NOW + 23 * HOUR, "waiting_for_batch")),
        ([waiter("a"), waiter("b", age=DAY)], Take("window")),
        ([waiter("a", "b", "c")], Take("size")),
        ([waiter("a"), waiter("b", due=7 * DAY)], Take("deadline")),
        ([waiter("a", due=-DAY)], Take("deadline")),
        ([waiter("a", due=None)], Wait(NOW - HOUR + 23 * DAY, "waiting_for_subjects")),
        ([waiter("a", due=None, age=23 * DAY)], Take("deadline")),  # as if due after thirty days
        ([waiter()], Take("nothing_left")),
        ([waiter(), waiter("a")], Wait(NOW + 23 * DAY, "waiting_for_subjects")),
        ([waiter("a"), waiter("b", due=8 * DAY - HOUR)], Wait(NOW + 23 * HOUR, "waiting_for_batch")),
        ([waiter("a"), waiter("b", due=7 * DAY + HOUR)], Wait(NOW + HOUR, "waiting_for_batch")),
    ],
)
def test_what_goes_before_what(waiting: list[Waiter], decision: Take | Wait) -> None:
    assert decide(waiting, RULES, NOW) == decision


def test_the_default_policy_takes_at_once() -> None:
    rules = Rules.of(Policy())
    assert not rules.count_people
    assert decide([waiter("a", age=timedelta())], rules, NOW) == Take("window")
    assert decide([waiter("a", age=-HOUR)], rules, NOW) == Take("window")  # accepted by a clock that is ahead


HOURS = st.integers(0, 40 * 24)
WAITERS = st.lists(
    st.builds(
        lambda age, due, people: waiter(*people, age=age * HOUR, due=None if due is None else due * HOUR),
        HOURS,
        st.none() | HOURS,
        st.sets(st.sampled_from("abcdef")),
    ),
    min_size=1,
)
ANY_RULES = st.builds(
    lambda window, size, floor, force: Rules(window * HOUR, size, floor, force * HOUR),
    HOURS,
    st.integers(0, 6),
    st.integers(1, 6),
    HOURS,
)


@given(WAITERS, ANY_RULES)
def test_nobody_waits_into_the_time_that_their_deadline_needs(waiting: list[Waiter], rules: Rules) -> None:
    decision = decide(waiting, rules, NOW)
    for one in waiting:
        latest = turn(one.due_at, one.since) - rules.force_before
        assert isinstance(decision, Take) if latest <= NOW else isinstance(decision, Take) or decision.until <= latest


@given(WAITERS, ANY_RULES)
def test_fewer_people_than_the_floor_are_taken_for_a_deadline_only(waiting: list[Waiter], rules: Rules) -> None:
    decision = decide(waiting, rules, NOW)
    people = set[str]().union(*(one.subjects for one in waiting))
    if isinstance(decision, Take) and decision.why != "deadline":
        assert len(people) >= rules.floor or (not people and decision.why == "nothing_left") or rules.floor == 1


@given(WAITERS, ANY_RULES)
def test_who_waits_is_taken_at_the_moment_told_and_not_before(waiting: list[Waiter], rules: Rules) -> None:
    decision = decide(waiting, rules, NOW)
    if isinstance(decision, Wait):
        assert decision.until > NOW
        assert isinstance(decide(waiting, rules, decision.until), Take)
        before = decision.until - timedelta(microseconds=1)
        assert before < NOW or isinstance(decide(waiting, rules, before), Wait)


@given(WAITERS, ANY_RULES, WAITERS)
def test_company_never_makes_anybody_wait_longer(waiting: list[Waiter], rules: Rules, more: list[Waiter]) -> None:
    alone, together = decide(waiting, rules, NOW), decide([*waiting, *more], rules, NOW)
    people = set[str]().union(*(one.subjects for one in waiting))
    if isinstance(alone, Take):
        assert isinstance(together, Take) or not people
    elif isinstance(together, Wait):
        assert together.until <= alone.until


def test_a_request_without_a_deadline_is_not_held_for_good() -> None:
    rules = Rules(window=timedelta(), size=0, floor=1000, force_before=timedelta())
    decision = decide([waiter("a", due=None, age=timedelta())], rules, NOW)
    assert decision == Wait(NOW + NO_DEADLINE, "waiting_for_subjects")
