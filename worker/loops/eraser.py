"""Takes erased records out of the files of data sets."""

from pathlib import Path

import structlog
from sqlalchemy import Engine

from core.erasure.rewriting import rewrite_next
from core.platform.clock import Clock, utc_now
from core.platform.objects import ObjectStore

log = structlog.get_logger()


def turn(engine: Engine, store: ObjectStore, scratch: Path | None, clock: Clock = utc_now) -> bool:
    """Rewrite one data set; whether there was one."""
    done = rewrite_next(engine, store, scratch=scratch, clock=clock)
    if done is not None:
        log.info(
            "dataset_rewritten",
            dataset_id=done.dataset_id,
            edition=done.edition,
            records=done.records,
            files=done.files,
        )
    return done is not None
