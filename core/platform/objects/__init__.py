"""The object store: one port, three adapters, chosen by the URL in the settings."""

from pathlib import Path
from typing import Final
from urllib.parse import unquote

from core.platform.objects.directory import DirectoryStore
from core.platform.objects.memory import MemoryStore
from core.platform.objects.port import (
    DigestMismatch,
    ForeignUri,
    ObjectExists,
    ObjectInfo,
    ObjectStore,
    Part,
    Presigned,
    StoreFull,
    StoreRefused,
    relative_path,
)
from core.platform.objects.s3 import S3Store
from core.platform.secrets import Keyring
from core.platform.settings import Settings

__all__ = [
    "DigestMismatch",
    "DirectoryStore",
    "ForeignUri",
    "MemoryStore",
    "ObjectExists",
    "ObjectInfo",
    "ObjectStore",
    "Part",
    "Presigned",
    "S3Store",
    "StoreFull",
    "StoreRefused",
    "open_store",
    "relative_path",
]

_PLACEHOLDER: Final = "{workspace}"


def open_store(settings: Settings) -> ObjectStore:
    """The object store that ``settings.store.url`` names; nothing is sent yet.

    Besides its own root it reads what lies under ``settings.sources.roots``. Raises ``ValueError`` for a URL that is
    unset or of a scheme other than ``s3`` and ``file``.
    """
    url = settings.store.url
    roots = settings.sources.roots
    if url is not None and url.startswith("s3://"):
        return S3Store(settings.store, readable=[_literal(root) for root in roots if root.startswith("s3://")])
    if url is not None and url.startswith("file:///"):
        return DirectoryStore(
            _folder(url),
            public_url=settings.public_url,
            keyring=Keyring.of(settings) if settings.secret else None,
            readable=[_folder(root) for root in roots if root.startswith("file:///") and _PLACEHOLDER not in root],
            by_workspace=[
                _folder(_literal(root)) for root in roots if root.startswith("file:///") and _PLACEHOLDER in root
            ],
        )
    raise ValueError("UNLEARN_STORE__URL must be s3://bucket/prefix or file:///directory")


def _literal(root: str) -> str:
    """What comes before the workspace's name; a root without one ends in a slash, lest it match its neighbours."""
    literal, placeholder, _ = root.partition(_PLACEHOLDER)
    return literal if placeholder or literal.endswith("/") else f"{literal}/"


def _folder(uri: str) -> Path:
    return Path(unquote(uri.removeprefix("file://")))
