"""The state of the whole service at one moment, for operators: how much work there is, how old, and what is at risk."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy.orm import Session

from core.operations.repository import StateOfWork

DUE_WITHIN: Final = {"day": timedelta(days=1), "week": timedelta(days=7)}


@dataclass(frozen=True, slots=True)
class Survey:
    """Counts over all workspaces, of what has not ended. Ages are in seconds past the moment something was due."""

    runs: Mapping[tuple[str, str], int]
    """By mode and status."""
    leases_run_out: int
    requests: Mapping[str, int]
    """Deletion requests by status."""
    deadlines: Mapping[str, int]
    """Open requests ``overdue``, and due within a ``day`` or a ``week`` and not sooner."""
    deliveries: Mapping[str, int]
    endpoints_disabled: int
    oldest: Mapping[str, float]
    """By queue."""


def survey(tx: Session) -> Survey:
    """Look at everything once, in ``tx``. Raises SQLAlchemy's errors when the database is away or too slow."""
    work = StateOfWork(tx)
    deadlines = work.deadlines(tuple(DUE_WITHIN.values()))
    return Survey(
        runs=work.runs(),
        leases_run_out=work.leases_run_out(),
        requests=work.requests(),
        deadlines=dict(zip(("overdue", *DUE_WITHIN), deadlines, strict=True)),
        deliveries=work.deliveries(),
        endpoints_disabled=work.endpoints_disabled(),
        oldest=work.oldest(),
    )
