"""The clock of a deletion request, as pure functions: when it is due, when extended, and when to warn.

Moments are timezone-aware, and the calendar is that of UTC. A term of months ends at the same time of day on the same
date of a later month, or on that month's last day when it has no such date (the rule of Regulation (EEC, Euratom)
No 1182/71, Art. 3, but ending at the hour of receipt and not at midnight, which is never later).
"""

from calendar import monthrange
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, datetime, timedelta
from typing import Final

from core.policies.regulations import Regulation, Term

NO_DEADLINE: Final = timedelta(days=30)
"""A request without a deadline takes its turn as if it were due this long after it was accepted."""


@dataclass(frozen=True, slots=True)
class Warn:
    """A moment at which somebody is told. ``share``: how much of the term is used up; None: the deadline is over."""

    at: datetime
    share: float | None


def after(start: datetime, term: Term) -> datetime:
    """``start`` and a term later."""
    if start.year > MAXYEAR - 100:  # the calendar ends there, and nobody waits that long
        return start
    years, month = divmod(start.month - 1 + term.months, 12)
    year, month = start.year + years, month + 1
    day = min(start.day, monthrange(year, month)[1])
    return start.replace(year=year, month=month, day=day) + timedelta(days=term.days)


def extended(received: datetime, due: datetime, regulation: Regulation) -> datetime | None:
    """The deadline after the one extension that the regulation allows; None when it allows none.

    Term and extension run together from receipt (the GDPR: three months in all). A deadline that the caller set
    himself moves by the extension alone.
    """
    if regulation.extension is None:
        return None
    if due != after(received, regulation.term):
        return after(due, regulation.extension)
    term, more = regulation.term, regulation.extension
    return after(received, Term(term.months + more.months, term.days + more.days))


def warnings(received: datetime, due: datetime, shares: Iterable[float]) -> Sequence[Warn]:
    """When to tell of a term from ``received`` to ``due``: at each share of it, and when it is over; in order."""
    term = max(due - received, timedelta())
    return (*(Warn(received + share * term, share) for share in sorted(shares)), Warn(due, None))


def passed(all_warnings: Iterable[Warn], since: datetime, until: datetime) -> Sequence[Warn]:
    """Those after ``since`` and up to ``until``."""
    return [one for one in all_warnings if since < one.at <= until]


def following(all_warnings: Iterable[Warn], until: datetime) -> datetime | None:
    """The moment of the first one after ``until``."""
    return min((one.at for one in all_warnings if one.at > until), default=None)


def turn(due: datetime | None, accepted: datetime) -> datetime:
    """By what work is ordered: the deadline, or what stands for one."""
    return due or accepted + NO_DEADLINE
