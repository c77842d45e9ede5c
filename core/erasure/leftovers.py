"""What attempts leave behind: files of data sets that were never switched to, and word of what was removed of runs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Literal

from sqlalchemy.orm import Session

from core.access import audit
from core.erasure.repository import Rewrites
from core.erasure.rewriting import FOLDER
from core.platform import outbox
from core.platform.objects import ObjectInfo, ObjectStore
from core.runs.repository import Runs

_ATTEMPT = re.compile(rf"/{FOLDER}(?P<dataset>ds_[0-9a-z]{{26}})/\d{{1,9}}-(?P<attempt>\d{{1,9}})/")
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class WrittenAnew:
    """An object that an attempt to rewrite a data set has stored."""

    uri: str
    dataset_id: str
    attempt: int


def written_before(store: ObjectStore, before: datetime) -> Iterator[Sequence[WrittenAnew]]:
    """Files of data sets that were stored before a time, in portions. Raises ``DependencyDown``."""
    parsed = (_parsed(info) for info in store.list(store.uri(FOLDER)) if info.modified_at < before)
    found = (one for one in parsed if one is not None)
    while portion := tuple(islice(found, _AT_ONCE)):
        yield portion


def abandoned(tx: Session, portion: Sequence[WrittenAnew]) -> Sequence[str]:
    """URIs of those that no data set has and no attempt at work is going to switch to."""
    rewrites = Rewrites(tx)
    at_work = rewrites.at_work({(one.dataset_id, one.attempt) for one in portion})
    used = rewrites.in_use([one.uri for one in portion])  # after it: no switch can come between
    return [one.uri for one in portion if one.uri not in used and (one.dataset_id, one.attempt) not in at_work]


def note_removed(
    tx: Session, kind: Literal["checkpoints", "weights"], removed: Mapping[str, Sequence[str]], at: datetime
) -> None:
    """Tell what was removed of each run, and audit it; of runs that nobody knows there is nobody to tell."""
    runs = Runs(tx)
    known = runs.by_ids(removed)
    names = runs.model_names(list(known.values()))
    for run_id in sorted(known):
        run = runs.lock(run_id)
        run.revision += 1
        data = {"id": run_id, "model": names[run.model_id], "kind": kind, "objects": len(removed[run_id])}
        data["sequence"] = run.revision
        outbox.put_event(tx, workspace_id=run.workspace_id, type="run.files_purged", data=data, at=at)
        audit.note(
            tx, workspace_id=run.workspace_id, actor="system", action="run.files_purged", object_id=run_id,
            details={"kind": kind, "objects": len(removed[run_id])}, at=at,
        )  # fmt: skip


def _parsed(info: ObjectInfo) -> WrittenAnew | None:
    match = _ATTEMPT.search(info.uri)
    return WrittenAnew(info.uri, match["dataset"], int(match["attempt"])) if match else None
