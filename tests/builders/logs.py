"""The service's own way of logging, for as long as a test needs it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from core.platform import logging as ours
from core.platform.settings import Settings


@contextmanager
def configured(*, as_json: bool) -> Iterator[None]:
    """Log as the processes of the service do; what was before is there again afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    ours.configure(Settings.model_validate({"log_json": as_json}))
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
