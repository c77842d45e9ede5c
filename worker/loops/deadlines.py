"""Announces deadlines that approach, and those that are over."""

import structlog
from sqlalchemy import Engine

from core.deletions import terms
from core.platform.clock import Clock, utc_now
from core.platform.database import transaction

log = structlog.get_logger()


def turn(engine: Engine, clock: Clock = utc_now) -> bool:
    """Tell of what is due; whether there was anything."""
    with transaction(engine) as tx:
        told = terms.warn_next(tx, at=clock())
    for one in told:
        if one.share is None:
            log.warning("deletion_request_overdue", request_id=one.request_id)
        else:
            log.info("deadline_approaching", request_id=one.request_id, share=one.share)
    return bool(told)
