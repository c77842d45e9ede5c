"""``unlearn up`` with its real processes: ready, stopped whole, and never half alive."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.builders.waiting import free_port, wait_until

pytestmark = pytest.mark.integration

Up = Callable[..., "Running"]


class Running:
    """A running ``unlearn up`` and what it printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "d"
        self.port = free_port()
        self._log = folder / "log"
        others = {name: value for name, value in os.environ.items() if not name.startswith("UNLEARN_")}
        with self._log.open("wb") as log:
            arguments = ["up", "--data-dir", str(self.home), "--port", str(self.port)]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli", *arguments], stdout=log, stderr=log, env={**others, "COLUMNS": "200"}
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_ready(self) -> list[psutil.Process]:
        """Until it says so; the processes of the service."""

        def ready() -> bool:
            assert self.process.poll() is None, self.output
            return "The service is ready." in self.output

        wait_until(ready, timeout_s=90, what="the service")
        return psutil.Process(self.process.pid).children()

    def postgres(self) -> psutil.Process:
        return psutil.Process(int((self.home / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0]))


@pytest.fixture
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    started: list[Running] = []

    def start(folder: Path | None = None) -> Running:
        started.append(Running(folder or tmp_path_factory.mktemp("up")))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.terminate()
            running.process.wait(timeout=60)


def _all_end(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=40)
    assert alive == []


def test_it_comes_up_whole_dies_with_its_parent_comes_up_again_and_goes_down_whole(up: Up) -> None:
    running = up()
    children = running.wait_ready()
    names = {" ".join(child.cmdline()).rpartition("-m ")[2] for child in children}
    assert names == {"api", "worker", "worker.loops"}
    assert f"http://127.0.0.1:{running.port}/docs" in running.output
    assert httpx.get(f"http://127.0.0.1:{running.port}/readyz", timeout=10).status_code == 200
    secret = (running.home / "secret").read_text().strip()
    assert not any(secret in " ".join(child.cmdline()) for child in children)
    assert secret not in running.output

    postgres = running.postgres()
    running.process.kill()
    running.process.wait()
    _all_end(children)
    # Nobody was left to stop the database; the next one to come joins it, works, and stops it in the end.
    again = up(running.folder)
    children = again.wait_ready()
    assert httpx.get(f"http://127.0.0.1:{again.port}/readyz", timeout=10).status_code == 200
    assert again.postgres() == postgres
    again.process.send_signal(signal.SIGTERM)
    assert again.process.wait(timeout=60) == 0, again.output
    _all_end([*children, postgres])


def test_when_one_process_dies_all_end_and_it_is_named(up: Up) -> None:
    running = up()
    children = running.wait_ready()
    postgres = running.postgres()
    next(child for child in children if child.cmdline()[-1] == "worker.loops").kill()
    assert running.process.wait(timeout=60) == 1
    assert "the loops process has ended by SIGKILL" in running.output
    _all_end([*children, postgres])


def test_a_taken_port_is_told_before_anything_starts(up: Up) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "cli", "up", "--data-dir", "/nonexistent/never", "--port", str(port)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "choose another --port" in done.stderr
