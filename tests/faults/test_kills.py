"""SIGKILL of whatever takes part in a run: the run ends all the same, with exactly one new version."""

from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest

from tests.builders.models import Built
from tests.builders.service import Customer, Service
from tests.builders.waiting import wait_until

pytestmark = pytest.mark.faults


def _kill_child(service: Service) -> None:
    child = service.run_child()
    assert child is not None
    child.kill()


def _kill_worker(service: Service) -> None:
    child = service.run_child()
    assert child is not None
    service.kill("worker")
    gone, alive = psutil.wait_procs([child], timeout=20)
    assert gone, f"the child outlived its worker: {alive}"
    service.start("worker")


def _kill_loops(service: Service) -> None:
    service.kill("loops")
    service.start("loops")


def _run_under_way(customer: Customer, request_id: str) -> Callable[[], dict[str, Any] | None]:
    def look() -> dict[str, Any] | None:
        runs = customer.get(f"/v1/deletion-requests/{request_id}")["run_ids"]
        if not runs:
            return None
        run = customer.get(f"/v1/runs/{runs[0]}")
        assert run["status"] not in {"succeeded", "failed", "needs_review"}, "the run ended before it could be killed"
        return run if run["status"] == "unlearning" and run["progress"]["step"] else None

    return look


@pytest.mark.parametrize("kill", [_kill_child, _kill_worker, _kill_loops], ids=["child", "worker", "loops"])
def test_a_killed_process_neither_loses_nor_repeats_a_run(
    service: Service, digits: Built, kill: Callable[[Service], None]
) -> None:
    customer = service.customer(f"kill-{kill.__name__.strip('_').replace('_', '-')}")
    customer.register("digits", digits)
    body = {"model": "digits", "subject_ids": ["writer-03"]}
    request = customer.post("/v1/deletion-requests", body, expect=202)

    run = wait_until(_run_under_way(customer, request["id"]), timeout_s=120, what="a run at work")
    kill(service)

    ended = customer.wait_request(request["id"])
    assert ended["status"] == "completed", customer.get(f"/v1/runs/{run['id']}")
    assert ended["run_ids"] == [run["id"]]
    versions = customer.get("/v1/models/digits/versions")["data"]
    assert sorted(version["version"] for version in versions) == [1, 2]
    assert customer.get("/v1/models/digits/versions/latest")["run_id"] == run["id"]
    for version in versions:
        for file in customer.get(f"/v1/models/digits/versions/{version['version']}")["files"]:
            assert len(httpx.get(file["url"]).content) == file["size"]
