"""Servers of a test's own, which it may restart, kill and empty."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import boto3
import httpx
import psutil
import pytest
import redis
from botocore.config import Config as BotoConfig

from core.platform import embedded
from core.platform.database import open_engine
from core.platform.settings import Settings, StoreSettings
from tests.builders.waiting import free_port, wait_until


class Postgres:
    """PostgreSQL from the wheel, with its files kept over a restart. ``url`` names its first database."""

    def __enter__(self) -> Self:
        # Not below pytest's own folder: that one is private to root, and Postgres runs as another user then.
        self._folder = tempfile.TemporaryDirectory(prefix="unlearn-test-", ignore_cleanup_errors=True)
        Path(self._folder.name).chmod(0o755)
        self._home = Path(self._folder.name) / "data"
        self.url = self._start()
        self._execute("alter system set fsync = off")
        self._execute("select pg_reload_conf()")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        embedded.release(self._home)
        self._folder.cleanup()

    @contextmanager
    def down(self) -> Generator[None]:
        """It ends at once, as by a power cut: connections break. Afterwards it recovers what was committed."""
        postmaster = psutil.Process(int((self._home / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0]))
        postmaster.send_signal(signal.SIGQUIT)
        gone, _ = psutil.wait_procs([postmaster], timeout=30)
        assert gone, "PostgreSQL did not stop"
        try:
            yield
        finally:
            assert self._start() == self.url

    def _start(self) -> str:
        url = embedded.resolve(Settings(data_dir=self._home)).database.url
        assert url is not None
        return url.get_secret_value()

    def _execute(self, statement: str) -> None:
        engine = open_engine(self.url, pool_size=1)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()


class Redis:
    """A Redis that keeps nothing on disk: a restart empties it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.terminate()
        self._server.wait()

    @contextmanager
    def down(self) -> Generator[None]:
        """It is killed; afterwards it is there again, empty."""
        self._server.kill()
        self._server.wait()
        try:
            yield
        finally:
            self._start()

    @contextmanager
    def frozen(self) -> Generator[None]:
        """It takes connections (the kernel does) and answers nothing."""
        os.kill(self._server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._server.pid, signal.SIGCONT)

    def _start(self) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.fail("redis-server is not installed; the README names the system packages that the tests need")
        place = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self._server = subprocess.Popen([binary, *place], stdout=subprocess.DEVNULL)
        wait_until(self._answers, what="Redis")

    def flush(self) -> None:
        """Throw away what it holds."""
        with redis.Redis(port=self._port) as client:
            client.flushall()

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self._port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


class S3Server:
    """A server that speaks the S3 wire protocol."""

    def __enter__(self) -> Self:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command_line = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._server = subprocess.Popen(command_line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, what="the S3 server")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.terminate()
        self._server.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/moto-api/", timeout=2).status_code == 200
        except httpx.TransportError:
            return False


def fresh_bucket(endpoint: str) -> StoreSettings:
    """Settings of a new bucket on an S3 server."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test-id",
        aws_secret_access_key="test-secret",
        config=BotoConfig(signature_version="s3v4"),
    )
    client.create_bucket(Bucket=bucket)
    client.close()
    return StoreSettings.model_validate(
        {
            "url": f"s3://{bucket}/unlearn",
            "endpoint_url": endpoint,
            "access_key_id": "test-id",
            "secret_access_key": "test-secret",
        }
    )
