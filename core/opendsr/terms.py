"""When a request must be done by law, and when we say that it will be."""

import calendar
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

GDPR: Final = "gdpr"
CCPA: Final = "ccpa"
_CCPA_DAYS: Final = 45


def legal_term(regulation: str, submitted: datetime, further: Mapping[str, int]) -> datetime | None:
    """The last moment the law leaves: one month (gdpr), 45 days (ccpa), or the days of ``further`` laws.

    A month ends on the day of the same number or, where the next month has none, on its last. None beyond the
    calendar's end.
    """
    try:
        if regulation == GDPR:
            return _a_month_after(submitted)
        days = _CCPA_DAYS if regulation == CCPA else further[regulation]
        return submitted + timedelta(days=days)
    except (OverflowError, ValueError):
        return None


def expected_completion(*, received: datetime, service_level: timedelta, term: datetime | None) -> datetime:
    """The time we promise: by our service level, and within the law's term unless that is past already."""
    promised = received + service_level
    return min(promised, term) if term is not None and term > received else promised


def _a_month_after(at: datetime) -> datetime:
    year, month = (at.year + 1, 1) if at.month == 12 else (at.year, at.month + 1)
    return at.replace(year=year, month=month, day=min(at.day, calendar.monthrange(year, month)[1]))
