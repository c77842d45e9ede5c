"""The audit log."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.deps import PageIn, Tx, requires
from api.errors import problems
from api.schemas.audit import AuditEventOut
from api.schemas.common import Listing, TimeIn
from core.access.principal import Principal
from core.access.repository import AuditEvents, AuditFilter

router = APIRouter(prefix="/v1/audit-events", tags=["audit"])

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
