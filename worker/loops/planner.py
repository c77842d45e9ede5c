"""Plans runs for requests that wait."""

import structlog
from sqlalchemy import Engine

from core.deletions import progress
from core.platform.clock import Clock, utc_now
from core.platform.database import transaction
from core.runs import service

log = structlog.get_logger()


def turn(engine: Engine, clock: Clock = utc_now) -> bool:
    """Plan for one model, or end a request that only waited for its hold; whether there was something to do."""
    with transaction(engine) as tx:
        planned = service.plan_next(tx, at=clock())
    if planned is None:
        with transaction(engine) as tx:
            return progress.complete_held(tx, at=clock()) is not None
    log.info("run_planned", run_id=planned.run_id, requests=planned.requests)
    return True
