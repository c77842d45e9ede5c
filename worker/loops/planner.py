"""Plans runs for requests that wait."""

import structlog
from sqlalchemy import Engine

from core.platform.clock import Clock, utc_now
from core.platform.database import transaction
from core.runs import service

log = structlog.get_logger()


def turn(engine: Engine, clock: Clock = utc_now) -> bool:
    """Plan for one model; whether there was something to plan."""
    with transaction(engine) as tx:
        planned = service.plan_next(tx, at=clock())
    if planned is None:
        return False
    log.info("run_planned", run_id=planned.run_id, requests=planned.requests)
    return True
