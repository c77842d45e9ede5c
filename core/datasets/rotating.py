"""Identity digests made anew under the current secret.

A digest cannot be turned into that of another key, and one digest within another would need the old secret for good.
So the data set's own files are read again, a portion a transaction: new digests are put beside the old ones, and when
a whole data set has them the old ones go. Lookups use every configured secret, so that all of it can happen while the
service answers, and begin again wherever it broke off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import Engine

from core.datasets.identities import IdentityDigests
from core.datasets.indexing import READERS, layout_of
from core.datasets.reading import BadData, Batch
from core.datasets.records import Records
from core.datasets.repository import Datasets
from core.datasets.tables import Dataset
from core.platform.database import transaction
from core.platform.objects import ObjectStore
from core.platform.objects.transfer import DigestMismatch, fetch_verified
from core.platform.secrets import Keyring
from core.unlearning.job import StoredFile

_REMOVED_AT_ONCE: Final = 50_000


@dataclass(frozen=True, slots=True)
class Rotated:
    """What became of the identities of one data set; ``why`` when its old digests had to stay."""

    dataset_id: str
    name: str
    digests: int
    why: str | None = None


def behind(engine: Engine, keyring: Keyring) -> Sequence[str]:
    """Ids of the data sets whose identities do not all have digests under the current secret alone."""
    with transaction(engine) as tx:
        return Datasets(tx).identities_behind(keyring.key_id)


def rotate(engine: Engine, store: ObjectStore, keyring: Keyring, *, scratch: Path | None = None) -> Iterator[Rotated]:
    """Bring one data set after the other under the current secret. Files that are gone or changed leave theirs as is.

    A folder of its own under ``scratch`` (unset: the system's temporary folder) takes one file at a time. Raises
    ``DependencyDown``; calling again goes on with the file that it was at.
    """
    for dataset_id in behind(engine, keyring):
        yield _Rotation(engine, store, keyring, dataset_id, scratch).run()


class _Rotation:
    """The way of one data set from its old digests to new ones."""

    def __init__(
        self, engine: Engine, store: ObjectStore, keyring: Keyring, dataset_id: str, scratch: Path | None
    ) -> None:
        self._engine, self._store, self._scratch = engine, store, scratch
        self._digests = IdentityDigests(keyring)
        with transaction(engine) as tx:
            self._dataset: Dataset = Datasets(tx).get(dataset_id)
            self._files = Datasets(tx).files_without_digests(dataset_id, keyring.key_id)

    def run(self) -> Rotated:
        made, dataset = 0, self._dataset
        for ordinal, file in self._files:
            try:
                made += self._add(ordinal, file)
            except (FileNotFoundError, DigestMismatch, BadData):
                why = f"{file.path} is not there any longer, or not as it was registered"
                return Rotated(dataset.id, dataset.name, made, why)
        self._remove_old()
        return Rotated(dataset.id, dataset.name, made)

    def _add(self, ordinal: int, file: StoredFile) -> int:
        made = 0
        with TemporaryDirectory(prefix="rotate-", dir=self._scratch) as folder:
            local = fetch_verified(self._store, file, Path(folder))
            for batch in READERS[self._dataset.format](local, layout_of(self._dataset)):
                made += self._add_batch(batch)
        with transaction(self._engine) as tx:
            Datasets(tx).mark_digests(self._dataset.id, ordinal, self._digests.key_id)
        return made

    def _add_batch(self, batch: Batch) -> int:
        digests = chain.from_iterable(
            ((kind, record_id, self._digests(kind, value)) for record_id, value in _named(batch, values))
            for kind, values in batch.identities.items()
        )
        with transaction(self._engine) as tx:
            return Records(tx).add_identities(self._dataset.id, self._digests.key_id, list(digests))

    def _remove_old(self) -> None:
        removed = _REMOVED_AT_ONCE
        while removed == _REMOVED_AT_ONCE:
            with transaction(self._engine) as tx:
                removed = Records(tx).remove_identities(
                    self._dataset.id, but=self._digests.key_id, limit=_REMOVED_AT_ONCE
                )


def _named(batch: Batch, values: Sequence[str | None]) -> Iterator[tuple[str, str]]:
    return ((record_id, value) for record_id, value in zip(batch.record_ids, values, strict=True) if value)
