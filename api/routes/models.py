"""Models, their versions and aliases."""

from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Path, Response
from sqlalchemy.orm import Session

from api.deps import Config, Now, PageIn, Store, Tx, requires
from api.errors import problems
from api.idempotency import Once
from api.schemas.common import Listing
from api.schemas.models import (
    AliasIn,
    AliasOut,
    DriftOut,
    ModelDetailOut,
    ModelIn,
    ModelOut,
    VersionIn,
    VersionOut,
    VersionSummaryOut,
)
from core.access.principal import Principal
from core.datasets.repository import Datasets
from core.erasure import purging
from core.platform.objects import ObjectStore
from core.registry import service
from core.registry.lifecycle import VersionState
from core.registry.repository import Models, Versions
from core.registry.tables import Model, ModelVersion
from core.runs.drifting import drift_of
from core.sandbox import world

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.post(
    "",
    status_code=201,
    response_model=ModelOut,
    summary="Register a model",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422),
)
def create_model(
    body: ModelIn, caller: Annotated[Principal, requires("models:write")], tx: Tx, now: Now, once: Once
) -> Response:
    """A model is a named line of weights; add its first version next."""

    def make() -> ModelOut:
        model = service.create_model(tx, caller=caller, command=body.to_command(), at=now)
        return ModelOut.of(model, dataset=body.dataset, aliases={})

    return once(201, make, headers=lambda out: {"Location": f"/v1/models/{out.name}"})


@router.get("/{name}", response_model=ModelDetailOut, summary="Read a model", responses=problems(401, 403, 404))
def get_model(name: str, caller: Annotated[Principal, requires("models:read")], tx: Tx) -> ModelDetailOut:
    """The model, its data set, its aliases, and whether unlearning has taken it so far that it should be retrained."""
    model = Models(tx).by_name(caller.workspace_id, name)
    shown = ModelOut.of(model, dataset=Datasets(tx).get(model.dataset_id).name, aliases=Versions(tx).aliases(model.id))
    return ModelDetailOut(**shown.model_dump(), drift=DriftOut.of(drift_of(tx, model.id)))


@router.get("", response_model=Listing[ModelOut], summary="List models", responses=problems(400, 401, 403, 422))
def list_models(caller: Annotated[Principal, requires("models:read")], tx: Tx, page: PageIn) -> Listing[ModelOut]:
    """Newest first."""
    rows = Models(tx).page(caller.workspace_id, page)
    aliases = Versions(tx).aliases_of([model.id for model in rows.data])
    names = Datasets(tx).names([model.dataset_id for model in rows.data])
    return page.answer(
        rows, lambda model: ModelOut.of(model, dataset=names[model.dataset_id], aliases=aliases[model.id])
    )


@router.post(
    "/{name}/versions",
    status_code=201,
    response_model=VersionOut,
    summary="Register a version",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
def create_version(
    name: str,
    body: VersionIn,
    caller: Annotated[Principal, requires("models:write")],
    tx: Tx,
    store: Store,
    settings: Config,
    now: Now,
    once: Once,
) -> Response:
    """Takes a Hugging Face model folder, or a LoRA adapter folder with its base in `base/`. Files stay where they are.

    Weights must be safetensors. Pickles, and models that bring code of their own, are refused (`unsafe_weights`).
    """

    def make() -> VersionOut:
        model = Models(tx).by_name(caller.workspace_id, name)
        version = service.register_version(
            tx,
            store,
            settings,
            caller=caller,
            model=model,
            upload_id=body.upload_id,
            source_uri=body.source_uri,
            at=now,
        )
        return _shown(tx, store, model, version, ttl_s=settings.store.presign_ttl_s)

    return once(201, make, headers=lambda out: {"Location": f"/v1/models/{out.model}/versions/{out.version}"})


@router.get(
    "/{name}/versions/{version}", response_model=VersionOut, summary="Read a version", responses=problems(401, 403, 404)
)
def get_version(
    name: str,
    version: str,
    caller: Annotated[Principal, requires("models:read")],
    tx: Tx,
    store: Store,
    settings: Config,
) -> VersionOut:
    """By number or alias, with a download link for each file."""
    model = Models(tx).by_name(caller.workspace_id, name)
    found = Versions(tx).resolve(model.id, version)
    return _shown(tx, store, model, found, ttl_s=settings.store.presign_ttl_s)


@router.get(
    "/{name}/versions",
    response_model=Listing[VersionSummaryOut],
    summary="List versions",
    responses=problems(400, 401, 403, 404, 422),
)
def list_versions(
    name: str, caller: Annotated[Principal, requires("models:read")], tx: Tx, page: PageIn
) -> Listing[VersionSummaryOut]:
    """Newest first, without files."""
    model = Models(tx).by_name(caller.workspace_id, name)
    versions = Versions(tx)
    aliases, lineage = versions.aliases(model.id), versions.lineage(model.id)
    rows = versions.page(model.id, page)
    return page.answer(rows, lambda version: VersionSummaryOut.of(model, version, aliases, lineage))


@router.post(
    "/{name}/versions/{version}/purge",
    status_code=202,
    response_model=VersionSummaryOut,
    summary="Purge a version",
    responses=problems(401, 403, 404, 409, 422),
)
def purge_version(
    name: str,
    version: Annotated[int, Path(ge=1, le=2**31 - 1)],
    caller: Annotated[Principal, requires("models:write")],
    tx: Tx,
    now: Now,
    reply: Response,
) -> VersionSummaryOut:
    """Puts the version out of use for good; its files are deleted soon after (`purged_at`). Repeating it is harmless.

    Refused while an alias points at it or a run works from it (`version_in_use`), and under a legal hold.
    """
    model = Models(tx).by_name(caller.workspace_id, name)
    purged = purging.purge_version(tx, caller=caller, model=model, number=version, at=now)
    reply.headers["Location"] = f"/v1/models/{name}/versions/{version}"
    versions = Versions(tx)
    return VersionSummaryOut.of(model, purged, versions.aliases(model.id), versions.lineage(model.id))


@router.put(
    "/{name}/aliases/{alias}",
    response_model=AliasOut,
    summary="Point an alias at a version",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422),
)
def put_alias(
    name: str,
    alias: str,
    body: AliasIn,
    caller: Annotated[Principal, requires("models:write")],
    tx: Tx,
    now: Now,
) -> AliasOut:
    """Promotes or rolls back. A version that does not descend from one in which data was unlearned still holds it.

    Pointing at such a version is refused (`holds_unlearned_data`) unless `force` is set; that is audited and told as an
    event, and opens no deletion request again. A purged version is refused always.
    """
    model = Models(tx).by_name(caller.workspace_id, name)
    service.point_alias(
        tx,
        caller=caller,
        model=model,
        alias=alias,
        version=body.version,
        force=body.force,
        reason=body.reason,
        at=now,
    )
    return AliasOut(model=model.name, alias=alias, version=body.version)


def _shown(tx: Session, store: ObjectStore, model: Model, version: ModelVersion, *, ttl_s: int) -> VersionOut:
    versions = Versions(tx)
    gone = version.state == VersionState.PURGED or version.uri.startswith(store.uri(world.FOLDER))
    links = [
        (file, None if gone else store.presign_get(file.uri, ttl_s=ttl_s, filename=PurePosixPath(file.path).name))
        for file in versions.files(version.id)
    ]
    return VersionOut.with_files(model, version, versions.aliases(model.id), versions.lineage(model.id), links)
