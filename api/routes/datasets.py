"""Data sets and their records."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from api.deps import Config, Keys, Now, PageIn, Store, Tx, requires
from api.errors import problems
from api.idempotency import Once
from api.schemas.common import Listing
from api.schemas.datasets import DatasetIn, DatasetOut, RecordOut
from api.waiting import IfNoneMatch, etag_of, not_modified, unchanged
from core.access.principal import Principal
from core.datasets import service
from core.datasets.editions import Editions
from core.datasets.repository import Datasets, Records
from core.deletions.repository import Requests

router = APIRouter(prefix="/v1/datasets", tags=["data sets"])

_POLL_S = 2
_SHOWN = {"model": DatasetOut, "description": "The index is being built; poll until `ready` or `failed`"}


@router.post(
    "",
    status_code=201,
    response_model=DatasetOut,
    summary="Register a data set",
    responses={202: _SHOWN, **problems(400, 401, 403, 404, 409, 413, 415, 422, 503)},
)
def create_dataset(
    body: DatasetIn,
    caller: Annotated[Principal, requires("datasets:write")],
    tx: Tx,
    store: Store,
    settings: Config,
    keyring: Keys,
    now: Now,
    once: Once,
) -> Response:
    """Checks every row and indexes the record ids. Small data sets are ready with the answer (201).

    Large ones answer 202 and are `indexing` for a while. Wrong files are refused whole, naming file, row and column;
    rows count from 0.
    """
    command = body.to_command()
    waits = service.belongs_in_background(tx, store, settings, caller=caller, command=command)

    def make() -> DatasetOut:
        dataset = service.create(
            tx, store, keyring, settings, caller=caller, command=command, in_background=waits, at=now
        )
        return DatasetOut.of(dataset, {}, Editions(tx).history(dataset.id))

    def headers(out: DatasetOut) -> dict[str, str]:
        location = {"Location": f"/v1/datasets/{out.name}"}
        return {**location, "Retry-After": str(_POLL_S)} if waits else location

    return once(202 if waits else 201, make, headers=headers)


@router.get(
    "/{name}",
    response_model=DatasetOut,
    summary="Read a data set",
    responses={304: {"description": "Nothing has changed"}, **problems(401, 403, 404, 422)},
)
def get_dataset(
    name: str,
    caller: Annotated[Principal, requires("datasets:read")],
    tx: Tx,
    reply: Response,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """State, counts by split, how many records are erased, and the fingerprint."""
    dataset = Datasets(tx).by_name(caller.workspace_id, name)
    out = DatasetOut.of(dataset, Requests(tx).erasures(dataset.id), Editions(tx).history(dataset.id))
    headers = {"ETag": etag_of(out)}
    if dataset.status == "indexing":
        headers["Retry-After"] = str(_POLL_S)
    if unchanged(if_none_match, headers["ETag"]):
        return not_modified(headers)
    reply.headers.update(headers)
    return out


@router.get("", response_model=Listing[DatasetOut], summary="List data sets", responses=problems(400, 401, 403, 422))
def list_datasets(caller: Annotated[Principal, requires("datasets:read")], tx: Tx, page: PageIn) -> Listing[DatasetOut]:
    """Newest first. Erasures are counted in the single view only."""
    return page.answer(Datasets(tx).page(caller.workspace_id, page), lambda row: DatasetOut.of(row))


@router.get(
    "/{name}/records/{record_id:path}",
    response_model=RecordOut,
    summary="Read a record's state",
    responses=problems(401, 403, 404),
)
def get_record(
    name: str,
    record_id: Annotated[str, Path(description="as in the data set's files; may hold slashes")],
    caller: Annotated[Principal, requires("datasets:read")],
    tx: Tx,
) -> RecordOut:
    """Whether the record is `active`, `pending_erasure` or `erased`; its content is never shown."""
    dataset = Datasets(tx).by_name(caller.workspace_id, name)
    return RecordOut.of(dataset, Records(tx).get(dataset.id, record_id))
