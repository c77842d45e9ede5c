"""A workspace, somebody who acts in it, and a store in memory; and every event is held to the catalogue."""

import functools
from typing import Any

import jsonschema
import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from core.access.principal import Principal
from core.access.tables import Workspace
from core.platform.ids import new_id
from core.platform.objects import MemoryStore
from core.platform.outbox import OutboxRow
from core.platform.secrets import Keyring
from core.webhooks.catalogue import event_type


@functools.cache
def _data_validator(name: str) -> Any:
    kind = event_type(name)
    assert kind is not None, f"{name} is emitted, and not in the catalogue of events"
    return jsonschema.Draft202012Validator(kind.data_schema())


@event.listens_for(OutboxRow, "before_insert")
def _every_event_is_as_the_catalogue_says(_mapper: object, _connection: object, row: OutboxRow) -> None:
    """Whatever a test makes any slice emit: a type that is listed, with data as its schema says."""
    if row.topic == "event":
        _data_validator(row.name).validate(row.payload["data"])
        assert row.name == "ping" or "sequence" in row.payload["data"], f"{row.name} has no sequence"


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
