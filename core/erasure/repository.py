"""All SQL about what is to be erased beyond weights: which records may leave the files, and what must wait for whom."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Subquery,
    Text,
    and_,
    any_,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session, aliased

from core.access.sandboxes import in_sandbox
from core.datasets.tables import Dataset, DatasetFile, Record, SupersededFile
from core.deletions import lifecycle as deletion_states
from core.deletions.tables import DeletionRecord, DeletionRequest, DeletionTarget
from core.holds.repository import dataset_held
from core.platform.leases import LeaseLost
from core.registry.tables import Model, ModelVersion
from core.runs.lifecycle import LEASED, Status
from core.runs.tables import Run, RunRecord

_DONE = deletion_states.Status.COMPLETED


@dataclass(frozen=True, slots=True)
class Leaving:
    """A record that is to leave the files, and its place in the first edition."""

    record_id: str
    file: int
    row: int


def erased_and_in_files() -> tuple[ColumnElement[bool], ...]:
    """Conditions on records. Requests cover all erased ones, and are the way to them: no index is on the state.

    Such an index, also a partial one, would let no change of a record's state be made in place.
    """
    asked = aliased(DeletionRecord)
    covered = exists().where(asked.dataset_id == Record.dataset_id, asked.record_id == Record.record_id)
    return covered, Record.state == "erased", Record.last_edition.is_(None)


class Rewrites:
    """Data sets whose files are to be written anew."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def candidates(self) -> Sequence[Dataset]:
        """Data sets with erased records in their files that may be rewritten and that nobody is at, by id.

        Not those of sandboxes, where nothing is really unlearned.
        """
        asked = covered_records()
        erased = (
            select(Record.dataset_id)
            .join(asked, and_(asked.c.dataset_id == Record.dataset_id, asked.c.record_id == Record.record_id))
            .where(Record.state == "erased", Record.last_edition.is_(None))
        )
        free = or_(Dataset.rewrite_lease_until.is_(None), Dataset.rewrite_lease_until < func.now())
        statement = (
            select(Dataset)
            .where(Dataset.status == "ready", Dataset.rewrite == "ours", free, Dataset.id.in_(erased))
            .where(~dataset_held(Dataset.workspace_id, Dataset.id), ~in_sandbox(Dataset.workspace_id))
            .order_by(Dataset.id)
            .with_for_update(skip_locked=True, key_share=True)
            .execution_options(populate_existing=True)
        )
        return self._tx.scalars(statement).all()

    def removable(self, dataset_id: str) -> Sequence[Leaving]:
        """Erased records in the files that no model needs any more, by place.

        Of a training record that means: every model of the data set that has a version has unlearned it. Of a held-out
        one nothing: no model has learnt it.
        """
        found = covered_records()
        asked = select(found.c.record_id).where(found.c.dataset_id == dataset_id)
        covered, target = aliased(DeletionRecord), aliased(DeletionTarget)
        unlearned = exists().where(
            covered.dataset_id == Record.dataset_id,
            covered.record_id == Record.record_id,
            target.request_id == covered.request_id,
            target.model_id == Model.id,
            target.status == _DONE,
        )
        has_version = exists().where(ModelVersion.model_id == Model.id)
        needed = exists().where(Model.dataset_id == Record.dataset_id, has_version, ~unlearned)
        statement = (
            select(Record.record_id, Record.file, Record.row)
            .where(Record.dataset_id == dataset_id, Record.record_id.in_(asked))
            .where(Record.state == "erased", Record.last_edition.is_(None))
            .where(or_(Record.split != "train", ~needed))
            .order_by(Record.file, Record.row)
        )
        return [Leaving(*row) for row in self._tx.execute(statement)]

    def grant(self, dataset: Dataset, lease_s: float) -> None:
        """Lease a locked data set to a new attempt, on the database's clock."""
        dataset.rewrite_attempt += 1
        dataset.rewrite_lease_until = self._tx.scalar(select(_from_now(lease_s)))
        self._tx.flush()

    def extend(self, dataset_id: str, attempt: int, lease_s: float) -> None:
        """Let an attempt go on. Raises ``LeaseLost`` when it has run out of time or another has begun."""
        done = self._tx.execute(
            update(Dataset)
            .where(Dataset.id == dataset_id, Dataset.rewrite_attempt == attempt, _leased())
            .values(rewrite_lease_until=_from_now(lease_s))
        )
        if done.rowcount != 1:  # type: ignore[attr-defined]
            raise LeaseLost(dataset_id)

    def held(self, dataset_id: str, attempt: int) -> Dataset:
        """Lock the data set for an attempt. Raises ``LeaseLost`` when it has run out of time or another has begun.

        What an attempt that is out of time has written may have been swept away.
        """
        statement = (
            select(Dataset)
            .where(Dataset.id == dataset_id, Dataset.rewrite_attempt == attempt, _leased())
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
        found = self._tx.scalar(statement)
        if found is None:
            raise LeaseLost(dataset_id)
        return found

    def readable_until(self, dataset_id: str, record_ids: Collection[str]) -> datetime | None:
        """Until when the policies of the runs that forgot the records let any of them be read; None: not at all."""
        days = func.coalesce(cast(Run.policy["recheck_days"].as_string(), Integer), 0)
        statement = (
            select(func.max(Run.finished_at + func.make_interval(0, 0, 0, days)))
            .join(RunRecord, RunRecord.run_id == Run.id)
            .join(Model, Model.id == Run.model_id)
            .where(
                Model.dataset_id == dataset_id,
                Run.published_version.is_not(None),
                RunRecord.record_id == any_(_texts(record_ids)),
            )
        )
        return self._tx.scalar(statement)

    def policies(self, dataset_id: str, record_ids: Collection[str]) -> Sequence[str | None]:
        """Names of the policies under which the records were asked to be erased; None: the default one."""
        statement = (
            select(func.coalesce(DeletionRequest.policy, Model.policy))
            .select_from(DeletionRecord)
            .join(DeletionRequest, DeletionRequest.id == DeletionRecord.request_id)
            .outerjoin(DeletionTarget, DeletionTarget.request_id == DeletionRequest.id)
            .outerjoin(Model, Model.id == DeletionTarget.model_id)
            .where(
                DeletionRecord.dataset_id == dataset_id,
                DeletionRecord.record_id == any_(_texts(record_ids)),
                DeletionRequest.status == _DONE,
            )
            .distinct()
        )
        return self._tx.scalars(statement).all()

    def at_work(self, attempts: Collection[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        """Those of the (data set, attempt) pairs of which the lease still runs; the others can never switch.

        Waits for a switch under way, and none begins before ``tx`` ends: ask this before ``in_use``.
        """
        ids = {dataset_id for dataset_id, _ in attempts}
        statement = (
            select(Dataset.id, Dataset.rewrite_attempt, _leased().label("leased"))
            .where(Dataset.id.in_(ids))
            .order_by(Dataset.id)
            .with_for_update(read=True)
        )
        leased = {(row.id, row.rewrite_attempt) for row in self._tx.execute(statement) if row.leased}
        return frozenset(leased.intersection(attempts))

    def in_use(self, uris: Collection[str]) -> frozenset[str]:
        """Those of the URIs under which a data set's present or superseded files lie."""
        wanted = any_(_texts(uris))
        present = select(DatasetFile.uri).where(DatasetFile.uri == wanted)
        kept = select(SupersededFile.uri).where(SupersededFile.uri == wanted, SupersededFile.purged_at.is_(None))
        return frozenset(self._tx.scalars(present.union(kept)))


class Purges:
    """What is to be deleted, and what is in the way."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def datasets_due(self, at: datetime) -> Sequence[tuple[str, str]]:
        """(workspace, data set) of which superseded files need be kept no longer, by id."""
        statement = (
            select(Dataset.workspace_id, Dataset.id)
            .join(SupersededFile, SupersededFile.dataset_id == Dataset.id)
            .where(SupersededFile.purged_at.is_(None), SupersededFile.keep_until <= at)
            .where(~dataset_held(Dataset.workspace_id, Dataset.id))
            .distinct()
        )
        return [(row.workspace_id, row.id) for row in self._tx.execute(statement.order_by(Dataset.id))]

    def files_due(self, dataset_id: str, at: datetime) -> Sequence[SupersededFile]:
        """Lock those of a data set that need be kept no longer and that no run is reading."""
        edition = func.coalesce(Run.selection["edition"].as_integer(), 1)
        reading = exists().where(
            Model.dataset_id == SupersededFile.dataset_id,
            Run.model_id == Model.id,
            Run.status.in_(LEASED),
            or_(Run.status == Status.PREPARING, edition <= SupersededFile.last_edition),
        )
        statement = (
            select(SupersededFile)
            .where(SupersededFile.dataset_id == dataset_id, SupersededFile.purged_at.is_(None))
            .where(SupersededFile.keep_until <= at, ~reading)
            .order_by(SupersededFile.ordinal, SupersededFile.last_edition)
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        )
        return self._tx.scalars(statement).all()

    def policies_of(self, run_ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        """Under which policy each run ran."""
        return dict(self._tx.execute(select(Run.id, Run.policy).where(Run.id.in_(list(run_ids)))).all())

    def works_from(self, model_id: str, version: int) -> bool:
        """Whether a worker has a run of the model that began from this version."""
        at_work = exists().where(Run.model_id == model_id, Run.base_version == version, Run.status.in_(LEASED))
        return bool(self._tx.scalar(select(at_work)))


class Traces:
    """What is left of the records of completed requests."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def out_of_files(self, *, before: datetime, after: str, limit: int) -> Sequence[str]:
        """Completed requests whose old copies are not known to be gone and whose records are in no file any more.

        Ids behind ``after``, in order; those that ended ``before``.
        """
        kept = exists().where(
            SupersededFile.dataset_id == Record.dataset_id,
            SupersededFile.ordinal == Record.file,
            SupersededFile.last_edition <= Record.last_edition,
            SupersededFile.purged_at.is_(None),
        )
        in_files = exists().where(
            DeletionRecord.request_id == DeletionRequest.id,
            Record.dataset_id == DeletionRecord.dataset_id,
            Record.record_id == DeletionRecord.record_id,
            or_(Record.last_edition.is_(None), kept),
        )
        row = DeletionRequest
        statement = (
            select(row.id)
            .where(row.status == _DONE, row.old_copies_purged_at.is_(None), row.finished_at < before, row.id > after)
            .where(~in_files, ~in_sandbox(row.workspace_id))
            .order_by(row.id)
            .limit(limit)
        )
        return self._tx.scalars(statement).all()

    def unlearned_in(self, request_ids: Collection[str]) -> Sequence[tuple[str, str, int]]:
        """(request, model, version): in which versions runs have forgotten records of the requests."""
        statement = (
            select(DeletionRecord.request_id, Run.model_id, Run.published_version)
            .join(RunRecord, RunRecord.record_id == DeletionRecord.record_id)
            .join(Run, and_(Run.id == RunRecord.run_id, Run.mode == "unlearn", Run.published_version.is_not(None)))
            .join(Model, and_(Model.id == Run.model_id, Model.dataset_id == DeletionRecord.dataset_id))
            .where(DeletionRecord.request_id.in_(list(request_ids)))
            .distinct()
        )
        return [(row[0], row[1], int(row[2] or 0)) for row in self._tx.execute(statement)]

    def staged(self, model_id: str) -> Sequence[int]:
        """Base versions of the model's runs whose staged weights wait for a person."""
        statement = select(Run.base_version).where(Run.model_id == model_id, Run.status == Status.NEEDS_REVIEW)
        return self._tx.scalars(statement.distinct()).all()


def covered_records() -> Subquery:
    """(data set, record) of completed requests whose old copies are not known to be gone: who else could be in files?

    No index holds a record's state, so that it changes in place; erased records are found by their requests.
    """
    return (
        select(DeletionRecord.dataset_id, DeletionRecord.record_id)
        .join(DeletionRequest, DeletionRequest.id == DeletionRecord.request_id)
        .where(DeletionRequest.status == _DONE, DeletionRequest.old_copies_purged_at.is_(None))
        .distinct()
        .subquery()
    )


def _texts(values: Collection[str]) -> Any:
    return literal(list(values), ARRAY(Text))


def _leased() -> ColumnElement[bool]:
    """Whether the attempt at a data set has time left at this moment, not when the transaction began."""
    return Dataset.rewrite_lease_until > func.clock_timestamp()


def _from_now(seconds: float) -> ColumnElement[Any]:
    return func.clock_timestamp() + text("make_interval(secs => :lease_s)").bindparams(lease_s=seconds)
