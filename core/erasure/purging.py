"""Purging superseded copies: versions that hold what was unlearned since, and files of earlier editions.

A version is purged in two steps. First it is put out of use for good, in one transaction that nothing can come between;
then its files are deleted, as often as it takes.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from core.access import audit
from core.access.principal import Principal
from core.datasets.repository import Datasets
from core.erasure.repository import Purges
from core.holds.errors import OnLegalHold
from core.holds.repository import LEGAL_HOLD, Holds
from core.platform import outbox
from core.platform.objects import ForeignUri, ObjectStore
from core.policies.body import from_json
from core.policies.service import effective
from core.registry.errors import VersionInUse, VersionNotFound
from core.registry.lifecycle import VersionState, advance
from core.registry.lineage import Lineage
from core.registry.publishing import retire, told
from core.registry.repository import Models, Versions
from core.registry.tables import Model, ModelVersion

_SYSTEM = "system"
_WORKED_FROM = "run"


def purge_model(tx: Session, *, model_id: str, at: datetime) -> int:
    """Put those versions of a model out of use that hold what was unlearned and are kept no longer; how many.

    One that an alias points at, that a run works from, or that a legal hold covers stays, and says so once.
    """
    model = Models(tx).get(model_id)
    Holds(tx).serialise(model.workspace_id)
    Models(tx).lock(model_id)
    versions = Versions(tx)
    found, aliases = versions.all(model_id), versions.aliases(model_id)
    lineage = versions.lineage(model_id)
    tainted = [one for one in found if one.state != VersionState.PURGED and lineage.is_tainted(one.version)]
    for version in tainted:  # one that nothing points at any more is superseded as well
        if version.state == VersionState.ACTIVE and version.version not in aliases.values():
            retire(tx, model, version, at)
    due = _due(tx, model, found, lineage)
    for version in tainted:
        why = _in_the_way(tx, model, version, aliases) if due[version.version] <= at else None
        if why == []:
            _put_out_of_use(tx, model, version, _SYSTEM, at)
        elif version.purge_blocked != (why or None):
            _note_blocked(tx, model, version, why, at)
    return sum(one.state == VersionState.PURGED for one in tainted)


def purge_version(tx: Session, *, caller: Principal, model: Model, number: int, at: datetime) -> ModelVersion:
    """Put a version out of use by hand, whatever it holds and however long it is to be kept.

    Repeating it is harmless. Raises ``VersionNotFound``, ``VersionInUse``, ``OnLegalHold``.
    """
    Holds(tx).serialise(model.workspace_id)
    Models(tx).lock(model.id)
    versions = Versions(tx)
    version = versions.find(model.id, number)
    if version is None:
        raise VersionNotFound("The model has no such version.")
    if version.state == VersionState.PURGED:
        return version
    why = _in_the_way(tx, model, version, versions.aliases(model.id))
    if LEGAL_HOLD in why:
        raise OnLegalHold("A legal hold covers this version; release it first.")
    if why:
        pointing = ", ".join(one.removeprefix("alias:") for one in why if one != _WORKED_FROM)
        raise VersionInUse(
            f"The alias {pointing} points at this version; move it first." if pointing else "A run works from it."
        )
    if version.state == VersionState.ACTIVE:
        retire(tx, model, version, at)
    _put_out_of_use(tx, model, version, caller.key_id, at)
    return version


def delete_files(tx: Session, store: ObjectStore, *, version_id: str, at: datetime) -> bool:
    """Delete what is left of a purged version's files; whether all are gone now. Raises ``DependencyDown``.

    Files that lie outside our store are their owner's to delete: he is told once, and they count as gone when they are.
    """
    version = Versions(tx).lock_purged(version_id)
    if version is None:
        return False
    model = Models(tx).get(version.model_id)
    if model.id in Holds(tx).on_models([model.id]):
        return False
    uris = [file.uri for file in Versions(tx).files(version.id)]
    ours = [uri for uri in uris if uri.startswith(store.root)]
    store.delete(ours)
    if version.uri.startswith(store.root):
        store.delete([info.uri for info in store.list(version.uri)])
    left = [uri for uri in uris if not uri.startswith(store.root) and is_there(store, uri)]
    if left and version.original_retained_at is None:
        version.original_retained_at = at
        _note(tx, model, version, "model_version.original_retained", {"files": len(left), "uri": version.uri}, at)
    if not left:
        version.purged_at = at
        _note(tx, model, version, "model_version.files_deleted", {"files": len(uris)}, at)
    tx.flush()
    return not left


def purge_files(tx: Session, store: ObjectStore, *, workspace_id: str, dataset_id: str, at: datetime) -> int:
    """Delete the superseded files of a data set that are kept no longer; how many are gone now.

    Those of runs at work stay. The store is spoken to while nobody in the workspace waits for us. Raises
    ``DependencyDown``.
    """
    if Holds(tx).on_dataset(workspace_id, dataset_id):
        return 0
    due = Purges(tx).files_due(dataset_id, at)
    store.delete([file.uri for file in due if file.ours])
    gone = [file for file in due if file.ours or not is_there(store, file.uri)]
    for file in gone:
        file.purged_at = at
    if gone:
        dataset = Datasets(tx).get(dataset_id)
        tx.flush()
        data = {"id": dataset_id, "name": dataset.name, "files": len(gone), "edition": dataset.edition}
        data["sequence"] = dataset.edition
        outbox.put_event(tx, workspace_id=workspace_id, type="dataset.files_purged", data=data, at=at)
        audit.note(
            tx, workspace_id=workspace_id, actor=_SYSTEM, action="dataset.files_purged", object_id=dataset_id,
            details={"files": len(gone), "editions": sorted({file.last_edition for file in gone})}, at=at,
        )  # fmt: skip
    return len(gone)


def is_there(store: ObjectStore, uri: str) -> bool:
    """Whether there is an object; where we may not look (any more), there may be."""
    try:
        return store.size(uri) is not None
    except ForeignUri:
        return True


def _due(tx: Session, model: Model, versions: Sequence[ModelVersion], lineage: Lineage) -> Mapping[int, datetime]:
    """From when on each tainted version is kept no longer.

    Retention begins when it was superseded and something was unlearned that it holds; the shorter of two promises
    counts, that of the run that unlearned it and that of the model's policy now.
    """
    by_number = {one.version: one for one in versions}
    policies = Purges(tx).policies_of([one.run_id for one in versions if one.run_id is not None])
    now = effective(tx, model.workspace_id, model.policy)[1].retention_days

    def until(version: ModelVersion, unlearned: ModelVersion) -> datetime:
        since = max(version.retired_at or version.created_at, version.created_at, unlearned.created_at)
        promised = from_json(policies.get(unlearned.run_id or "", {})).retention_days
        return since + timedelta(days=min(promised, now))

    return {
        one.version: min(until(one, by_number[number]) for number in lineage.holds(one.version))
        for one in versions
        if lineage.is_tainted(one.version)
    }


def _in_the_way(tx: Session, model: Model, version: ModelVersion, aliases: Mapping[str, int]) -> list[str]:
    why = [f"alias:{alias}" for alias, number in sorted(aliases.items()) if number == version.version]
    if Purges(tx).works_from(model.id, version.version):
        why.append(_WORKED_FROM)
    if model.id in Holds(tx).on_models([model.id]):
        why.append(LEGAL_HOLD)
    return why


def _put_out_of_use(tx: Session, model: Model, version: ModelVersion, actor: str, at: datetime) -> None:
    version.state = advance(version.state, VersionState.PURGED)
    version.purge_blocked = None
    tx.flush()
    _note(tx, model, version, "model_version.purged", {}, at, actor=actor)


def _note_blocked(tx: Session, model: Model, version: ModelVersion, why: Sequence[str] | None, at: datetime) -> None:
    version.purge_blocked = list(why) if why else None
    tx.flush()
    if why:
        _note(tx, model, version, "model_version.purge_blocked", {"blocked_by": list(why)}, at)


def _note(
    tx: Session,
    model: Model,
    version: ModelVersion,
    action: str,
    more: Mapping[str, Any],
    at: datetime,
    *,
    actor: str = _SYSTEM,
) -> None:
    outbox.put_event(tx, workspace_id=model.workspace_id, type=action, data={**told(model, version), **more}, at=at)
    audit.note(
        tx,
        workspace_id=model.workspace_id,
        actor=actor,
        action=action,
        object_id=version.id,
        details={"model": model.name, "version": version.version, **more},
        at=at,
    )
