"""All SQL on the editions of a data set's files: present and superseded files, and what has left them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ARRAY, Text, any_, func, literal, select, update
from sqlalchemy.orm import Session

from core.datasets.places import FIRST, Places
from core.datasets.tables import Dataset, DatasetEdition, DatasetFile, Record, SupersededFile
from core.platform.errors import Conflict
from core.unlearning.job import StoredFile


class FilesPurged(Conflict):
    """A file of that edition has been deleted."""

    code = "dataset_files_purged"


@dataclass(frozen=True, slots=True)
class Written:
    """A file that takes the place of a present one."""

    ordinal: int
    file: StoredFile
    rows: int


class Editions:
    """Editions as seen by one transaction."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def pin(self, dataset_id: str) -> int:
        """The present edition, which stays the present one until the transaction ends."""
        return self._tx.scalars(
            select(Dataset.edition).where(Dataset.id == dataset_id).with_for_update(read=True)
        ).one()

    def begin(self, dataset: Dataset, *, records_removed: int, at: datetime) -> None:
        """Write down the data set's present edition."""
        assert dataset.fingerprint is not None  # noqa: S101
        self._tx.flush()
        self._tx.add(
            DatasetEdition(
                dataset_id=dataset.id,
                edition=dataset.edition,
                fingerprint=dataset.fingerprint,
                records_removed=records_removed,
                created_at=at,
            )
        )
        self._tx.flush()

    def history(self, dataset_id: str) -> Sequence[DatasetEdition]:
        """Every edition, oldest first."""
        statement = select(DatasetEdition).where(DatasetEdition.dataset_id == dataset_id)
        return self._tx.scalars(statement.order_by(DatasetEdition.edition)).all()

    def fingerprint(self, dataset_id: str, edition: int) -> str:
        """The fingerprint of that edition's files."""
        written_down = select(DatasetEdition.fingerprint).where(
            DatasetEdition.dataset_id == dataset_id, DatasetEdition.edition == edition
        )
        return str(
            self._tx.scalars(
                select(func.coalesce(written_down.scalar_subquery(), Dataset.fingerprint)).where(
                    Dataset.id == dataset_id
                )
            ).one()
        )

    def present(self, dataset_id: str) -> Sequence[DatasetFile]:
        """The files of the present edition, in reading order."""
        statement = select(DatasetFile).where(DatasetFile.dataset_id == dataset_id).order_by(DatasetFile.ordinal)
        return self._tx.scalars(statement.execution_options(populate_existing=True)).all()

    def files(self, dataset_id: str, edition: int) -> Sequence[StoredFile]:
        """The files of an edition in reading order. Raises ``FilesPurged`` when one of them is gone."""
        later = (
            select(SupersededFile)
            .where(SupersededFile.dataset_id == dataset_id, SupersededFile.last_edition >= edition)
            .order_by(SupersededFile.last_edition.desc())
        )
        serving: dict[int, DatasetFile | SupersededFile] = {row.ordinal: row for row in self.present(dataset_id)}
        serving |= {row.ordinal: row for row in self._tx.scalars(later)}  # of several, the first to be superseded
        rows = [row for _, row in sorted(serving.items())]
        if any(isinstance(row, SupersededFile) and row.purged_at is not None for row in rows):
            raise FilesPurged(f"The files of edition {edition} have been purged.")
        return [stored(row) for row in rows]

    def places(self, dataset_id: str, edition: int | None = None) -> Places:
        """Where records lie in an edition, by default the present one."""
        if edition == 1:
            return FIRST
        left = select(Record.file, Record.row).where(Record.dataset_id == dataset_id, Record.last_edition.is_not(None))
        if edition is not None:
            left = left.where(Record.last_edition < edition)
        rows = self._tx.execute(left.order_by(Record.file, Record.row).execution_options(yield_per=10_000))
        return Places.without((row.file, row.row) for row in rows)

    def holding(self, dataset_id: str, record_ids: Collection[str]) -> Sequence[SupersededFile]:
        """The superseded files, not yet purged, in which those of the records lie that have left the present ones."""
        places = (
            select(Record.file, Record.last_edition)
            .where(
                Record.dataset_id == dataset_id,
                Record.record_id == any_(literal(list(record_ids), ARRAY(Text))),
                Record.last_edition.is_not(None),
            )
            .distinct()
            .subquery()
        )
        statement = (
            select(SupersededFile)
            .join(
                places,
                (places.c.file == SupersededFile.ordinal) & (places.c.last_edition == SupersededFile.last_edition),
            )
            .where(SupersededFile.dataset_id == dataset_id, SupersededFile.purged_at.is_(None))
        )
        return self._tx.scalars(statement.order_by(SupersededFile.ordinal, SupersededFile.last_edition)).all()

    def switch(
        self,
        dataset: Dataset,
        written: Iterable[Written],
        removed: Collection[str],
        *,
        fingerprint: str,
        ours: str,
        keep_until: datetime,
        at: datetime,
    ) -> Sequence[SupersededFile]:
        """Make the next edition of these files in place of the present ones, less the records ``removed``.

        ``ours``: under what our own files lie. The data set's row must be locked. Returns what is superseded now.
        """
        present = {row.ordinal: row for row in self.present(dataset.id)}
        superseded = [
            self._replace(present[new.ordinal], new, dataset.edition, ours, keep_until, at) for new in written
        ]
        self._tx.execute(
            update(Record)
            .where(Record.dataset_id == dataset.id, Record.record_id == any_(literal(list(removed), ARRAY(Text))))
            .values(last_edition=dataset.edition)
            .execution_options(synchronize_session=False)
        )
        dataset.edition += 1
        dataset.fingerprint = fingerprint
        self.begin(dataset, records_removed=len(removed), at=at)
        return superseded

    def _replace(
        self, row: DatasetFile, new: Written, edition: int, ours: str, keep_until: datetime, at: datetime
    ) -> SupersededFile:
        old = SupersededFile(
            dataset_id=row.dataset_id,
            ordinal=row.ordinal,
            last_edition=edition,
            path=row.path,
            uri=row.uri,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            rows=row.rows,
            ours=row.uri.startswith(ours),
            superseded_at=at,
            keep_until=keep_until,
        )
        self._tx.add(old)
        row.uri, row.size_bytes, row.sha256 = new.file.uri, new.file.size_bytes, new.file.sha256
        row.rows = new.rows
        return old


def stored(row: DatasetFile | SupersededFile) -> StoredFile:
    """A file's row as what it names."""
    return StoredFile(row.path, row.uri, row.size_bytes, row.sha256)
