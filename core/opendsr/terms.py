"""When a request must be done by law, and when we say that it will be."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from core.deletions.deadlines import after
from core.policies.regulations import BUILT_IN, Regulation, Term


def legal_term(regulation: str, submitted: datetime, further: Mapping[str, int]) -> datetime | None:
    """The last moment the law leaves: that of the regulation, or the days of one of ``further`` laws.

    None beyond the calendar's end.
    """
    known = BUILT_IN.get(regulation) or Regulation(Term(days=further[regulation]), None)
    due = after(submitted, known.term)
    return due if due > submitted else None


def expected_completion(*, received: datetime, service_level: timedelta, term: datetime | None) -> datetime:
    """The time we promise: by our service level, and within the law's term unless that is past already."""
    promised = received + service_level
    return min(promised, term) if term is not None and term > received else promised
