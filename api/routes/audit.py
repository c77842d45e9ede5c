"""The audit log."""

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from api.deps import Config, Database, Db, Keys, Now, PageIn, Tx, requires
from api.errors import problems
from api.schemas.audit import AuditEventOut
from api.schemas.common import Listing, TimeIn
from core.access import audit, audit_export
from core.access.audit_export import Head
from core.access.principal import Principal
from core.access.repository import AuditEvents, AuditFilter
from core.certificates import audit_checkpoint

router = APIRouter(prefix="/v1/audit-events", tags=["audit"])

_NDJSON: Final = "application/x-ndjson"
_LINES_AT_ONCE: Final = 1000

Text = Annotated[str | None, Query(max_length=200)]


@router.get("", summary="List audit events", responses=problems(400, 401, 403, 422))
def list_audit_events(
    caller: Annotated[Principal, requires("audit:read")],
    tx: Tx,
    page: PageIn,
    actor: Text = None,
    action: Annotated[str | None, Query(max_length=200, description="exact, or a prefix such as `api_key.*`")] = None,
    object_id: Text = None,
    created_after: TimeIn | None = None,
    created_before: TimeIn | None = None,
) -> Listing[AuditEventOut]:
    """Who did what, newest first. Each line holds the hash of the line before it, so that changes show."""
    wanted = AuditFilter(actor, action, object_id, created_after, created_before)
    return page.answer(AuditEvents(tx).page(caller.workspace_id, wanted, page), AuditEventOut.of)


@router.get(
    "/export",
    summary="Export the audit log",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "A line of JSON for each event, the first one first, and at the end the signed checkpoint",
            "content": {_NDJSON: {"schema": {"type": "string"}, "example": '{"checkpoint":"eyJhbGciOiJFZERTQSJ9…"}\n'}},
        },
        **problems(401, 403, 503),
    },
)
async def export_audit_events(
    caller: Annotated[Principal, requires("audit:read")], database: Db, keyring: Keys, config: Config, now: Now
) -> StreamingResponse:
    """The whole log of the workspace as it is now, for `unlearn audit verify`, streamed whatever its length.

    The checkpoint names the last line and is signed with the key of the certificates, so that a cut end shows.
    """

    def begin(tx: Session) -> tuple[Head, str]:
        head = audit.head(tx, caller.workspace_id)
        return head, audit_checkpoint.signed(tx, head, keyring, issuer=config.public_url, at=now)

    head, token = await database.run(begin)
    name = f'attachment; filename="audit-{caller.workspace}-{head.sequence}.ndjson"'
    return StreamingResponse(_lines(database, head, token), headers={"Content-Disposition": name}, media_type=_NDJSON)


async def _lines(database: Database, head: Head, token: str) -> AsyncIterator[str]:
    for after in range(0, head.sequence, _LINES_AT_ONCE):

        def portion(tx: Session, after: int = after) -> str:
            rows = AuditEvents(tx).after(head.workspace_id, after, until=head.sequence, limit=_LINES_AT_ONCE)
            return "".join(f"{audit_export.line_of(row)}\n" for row in rows)

        yield await database.run(portion)
    yield f"{audit_export.last_line(token)}\n"
