"""Whether Celery's broker answers. Without Celery: the web process must not load it."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis

from core.platform.errors import DependencyDown
from core.platform.settings import Settings

_LIMIT_S = 2.0


def check(settings: Settings) -> None:
    """A cheap round trip. Raises ``DependencyDown`` when there is none, or no broker is configured."""
    url = settings.broker.url.get_secret_value() if settings.broker.url else ""
    scheme = urlsplit(url).scheme
    if scheme in ("redis", "rediss"):
        _ping(url)
    elif scheme in ("filesystem", "file"):
        _look(folder_of(url, settings))
    else:
        raise DependencyDown("No broker is configured.")


def folder_of(url: str, settings: Settings) -> Path:
    """The directory of a file broker: in the URL's path, or the embedded one."""
    path = unquote(urlsplit(url).path)
    return Path(path) if path.strip("/") else settings.data_dir / "broker"


def _ping(url: str) -> None:
    # redis-py's keyword arguments are untyped.
    client: Any = redis.Redis.from_url(url, socket_timeout=_LIMIT_S, socket_connect_timeout=_LIMIT_S)  # pyright: ignore[reportUnknownMemberType]
    try:
        client.ping()
    except (redis.RedisError, OSError):
        raise DependencyDown("Redis does not answer.") from None
    finally:
        client.close()


def _look(folder: Path) -> None:
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DependencyDown("The broker's directory cannot be written to.")
