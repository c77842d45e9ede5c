"""Which records and which models a request is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from core.access.sandboxes import is_sandbox
from core.datasets.identities import identity_digests
from core.datasets.repository import Datasets, RecordRef, Records
from core.datasets.tables import Dataset
from core.deletions import stand_ins
from core.deletions.commands import SubmitDeletion
from core.deletions.errors import (
    DatasetIndexing,
    DatasetUnusable,
    EmptySelection,
    TooManyIds,
    UnknownRecords,
    WrongDataset,
)
from core.deletions.repository import Learner, Requests
from core.platform.secrets import Keyring


@dataclass(frozen=True, slots=True)
class Part:
    """What a request touches in one data set. ``pending``: models with work to do; ``settled``: those without."""

    dataset_id: str
    covered: tuple[RecordRef, ...]
    already_erased: int
    pending: tuple[Learner, ...]
    settled: tuple[Learner, ...]


def check_size(command: SubmitDeletion, max_ids: int) -> None:
    """Raises ``EmptySelection`` when nothing is named, ``TooManyIds`` when too much is."""
    given = len(command.record_ids) + len(command.subject_ids) + len(command.identities)
    if given == 0:
        raise EmptySelection
    if given > max_ids:
        raise TooManyIds(given, max_ids)


def find(tx: Session, *, workspace_id: str, command: SubmitDeletion, keyring: Keyring) -> tuple[Part, ...]:
    """The parts of a request, one for each data set in which it names records.

    Call it under the lock of ``Requests.serialise``, shared or not: the states it reads can then only become those
    that another request gives them. Raises
    ``ModelNotFound``, ``DatasetNotFound``, ``WrongDataset``, ``NoVersion``, ``DatasetIndexing``, ``DatasetUnusable``,
    ``UnknownRecords``.
    """
    model, own = Requests(tx).learner(workspace_id, command.model) if command.model is not None else (None, None)
    datasets = searched(tx, workspace_id, command, own)
    if is_sandbox(workspace_id):
        _introduce(tx, workspace_id, datasets, command, keyring)
    wanted = tuple(dict.fromkeys(command.record_ids))
    found = {dataset.id: _records(tx, dataset.id, wanted, command, keyring) for dataset in datasets}
    known = {record_id for records in found.values() for record_id in records}
    unknown = [at for at, record_id in enumerate(command.record_ids) if record_id not in known]
    if unknown and not command.ignore_unknown:
        raise UnknownRecords(unknown)
    parts = (_part(tx, dataset.id, found[dataset.id], model) for dataset in datasets)
    return tuple(part for part in parts if part is not None)


def _introduce(
    tx: Session, workspace_id: str, datasets: Sequence[Dataset], command: SubmitDeletion, keyring: Keyring
) -> None:
    Requests(tx).serialise(workspace_id)
    for dataset in datasets:
        if dataset.name == stand_ins.DATASET:
            stand_ins.introduce(tx, dataset.id, command, keyring)


def searched(tx: Session, workspace_id: str, command: SubmitDeletion, own: Dataset | None = None) -> Sequence[Dataset]:
    """The data sets to look into: the one that is named, the model's ``own``, or all that are ready.

    Raises ``DatasetNotFound``, ``WrongDataset``, ``DatasetIndexing``, ``DatasetUnusable``.
    """
    if own is None and command.dataset is None:
        return _usable(Requests(tx).searchable(workspace_id), named=False)
    named = Datasets(tx).by_name(workspace_id, command.dataset) if command.dataset is not None else None
    if own is None:
        return _usable([named] if named is not None else [], named=True)
    if named is not None and named.id != own.id:
        raise WrongDataset
    return _usable([own], named=True)


def _usable(datasets: Sequence[Dataset], *, named: bool) -> Sequence[Dataset]:
    # A person whose records are just being indexed must not be answered with "nothing found".
    if any(dataset.status == "indexing" for dataset in datasets):
        raise DatasetIndexing
    ready = [dataset for dataset in datasets if dataset.status == "ready"]
    if named and not ready:
        raise DatasetUnusable
    return sorted(ready, key=lambda dataset: dataset.id)


def _records(
    tx: Session, dataset_id: str, wanted: Sequence[str], command: SubmitDeletion, keyring: Keyring
) -> Mapping[str, RecordRef]:
    records = Records(tx)
    found: list[RecordRef] = []
    if wanted:
        found += records.resolve(dataset_id, wanted).found
    if command.subject_ids:
        found += records.of_subjects(dataset_id, list(dict.fromkeys(command.subject_ids)))
    if command.identities:
        found += records.of_identities(dataset_id, digests_of(command, keyring))
    return {record.record_id: record for record in found}


def digests_of(command: SubmitDeletion, keyring: Keyring) -> Sequence[tuple[str, bytes]]:
    """Types and keyed digests of the identities under every secret, each once."""
    return sorted(
        {
            (known.type, digest)
            for known in command.identities
            for digest in identity_digests(keyring, known.type, known.value, hashed=known.hashed)
        }
    )


def _part(tx: Session, dataset_id: str, found: Mapping[str, RecordRef], model: Learner | None) -> Part | None:
    if not found and model is None:
        return None
    models = [model] if model is not None else Requests(tx).learners(dataset_id)
    ids = frozenset(learner.id for learner in models)
    # An active record is covered by cancelled requests at most, and of those no model had taken anything yet.
    touched = [record.record_id for record in found.values() if record.state != "active"]
    unlearned = Requests(tx).unlearned(dataset_id, touched, ids)
    open_for = {
        record.record_id: _models_holding(record, ids, unlearned.get(record.record_id, frozenset()))
        for record in found.values()
    }
    covered = tuple(
        record for record in found.values() if open_for[record.record_id] or _unmarked(record, has_models=bool(models))
    )
    pending = {model_id for holding in open_for.values() for model_id in holding}
    return Part(
        dataset_id=dataset_id,
        covered=covered,
        already_erased=len(found) - len(covered),
        pending=tuple(learner for learner in models if learner.id in pending),
        settled=tuple(learner for learner in models if learner.id not in pending),
    )


def _models_holding(record: RecordRef, models: frozenset[str], unlearned: frozenset[str]) -> frozenset[str]:
    """Models that have learnt from the record and not unlearned it.

    Nobody learns from a held-out record, nor from one that has left the files: a model that came later has not seen it.
    """
    if record.split != "train" or not record.in_files:
        return frozenset()
    return models - unlearned if unlearned else models  # one set for all of ten thousand records


def _unmarked(record: RecordRef, *, has_models: bool) -> bool:
    """Whether a record that no model holds is still to be erased: held out, or of a data set without models."""
    return record.state != "erased" and (record.split != "train" or not has_models)
