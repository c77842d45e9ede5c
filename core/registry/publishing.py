"""Making a new version visible: the one place where ``latest`` moves forward."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from core.platform.ids import new_id
from core.platform.outbox import put_event
from core.registry.errors import NothingChanged, StaleBase
from core.registry.lifecycle import VersionState, advance
from core.registry.repository import LATEST, PRODUCTION, Models, Versions
from core.registry.tables import Model, ModelVersion
from core.unlearning.job import StoredFile


def publish(
    tx: Session,
    *,
    model_id: str,
    base_version: int | None,
    run_id: str | None,
    uri: str,
    files: Sequence[StoredFile],
    metrics: Mapping[str, Any] | None,
    production_follows: bool,
    at: datetime,
) -> ModelVersion:
    """Insert the next version of a model and move ``latest`` (and ``production`` if it follows) to it.

    The version from which ``latest`` moves is retired. Writers of one model queue on its row. Raises ``StaleBase``
    when ``base_version`` is no longer the latest (None: the model must have no version yet), ``ModelNotFound``, and
    ``NothingChanged`` when a run's weights are, byte for byte, those of its base.
    """
    model = Models(tx).lock(model_id)
    versions = Versions(tx)
    latest = versions.aliases(model_id).get(LATEST)
    if latest != base_version:
        raise StaleBase(
            f"Version {base_version or 0} of {model.name!r} is no longer the latest; that is {latest or 0}."
        )
    base = versions.resolve(model_id, str(base_version)) if base_version is not None else None
    if run_id is not None and base is not None and _weights(files) == _weights(versions.files(base.id)):
        raise NothingChanged(f"The run's weights are those of version {latest}: it has unlearned nothing.")
    version = versions.add(
        ModelVersion(
            id=new_id("mv"),
            model_id=model_id,
            version=versions.highest(model_id) + 1,
            parent_version=base_version,
            state=VersionState.ACTIVE,
            run_id=run_id,
            uri=uri,
            digest=folder_digest(files),
            metrics=dict(metrics) if metrics is not None else None,
            created_at=at,
        ),
        files,
    )
    if base is not None and base.state == VersionState.ACTIVE:  # else an alias was moved back to it
        retire(tx, model, base, at)
    for alias in (LATEST, PRODUCTION) if production_follows else (LATEST,):
        versions.point(model_id, alias, version.version)
    put_event(tx, workspace_id=model.workspace_id, type="model_version.published", data=told(model, version), at=at)
    return version


def folder_digest(files: Sequence[StoredFile]) -> str:
    """SHA-256 over the sorted (path, SHA-256) pairs: equal for folders of equal content, wherever they lie."""
    lines = sorted(f"{file.path}\0{file.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _weights(files: Sequence[StoredFile]) -> frozenset[tuple[str, str]]:
    return frozenset((file.path, file.sha256) for file in files if file.path.endswith(".safetensors"))


def retire(tx: Session, model: Model, version: ModelVersion, at: datetime) -> None:
    """Note that an active version is superseded, and tell of it; the model's row must be locked."""
    version.state = advance(version.state, VersionState.RETIRED)
    version.retired_at = at
    tx.flush()
    put_event(tx, workspace_id=model.workspace_id, type="model_version.retired", data=told(model, version), at=at)


def told(model: Model, version: ModelVersion) -> dict[str, Any]:
    """What an event about a version says."""
    return {
        "id": version.id,
        "model": model.name,
        "version": version.version,
        "parent_version": version.parent_version,
        "state": version.state,
        "run_id": version.run_id,
        "sequence": version.version + list(VersionState).index(VersionState(version.state)),  # grows with each state
    }
