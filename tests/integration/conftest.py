"""A workspace, somebody who acts in it, and a store in memory."""

import pytest
from sqlalchemy.orm import Session

from core.access.principal import Principal
from core.access.tables import Workspace
from core.platform.ids import new_id
from core.platform.objects import MemoryStore
from core.platform.secrets import Keyring


def principal(tx: Session, name: str) -> Principal:
    """A key for everything in a new workspace."""
    workspace = Workspace(id=new_id("ws"), name=name)
    tx.add(workspace)
    tx.flush()
    return Principal(workspace.id, name, new_id("key"), frozenset({"*"}), "live")


@pytest.fixture
def caller(tx: Session) -> Principal:
    return principal(tx, "acme")


@pytest.fixture
def stranger(tx: Session) -> Principal:
    return principal(tx, "stranger")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(readable=("mem://sources/",))


@pytest.fixture
def keyring() -> Keyring:
    return Keyring(b"k" * 32)
