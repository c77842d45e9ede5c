"""Carries webhook replays on, a portion of each in turn."""

import structlog
from sqlalchemy import Engine

from core.platform.clock import Clock
from core.platform.database import database_now, transaction
from core.webhooks import replaying
from core.webhooks.repository import Replays

log = structlog.get_logger()


def turn(engine: Engine, now: Clock | None = None) -> bool:
    """A portion of every running replay; whether there was anything to do. ``now`` replaces the database's clock."""
    with transaction(engine) as tx:
        running = Replays(tx).running()
    looked_at = 0
    for replay_id, endpoint_id in running:
        with transaction(engine) as tx:
            at = now() if now is not None else database_now(tx)
            looked_at += replaying.carry_on(tx, replay_id, endpoint_id, at=at)
    if looked_at:
        log.info("webhook_replays_carried_on", replays=len(running), events=looked_at)
    return looked_at > 0
