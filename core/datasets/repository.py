"""All SQL on data sets and their files. Their records are in ``records.py`` beside this."""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from core.datasets.editions import Editions, stored
from core.datasets.errors import DatasetNotFound, DatasetNotReady
from core.datasets.lifecycle import DatasetStatus
from core.datasets.records import RecordRef, Records, Resolution, SelectionCounts
from core.datasets.tables import Dataset, DatasetEdition, DatasetFile, Record, RecordIdentity
from core.platform.paging import Page, Slice, keyset, page_of
from core.unlearning.job import DatasetSource, StoredFile

__all__ = ["Datasets", "RecordRef", "Records", "Resolution", "SelectionCounts"]


class Datasets:
    """Data sets as seen by one transaction."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def by_name(self, workspace_id: str, name: str) -> Dataset:
        """Raises ``DatasetNotFound`` for an unknown name and for another workspace's."""
        found = self.find(workspace_id, name)
        if found is None:
            raise DatasetNotFound("There is no data set of this name.")
        return found

    def find(self, workspace_id: str, name: str) -> Dataset | None:
        """The data set of this name in this workspace."""
        return self._tx.scalar(select(Dataset).where(Dataset.workspace_id == workspace_id, Dataset.name == name))

    def get(self, dataset_id: str) -> Dataset:
        """Raises ``DatasetNotFound``."""
        found = self._tx.get(Dataset, dataset_id)
        if found is None:
            raise DatasetNotFound("There is no such data set.")
        return found

    def names(self, dataset_ids: Sequence[str]) -> Mapping[str, str]:
        """The names of several data sets, by id."""
        rows = self._tx.execute(select(Dataset.id, Dataset.name).where(Dataset.id.in_(dataset_ids)))
        return {row.id: row.name for row in rows}

    def source(self, dataset_id: str, edition: int | None = None) -> DatasetSource:
        """Where the records are read from, by default the present edition.

        Raises ``DatasetNotFound``, ``DatasetNotReady`` or ``FilesPurged``.
        """
        dataset = self.get(dataset_id)
        if dataset.status != DatasetStatus.READY or dataset.fingerprint is None:
            raise DatasetNotReady(f"The data set {dataset.name!r} is not ready ({dataset.status}).")
        editions, wanted = Editions(self._tx), edition or dataset.edition
        height, width, channels = dataset.image_shape or (0, 0, 0)
        return DatasetSource(
            format="parquet" if dataset.format == "parquet" else "jsonl",
            columns=dataset.columns,
            files=tuple(editions.files(dataset_id, wanted)),
            fingerprint=editions.fingerprint(dataset_id, wanted),
            image_shape=(height, width, channels) if dataset.image_shape else None,
            prompt_template=dataset.prompt_template,
        )

    def files(self, dataset_id: str) -> Sequence[StoredFile]:
        """The present files in the order in which records count them."""
        return [stored(row) for row in Editions(self._tx).present(dataset_id)]

    def add(self, dataset: Dataset) -> Dataset:
        """Insert a data set; the caller has made sure that its name is free."""
        self._tx.add(dataset)
        self._tx.flush()
        return dataset

    def add_files(self, dataset_id: str, files: Sequence[tuple[StoredFile, int]], *, identities_key_id: str) -> None:
        """Insert the files with their row counts, in reading order."""
        for ordinal, (file, rows) in enumerate(files):
            self._tx.add(
                DatasetFile(
                    dataset_id=dataset_id,
                    ordinal=ordinal,
                    path=file.path,
                    uri=file.uri,
                    size_bytes=file.size_bytes,
                    sha256=file.sha256,
                    rows=rows,
                    identities_key_id=identities_key_id,
                )
            )
        self._tx.flush()

    def identities_behind(self, key_id: str) -> Sequence[str]:
        """Data sets with identities that are not all kept under this key alone."""
        stale = select(RecordIdentity.record_id).where(
            RecordIdentity.dataset_id == Dataset.id, RecordIdentity.key_id.is_distinct_from(key_id)
        )
        return self._tx.scalars(select(Dataset.id).where(stale.exists()).order_by(Dataset.id)).all()

    def files_without_digests(self, dataset_id: str, key_id: str) -> Sequence[tuple[int, StoredFile]]:
        """The files, by their place, whose identities do not all have digests under this key."""
        query = select(DatasetFile).where(
            DatasetFile.dataset_id == dataset_id, DatasetFile.identities_key_id.is_distinct_from(key_id)
        )
        rows = self._tx.scalars(query.order_by(DatasetFile.ordinal))
        return [(row.ordinal, StoredFile(row.path, row.uri, row.size_bytes, row.sha256)) for row in rows]

    def mark_digests(self, dataset_id: str, ordinal: int, key_id: str) -> None:
        """All identities of the file have digests under this key."""
        one = (DatasetFile.dataset_id == dataset_id) & (DatasetFile.ordinal == ordinal)
        self._tx.execute(update(DatasetFile).where(one).values(identities_key_id=key_id))

    def remove(self, dataset_id: str) -> None:
        """Delete a data set that failed, with whatever is left of it."""
        for table in (RecordIdentity, Record, DatasetFile, DatasetEdition):
            self._tx.execute(delete(table).where(table.dataset_id == dataset_id))
        self._tx.execute(delete(Dataset).where(Dataset.id == dataset_id))

    def claim_indexing(self, *, lease_s: float) -> str | None:
        """Lease the oldest data set that waits for its index, on the database's clock; None when there is none."""
        waiting = (
            select(Dataset.id)
            .where(
                Dataset.status == "indexing",
                Dataset.index_lease_until.is_(None) | (Dataset.index_lease_until < func.now()),
            )
            .order_by(Dataset.id)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        return self._tx.scalar(
            update(Dataset)
            .where(Dataset.id == waiting)
            .values(index_lease_until=func.now() + text("make_interval(secs => :lease_s)").bindparams(lease_s=lease_s))
            .returning(Dataset.id)
        )

    def lock_indexing(self, dataset_id: str) -> Dataset | None:
        """The data set with its row locked, if it still waits for its index and nobody else holds the row."""
        return self._tx.scalar(
            select(Dataset)
            .where(Dataset.id == dataset_id, Dataset.status == "indexing")
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        )

    def subjects(self, dataset_id: str) -> int:
        """How many different subjects the records name."""
        return int(
            self._tx.scalar(select(func.count(Record.subject_id.distinct())).where(Record.dataset_id == dataset_id))
            or 0
        )

    def page(self, workspace_id: str, page: Page) -> Slice[Dataset]:
        """The workspace's data sets, newest first."""
        query = keyset(
            select(Dataset).where(Dataset.workspace_id == workspace_id), page, Dataset.created_at, Dataset.id
        )
        return page_of(self._tx.scalars(query).all(), page, lambda row: (row.created_at, row.id))
