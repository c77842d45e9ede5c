"""Loops and workers answer Prometheus on a port of their own, and go without when it is taken."""

import socket
import threading

import httpx
from prometheus_client import CollectorRegistry

from tests.builders.waiting import free_port
from worker.loops.turning import keep_turning
from worker.metrics import LoopMetrics, RunMetrics, exposed


def test_a_process_serves_its_numbers_while_it_works() -> None:
    registry, port = CollectorRegistry(), free_port()
    RunMetrics(registry).stepped({"kind": "repair", "seconds": 0.02})
    with exposed(registry, host="127.0.0.1", port=port):
        page = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'unlearn_step_seconds_count{kind="repair"} 1.0' in page
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_taken_port_stops_nobody() -> None:
    worked = False
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        exposed(CollectorRegistry(), host="127.0.0.1", port=taken.getsockname()[1]),
    ):
        worked = True
    assert worked


def test_turns_are_counted_by_what_came_of_them() -> None:
    registry, stop = CollectorRegistry(), threading.Event()
    results = iter([True, False, ValueError()])

    def turn() -> bool:
        result = next(results)
        if isinstance(result, Exception):
            stop.set()
            raise result
        return result

    keep_turning("reaper", turn, pause_s=0.0, stop=stop, turned=LoopMetrics(registry).turned)
    counts = {
        result: registry.get_sample_value("unlearn_loop_turns_total", {"loop": "reaper", "result": result})
        for result in ("work", "idle", "failed")
    }
    assert counts == {"work": 1.0, "idle": 1.0, "failed": 1.0}
