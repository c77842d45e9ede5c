"""The audit log on the wire."""

from typing import Any, Self

from pydantic import ConfigDict, Field

from api.schemas.common import Time, WireOut
from core.access.tables import AuditEvent


class AuditEventOut(WireOut):
    """One line of the log."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "aud_01k9d3v6m2q8r4t6w8y0a2c4e6",
                    "sequence": 17,
                    "actor": "key_01k9d3v6m2q8r4t6w8y0a2c4e6",
                    "action": "deletion_request.created",
                    "object_id": "del_01k9d3v6m2q8r4t6w8y0a2c4e7",
                    "details": {"record_count": 12},
                    "at": "2031-03-01T11:12:40.120Z",
                    "previous_hash": "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9",
                    "hash": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
                }
            ]
        }
    )

    id: str
    sequence: int = Field(description="1, 2, 3 … without gaps in a workspace")
    actor: str = Field(description="key id, `cli` or `system`")
    action: str
    object_id: str
    details: dict[str, Any] = Field(description="counts and ids; never personal data")
    at: Time
    previous_hash: str = Field(description="hash of the line before; zeros before the first")
    hash: str = Field(description="SHA-256 over `previous_hash` and everything this line says")

    @classmethod
    def of(cls, event: AuditEvent) -> Self:
        """From a row."""
        return cls(
            id=event.id,
            sequence=event.sequence,
            actor=event.actor,
            action=event.action,
            object_id=event.object_id,
            details=event.details,
            at=event.at,
            previous_hash=event.previous_hash.hex(),
            hash=event.hash.hex(),
        )
