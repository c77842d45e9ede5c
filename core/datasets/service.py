"""Use cases on data sets. Each runs in a transaction it does not own."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.access import audit
from core.access.principal import Principal
from core.datasets.columns import TASKS, ColumnMap, check_columns
from core.datasets.errors import DatasetExists
from core.datasets.indexing import SUFFIXES, build_index, data_files
from core.datasets.lifecycle import DatasetStatus
from core.datasets.repository import Datasets
from core.datasets.tables import Dataset
from core.platform.errors import DomainError, InvalidInput, Problem
from core.platform.ids import new_id
from core.platform.objects import ObjectStore
from core.platform.secrets import Keyring
from core.platform.settings import Settings
from core.uploads import sources
from core.uploads.repository import Uploads

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
DEFAULT_TEMPLATE: Final = "{prompt} "


@dataclass(frozen=True, slots=True)
class CreateDataset:
    """What a caller registers."""

    name: str
    task: str
    format: str
    columns: ColumnMap
    upload_id: str | None = None
    source_uri: str | None = None
    image_shape: tuple[int, int, int] | None = None
    prompt_template: str = DEFAULT_TEMPLATE
    rewrite: str = "ours"


def create(
    tx: Session,
    store: ObjectStore,
    keyring: Keyring,
    settings: Settings,
    *,
    caller: Principal,
    command: CreateDataset,
    in_background: bool,
    at: datetime,
) -> Dataset:
    """Register a data set; indexed here and now, or (``in_background``) left ``indexing`` for the loop.

    A name that only a failed data set holds is free. Raises ``DatasetExists``, ``InvalidColumns``, ``InvalidDataset``
    and what ``sources.take`` raises; then nothing is left of it.
    """
    _check(command)
    datasets = Datasets(tx)
    before = datasets.find(caller.workspace_id, command.name)
    if before is not None:
        if before.status != DatasetStatus.FAILED:
            raise DatasetExists("There is a data set of this name.")
        datasets.remove(before.id)
        tx.expunge(before)
    source = _source(tx, store, settings, caller, command, at)
    files = data_files(source, command.format)
    # A source that names one file must not grow to its neighbours when it is indexed later.
    is_one_file = command.source_uri is not None and len(source.files) == 1
    dataset = _added(tx, caller, command, source.files[0].uri if is_one_file else source.uri, at)
    if not in_background:
        build_index(tx, store, keyring, dataset, files, max_rows=settings.datasets.max_rows)
    details = {"name": dataset.name, "status": str(dataset.status), "counts": dataset.counts or {}}
    audit.note(
        tx,
        workspace_id=caller.workspace_id,
        actor=caller.key_id,
        action="dataset.created",
        object_id=dataset.id,
        details=details,
        at=at,
    )
    return dataset


def belongs_in_background(
    tx: Session, store: ObjectStore, settings: Settings, *, caller: Principal, command: CreateDataset
) -> bool:
    """Whether the data set is too large to be indexed while its caller waits. Wrong sources are not: they fail fast."""
    try:
        if command.upload_id is not None:
            upload = Uploads(tx).get(caller.workspace_id, command.upload_id)
            size = sum(int(row["size_bytes"]) for row in upload.files)
        else:
            uri = _allowed(store, settings, caller, command.source_uri or "")
            size = sources.find(store, uri).size_bytes
    except DomainError:
        return False
    return size > settings.datasets.index_inline_bytes


def _source(
    tx: Session, store: ObjectStore, settings: Settings, caller: Principal, command: CreateDataset, at: datetime
) -> sources.Source:
    return sources.take(
        tx,
        store,
        caller=caller,
        upload_id=command.upload_id,
        source_uri=command.source_uri,
        roots=settings.sources.roots,
        at=at,
    )


def _allowed(store: ObjectStore, settings: Settings, caller: Principal, uri: str) -> str:
    return sources.allowed(uri, store_root=store.root, roots=settings.sources.roots, workspace=caller.workspace)


def _added(tx: Session, caller: Principal, command: CreateDataset, source_uri: str, at: datetime) -> Dataset:
    dataset = Dataset(
        id=new_id("ds"),
        workspace_id=caller.workspace_id,
        name=command.name,
        task=command.task,
        format=command.format,
        columns=command.columns.as_json(),
        image_shape=list(command.image_shape) if command.image_shape else None,
        prompt_template=command.prompt_template,
        source_uri=source_uri,
        status=DatasetStatus.INDEXING,
        edition=1,
        rewrite=command.rewrite,
        counts={},
        subjects=0,
        created_at=at,
    )
    try:
        with tx.begin_nested():
            return Datasets(tx).add(dataset)
    except IntegrityError:
        raise DatasetExists("There is a data set of this name.") from None


def _check(command: CreateDataset) -> None:
    problems: list[Problem] = []
    if not NAME.fullmatch(command.name):
        problems.append(Problem("/name", "bad_name", "Use up to 63 of a-z, 0-9, '.', '_', '-'."))
    if command.task not in TASKS:
        problems.append(Problem("/task", "unknown_task", f"Tasks are {', '.join(TASKS)}."))
    if command.format not in SUFFIXES:
        problems.append(Problem("/format", "unknown_format", f"Formats are {', '.join(SUFFIXES)}."))
    if "{prompt}" not in command.prompt_template:
        problems.append(Problem("/prompt_template", "no_prompt", "The template must contain {prompt}."))
    if problems:
        raise InvalidInput("The data set is not acceptable.", problems)
    check_columns(command.columns, task=command.task, image_shape=command.image_shape)
