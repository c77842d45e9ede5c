"""The law's clock: terms by the calendar, extensions from receipt, warnings at shares of the term."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.deletions.deadlines import Warn, after, extended, following, passed, turn, warnings
from core.policies.regulations import BUILT_IN, CCPA, GDPR, Term, in_force, meant_by

MOMENTS = st.floats(0, 4e9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def at(year: int, month: int, day: int, hour: int = 9) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("received", "due"),
    [
        (at(2027, 3, 15), at(2027, 4, 15)),
        (at(2027, 1, 28), at(2027, 2, 28)),
        (at(2027, 1, 29), at(2027, 2, 28)),
        (at(2027, 1, 31), at(2027, 2, 28)),
        (at(2028, 1, 29), at(2028, 2, 29)),  # a leap year
        (at(2028, 1, 31), at(2028, 2, 29)),
        (at(2028, 2, 29), at(2028, 3, 29)),
        (at(2027, 2, 28), at(2027, 3, 28)),  # the date, not the month's end
        (at(2027, 3, 31), at(2027, 4, 30)),
        (at(2027, 12, 31), at(2028, 1, 31)),
        (at(2100, 1, 31), at(2100, 2, 28)),  # no leap year
    ],
)
def test_a_month_ends_on_the_same_date_or_the_months_last_day(received: datetime, due: datetime) -> None:
    assert after(received, GDPR.term) == due


def test_45_days_are_counted_through_months_and_leap_days() -> None:
    assert after(at(2027, 1, 31), CCPA.term) == at(2027, 3, 17)
    assert after(at(2028, 1, 31), CCPA.term) == at(2028, 3, 16)


@pytest.mark.parametrize(
    ("received", "due"),
    [(at(2027, 1, 31), at(2027, 4, 30)), (at(2027, 11, 30), at(2028, 2, 29)), (at(2027, 3, 15), at(2027, 6, 15))],
)
def test_the_gdprs_extension_makes_three_months_from_receipt(received: datetime, due: datetime) -> None:
    assert extended(received, after(received, GDPR.term), GDPR) == due


def test_a_deadline_set_by_hand_moves_by_the_extension_alone() -> None:
    assert extended(at(2027, 1, 1), at(2027, 1, 10), GDPR) == at(2027, 3, 10)
    assert extended(at(2027, 1, 1), at(2027, 2, 15), CCPA) == at(2027, 4, 1)


def test_a_policys_regulation_has_its_days_and_perhaps_no_extension() -> None:
    known = in_force({"lgpd": {"days": 15}, "pipa": {"days": 10, "extension_days": 20}})
    assert set(known) == {"gdpr", "ccpa", "lgpd", "pipa"}
    due = after(at(2027, 2, 20), known["lgpd"].term)
    assert due == at(2027, 3, 7)
    assert extended(at(2027, 2, 20), due, known["lgpd"]) is None
    assert extended(at(2027, 2, 20), at(2027, 3, 2), known["pipa"]) == at(2027, 3, 22)


@pytest.mark.parametrize(
    ("reason", "name"),
    [("gdpr_art_17", "gdpr"), ("gdpr", "gdpr"), ("ccpa_1798_105", "ccpa"), ("unspecified", None), ("gdprx", None)],
)
def test_a_reason_means_the_regulation_that_it_begins_with(reason: str, name: str | None) -> None:
    assert meant_by(reason, BUILT_IN) == name


@given(MOMENTS, st.integers(0, 40))
def test_months_never_skip_one_and_keep_the_hour(start: datetime, months: int) -> None:
    end = after(start, Term(months=months))
    assert (end.year - start.year) * 12 + end.month - start.month == months
    assert end.timetz() == start.timetz()
    assert end.day <= start.day


def test_a_moment_at_the_calendars_end_breaks_nothing() -> None:
    assert after(datetime.max.replace(tzinfo=UTC), Term(months=1, days=1)).year == 9999


def test_warnings_come_at_shares_of_the_term_and_when_it_is_over() -> None:
    received, due = at(2027, 3, 1), at(2027, 3, 11)
    told = warnings(received, due, (0.8, 0.5, 1.0))
    assert list(told) == [Warn(at(2027, 3, 6), 0.5), Warn(at(2027, 3, 9), 0.8), Warn(due, 1.0), Warn(due, None)]
    assert following(told, at(2027, 3, 6)) == at(2027, 3, 9)
    assert following(told, due) is None
    assert [one.share for one in passed(told, at(2027, 3, 6), due)] == [0.8, 1.0, None]


@given(MOMENTS, st.timedeltas(timedelta(days=-2), timedelta(days=60)), st.lists(st.integers(0, 70 * 24), min_size=1))
def test_however_often_one_looks_each_warning_is_told_once(
    received: datetime, term: timedelta, looks: list[int]
) -> None:
    told = warnings(received, received + term, (0.5, 0.8, 1.0))
    since, seen = datetime.min.replace(tzinfo=UTC), list[Warn]()
    for look in sorted({received + timedelta(hours=hours) for hours in looks} | {received + timedelta(days=70)}):
        seen += passed(told, since, look)
        since = look
    assert sorted(seen, key=lambda one: (one.at, one.share or 2)) == sorted(
        told, key=lambda one: (one.at, one.share or 2)
    )


def test_without_a_deadline_work_takes_its_turn_after_thirty_days() -> None:
    assert turn(None, at(2027, 3, 1)) == at(2027, 3, 31)
    assert turn(at(2027, 5, 1), at(2027, 3, 1)) == at(2027, 5, 1)
