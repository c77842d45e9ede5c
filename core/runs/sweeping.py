"""Which staged files nobody can ever need: those of attempts that published nothing and wait for nobody."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy.orm import Session

from core.platform.objects import ObjectInfo, ObjectStore
from core.registry.tables import ModelVersion
from core.runs.lifecycle import LEASED, Status
from core.runs.preparing import MODELS
from core.runs.repository import Runs
from core.runs.tables import Run

_ATTEMPT = re.compile(r"/(?P<run>run_[0-9a-z]{26})-(?P<attempt>\d{1,9})/")
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Staged:
    """An object of some attempt."""

    uri: str
    run_id: str
    attempt: int


def staged_before(store: ObjectStore, before: datetime) -> Iterator[Sequence[Staged]]:
    """Objects of attempts last written before a time, in portions. Raises ``DependencyDown``."""
    found = (_parsed(info) for info in store.list(store.uri(MODELS)) if info.modified_at < before)
    attempts = (staged for staged in found if staged is not None)
    while portion := tuple(islice(attempts, _AT_ONCE)):
        yield portion


def orphans(tx: Session, portion: Sequence[Staged]) -> Sequence[str]:
    """URIs of those objects that no version, no pending review and no living attempt refers to."""
    runs = Runs(tx)
    ids = {staged.run_id for staged in portion}
    known, published = runs.by_ids(ids), runs.published(ids)
    return [
        staged.uri for staged in portion if not _wanted(staged, known.get(staged.run_id), published.get(staged.run_id))
    ]


def _parsed(info: ObjectInfo) -> Staged | None:
    match = _ATTEMPT.search(info.uri)
    return Staged(info.uri, match["run"], int(match["attempt"])) if match else None


def _wanted(staged: Staged, run: Run | None, version: ModelVersion | None) -> bool:
    if version is not None and staged.uri.startswith(version.uri):
        return True
    if run is None:
        return False
    current = staged.attempt == run.attempt
    return current and (run.status == Status.NEEDS_REVIEW or run.status in LEASED)
