"""Indexes data sets that were too large to index while the caller waited."""

from sqlalchemy import Engine

from core.datasets.indexing import index_next
from core.platform.objects import ObjectStore
from core.platform.secrets import Keyring
from core.platform.settings import Settings


def turn(engine: Engine, store: ObjectStore, keyring: Keyring, settings: Settings) -> bool:
    """Index one data set; whether there was one."""
    return index_next(
        engine,
        store,
        keyring,
        max_rows=settings.datasets.max_rows,
        scratch=settings.worker.work_dir,
    )
