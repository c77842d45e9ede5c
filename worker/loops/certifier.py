"""Gives every run that has ended its certificate or report."""

import structlog
from sqlalchemy import Engine

from core.certificates import service
from core.platform.clock import Clock, utc_now
from core.platform.database import transaction
from core.platform.secrets import Keyring

log = structlog.get_logger()

_AT_ONCE = 100


def turn(engine: Engine, keyring: Keyring, issuer: str, clock: Clock = utc_now) -> bool:
    """Issue for the runs that wait, each in a transaction of its own; whether there were any.

    One run whose figures cannot be certified does not stop the others: its failure is raised at the end.
    """
    with transaction(engine) as tx:
        run_ids = service.waiting(tx, limit=_AT_ONCE)
    failed: list[Exception] = []
    for run_id in run_ids:
        try:
            _issue(engine, keyring, issuer, run_id, clock)
        except Exception as error:
            log.exception("certificate_refused", run_id=run_id)
            failed.append(error)
    if failed:
        raise failed[0]
    return bool(run_ids)


def _issue(engine: Engine, keyring: Keyring, issuer: str, run_id: str, clock: Clock) -> None:
    with transaction(engine) as tx:
        made = service.issue(tx, run_id=run_id, issuer=issuer, keyring=keyring, at=clock())
    if made is not None:
        log.info("certificate_issued", run_id=run_id, certificate_id=made.id, kind=made.kind)
