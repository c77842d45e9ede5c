"""Which objects of runs nobody can ever need: weights of attempts that came to nothing, checkpoints of ended runs."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy.orm import Session

from core.holds.repository import Holds
from core.platform.objects import ObjectInfo, ObjectStore
from core.registry.tables import ModelVersion
from core.runs.checkpoints import FOLDER as CHECKPOINTS
from core.runs.lifecycle import ACTIVE, LEASED, Status
from core.runs.preparing import MODELS
from core.runs.repository import Runs
from core.runs.tables import Run

_ATTEMPT = re.compile(r"/(?P<run>run_[0-9a-z]{26})-(?P<attempt>\d{1,9})/")
_CHECKPOINT = re.compile(rf"/{CHECKPOINTS}(?P<run>run_[0-9a-z]{{26}})/")
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


def orphans(tx: Session, portion: Sequence[Staged]) -> Mapping[str, Sequence[str]]:
    """By run, URIs of those objects that no version, no pending review and no living attempt refers to.

    What a legal hold on the run's model covers is left where it is.
    """
    runs = Runs(tx)
    ids = {staged.run_id for staged in portion}
    known, published = runs.by_ids(ids), runs.published(ids)
    on_hold = Holds(tx).on_models({run.model_id for run in known.values()})
    held = {run_id for run_id, run in known.items() if run.model_id in on_hold}
    return _by_run(
        (staged.run_id, staged.uri)
        for staged in portion
        if staged.run_id not in held and not _wanted(staged, known.get(staged.run_id), published.get(staged.run_id))
    )


def checkpoints(store: ObjectStore) -> Iterator[Sequence[tuple[str, str]]]:
    """All objects of checkpoints in portions, as (URI, run id). Raises ``DependencyDown``."""
    matches = (_CHECKPOINT.search(info.uri) for info in store.list(store.uri(CHECKPOINTS)))
    found = ((match.string, match["run"]) for match in matches if match)
    while portion := tuple(islice(found, _AT_ONCE)):
        yield portion


def of_ended_runs(tx: Session, portion: Sequence[tuple[str, str]]) -> Mapping[str, Sequence[str]]:
    """By run, URIs of those checkpoints whose runs have ended, wait for a decision, or do not exist."""
    known = Runs(tx).by_ids({run_id for _, run_id in portion})
    active = {run_id for run_id, run in known.items() if run.status in ACTIVE}
    return _by_run((run_id, uri) for uri, run_id in portion if run_id not in active)


def _by_run(found: Iterable[tuple[str, str]]) -> Mapping[str, Sequence[str]]:
    uris: dict[str, list[str]] = {}
    for run_id, uri in found:
        uris.setdefault(run_id, []).append(uri)
    return uris


def _parsed(info: ObjectInfo) -> Staged | None:
    match = _ATTEMPT.search(info.uri)
    return Staged(info.uri, match["run"], int(match["attempt"])) if match else None


def _wanted(staged: Staged, run: Run | None, version: ModelVersion | None) -> bool:
    if version is not None and staged.uri.startswith(version.uri):  # also of one that is purged, which has its own turn
        return True
    if run is None:
        return False
    current = staged.attempt == run.attempt
    return current and (run.status == Status.NEEDS_REVIEW or run.status in LEASED)
