"""Use cases on models and versions. Each runs in a transaction it does not own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.access import audit
from core.access.principal import Principal
from core.datasets.errors import DatasetNotReady
from core.datasets.lifecycle import DatasetStatus
from core.datasets.repository import Datasets
from core.platform.errors import InvalidInput, Problem
from core.platform.ids import new_id
from core.platform.objects import ObjectStore
from core.platform.objects.transfer import MANIFEST
from core.platform.outbox import put_event
from core.platform.settings import Settings
from core.policies.service import effective
from core.registry.errors import HoldsUnlearnedData, ModelExists, VersionNotFound, VersionPurged
from core.registry.inspection import check_folder, inspect, refuse_unsafe_names
from core.registry.lifecycle import VersionState
from core.registry.publishing import folder_digest, publish, told
from core.registry.repository import LATEST, Models, Versions
from core.registry.tables import Model, ModelVersion
from core.uploads import sources

__all__ = [
    "CreateModel",
    "create_model",
    "folder_digest",
    "is_alias",
    "point_alias",
    "publish",
    "register_version",
]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ALIAS: Final = re.compile(r"[a-z][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class CreateModel:
    """What a caller registers."""

    name: str
    task: str
    dataset: str
    policy: str | None = None
    description: str | None = None


def create_model(tx: Session, *, caller: Principal, command: CreateModel, at: datetime) -> Model:
    """Register a model without versions.

    Raises ``ModelExists``, ``DatasetNotFound``, ``DatasetNotReady``, ``PolicyNotFound``, and ``InvalidInput`` when the
    data set is for another task.
    """
    if not _NAME.fullmatch(command.name):
        raise _invalid("/name", "bad_name", "Use up to 63 of a-z, 0-9, '.', '_', '-'.")
    dataset = Datasets(tx).by_name(caller.workspace_id, command.dataset)
    if dataset.task != command.task:
        raise _invalid("/task", "task_mismatch", f"The data set is for {dataset.task}, the model for {command.task}.")
    if dataset.status != DatasetStatus.READY:
        raise DatasetNotReady(f"The data set is {dataset.status}.")
    if command.policy is not None:
        effective(tx, caller.workspace_id, command.policy)
    model = Model(
        id=new_id("mdl"),
        workspace_id=caller.workspace_id,
        name=command.name,
        task=command.task,
        dataset_id=dataset.id,
        policy=command.policy,
        description=command.description,
        created_at=at,
    )
    try:
        with tx.begin_nested():
            Models(tx).add(model)
    except IntegrityError:
        raise ModelExists("There is a model of this name.") from None
    _note(tx, caller, "model.created", model.id, {"name": model.name, "dataset": dataset.name}, at)
    return model


def register_version(
    tx: Session,
    store: ObjectStore,
    settings: Settings,
    *,
    caller: Principal,
    model: Model,
    upload_id: str | None,
    source_uri: str | None,
    at: datetime,
) -> ModelVersion:
    """Make the files of an upload or a URI the model's next version, where they lie.

    Every file is read once, for its size and SHA-256 and for what could be wrong with it. Raises ``UnsafeWeights``,
    ``TruncatedWeights``, ``InvalidModelFolder``, ``TaskMismatch``, ``StaleBase`` (somebody else published meanwhile),
    and what ``sources.take`` raises.
    """
    latest = Versions(tx).aliases(model.id).get(LATEST)
    source = sources.take(
        tx,
        store,
        caller=caller,
        upload_id=upload_id,
        source_uri=source_uri,
        roots=settings.sources.roots,
        at=at,
    )
    files = [file for file in source.files if file.path != MANIFEST]  # written anew with what a run publishes
    refuse_unsafe_names([file.path for file in files])
    inspected = {file.path: inspect(store, file) for file in files}
    check_folder(inspected, model.task)
    _, policy = effective(tx, model.workspace_id, model.policy)
    version = publish(
        tx,
        model_id=model.id,
        base_version=latest,
        run_id=None,
        uri=source.uri,
        files=[one.file for one in inspected.values()],
        metrics=None,
        production_follows=policy.production_follows,
        at=at,
    )
    details = {"version": version.version, "digest": version.digest}
    _note(tx, caller, "model_version.registered", version.id, details, at)
    return version


def point_alias(
    tx: Session,
    *,
    caller: Principal,
    model: Model,
    alias: str,
    version: int,
    force: bool,
    at: datetime,
    reason: str | None = None,
) -> ModelVersion:
    """Set or move an alias, forwards or back.

    Raises ``VersionNotFound``, ``VersionPurged`` (whatever ``force`` says), and ``HoldsUnlearnedData`` when the version
    still holds what was unlearned; ``force`` overrides that, as the log and an event say. It opens no request again.
    """
    if not is_alias(alias):
        raise _invalid("", "bad_alias", "An alias begins with a letter: a-z, 0-9, '.', '_', '-'.")
    Models(tx).lock(model.id)
    versions = Versions(tx)
    wanted = versions.find(model.id, version)
    if wanted is None:
        raise VersionNotFound("The model has no such version.")
    if wanted.state == VersionState.PURGED:
        raise VersionPurged("The files of this version have been deleted.")
    holds = versions.lineage(model.id).holds(version)
    if holds and not force:
        raise HoldsUnlearnedData(
            f"This version still holds data that was unlearned in version {', '.join(map(str, holds))}; set force to "
            "point at it all the same."
        )
    before = versions.aliases(model.id).get(alias)
    versions.point(model.id, alias, version)
    if holds:
        _tell_forced(tx, model, wanted, alias, before, holds, at)
    details = {"alias": alias, "before": before, "after": version, "holds_unlearned_data": bool(holds)}
    _note(tx, caller, "model_alias.moved", model.id, {**details, **({"reason": reason} if reason else {})}, at)
    return wanted


def _tell_forced(
    tx: Session,
    model: Model,
    version: ModelVersion,
    alias: str,
    before: int | None,
    holds: Sequence[int],
    at: datetime,
) -> None:
    data = {**told(model, version), "alias": alias, "version_before": before, "holds_unlearned_in": list(holds)}
    put_event(tx, workspace_id=model.workspace_id, type="model_version.forced_back", data=data, at=at)


def is_alias(text: str) -> bool:
    """Whether the text can be an alias."""
    return _ALIAS.fullmatch(text) is not None


def _note(
    tx: Session, caller: Principal, action: str, object_id: str, details: Mapping[str, object], at: datetime
) -> None:
    audit.note(
        tx,
        workspace_id=caller.workspace_id,
        actor=caller.key_id,
        action=action,
        object_id=object_id,
        details=details,
        at=at,
    )


def _invalid(pointer: str, code: str, why: str) -> InvalidInput:
    return InvalidInput(why, [Problem(pointer, code, why)])
