"""The whole service as real processes, and a customer's view of it over HTTP."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx
import psutil

from core.access import service as access
from core.platform.clock import utc_now
from core.platform.database import open_engine, transaction
from core.platform.settings import StoreSettings
from tests.builders.waiting import free_port, wait_until

if TYPE_CHECKING:
    from tests.builders.built import Built

FINAL_REQUEST = {"completed", "failed", "cancelled", "needs_review"}
COMMANDS = {
    "api": ["-m", "api"],
    "loops": ["-m", "worker.loops"],
    "worker": ["-m", "worker"],
}


@dataclass
class Service:
    """API, loops and worker processes on given servers. Use as a context manager; nothing outlives it."""

    database_url: str
    redis_url: str
    s3: StoreSettings
    folder: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, list[str]] = field(default_factory=lambda: COMMANDS)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    clients: list[httpx.Client] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        assert self.s3.secret_access_key is not None
        self.environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "",  # each start would compile all that it imports
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
            "UNLEARN_DATA_DIR": str(self.folder / "data"),
            "UNLEARN_SECRET": "e2e-secret-of-more-than-32-characters-0123456789",
            "UNLEARN_DATABASE__URL": self.database_url,
            "UNLEARN_BROKER__URL": self.redis_url,
            "UNLEARN_STORE__URL": str(self.s3.url),
            "UNLEARN_STORE__ENDPOINT_URL": str(self.s3.endpoint_url),
            "UNLEARN_STORE__ACCESS_KEY_ID": str(self.s3.access_key_id),
            "UNLEARN_STORE__SECRET_ACCESS_KEY": self.s3.secret_access_key.get_secret_value(),
            "UNLEARN_API__PORT": str(self.port),
            "UNLEARN_WORKER__THREADS": "1",
            "UNLEARN_WORKER__PROCESSES": "2",
            "UNLEARN_WORKER__LEASE_TTL_S": "4",
            "UNLEARN_WORKER__HEARTBEAT_S": "1",
            "UNLEARN_WORKER__POLL_S": "1",
            "UNLEARN_WORKER__CHECKPOINT_EVERY_STEPS": "2",
            "UNLEARN_WORKER__WORK_DIR": str(self.folder / "work"),
            "UNLEARN_LOOPS__POLL_S": "0.4",
            "UNLEARN_WEBHOOKS__ALLOW_HTTP": "true",
            "UNLEARN_WEBHOOKS__ALLOW_NETWORKS": '["127.0.0.0/8"]',
            "UNLEARN_WEBHOOKS__SCHEDULE_S": "[0, 1, 1, 1, 1]",
            "UNLEARN_OPENDSR__SELF_SIGNED": "true",
            "UNLEARN_OPENDSR__HOLD_S": "2",
            **self.extra,
        }
        (self.folder / "work").mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self.go_on()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for client in self.clients:
            client.close()
        self.rest()
        if error is not None:
            for log in sorted(self.folder.glob("*.log")):
                sys.stderr.write(f"\n== {log.name}\n{log.read_text()[-6000:]}")

    def go_on(self) -> None:
        """Start those processes that do not run, and wait until the API is ready if there were any."""
        stopped = [name for name in self.commands if name not in self.processes]
        for name in stopped:
            self.start(name)
        if stopped:
            self.wait_ready()

    def rest(self) -> None:
        """End all processes: idle ones cost other tests time."""
        self.stop(*self.processes)

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start one of the processes, its output appended to ``<name>.log``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *self.commands[name]],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.processes[name]

    def stop(self, *names: str) -> None:
        """End processes politely, or by force after a while, and whatever they started."""
        processes = [self.processes.pop(name) for name in names]
        alive = [psutil.Process(process.pid) for process in processes if process.poll() is None]
        children = [child for process in alive for child in process.children(recursive=True)]
        for process in processes:  # all before any is waited for: a worker takes seconds to leave its broker
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in children:
            if child.is_running():
                child.kill()

    def kill(self, name: str) -> None:
        """SIGKILL the process itself; what it started lives or dies as it must."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def run_child(self) -> psutil.Process | None:
        """The GPU process of the run at work, if there is one."""
        worker = self.processes.get("worker")
        if worker is None or worker.poll() is not None:
            return None
        try:
            for child in psutil.Process(worker.pid).children(recursive=True):
                if "worker.child" in " ".join(child.cmdline()):
                    return child
        except psutil.NoSuchProcess:
            return None
        return None

    def run_ranks(self) -> list[psutil.Process]:
        """The processes that the run at work is divided among, if it is."""
        child = self.run_child()
        if child is None:
            return []
        return [rank for rank in child.children() if "worker.rank" in " ".join(rank.cmdline())]

    def wait_ready(self) -> None:
        """Until the API says that database, broker and object store answer."""

        def ready() -> bool:
            assert self.processes["api"].poll() is None, (self.folder / "api.log").read_text()[-3000:]
            try:
                return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, timeout_s=60, what="the service")

    def cli(self, *arguments: str) -> str:
        """What ``unlearn …`` prints; fails with its output when it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"unlearn {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def customer(self, workspace: str) -> "Customer":
        """A new workspace with a key for everything."""
        engine = open_engine(self.database_url, pool_size=1)
        with transaction(engine) as tx:
            owner, at = access.create_workspace(tx, name=workspace, actor="cli", at=utc_now()), utc_now()
            key = access.create_key(
                tx, workspace_id=owner.id, name="test", scopes=["*"], mode="live", actor="cli", at=at
            ).secret
        engine.dispose()
        self.clients.append(httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=60))
        return Customer(self.clients[-1])


@dataclass
class Customer:
    """One workspace's caller."""

    http: httpx.Client

    def post(self, path: str, body: Mapping[str, Any], *, expect: int, **headers: str) -> dict[str, Any]:
        """The JSON answer of a POST that must end with ``expect``."""
        answer = self.http.post(path, json=body, headers=headers)
        assert answer.status_code == expect, f"POST {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.http.put(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def get(self, path: str) -> dict[str, Any]:
        """The JSON answer of a GET that must succeed."""
        answer = self.http.get(path)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def upload(self, *places: Path) -> str:
        """Upload files, and every file below folders; the id of the complete upload."""
        files = {path.name: path for path in places if path.is_file()}
        for folder in (place for place in places if place.is_dir()):
            files |= {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        announced = [
            {"path": name, "size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for name, path in files.items()
        ]
        upload = self.post("/v1/uploads", {"files": announced}, expect=201)
        for place in upload["files"]:
            content = files[place["path"]].read_bytes()
            sent = httpx.request(place["method"], place["url"], headers=place["headers"], content=content, timeout=60)
            assert sent.status_code in (200, 201, 204), f"{sent.status_code} {sent.text}"
        assert self.post(f"/v1/uploads/{upload['id']}/complete", {}, expect=200)["status"] == "complete"
        return str(upload["id"])

    def register(self, name: str, built: "Built") -> None:
        """A data set and a model trained on it, both called ``name``, from local files."""
        dataset: dict[str, Any] = {
            "name": name,
            "task": built.task,
            "format": "parquet",
            "columns": dict(built.columns),
            "upload_id": self.upload(built.records),
        }
        if built.image_shape:
            dataset["image_shape"] = list(built.image_shape)
        assert self.post("/v1/datasets", dataset, expect=201)["status"] == "ready"
        self.post("/v1/models", {"name": name, "task": built.task, "dataset": name}, expect=201)
        version = self.post(f"/v1/models/{name}/versions", {"upload_id": self.upload(built.model)}, expect=201)
        assert version["version"] == 1

    def wait_request(self, request_id: str, *, timeout_s: float = 240) -> dict[str, Any]:
        """The request once nothing more will happen to it by itself."""

        def ended() -> dict[str, Any] | None:
            request = self.get(f"/v1/deletion-requests/{request_id}")
            return request if request["status"] in FINAL_REQUEST else None

        return wait_until(ended, timeout_s=timeout_s, what=f"the end of {request_id}")

    def download(self, model: str, version: int | str, folder: Path) -> dict[str, Any]:
        """Fetch a version's files by their presigned URLs and check size and SHA-256; the version."""
        found = self.get(f"/v1/models/{model}/versions/{version}")
        for file in found["files"]:
            answer = httpx.get(file["url"], timeout=60)
            assert answer.status_code == 200
            assert len(answer.content) == file["size"]
            assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
            target = folder / file["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(answer.content)
        return found


@dataclass
class Receiver:
    """A webhook receiver that keeps what it was sent. ``answers``: status codes to give first, then 204."""

    answers: list[int] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(outer.answers.pop(0) if outer.answers else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def of_type(self, kind: str) -> list[tuple[dict[str, str], bytes]]:
        """Messages of one event type, in order of arrival."""
        return [item for item in list(self.received) if json.loads(item[1])["type"] == kind]
