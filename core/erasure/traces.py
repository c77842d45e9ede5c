"""Whether anything of a completed request's records is left, and noting when nothing is."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime

from sqlalchemy.orm import Session

from core.access import audit
from core.deletions import progress
from core.deletions.repository import Requests
from core.deletions.tables import DeletionRequest
from core.erasure.repository import Traces
from core.platform.clock import rfc3339
from core.registry.repository import Versions

_AT_ONCE = 500


def note_gone(tx: Session, *, ended_before: datetime, after: str, at: datetime) -> str | None:
    """Look at the next 500 completed requests behind ``after``; the id to go on behind, None at the end.

    A request's old copies are gone when its records are in no file of their data sets, present or superseded, and no
    version with files, nor weights that wait for a review, holds what runs have forgotten for it.
    """
    traces = Traces(tx)
    request_ids = traces.out_of_files(before=ended_before, after=after, limit=_AT_ONCE)
    unlearned: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for request_id, model_id, version in traces.unlearned_in(request_ids):
        unlearned[request_id].append((model_id, version))
    models = {model_id for pairs in unlearned.values() for model_id, _ in pairs}
    left = {model_id: _holders(tx, model_id) for model_id in models}
    gone = [
        request_id
        for request_id in request_ids
        if not any(version in left[model_id] for model_id, version in unlearned[request_id])
    ]
    for request in Requests(tx).mark_old_copies_purged(gone, at):
        _tell(tx, request, at)
    return request_ids[-1] if len(request_ids) == _AT_ONCE else None


def _tell(tx: Session, request: DeletionRequest, at: datetime) -> None:
    kind, told = "old_copies_purged", {"old_copies_purged_at": rfc3339(at)}
    progress.remark(tx, request, kind=kind, actor="system", detail={}, told=told, at=at)
    audit.note(
        tx, workspace_id=request.workspace_id, actor="system", action=f"deletion_request.{kind}",
        object_id=request.id, details={}, at=at,
    )  # fmt: skip


def _holders(tx: Session, model_id: str) -> Collection[int]:
    """The versions in which something was unlearned of which a copy still exists somewhere."""
    versions, lineage = Versions(tx), Versions(tx).lineage(model_id)
    copies = {one.version for one in versions.all(model_id) if one.purged_at is None}
    copies |= set(Traces(tx).staged(model_id))
    return {number for version in copies for number in lineage.holds(version)}
