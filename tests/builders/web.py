"""The web application in process, on a real database, and callers of it."""

import asyncio
import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import Engine

from api.app import create_app
from core.access import service as access
from core.platform import self_signed
from core.platform.clock import utc_now
from core.platform.database import transaction
from core.platform.objects import MemoryStore
from core.platform.secrets import Keyring
from core.platform.settings import Settings

SECRET = "test-secret-of-more-than-32-characters"


DOMAIN = "opendsr.unlearn.example"


@functools.cache
def opendsr_pair() -> self_signed.Pair:
    """A certificate for ``DOMAIN`` and its key; small, because large ones take long to make."""
    folder = tempfile.mkdtemp(prefix="unlearn-test-pair-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return self_signed.pair(Path(folder), DOMAIN, bits=2048)


def settings(**sections: Any) -> Settings:
    """Settings for tests: a secret, a pair for OpenDSR, and whatever is given."""
    pair = opendsr_pair()
    files = {"certificate_file": pair.certificate_file, "private_key_file": pair.private_key_file}
    opendsr = {"processor_domain": DOMAIN, **files, **sections.pop("opendsr", {})}
    return Settings.model_validate({"secret": SECRET, "log_level": "error", "opendsr": opendsr, **sections})


def keyring() -> Keyring:
    """The keyring of ``settings()``."""
    return Keyring(SECRET.encode())


@dataclass
class Clock:
    """A clock that a test moves."""

    now: datetime = field(default_factory=utc_now)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Web:
    """An application and how to call it; ``headers`` go with every call."""

    app: FastAPI
    engine: Engine
    headers: Mapping[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """One request, in an event loop of its own."""

        async def go() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://test") as client:
                headers = {**self.headers, **parts.pop("headers", {})}
                return await client.request(method, path, headers=headers, **parts)

        return asyncio.run(go())

    def get(self, path: str, **parts: Any) -> httpx.Response:
        return self.call("GET", path, **parts)

    def post(self, path: str, body: Any = None, **parts: Any) -> httpx.Response:
        return self.call("POST", path, json=body, **parts) if body is not None else self.call("POST", path, **parts)

    def put(self, path: str, body: Any, **parts: Any) -> httpx.Response:
        return self.call("PUT", path, json=body, **parts)

    def patch(self, path: str, body: Any, **parts: Any) -> httpx.Response:
        return self.call("PATCH", path, json=body, **parts)

    def delete(self, path: str, **parts: Any) -> httpx.Response:
        return self.call("DELETE", path, **parts)

    def customer(self, workspace: str = "acme", scopes: Iterable[str] = ("*",)) -> "Web":
        """The same application with a fresh key of ``workspace``, which is made if need be."""
        return self.with_key(new_key(self.engine, workspace, scopes).secret)

    def with_key(self, secret: str) -> "Web":
        """The same application with this key."""
        return Web(self.app, self.engine, {**self.headers, "Authorization": f"Bearer {secret}"})


def new_key(
    engine: Engine, workspace: str = "acme", scopes: Iterable[str] = ("*",), *, expires_at: datetime | None = None
) -> access.NewKey:
    """A key of ``workspace``, which is made if need be."""
    at = utc_now()
    with transaction(engine) as tx:
        try:
            owner = access.workspace_named(tx, workspace)
        except access.WorkspaceNotFound:
            owner = access.create_workspace(tx, name=workspace, actor="cli", at=at)
        return access.create_key(
            tx,
            workspace_id=owner.id,
            name="test",
            scopes=scopes,
            mode="live",
            actor="cli",
            at=at,
            expires_at=expires_at,
        )


def web(engine: Engine, clock: Callable[[], datetime] = utc_now, **sections: Any) -> Web:
    """The application on ``engine`` and a store in memory."""
    return Web(create_app(settings(**sections), engine, MemoryStore(), clock), engine)
