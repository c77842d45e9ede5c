"""Does the work of sandboxes, which no worker sees."""

from collections.abc import Callable

import structlog
from sqlalchemy import Engine

from core.platform.clock import Clock, utc_now
from core.platform.database import transaction
from core.sandbox import acting

log = structlog.get_logger()


def turn(engine: Engine, uri: Callable[[str], str], clock: Clock = utc_now) -> bool:
    """Plan for one request, or move one run on; whether there was anything to do. ``uri``: as ``ObjectStore.uri``."""
    with transaction(engine) as tx:
        request_id = acting.plan_next(tx, at=clock())
    if request_id is not None:
        log.info("sandbox_request_planned", request_id=request_id)
        return True
    with transaction(engine) as tx:
        return acting.move_next(tx, uri=uri, at=clock()) is not None
