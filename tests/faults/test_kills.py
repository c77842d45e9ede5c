"""SIGKILL of processes that compute: the run goes on from where it was put away, and ends with one new version.

What else may be killed, and when, needs no weights: see ``test_moments``.
"""

from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import select

from core.platform.database import open_engine, transaction
from core.platform.objects import open_store
from core.platform.settings import Settings
from core.runs.tables import Run, RunEvent
from tests.builders.models import Built
from tests.builders.service import Customer, Service
from tests.builders.waiting import wait_until

pytestmark = pytest.mark.faults


def _kill_child(service: Service, run_id: str) -> None:
    child = service.run_child()
    assert child is not None
    _kill_when_put_away(service, run_id, child)


def _kill_rank(service: Service, run_id: str) -> None:
    ranks = service.run_ranks()
    assert len(ranks) == 2
    _kill_when_put_away(service, run_id, ranks[1])
    gone, alive = psutil.wait_procs(ranks, timeout=20)
    assert len(gone) == 2, f"a process outlived the one it worked with: {alive}"


def _kill_when_put_away(service: Service, run_id: str, process: psutil.Process) -> None:
    """As soon as the run has been put away; the process is held still while we look."""
    store = open_store(Settings.model_validate({"store": service.s3}))

    def put_away() -> bool:
        process.suspend()
        if any(info.uri.endswith("/manifest.json") for info in store.list(store.uri(f"checkpoints/{run_id}/"))):
            return True
        process.resume()
        return False

    wait_until(put_away, what="a checkpoint")
    process.kill()


def _run_under_way(customer: Customer, request_id: str) -> Callable[[], dict[str, Any] | None]:
    def look() -> dict[str, Any] | None:
        runs = customer.get(f"/v1/deletion-requests/{request_id}")["run_ids"]
        if not runs:
            return None
        run = customer.get(f"/v1/runs/{runs[0]}")
        assert run["status"] not in {"succeeded", "failed", "needs_review"}, "the run ended before it could be killed"
        return run if run["status"] == "unlearning" and run["progress"]["step"] else None

    return look


def _check_resumed(service: Service, run_id: str, *, steps: int) -> None:
    """Nothing behind the checkpoint was done again, and with the end of the run its key is gone."""
    engine = open_engine(service.database_url, pool_size=1)
    with transaction(engine) as tx:
        (resumed,) = tx.scalars(select(RunEvent.detail).where(RunEvent.run_id == run_id, RunEvent.type == "resumed"))
        run = tx.get(Run, run_id)
        assert run is not None
        assert (resumed["attempt"], run.attempt) == (2, 2)
        assert 2 <= resumed["step"] < steps
        assert run.checkpoint_key is None
    engine.dispose()


KILLS = {"child": _kill_child, "rank": _kill_rank}


@pytest.mark.parametrize("name", KILLS)
def test_a_killed_process_neither_loses_nor_repeats_a_run(service: Service, digits: Built, name: str) -> None:
    customer = service.customer(f"kill-{name}")
    customer.register("digits", digits)
    parameters = {"devices": "all" if name == "rank" else "one", "panel": "basic"}
    customer.put("/v1/policies/kill", {"parameters": parameters})
    body = {"model": "digits", "subject_ids": ["writer-03"], "policy": "kill"}
    request = customer.post("/v1/deletion-requests", body, expect=202)

    run = wait_until(_run_under_way(customer, request["id"]), timeout_s=120, what="a run at work")
    KILLS[name](service, run["id"])

    ended = customer.wait_request(request["id"])
    assert ended["status"] == "completed", customer.get(f"/v1/runs/{run['id']}")
    assert ended["run_ids"] == [run["id"]]
    versions = customer.get("/v1/models/digits/versions")["data"]
    assert sorted(version["version"] for version in versions) == [1, 2]
    assert customer.get("/v1/models/digits/versions/latest")["run_id"] == run["id"]
    ledger = customer.get(f"/v1/runs/{run['id']}/steps")["data"]
    assert [row["step"] for row in ledger] == list(range(1, len(ledger) + 1))
    _check_resumed(service, run["id"], steps=len(ledger))
    for version in versions:
        for file in customer.get(f"/v1/models/digits/versions/{version['version']}")["files"]:
            assert len(httpx.get(file["url"]).content) == file["size"]
