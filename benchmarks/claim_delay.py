"""How long a run waits from its outbox row to a worker's claim, at default settings.

    python -m benchmarks.claim_delay [--requests 21]

Needs Redis (``redis-server``). The loops and one worker are real processes on an embedded PostgreSQL. Requests are made
one after another, so that the worker is free each time. Their runs fail at once, since their files are nowhere: what is
measured lies before. Prints a JSON object.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from benchmarks.dataset_index import scratch_database
from core.access.tables import Workspace
from core.platform.clock import utc_now
from core.platform.database import transaction
from core.platform.ids import new_id
from tests.builders.estate import Estate
from tests.builders.servers import Redis
from tests.builders.waiting import wait_until

_PATIENCE_S: Final = 120
_DELAYS: Final = text(
    "select extract(epoch from claimed.at - rung.created_at) from run_events claimed"
    " join outbox rung on rung.topic = 'task' and rung.payload->'args'->>0 = claimed.run_id"
    " where claimed.type = 'claimed' order by rung.created_at"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=21)
    count = parser.parse_args().requests
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when this process is root's
        engine = stack.enter_context(scratch_database(None, folder))
        redis = stack.enter_context(Redis(folder))
        with transaction(engine) as tx:
            built = _estate(tx, records=count)
        stack.enter_context(_processes(engine, redis, folder))
        for number in range(count):
            _ask(engine, built, number)
        with transaction(engine) as tx:
            delays = [float(delay) for delay in tx.scalars(_DELAYS)]
    print(json.dumps(_summed(delays)))


def _estate(tx: Session, *, records: int) -> Estate:
    workspace = Workspace(id=new_id("ws"), name="acme")
    tx.add(workspace)
    tx.flush()
    built = Estate(workspace.id)
    built.add_dataset(tx, "digits", train=records)
    built.add_model(tx, "digits", "digits")
    return built


def _ask(engine: Engine, built: Estate, number: int) -> None:
    """Have one record forgotten, and wait until that has failed."""
    with transaction(engine) as tx:
        request_id = built.submit(tx, f"r-{number}", at=utc_now()).request.id
    ended = text("select status = 'failed' from deletion_requests where id = :id")

    def has_ended() -> bool:
        with transaction(engine) as tx:
            return bool(tx.scalar(ended, {"id": request_id}))

    wait_until(has_ended, timeout_s=_PATIENCE_S, what="the end of a run")


@contextmanager
def _processes(engine: Engine, redis: Redis, folder: Path) -> Generator[None]:
    url = engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    env = {
        **os.environ,
        "UNLEARN_DATA_DIR": str(folder / "data"),
        "UNLEARN_DATABASE__URL": url,
        "UNLEARN_BROKER__URL": redis.url,
        "UNLEARN_STORE__URL": (folder / "objects").as_uri(),
        "UNLEARN_SECRET": "a secret for measuring only, of 32 bytes or more",
        "UNLEARN_LOG_LEVEL": "error",
        "UNLEARN_WORKER__MAX_ATTEMPTS": "1",
        "UNLEARN_WORKER__WORK_DIR": str(folder / "work"),
        "QUICK_CHILD": str(folder),
    }
    for name in ("objects", "work"):
        (folder / name).mkdir()
    commands = ("worker.loops", "tests.builders.quick_worker")
    quiet = subprocess.DEVNULL  # they tell of every run that fails
    started = [subprocess.Popen([sys.executable, "-m", one], env=env, stdout=quiet, stderr=quiet) for one in commands]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(60)


def _summed(delays: list[float]) -> dict[str, object]:
    """The first run waits for processes that are still starting, and is left out."""
    steady = sorted(delays[1:])
    share = {f"p{share}_ms": round(steady[math.ceil(share / 100 * len(steady)) - 1] * 1000) for share in (50, 95)}
    return {"runs": len(steady), **share, "longest_ms": round(steady[-1] * 1000), "load_1_min": os.getloadavg()[0]}


if __name__ == "__main__":
    main()
