"""What is left of what was erased, and why: all SQL of the part of the compliance report that is about copies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, exists, func, select
from sqlalchemy.orm import Session

from core.datasets.tables import Dataset, Record, SupersededFile
from core.erasure.repository import Rewrites, covered_records
from core.holds.repository import Holds
from core.holds.tables import LegalHold
from core.registry.repository import Models, Versions
from core.registry.tables import Model, ModelVersion

MOST_COPIES: Final = 1000
"""So many copies are listed; the CSV has them all."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A superseded copy that holds, or held, what was erased.

    ``kind``: ``version`` or ``dataset_file``. ``state``: ``kept`` (its time is not over), ``in_use`` (a version that
    holds what was unlearned and is not superseded), ``blocked``, ``waiting_for_owner`` (it lies where only its owner
    can delete it), ``deleting`` or ``purged``.
    """

    kind: str
    name: str
    number: int
    path: str | None
    uri: str
    state: str
    blocked_by: tuple[str, ...]
    superseded_at: datetime | None
    keep_until: datetime | None
    purged_at: datetime | None


@dataclass(frozen=True, slots=True)
class Unclean:
    """A data set whose present files hold erased records. ``why``: ``waiting``, ``never``, ``legal_hold`` or a code."""

    dataset: str
    records: int
    why: str


@dataclass(frozen=True, slots=True)
class Erasure:
    """The part of the report. ``counts``: copies by kind and state, those purged being of the period alone."""

    counts: Mapping[str, Mapping[str, int]]
    copies: Sequence[Copy]
    copies_cut_off: bool
    datasets: Sequence[Unclean]
    legal_holds: Sequence[LegalHold]


class Copies:
    """Questions about the superseded copies of one workspace. Purged ones count for the period they were purged in."""

    def __init__(self, tx: Session, workspace_id: str, *, start: datetime, end: datetime, now: datetime) -> None:
        self._tx = tx
        self._workspace_id = workspace_id
        self._start, self._end, self._now = start, end, now

    def report(self) -> Erasure:
        """Everything, with the first thousand copies that are not purged."""
        found = self.all()
        counts: dict[str, dict[str, int]] = {"version": {}, "dataset_file": {}}
        for one in found:
            counts[one.kind][one.state] = counts[one.kind].get(one.state, 0) + 1
        left = [one for one in found if one.state != "purged"]
        holds = Holds(self._tx).in_force(self._workspace_id)
        return Erasure(counts, left[:MOST_COPIES], len(left) > MOST_COPIES, self._unclean(), holds)

    def all(self) -> Sequence[Copy]:
        """Every copy: versions by model and number, then files by data set and place."""
        return [*self._versions(), *self._files()]

    def _versions(self) -> Sequence[Copy]:
        by_run = exists().where(ModelVersion.model_id == Model.id, ModelVersion.run_id.is_not(None))
        mine = select(Model.id).where(Model.workspace_id == self._workspace_id, by_run).order_by(Model.name)
        copies: list[Copy] = []
        for model_id in self._tx.scalars(mine).all():
            versions, model = Versions(self._tx), Models(self._tx).get(model_id)
            lineage = versions.lineage(model_id)
            tainted = (one for one in versions.all(model_id) if lineage.is_tainted(one.version))
            copies += [_of_version(model.name, one) for one in tainted if self._counts(one.purged_at)]
        return copies

    def _files(self) -> Sequence[Copy]:
        statement = (
            select(Dataset.name, SupersededFile)
            .join(Dataset, Dataset.id == SupersededFile.dataset_id)
            .where(Dataset.workspace_id == self._workspace_id)
            .order_by(Dataset.name, SupersededFile.ordinal, SupersededFile.last_edition)
        )
        held = {hold.object_id or "" for hold in Holds(self._tx).in_force(self._workspace_id) if hold.scope != "model"}
        rows = self._tx.execute(statement).all()
        return [
            _of_file(name, file, self._now, held=bool(held & {"", file.dataset_id}))
            for name, file in rows
            if self._counts(file.purged_at)
        ]

    def _counts(self, purged_at: datetime | None) -> bool:
        return purged_at is None or self._start <= purged_at < self._end

    def _unclean(self) -> Sequence[Unclean]:
        asked = covered_records()
        statement = (
            select(Dataset, func.count())
            .join(Record, Record.dataset_id == Dataset.id)
            .join(asked, and_(asked.c.dataset_id == Record.dataset_id, asked.c.record_id == Record.record_id))
            .where(Dataset.workspace_id == self._workspace_id, Record.state == "erased", Record.last_edition.is_(None))
            .group_by(Dataset.id)
            .order_by(Dataset.name)
        )
        return [Unclean(dataset.name, records, self._why(dataset)) for dataset, records in self._tx.execute(statement)]

    def _why(self, dataset: Dataset) -> str:
        if dataset.rewrite == "never":
            return "never"
        if Holds(self._tx).on_dataset(dataset.workspace_id, dataset.id):
            return "legal_hold"
        if dataset.rewrite_error is not None:
            return str(dataset.rewrite_error["code"])
        return "waiting" if Rewrites(self._tx).removable(dataset.id) else "needed_by_a_model"


def _of_version(model: str, version: ModelVersion) -> Copy:
    state = "in_use"
    if version.purged_at is not None:
        state = "purged"
    elif version.state == "purged":
        state = "waiting_for_owner" if version.original_retained_at else "deleting"
    elif version.purge_blocked:
        state = "blocked"
    elif version.state == "retired":
        state = "kept"
    return Copy(
        kind="version",
        name=model,
        number=version.version,
        path=None,
        uri=version.uri,
        state=state,
        blocked_by=tuple(version.purge_blocked or ()),
        superseded_at=version.retired_at,
        keep_until=None,
        purged_at=version.purged_at,
    )


def _of_file(dataset: str, file: SupersededFile, now: datetime, *, held: bool) -> Copy:
    state: Any = "purged" if file.purged_at else "kept"
    if file.purged_at is None and held:
        state = "blocked"
    elif file.purged_at is None and not file.ours:
        state = "waiting_for_owner"
    elif file.purged_at is None and file.keep_until <= now:
        state = "deleting"
    return Copy(
        kind="dataset_file",
        name=dataset,
        number=file.last_edition,
        path=file.path,
        uri=file.uri,
        state=state,
        blocked_by=("legal_hold",) if state == "blocked" else (),
        superseded_at=file.superseded_at,
        keep_until=file.keep_until,
        purged_at=file.purged_at,
    )
