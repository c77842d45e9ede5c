"""How much the API takes, beside a bare FastAPI and SQLAlchemy app that writes the same rows.

    python -m benchmarks.api_load [--seconds 8] [--rounds 2]

Needs `wrk <https://github.com/wg/wrk>`_ (Debian: ``apt install wrk``). Each app is one process on the same embedded
PostgreSQL; the service has no rate limits. They take turns (service, bare, service, bare …) at POST and GET of a
deletion request over 1, 8 and 32 connections. Then one request of 10,000 ids is timed. Prints a JSON object a line.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from sqlalchemy import Engine, text

from benchmarks.dataset_index import scratch_database
from core.access.tables import Workspace
from core.platform.database import transaction
from core.platform.ids import new_id
from tests.builders.estate import Estate
from tests.builders.waiting import free_port, wait_until
from tests.builders.web import new_key

CONNECTIONS: Final = (1, 8, 32)
_RECORDS: Final = 200_000
_LUA: Final = """
local asked = {first}
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {secret}"
local ids = {{ {ids} }}
function request()
  asked = asked + 1
  if "{method}" == "GET" then return wrk.format("GET", "/v1/deletion-requests/" .. ids[asked % #ids + 1]) end
  local body = '{{"model": "digits", "reason": "load", "record_ids": ["x-' .. asked .. '"]}}'
  return wrk.format("POST", "/v1/deletion-requests", nil, body)
end
function done(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format('\\nRESULT {{"calls": %d, "seconds": %.3f, "bad": %d, "p50_ms": %.2f, "p95_ms": %.2f}}\\n',
    summary.requests, summary.duration / 1e6, bad, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3))
end
"""


@dataclass
class Contender:
    """One of the two apps, and which records it may name next."""

    name: str
    url: str
    secret: str
    next_record: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed to make the load: apt install wrk")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when this process is root's
        engine = stack.enter_context(scratch_database(None, folder))
        service, bare = (stack.enter_context(app) for app in _apps(engine, folder))
        _say(**_compare((service, bare), folder, args.seconds, args.rounds))
        _say(**_many_ids(service))


def _apps(engine: Engine, folder: Path) -> Generator[Any]:
    place, secret = _estate(engine)
    url = engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    limits = {f"UNLEARN_LIMITS__{name}": "0" for name in ("READS", "WRITES", "POLLS")}
    env = {"UNLEARN_DATA_DIR": str(folder / "data"), "UNLEARN_LOG_LEVEL": "warning", **limits}
    yield _served("service", ["-m", "api"], env, "UNLEARN_API__PORT", secret, 0)
    bare = ["-m", "uvicorn", "benchmarks.bare_app:app", "--no-access-log", "--log-level", "warning"]
    where = {"BARE_DATABASE_URL": url, "BARE_PLACE": ",".join(place)}
    yield _served("bare", bare, where, None, secret, _RECORDS // 2)


def _estate(engine: Engine) -> tuple[tuple[str, str, str], str]:
    with transaction(engine) as tx:
        workspace = Workspace(id=new_id("ws"), name="acme")
        tx.add(workspace)
        tx.flush()
        owned = Estate(workspace.id)
        dataset, model = owned.add_dataset(tx, "digits"), owned.add_model(tx, "digits", "digits")
        tx.execute(
            text(
                "insert into records (dataset_id, record_id, split, state, file, row)"
                " select :dataset, 'x-' || i, 'train', 'active', 0, i + 100 from generate_series(1, :count) i"
            ),
            {"dataset": dataset, "count": _RECORDS},
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("analyze"))
    return (workspace.id, model, dataset), new_key(engine, "acme").secret


@contextmanager
def _served(
    name: str, command: list[str], env: Mapping[str, str], port_variable: str | None, secret: str, first: int
) -> Generator[Contender]:
    port = free_port()
    where = {port_variable: str(port)} if port_variable else {}
    argument = [] if port_variable else ["--port", str(port)]
    process = subprocess.Popen([sys.executable, *command, *argument], env={**os.environ, **env, **where})
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url), timeout_s=120)
        yield Contender(name, url, secret, first)
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/openapi.json", timeout=60).status_code == 200
    except httpx.TransportError:
        return False


def _compare(apps: tuple[Contender, Contender], folder: Path, seconds: int, rounds: int) -> dict[str, Any]:
    for app in apps:
        _some_ids(app)  # connections, prepared statements and caches are there before anything is counted
    for method in ("POST", "GET"):
        for connections in CONNECTIONS:
            found = {app.name: list[dict[str, Any]]() for app in apps}
            for _ in range(rounds):
                for app in apps:
                    found[app.name].append(_loaded(app, folder, method, connections, seconds))
            _say(**{f"{method} over {connections}": _summed(found)})
    return {"load_1_min": os.getloadavg()[0], "cores": os.cpu_count(), "seconds": seconds, "rounds": rounds}


def _loaded(app: Contender, folder: Path, method: str, connections: int, seconds: int) -> dict[str, Any]:
    ids = ", ".join(f'"{one}"' for one in _some_ids(app)) if method == "GET" else ""
    script = folder / "load.lua"
    script.write_text(_LUA.format(first=app.next_record, secret=app.secret, method=method, ids=ids))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), app.url]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    line = next(line for line in out.splitlines() if line.startswith("RESULT "))
    result = json.loads(line.removeprefix("RESULT "))
    if not result["calls"]:
        sys.exit(f"{app.name} answered no {method} within {seconds} s: give it more --seconds, or a quieter machine")
    if method == "POST":
        app.next_record += result["calls"] + connections
    return result


def _some_ids(app: Contender) -> list[str]:
    headers = {"Authorization": f"Bearer {app.secret}"}
    body = {"model": "digits", "reason": "load"}
    made = []
    for _ in range(20):
        app.next_record += 1
        asked = {**body, "record_ids": [f"x-{app.next_record}"]}
        made.append(httpx.post(f"{app.url}/v1/deletion-requests", json=asked, headers=headers, timeout=30).json()["id"])
    return made


def _summed(found: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians over the rounds, and the median of the ratios within each."""
    rates = {name: [one["calls"] / one["seconds"] for one in runs] for name, runs in found.items()}
    out: dict[str, Any] = {
        f"{name}_{what}": round(statistics.median(one[what] for one in runs), 1)
        for name, runs in found.items()
        for what in ("p50_ms", "p95_ms")
    }
    pairs = list(zip(rates["service"], rates["bare"], strict=True))
    return {
        **{f"{name}_a_second": round(statistics.median(each), 1) for name, each in rates.items()},
        "ratio": round(statistics.median(ours / theirs for ours, theirs in pairs), 3),
        **out,
        "bad": sum(one["bad"] for runs in found.values() for one in runs),
    }


def _many_ids(app: Contender) -> dict[str, Any]:
    took = []
    for _ in range(5):
        ids = [f"x-{app.next_record + number}" for number in range(1, 10_001)]
        app.next_record += 10_000
        began = time.perf_counter()
        body = {"model": "digits", "reason": "load", "record_ids": ids}
        headers = {"Authorization": f"Bearer {app.secret}"}
        answer = httpx.post(f"{app.url}/v1/deletion-requests", json=body, headers=headers, timeout=60)
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 202, answer.text
    return {"ten_thousand_ids_ms": [round(one) for one in took]}


def _say(**result: Any) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
