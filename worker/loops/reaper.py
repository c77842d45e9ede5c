"""Takes back runs whose workers have died."""

import structlog
from sqlalchemy import Engine

from core.platform.clock import Clock, utc_now
from core.platform.database import transaction
from core.platform.settings import WorkerSettings
from core.runs import service

log = structlog.get_logger()


def turn(engine: Engine, settings: WorkerSettings, clock: Clock = utc_now) -> bool:
    """Take back one run whose lease has ended; whether there was one."""
    with transaction(engine) as tx:
        run_id = service.reap_next(tx, max_attempts=settings.max_attempts, at=clock())
    if run_id is not None:
        log.warning("lease_taken_over", run_id=run_id)
    return run_id is not None
